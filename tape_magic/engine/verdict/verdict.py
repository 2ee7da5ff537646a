"""The findings of a run, from all kinds of evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from tape_magic.engine.verdict import (
    at_bound,
    broadcast,
    dead_units,
    layer_gradients,
    noise_floor,
    not_finite,
    overfits,
    runaway,
    short_of_minimum,
    softmax_twice,
    still_falling,
    too_fast,
    unmoved,
)
from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.results.findings import Finding, FindingKind

Look = Callable[[RunFacts], Iterable[Finding]]
"""Takes the facts of a run, and returns what it found; nothing where the evidence is missing."""

LOOKS: tuple[Look, ...] = (
    not_finite.look,
    runaway.look,
    overfits.look,
    broadcast.look,
    softmax_twice.look,
    unmoved.look,
    dead_units.look,
    layer_gradients.look,
    too_fast.look,
    noise_floor.look,
    still_falling.look,
    at_bound.look,
    short_of_minimum.look,
)
"""All kinds of evidence, the most telling and the cheapest first."""

STEPS = frozenset(
    {FindingKind.TOO_FAST, FindingKind.UNMOVED, FindingKind.TOO_SLOW, FindingKind.ILL_CONDITIONED}
)
"""The kinds that say how the steps should be; that the loss still falls says no more then."""

FURTHER = frozenset(
    {FindingKind.STILL_FALLING, FindingKind.TOO_SLOW, FindingKind.ILL_CONDITIONED, FindingKind.NOISE_FLOOR}
)
"""The kinds that say how the loss would fall further, which helps nobody where a run overfits."""

_ORDER = {kind: place for place, kind in enumerate(FindingKind)}


def find(facts: RunFacts) -> tuple[Finding, ...]:
    """Return what was found about a run, the most telling first; within the time of `facts`.

    What goes wrong in a look is no finding: a false alarm is worse than silence.
    """
    found: list[Finding] = []
    for look in LOOKS:
        if facts.clock.left <= 0:
            break
        with suppress(Exception):  # whatever the loss does when it is asked again: the run has its report
            found += look(facts)
        if facts.probe is not None:
            facts.probe.back()
    if any(finding.kind in STEPS for finding in found):
        found = [finding for finding in found if finding.kind is not FindingKind.STILL_FALLING]
    if overfits.since(facts.epochs) is not None:
        found = [finding for finding in found if finding.kind not in FURTHER]
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.kind]))
