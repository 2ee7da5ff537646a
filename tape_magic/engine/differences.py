"""Differences of a function of one number, and what they tell of a derivative.

Everything is of the *residual*: the central difference less what a derivative predicts for the step
that was made. Where the derivative is right, it goes to 0 with the step.
"""

from __future__ import annotations

import itertools
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
    """

    central: Array
    gap: Array
    noise: Array


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
        By how much they differ at the smallest step.
    """

    residual: Array
    error: Array
    broken: Array
    gap: Array

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
    return Estimate(residual, error, broken, half.gap)


def second_look(probe: Probe, step: float) -> Estimate:
    """From twice as many steps as are needed for most functions; the smaller ones where the larger fail."""
    found = _series(probe, step)
    if np.all(found.broken | (found.error < 0.01 * np.abs(found.residual))):
        return found
    return found.or_else(_series(probe, step / 2 ** (LEVELS - 1)))


def _series(probe: Probe, step: float) -> Estimate:
    """From a series of steps, the entry of Ridders' table with the least error.

    Kinks nearby, such as those of a network's units, spoil the table, but not what is closer than they
    are: plain differences count too. Steps at which the function is not finite count for nothing.
    C. Ridders, *Accurate computation of F'(x) and F'(x)F''(x)*, Advances in Engineering Software 4 (1982).
    """
    steps = [step / 2**level for level in range(LEVELS)]
    found = [probe(one) for one in steps]
    with np.errstate(all="ignore"):
        # What the function does at random over the smallest step, it may do at any: rounding within
        # the program can be more than that of what comes out.
        unit = np.fmax(found[-1].noise, np.abs(found[-1].gap) / 4) * steps[-1]
        residual, least = _table([ends.central for ends in found], [unit / one for one in steps])
        broken = _broken([np.abs(ends.gap) for ends in found], [20 * unit / one for one in steps])
        broken |= _jumps(
            [ends.gap * one for ends, one in zip(found, steps, strict=True)], found[-1].noise * steps[-1]
        )
    return Estimate(residual, least, broken, found[-1].gap)


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


def _jumps(bends: list[Array], noise: Array) -> Array:
    """Where the same is missing between the sides however small the step, which rounding would not give."""
    last = np.stack(bends[-4:])
    middle = np.mean(last, axis=0)
    alike: Array = np.all(np.abs(last - middle) < 0.01 * np.abs(middle), axis=0) & (
        np.abs(middle) > 20 * noise
    )
    return alike


def _broken(gaps: list[Array], noise: list[Array]) -> Array:
    """Where, at the last three steps that rounding does not hide, the sides stay as far apart."""
    last = [np.full(gaps[0].shape, np.inf) for _ in range(3)]
    for gap, hidden in zip(gaps, noise, strict=True):
        seen = np.isfinite(gap) & (gap > hidden)
        shifted = [np.where(seen, later, one) for one, later in itertools.pairwise(last)]
        last = [*shifted, np.where(seen, gap, last[-1])]
    finite: Array = np.isfinite(last[0])
    return finite & (last[2] > 0.7 * last[1]) & (last[1] > 0.7 * last[0])
