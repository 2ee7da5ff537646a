"""Whether a bound holds a variable, and the loss falls beyond it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.verdict.facts import Array, LossAt, RunFacts
from tape_magic.engine.verdict.words import number
from tape_magic.results.findings import Finding, FindingKind

STEPS = 1e-3, 1e-1
"""How far beyond a bound the loss is asked for, as parts of the size of what is bounded."""

BATCHES, ERRORS = 8, 3.0
"""The most batches to ask, and how many standard errors their mean gradient is away from 0."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find the variables that stay at a bound beyond which the loss is lower, which is no fault.

    The loss is asked there: a gradient alone may be that of a loss which ends at the bound.
    """
    probe = facts.probe
    if probe is None or facts.divergence is not None:
        return
    values = probe.values()
    sides = [_sides(value, *limits) for value, limits in zip(values, facts.limits, strict=True)]
    if not any(side.any() for side in sides) or not facts.repeats:
        return
    batches: Sequence[Any] = list(probe.batches(BATCHES)) or [None]
    here = [probe.evaluate(batch) for batch in facts.within(batches)]
    if len(here) < len(batches):
        return
    for place, (leaf, value, side) in enumerate(zip(facts.leaves, values, sides, strict=True)):
        pushed = side * _certain([one.gradients[place] for one in here]) < 0
        if not pushed.any():
            continue
        before, size = _mean(here), _size(value, *facts.limits[place])
        for step in facts.within(STEPS):
            beyond = (value + np.where(pushed, side * step * size, 0.0)).astype(value.dtype)
            probe.place([*values[:place], beyond, *values[place + 1 :]])
            after = _mean([probe.evaluate(batch) for batch in batches])
            if before - after > facts.rounding * abs(before):
                text = _sentence(leaf.name, value[pushed], value.size)
                evident = {"elements": int(pushed.sum()), "loss": before, "beyond": after}
                yield Finding(FindingKind.AT_BOUND, text, evident)
                break


def _sides(value: Array, low: Any, high: Any) -> Array:
    """Return for each element -1 at its lower bound, 1 at its upper bound, and 0 between or at both."""
    below = np.zeros(value.shape) if low is None else (value <= low).astype(float)
    above = np.zeros(value.shape) if high is None else (value >= high).astype(float)
    return above - below


def _certain(gradients: Sequence[Array]) -> Array:
    """Return the mean of gradients, and 0 where they scatter so much that its sign says nothing."""
    several = np.array(gradients, np.float64)
    mean = several.mean(0)
    error = several.std(0) / np.sqrt(max(len(several) - 1, 1))
    return np.where(np.isfinite(mean) & (np.abs(mean) > ERRORS * error), mean, 0.0)


def _mean(losses: Sequence[LossAt]) -> float:
    return float(np.mean([one.loss for one in losses]))


def _size(value: Array, low: Any, high: Any) -> float:
    """Return the size of what is bounded: the room between the bounds, else that of the values."""
    if low is not None and high is not None and np.isfinite(room := np.max(np.subtract(high, low))):
        return float(room)
    return float(np.max(np.abs(value))) or 1.0


def _sentence(name: str, held: Array, size: int) -> str:
    bounds = np.unique(held.astype(np.float64))
    who, its = (
        (f"{name} stays", "its") if size == 1 else (f"{held.size:,} of {size:,} in {name} stay", "their")
    )
    at = f"{its} bound {number(bounds[0])}" if bounds.size == 1 else f"{its} bounds"
    return f"{who} at {at}; the loss falls beyond {'it' if bounds.size == 1 else 'them'}"
