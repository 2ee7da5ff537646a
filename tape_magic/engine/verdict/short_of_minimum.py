"""Whether a run ended short of a minimum: at a flat point or a saddle, by short steps, in a narrow valley."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tape_magic.engine.verdict import pace
from tape_magic.engine.verdict.facts import Array, RunFacts
from tape_magic.engine.verdict.landscape import SMALL, Descent, Landscape
from tape_magic.engine.verdict.words import number
from tape_magic.results.findings import Finding, FindingKind
from tape_magic.results.minimum import StopReason

MOST = 10_000
"""The most numbers for which an end is checked."""

SHARE, SHARE_OF_FLAT, SHARE_OF_SETTLED = 0.05, 0.01, 0.2
"""What is left is worth it from this share of the loss, and of what the run has gained.

Where a rule ended the run, its user was content with what a step changed: there it is less at a flat point,
from which steps do not get away, and more at others.
"""

LEAST = 1e-3
"""What is left at a point where a run settled is worth it from this share of the loss, or of 1."""

FAR, FAR_OF_SETTLED = 0.03, 0.5
"""A way down is worth it, too, if it is as long as this share of the way that the run took."""

NEGATIVE, STRONG = 1e-3, 0.1
"""A curvature below zero by these shares of the largest leads down; from the second on, however little."""

FLAT = 10.0
"""A point is flat if the way down becomes so many times as steep as it begins."""

SLOW, SLOW_IN_VALLEY = 1e-4, 5e-3
"""The shares of the loss that a slow step changes it by, at most."""

_SETTLED = frozenset(
    {StopReason.TOLERANCE, StopReason.SETTLED, StopReason.GRADIENT, StopReason.METHOD_CONVERGED}
)
_CUT_OFF = frozenset({StopReason.STEPS, StopReason.TIME})

_LOWER = {
    StopReason.TOLERANCE: "lower --tol",
    StopReason.SETTLED: "set a lower --tol",
    StopReason.GRADIENT: "lower --gtol",
}


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find what kept a run from its minimum, by a way down that is really there.

    Where a rule ended the run, the point is always checked; where the limit did, only if the loss fell
    slowly. Over data, whose losses scatter, nothing but too short steps is found.
    """
    if facts.of_data:
        yield from _slow_over_data(facts)
    elif facts.reason in _SETTLED:
        yield from _settled(facts)
    elif facts.reason in _CUT_OFF and facts.rate is not None:
        yield from _cut_off(facts)


def _settled(facts: RunFacts) -> Iterator[Finding]:
    landscape = Landscape.of(facts, most=MOST)
    if landscape is None:
        return
    loss, _ = landscape.here
    worth = max(LEAST, facts.tolerance) * max(1.0, abs(loss))
    if (saddle := _saddle(facts, landscape, worth)) is not None:
        yield saddle
        return
    way = landscape.descend(worth)
    if way is None:
        if _falls_from_flat(landscape, worth):
            yield _flat(facts, landscape, "it settled at a flat point", "start elsewhere")
    elif way.steepest >= FLAT and way.gain >= SHARE_OF_FLAT * _gained(facts, landscape):
        yield _flat(facts, landscape, "it settled at a flat point", "start elsewhere")
    elif way.gain >= SHARE_OF_SETTLED * _gained(facts, landscape):
        yield (
            pace.too_slow(facts, landscape, way)
            or pace.narrow_valley(facts, landscape)
            or _flat(facts, landscape, "it settled where the loss still falls", "")
        )
    elif way.distance >= FAR_OF_SETTLED * landscape.travelled:
        yield from filter(None, [pace.narrow_valley(facts, landscape)])


def _cut_off(facts: RunFacts) -> Iterator[Finding]:
    speed = pace.speed(facts)
    if speed > SLOW_IN_VALLEY or (landscape := Landscape.of(facts, most=MOST)) is None:
        return
    way = landscape.descend(SHARE * abs(landscape.here[0]))
    if way is None or not _matters(facts, landscape, way):
        return
    found = pace.too_slow(facts, landscape, way) if speed <= SLOW else None
    if found := found or pace.narrow_valley(facts, landscape):
        yield found


def _slow_over_data(facts: RunFacts) -> Iterator[Finding]:
    if facts.rate is None or pace.speed(facts) > SLOW:
        return
    landscape = Landscape.of(facts, most=MOST)
    if landscape is None or pace.next_speed(facts, landscape) > SLOW:
        return
    way = landscape.descend(SHARE * abs(landscape.here[0]))
    if way is None or not _matters(facts, landscape, way):
        return
    others = Landscape.of(facts, most=MOST)
    if others is not None:  # what leads down for some batches alone is no way down
        loss, _ = others.here
        if loss - others.at(way.end)[0] < SHARE * abs(loss):
            return
    if found := pace.too_slow(facts, landscape, way):
        yield found


def _gained(facts: RunFacts, landscape: Landscape) -> float:
    return float(facts.losses[0]) - landscape.here[0]


def _matters(facts: RunFacts, landscape: Landscape, way: Descent) -> bool:
    """Return whether a way down is worth it beside what the run has gained, or how far it has come."""
    return way.gain >= SHARE * _gained(facts, landscape) or way.distance >= FAR * landscape.travelled


def _saddle(facts: RunFacts, landscape: Landscape, worth: float) -> Finding | None:
    """Find a direction of negative curvature in which the loss falls, by much if it curves little."""
    spectrum = landscape.overall
    least, direction = float(spectrum.values[0]), spectrum.vectors[:, 0]
    if least >= -NEGATIVE * spectrum.largest:
        return None
    if least >= -STRONG * spectrum.largest:
        worth = max(worth, SHARE * _gained(facts, landscape))
    ways = [landscape.falls(sign * direction, worth) for sign in (1.0, -1.0)]
    if not (all(ways) or (any(ways) and landscape.bends_from_level(direction, least))):
        return None
    least = landscape.nearby(direction)
    if least >= -NEGATIVE * spectrum.largest:
        return None
    name = _name_along(facts, direction) or "one direction"
    both = "both ways " if all(ways) else ""
    text = f"it settled at a saddle: the loss falls {both}along {name} (curvature {number(least)})"
    return Finding(FindingKind.SADDLE, text, {"curvature": least}, None, "start elsewhere")


def _falls_from_flat(landscape: Landscape, worth: float) -> bool:
    """Return whether the loss falls from a point where slopes and curvatures are zero, as x³ does at 0."""
    spectrum = landscape.overall
    if landscape.size > SMALL or spectrum.slopes.any() or spectrum.largest * landscape.scale**2 > worth:
        return False
    unit = np.eye(landscape.size)
    return any(landscape.falls(sign * direction, worth) for direction in unit for sign in (1.0, -1.0))


def _flat(facts: RunFacts, landscape: Landscape, what: str, first: str) -> Finding:
    size = float(np.linalg.norm(landscape.here[1]))
    curvature = landscape.along_gradient.largest
    text = f"{what} (gradient {number(size, 2)}, curvature {number(curvature, 2)}), not at a minimum"
    cures = [first, _LOWER.get(facts.reason, "")]
    cure = ", or ".join(filter(None, cures)) or "start elsewhere"
    return Finding(FindingKind.FLAT_POINT, text, {"gradient": size, "curvature": curvature}, None, cure)


def _name_along(facts: RunFacts, direction: Array) -> str:
    """Return the leaf that a direction belongs to for the most part; empty where there is none."""
    at = 0
    for leaf in facts.leaves:
        size = int(np.prod(leaf.shape, dtype=int))
        if np.square(direction[at : at + size]).sum() >= 0.9:
            return leaf.name
        at += size
    return ""
