"""Estimates of a derivative's error from central differences of a function of one number.

All estimates are of the *residual*, which is the central difference minus the slope that the derivative
predicts. Where the derivative is right, the residual goes to 0 with the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LEVELS = 12
"""Number of steps of a thorough estimate, each half of the one before."""

_LEAP = 16.0
"""Ratio of two steps where smaller ones are looked at only to see whether anything is different there."""

_GROWING = 3
"""Number of leaps over which differences that grow in proportion are those of a jump."""


@dataclass(frozen=True)
class Differences:
    """The differences of a function over one step ahead of a point and one step behind it.

    Attributes
    ----------
    central
        The residual of the central difference.
    gap
        The difference between the slopes to both sides.
    noise
        The error that rounding may have brought into the central difference.
    size
        The magnitude of the central difference itself.
    """

    central: Array
    gap: Array
    noise: Array
    size: Array


Probe = Callable[[float], Differences]
"""Gives the differences for a step."""


@dataclass(frozen=True)
class Estimate:
    """The limit of the residual as the step goes to 0, its error, and whether the function has a slope.

    Attributes
    ----------
    residual, error
        The limit, and a bound of its error; not finite where the function is not.
    broken
        True where the slopes to both sides stay apart as the step shrinks: at a kink or a jump.
    gap, beside
        The difference between the slopes to both sides, and the residual beside it, from the smallest steps
        where rounding does not hide the gap.
    settled
        True where each of the two slopes is the same at the smallest steps, as at a kink: noise and jumps
        give other slopes at each step.
    lasting
        True where the residual is the same at the smallest steps where rounding does not hide it. The
        derivative is wrong there, and no kink nearby makes it seem so.
    step
        The largest step that the estimate was made of.
    """

    residual: Array
    error: Array
    broken: Array
    gap: Array
    beside: Array
    settled: Array
    lasting: Array
    step: Array

    def merged(self, other: Estimate, where: Array) -> Estimate:
        """Return this estimate, with some components taken from the other."""
        pairs = zip(vars(other).values(), vars(self).values(), strict=True)
        return Estimate(*(np.where(where, one, mine) for one, mine in pairs))


def step_of(eps: float) -> float:
    """Return the step at which truncation and rounding errors balance, relative to the argument: ε^(1/5).

    The power is that of a Richardson extrapolation over two steps, whose truncation error is of the fourth
    order; the reasoning is that of W. Press et al., *Numerical Recipes*, 3rd edition, section 5.7.

    >>> f"{step_of(2.0**-52):.1e}"
    '7.4e-04'
    """
    return float(eps**0.2)


def quick_estimate(probe: Probe, step: float) -> Estimate:
    """Return a Richardson estimate from two steps, with the change between them as its error."""
    whole, half = probe(step), probe(step / 2)
    with np.errstate(all="ignore"):
        residual = (4 * half.central - whole.central) / 3
        error = np.abs(half.central - whole.central) + 3 * half.noise
        # The slopes to both sides of a smooth function are half as far apart at half the step.
        broken = (np.abs(half.gap) > 0.7 * np.abs(whole.gap)) & (np.abs(half.gap) > 8 * half.noise)
        settled = _settled([whole.gap, half.gap], [whole.central, half.central])
        gap = _to_zero(whole.gap, half.gap, settled)
        beside = _to_zero(whole.central, half.central, settled)
    lasting = np.zeros(residual.shape, bool)
    return Estimate(residual, error, broken, gap, beside, settled, lasting, np.full(residual.shape, step))


def thorough_estimate(probe: Probe, step: float, least: float) -> Estimate:
    """Return an estimate from a series of steps, and from smaller ones where that is not enough.

    `least` is the smallest step that changes the numbers which move.
    """
    found = [probe(step / 2**level) for level in range(LEVELS)]
    estimate, last = _estimate(found, step, least), found[-1]
    with np.errstate(all="ignore"):
        enough = estimate.error < np.fmax(0.01 * np.abs(estimate.residual), 1e-6 * last.size)
        useless = last.noise > 0.01 * last.size
    near = step / 2**LEVELS
    if not np.all(estimate.broken | enough | useless):
        other = _series(probe, near, least)
        estimate = estimate.merged(other, other.error < estimate.error)
        near /= 2**LEVELS
    return _at_smaller_scales(probe, estimate, near, least)


def _at_smaller_scales(probe: Probe, estimate: Estimate, near: float, least: float) -> Estimate:
    """Return an estimate, with those components made anew that are others at much smaller steps.

    A narrow peak far from 0, or a fast oscillation, looks flat from afar, and its differences over large
    steps settle at a slope that is not the one at the point. Whatever agrees is left as it is.
    """
    open_, before, growing = ~(estimate.broken & estimate.settled), None, np.zeros(estimate.error.shape, int)
    while near / _LEAP >= least:
        near /= _LEAP
        one = probe(near)
        with np.errstate(all="ignore"):
            size = np.fmax(one.size, np.abs(one.central))
            open_ &= ~(np.abs(estimate.residual) <= 1e-3 * size) & ~(one.noise > 0.01 * size)
            if before is not None:
                # At a jump, the differences grow as the steps shrink.
                grow = np.abs(np.abs(one.central) / np.abs(before) / _LEAP - 1) < 0.2
                growing = np.where(grow, growing + 1, 0)
                open_ &= growing < _GROWING
                away = ~(np.abs(one.central - estimate.residual) < 0.2 * np.abs(estimate.residual))
                other = open_ & away & (np.abs(one.central - before) < 0.2 * size)
                if other.any():
                    anew = _series(probe, near * _LEAP, least)
                    other &= anew.error < 0.05 * size
                    estimate = estimate.merged(anew, other)
        if not open_.any():
            break
        before = one.central
    return estimate


def _series(probe: Probe, step: float, least: float) -> Estimate:
    return _estimate([probe(step / 2**level) for level in range(LEVELS)], step, least)


def _estimate(found: list[Differences], step: float, grain: float) -> Estimate:
    """Return the entry with the least error of Ridders' table over a step and its halves.

    Kinks nearby, such as those of a network's units, spoil the entries whose steps reach them. The plain
    differences of smaller steps therefore count as entries too, and steps at which the function is not finite
    do not count.
    Source: C. Ridders, *Accurate computation of F'(x) and F'(x)F''(x)*, Advances in Engineering Software 4
    (1982).
    """
    steps = [step / 2**level for level in range(len(found))]
    with np.errstate(all="ignore"):
        # Rounding within the program can exceed the rounding of its outputs. The scatter over the smallest
        # steps shows how large it is, and larger steps have as much of it.
        bends = [differences.gap * one for differences, one in zip(found, steps, strict=True)]
        unit = np.fmax(found[-1].noise * steps[-1], np.fmax.reduce(np.abs(bends[-4:])) / 4)
        residual, least = _table([one.central for one in found], [unit / one for one in steps])
        gaps, residuals = ([getattr(one, name) for one in found] for name in ("gap", "central"))
        gap, beside = _smallest(gaps, [20 * unit / one for one in steps], gaps, residuals)
        broken = (np.abs(gap[2]) > 0.7 * np.abs(gap[1])) & (np.abs(gap[1]) > 0.7 * np.abs(gap[0]))
        # To round a large argument within the program is to move the value, too.
        broken |= _jumps(bends, found[-1].noise * steps[-1] + grain * found[-1].size)
        settled = _settled(list(gap), list(beside))
        (seen,) = _smallest(residuals, [8 * unit / one for one in steps], residuals)
        lasting = (np.abs(seen[:2] - seen[2]) < 0.2 * np.abs(seen[2])).all(axis=0)
        lasting &= ~(np.abs(seen[2] - residual) > 0.2 * np.abs(residual))
        known = np.isfinite(gap[2])
        gap = np.where(known, _to_zero(gap[1], gap[2], settled), gaps[-1])
        beside = np.where(known, _to_zero(beside[1], beside[2], settled), residuals[-1])
    return Estimate(residual, least, broken, gap, beside, settled, lasting, np.full(residual.shape, step))


def _table(central: list[Array], noise: list[Array]) -> tuple[Array, Array]:
    """Return the entry of Ridders' table with the least error, and its error.

    `central` are the residuals at a step and its halves, `noise` the rounding error of each.
    """
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


def _smallest(values: list[Array], hidden: list[Array], *series: list[Array]) -> list[Array]:
    """Return each series at the three smallest steps where rounding does not hide the values, else NaN."""
    last = [np.full((3, *one[0].shape), np.nan, one[0].dtype) for one in series]
    for number, (value, bound) in enumerate(zip(values, hidden, strict=True)):
        seen = np.isfinite(value) & (np.abs(value) > bound)
        last = [
            np.where(seen, np.stack([kept[1], kept[2], one[number]]), kept)
            for kept, one in zip(last, series, strict=True)
        ]
    return last


def _settled(gaps: list[Array], middles: list[Array]) -> Array:
    """Return where the slopes to both sides are the same at some steps, but for a part of their gap."""
    sides = [[middle + sign * gap / 2 for gap, middle in zip(gaps, middles, strict=True)] for sign in (-1, 1)]
    spread = np.max([np.abs(one - side[-1]) for side in sides for one in side[:-1]], axis=0)
    return np.asarray(spread < 0.2 * np.abs(gaps[-1]))


def _to_zero(whole: Array, half: Array, settled: Array) -> Array:
    """Return the limit of what changes in proportion to the step, where it settles; else the last value."""
    return np.where(settled & np.isfinite(whole), 2 * half - whole, half)


def _jumps(bends: list[Array], rounding: Array) -> Array:
    """Return where the function jumps: its second difference stays the same, however small the step."""
    last = np.stack(bends[-4:])
    middle = np.mean(last, axis=0)
    alike: Array = np.all(np.abs(last - middle) < 0.01 * np.abs(middle), axis=0)
    alike &= np.abs(middle) > 20 * rounding
    return alike
