"""Whether a run ended short of a minimum: at a flat point or a saddle, by short steps, in a narrow valley."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tape_magic.engine.verdict.facts import Array, RunFacts
from tape_magic.engine.verdict.landscape import Descent, Landscape, Spectrum
from tape_magic.engine.verdict.words import number, rate_cure, rounded_down
from tape_magic.results.findings import Finding, FindingKind
from tape_magic.results.minimum import StopReason

MOST = 10_000
"""The most numbers for which an end is checked."""

SHARE = 0.05
"""What is left is worth it from this share of what the run has gained, or of the loss."""

LEAST = 1e-3
"""What is left at a point where a run settled is worth it from this share of the loss, or of 1."""

NEGATIVE = 1e-3
"""A curvature below zero by this share of the largest leads down."""

TIMES = 10.0
"""Steps are too short where they could be at least so many times as long."""

NARROW = 1_000.0
"""A valley is narrow where its curvatures are at least so many times as large across it as along it."""

SLOW = 1e-4
"""A run is slow if a step changes the loss by less than this share of itself."""

SLOW_IN_VALLEY = 1e-3

FEWEST = 50
"""A run of fewer steps was not meant to get anywhere."""

_CHECKED = frozenset(
    {StopReason.TOLERANCE, StopReason.SETTLED, StopReason.GRADIENT, StopReason.METHOD_CONVERGED}
)
_CUT_OFF = frozenset({StopReason.STEPS, StopReason.TIME})

_CURES = {
    StopReason.TOLERANCE: "lower --tol",
    StopReason.SETTLED: "set a lower --tol",
    StopReason.GRADIENT: "lower --gtol",
}


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find what kept a run from its minimum, by a way down that is really there.

    A run that a rule ended is always asked; one that its limit cut off only where its loss fell slowly.
    """
    settled = facts.reason in _CHECKED
    if not settled and (facts.reason not in _CUT_OFF or facts.rate is None or _speed(facts) > SLOW_IN_VALLEY):
        return
    landscape = Landscape.of(facts, most=MOST)
    if landscape is None:
        return
    loss, _ = landscape.here
    worth = _worth(facts, loss, settled=settled)
    if settled and (finding := _saddle(facts, landscape, worth)) is not None:
        yield finding
        return
    spectrum = landscape.along_gradient
    if not spectrum.slopes.any():
        return
    way = landscape.descend(spectrum.newton, worth)
    if way is None or not _matters(facts, landscape, way, loss, settled=settled):
        return
    flat = way.steepest >= TIMES
    if settled and flat:
        yield _flat(facts, landscape, "it settled at a flat point", "start elsewhere, or ")
    elif (finding := _too_slow(facts, landscape, way, settled=settled)) is not None:
        yield finding
    elif (finding := _valley(facts, landscape, spectrum)) is not None:
        yield finding
    elif settled:
        yield _flat(facts, landscape, "it settled where the loss still falls", "")


def _speed(facts: RunFacts) -> float:
    """Return the share of itself by which a step changes the loss at the end; infinite if it does not fall."""
    first, last = facts.first_step, int(facts.steps[-1])
    if last - first < FEWEST:
        return np.inf
    tail = facts.steps >= last - (last - first) / 10
    losses = facts.losses[tail]
    if (np.diff(losses) <= 0).mean() < 0.95:
        return np.inf
    steps = int(facts.steps[-1] - facts.steps[tail][0])
    return float(losses[0] - losses[-1]) / max(1, steps) / max(abs(float(losses[-1])), 1e-300)


def _worth(facts: RunFacts, loss: float, *, settled: bool) -> float:
    """Return by how much the loss could be lower where that is worth a word."""
    if settled:
        return LEAST * max(1.0, abs(loss))
    return SHARE * abs(loss)


def _matters(
    facts: RunFacts, landscape: Landscape, way: Descent, loss: float, *, settled: bool
) -> bool:
    """Return whether a way down is worth it beside what the run has gained, or has moved."""
    gained = float(facts.losses[0]) - loss
    far = 0.5 if settled else 0.1
    return way.gain >= SHARE * gained or way.distance >= far * landscape.travelled


def _saddle(facts: RunFacts, landscape: Landscape, worth: float) -> Finding | None:
    spectrum = landscape.overall
    least = float(spectrum.values[0])
    if least >= -NEGATIVE * spectrum.largest:
        return None
    direction = spectrum.vectors[:, 0]
    if not (landscape.falls(direction, worth) and landscape.falls(-direction, worth)):
        return None
    landscape.confirm(direction, least)
    name = _name_along(facts, direction)
    along = f"along {name}" if name else "along one direction"
    text = f"it settled at a saddle: the loss falls both ways {along} (curvature {number(least)})"
    return Finding(FindingKind.SADDLE, text, {"curvature": least}, None, "start elsewhere")


def _flat(facts: RunFacts, landscape: Landscape, what: str, front: str) -> Finding:
    _, gradient = landscape.here
    size = float(np.linalg.norm(gradient))
    curvature = landscape.along_gradient.largest
    text = f"{what} (|∂| = {number(size, 2)}, curvature {number(curvature, 2)}), not at a minimum"
    cure = front + _CURES[facts.reason] if facts.reason in _CURES else "start elsewhere"
    return Finding(FindingKind.FLAT_POINT, text, {"gradient": size, "curvature": curvature}, None, cure)


def _too_slow(
    facts: RunFacts, landscape: Landscape, way: Descent, *, settled: bool
) -> Finding | None:
    """Find that the steps could be ten times as long, which every curvature on the way allows."""
    if facts.rate is None or facts.stability is None or not (settled or _speed(facts) <= SLOW):
        return None
    curvature = max(landscape.largest, way.curvature)
    if curvature <= 0 or 1 / curvature < TIMES * facts.rate:
        return None
    rate = rounded_down(1 / curvature)
    times = rate / facts.rate
    text = f"each step could be {number(rounded_down(times, 2))} times as long"
    evidence = {"rate": facts.rate, "curvature": curvature, "times": times}
    return Finding(FindingKind.TOO_SLOW, text, evidence, None, rate_cure(facts, rate))


def _valley(facts: RunFacts, landscape: Landscape, spectrum: Spectrum) -> Finding | None:
    """Find that most of what is left lies along curvatures that are far below the largest."""
    if facts.rate is None:
        return None
    gains, sizes = spectrum.gains, np.abs(spectrum.values)
    largest = landscape.largest
    low = sizes <= largest / NARROW
    if gains[low].sum() < 0.5 * gains.sum() or not low.any():
        return None
    along = float(np.average(sizes[low], weights=gains[low]))
    landscape.confirm(landscape.steepest, largest)
    ratio = largest / max(along, 1e-7 * largest)
    names = [leaf.name for leaf in facts.leaves]
    what = f"{', '.join(names[:-1])} and {names[-1]}" if 1 < len(names) < 4 else "the variables"
    text = f"a narrow valley: 1 : {rounded_down(ratio, 2):,.0f}"
    evidence = {"ratio": ratio, "largest": largest, "along": along}
    return Finding(FindingKind.ILL_CONDITIONED, text, evidence, None, f"lbfgs, or scale {what} alike")


def _name_along(facts: RunFacts, direction: Array) -> str:
    """Return the leaf that a direction belongs to for the most part; empty where there is none."""
    at = 0
    for leaf in facts.leaves:
        size = int(np.prod(leaf.shape, dtype=int))
        if np.square(direction[at : at + size]).sum() >= 0.9:
            return leaf.name
        at += size
    return ""
