"""Differences of a function of one number, and what they tell of a derivative.

Everything is of the *residual*: the central difference less what a derivative predicts for the step
that was made. Where the derivative is right, it goes to 0 with the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LEVELS = 12
"""Steps of the second look, each half of the one before."""


@dataclass(frozen=True)
class Ends:
    """What is found one step ahead of a point and one behind.

    Attributes
    ----------
    central
        The residual of the central difference.
    gap
        By how much the slopes to both sides differ.
    noise
        How far rounding may have moved the central difference.
    size
        How large the slope is that was found.
    """

    central: Array
    gap: Array
    noise: Array
    size: Array


Probe = Callable[[float], Ends]
"""A step → what is found that far away."""


@dataclass(frozen=True)
class Estimate:
    """The residual in the limit, how sure that is, and whether the function has a slope there at all.

    Attributes
    ----------
    residual, error
        The limit, and how far it may be off; not finite where the function is not.
    broken
        Where the slopes to both sides do not come together: a kink, or a jump.
    gap
        By how much they differ, at the smallest step at which it is seen.
    lasting
        Where the residual is the same at the smallest steps at which it is seen: the derivative is
        wrong, and it is not for kinks nearby that it seems so.
    """

    residual: Array
    error: Array
    broken: Array
    gap: Array
    lasting: Array

    def or_else(self, other: Estimate) -> Estimate:
        """Each component of another estimate that is surer of it."""
        surer = other.error < self.error
        pairs = zip(vars(other).values(), vars(self).values(), strict=True)
        return Estimate(*(np.where(surer, one, mine) for one, mine in pairs))


def step_of(eps: float) -> float:
    """The step, over the scale of the argument, at which truncation and rounding balance: ε^(1/5).

    For the difference of two steps, whose error is of the fourth order (W. Press et al., *Numerical
    Recipes*, 3rd edition, section 5.7, for the reasoning).
    """
    return float(eps**0.2)


def glance(probe: Probe, step: float) -> Estimate:
    """From two steps (Richardson); their difference is a generous estimate of the error."""
    whole, half = probe(step), probe(step / 2)
    with np.errstate(all="ignore"):
        residual = (4 * half.central - whole.central) / 3
        error = np.abs(half.central - whole.central) + 3 * half.noise
        # In a smooth function, the sides are half as far apart at half the step.
        broken = (np.abs(half.gap) > 0.7 * np.abs(whole.gap)) & (np.abs(half.gap) > 8 * half.noise)
    return Estimate(residual, error, broken, half.gap, np.zeros(residual.shape, bool))


def second_look(probe: Probe, step: float) -> Estimate:
    """From a series of steps, and from a second one of smaller steps where these have more to say."""
    found = [probe(step / 2**level) for level in range(LEVELS)]
    estimate, last = _estimate(found, step), found[-1]
    with np.errstate(all="ignore"):
        enough = estimate.error < np.fmax(0.01 * np.abs(estimate.residual), 1e-6 * last.size)
        useless = last.noise > 0.01 * last.size
    if np.all(estimate.broken | enough | useless):
        return estimate
    step /= 2**LEVELS
    return estimate.or_else(_estimate([probe(step / 2**level) for level in range(LEVELS)], step))


def _estimate(found: list[Ends], step: float) -> Estimate:
    """From what was found at a step and its halves, the entry of Ridders' table with the least error.

    Kinks nearby, such as those of a network's units, spoil the table, but not what is closer than they
    are: plain differences count too. Steps at which the function is not finite count for nothing.
    C. Ridders, *Accurate computation of F'(x) and F'(x)F''(x)*, Advances in Engineering Software 4 (1982).
    """
    steps = [step / 2**level for level in range(len(found))]
    with np.errstate(all="ignore"):
        # What the function does at random over the smallest steps, it may do at any: rounding within
        # the program can be more than that of what comes out.
        bends = [ends.gap * one for ends, one in zip(found, steps, strict=True)]
        unit = np.fmax(found[-1].noise * steps[-1], np.fmax.reduce(np.abs(bends[-4:])) / 4)
        residual, least = _table([ends.central for ends in found], [unit / one for one in steps])
        gaps, residuals = ([getattr(ends, name) for ends in found] for name in ("gap", "central"))
        gap = _smallest(gaps, [20 * unit / one for one in steps])
        broken = (np.abs(gap[2]) > 0.7 * np.abs(gap[1])) & (np.abs(gap[1]) > 0.7 * np.abs(gap[0]))
        broken |= _jumps(bends, found[-1].noise * steps[-1])
        seen = _smallest(residuals, [8 * unit / one for one in steps])
        lasting = (np.abs(seen[:2] - seen[2]) < 0.2 * np.abs(seen[2])).all(axis=0)
        lasting &= ~(np.abs(seen[2] - residual) > 0.2 * np.abs(residual))
    return Estimate(residual, least, broken, np.where(np.isfinite(gap[2]), gap[2], gaps[-1]), lasting)


def _table(central: list[Array], noise: list[Array]) -> tuple[Array, Array]:
    best = np.full(central[0].shape, np.nan, central[0].dtype)
    least = np.full(central[0].shape, np.inf)
    row: list[Array] = []
    for now, rounding in zip(central, noise, strict=True):
        before, row = row, [now]
        for order, entry in enumerate(before):
            errors = np.abs(row[order] - entry) + 3 * rounding
            if order:
                errors = np.fmax(errors, np.abs(row[order] - row[order - 1]) + 3 * rounding)
            better = errors < least
            best, least = np.where(better, row[order], best), np.where(better, errors, least)
            factor = 4.0 ** (order + 1)
            row.append((factor * row[order] - entry) / (factor - 1))
    return best, least


def _smallest(values: list[Array], hidden: list[Array]) -> Array:
    """The values at the last three steps at which rounding does not hide them; NaN where there are none."""
    last = np.full((3, *values[0].shape), np.nan, values[0].dtype)
    for value, bound in zip(values, hidden, strict=True):
        seen = np.isfinite(value) & (np.abs(value) > bound)
        last = np.where(seen, np.stack([last[1], last[2], value]), last)
    return last


def _jumps(bends: list[Array], rounding: Array) -> Array:
    """Where the same is missing between the sides however small the step, which rounding would not give."""
    last = np.stack(bends[-4:])
    middle = np.mean(last, axis=0)
    alike: Array = np.all(np.abs(last - middle) < 0.01 * np.abs(middle), axis=0)
    alike &= np.abs(middle) > 20 * rounding
    return alike
