"""Why a loss falls slowly: steps far shorter than the curvature allows, or a narrow valley."""

from __future__ import annotations

import numpy as np

from tape_magic.engine.verdict.facts import Array, RunFacts
from tape_magic.engine.verdict.landscape import SMALL, Descent, Landscape, flat
from tape_magic.engine.verdict.words import number, rounded_down
from tape_magic.results.findings import Finding, FindingKind

TIMES = 10.0
"""Steps are too short where they could be at least so many times as long."""

AHEAD, MOST_TIMES = 32, 1e6
"""Where no curvature bounds the rate: so many steps ahead are looked at, at up to so many times the rate."""

NARROW, NARROW_OF_FEW = 1_000.0, 100.0
"""How many times the curvature across a narrow valley is that along it; over few numbers all are known."""

FEWEST = 50
"""A run of fewer steps was not meant to get anywhere."""


def speed(facts: RunFacts) -> float:
    """Return the share of itself by which a step lowers the loss; infinite where it does not fall steadily.

    It is that of the last fifth of the steps; over data, whose losses scatter, that of all steps, and what
    may be mere scatter does not count.
    """
    first, last = int(facts.steps[0]), int(facts.steps[-1])
    if last - facts.first_step < FEWEST:
        return np.inf
    tail = facts.steps >= (first if facts.of_data else last - (last - first) / 5)
    steps = [part.mean() for part in np.array_split(facts.steps[tail], 5)]
    parts = np.array_split(facts.losses[tail], 5)
    losses = [part.mean() for part in parts]
    if not facts.of_data and np.diff(losses).max() > 0:
        return np.inf
    fall = losses[0] - losses[-1]
    if facts.of_data:
        fall -= 2 * np.hypot(*(part.std() / len(part) ** 0.5 for part in (parts[0], parts[-1])))
    return float(fall / (steps[-1] - steps[0]) / max(abs(losses[-1]), 1e-300))


def next_speed(facts: RunFacts, landscape: Landscape) -> float:
    """Return the share of itself by which the next step lowers the loss, by its slope."""
    loss, gradient = landscape.here
    return float(-gradient @ _next_step(facts, landscape)) / max(abs(loss), 1e-300)


def _next_step(facts: RunFacts, landscape: Landscape) -> Array:
    walker = facts.walker
    assert walker is not None
    walker.back()
    walker.step()
    step: Array = flat(walker.values()) - landscape.point
    walker.back()
    return step


def too_slow(facts: RunFacts, landscape: Landscape, way: Descent) -> Finding | None:
    """Find that the steps could be ten times as long, which every curvature on the way allows."""
    if facts.rate is None:
        return None
    if facts.stability is None:
        rate = facts.rate * _longer(facts, landscape)
    else:
        curvature = max(landscape.largest, way.curvature)
        scatter = 2 if facts.of_data else 1  # other batches curve more
        rate = rounded_down(1 / curvature / scatter) if curvature > 0 else 0.0
    times = rate / facts.rate
    if times < TIMES:
        return None
    text = f"each step could be {number(rounded_down(times, 2))} times as long"
    evidence = {"rate": facts.rate, "times": times}
    return Finding(FindingKind.TOO_SLOW, text, evidence, None, facts.cure(rate))


def _longer(facts: RunFacts, landscape: Landscape) -> float:
    """Return how many times as long the steps could be, by going on along the next one.

    For an optimizer that scales its steps, no curvature bounds the rate: the loss has to fall on all the way
    that :data:`AHEAD` longer steps would go, and in proportion to it.
    """
    step = _next_step(facts, landscape)
    loss, _ = landscape.here
    times, gain = 1.0, loss - landscape.along(step, AHEAD)[0]
    while times < MOST_TIMES:
        there, slope = landscape.along(step, AHEAD * times * TIMES)
        if slope >= 0 or loss - there <= max(landscape.rounding(loss), gain * TIMES / 2):
            break
        times, gain = times * TIMES, loss - there
    return times


def narrow_valley(facts: RunFacts, landscape: Landscape) -> Finding | None:
    """Find that most of what is left lies along curvatures that are far below the largest."""
    if facts.rate is None:
        return None
    spectrum, largest = landscape.along_gradient, landscape.largest
    gains, sizes = spectrum.gains, np.abs(spectrum.values)
    low = sizes <= largest / (NARROW_OF_FEW if landscape.size <= SMALL else NARROW)
    if not low.any() or gains[low].sum() < 0.5 * gains.sum():
        return None
    landscape.confirm(landscape.steepest, largest)
    along = max(float(np.average(sizes[low], weights=gains[low])), landscape.error * largest)
    names = [leaf.name for leaf in facts.leaves]
    what = f"{', '.join(names[:-1])} and {names[-1]}" if 1 < len(names) < 4 else "the variables"
    text = f"a narrow valley: 1 : {rounded_down(largest / along, 2):,.0f}"
    evidence = {"across": largest, "along": along}
    return Finding(FindingKind.ILL_CONDITIONED, text, evidence, None, f"lbfgs, or scale {what} alike")
