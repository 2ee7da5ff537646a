"""Whether steps go back and forth across a valley, where a lower rate would lead down it."""

from __future__ import annotations

from collections.abc import Iterator

from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.further import FEWEST, STEPS, curvature, fell, lower_rate, reversals, walked
from tape_magic.engine.verdict.words import number
from tape_magic.results.findings import Finding, FindingKind

FALLS, GROWS = 1 / 3, 1 / 2
"""A loss that falls by the one share of what there is to gain is on its way over these steps; one that grows
by the other runs away."""

LIMIT = 0.9
"""The rate is at least this part of the largest stable one."""

SETTLED = 100
"""The most steps at a lower rate: what momentum has gathered takes some tens to pass."""

LEVEL, STILL = 0.02, 1e-3
"""The share of itself by which a loss that stays fell in the last quarter of the run at most; and by which it
falls at most at a lower rate that has led to its end."""

LAST = 4
"""So many losses are averaged, since those of two steps back and forth need not be equal."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that further steps turn back and stay as high as they are, where a lower rate gets down.

    Where the loss has fallen all the same in the long run, a lower rate must lead to its end. A network at
    the edge of stability goes back and forth, too, and is on its way along other directions.
    """
    probe, rate = facts.walker, facts.rate
    if probe is None or rate is None or (facts.of_data and facts.steps_per_epoch != 1):
        return
    if facts.steps[-1] - facts.first_step < FEWEST or not facts.repeats:
        return
    steps = reversals(facts)
    if steps is None:
        return
    begin, before = float(steps.losses[:LAST].mean()), float(steps.losses[-LAST:].mean())
    if not -GROWS * abs(begin) <= begin - before <= FALLS * abs(begin):
        return
    sharp, limit = curvature(facts, steps), facts.stability
    if limit is not None and rate * sharp < LIMIT * limit:
        return
    probe.back()
    slower = lower_rate(rate)
    there = walked(facts, SETTLED, slower)
    if len(there) < STEPS:
        return
    midway, after = (float(there[:end][-LAST:].mean()) for end in (len(there) // 2, len(there)))
    arrives = midway - after <= STILL * abs(before)
    if not facts.worth(before, after) or not (arrives or fell(facts) <= LEVEL):
        return
    if begin - before > FALLS * (begin - after):
        return
    if limit is None:
        what = f"at a rate of {slower:g} the loss falls by {100 * (before - after) / abs(before):.0f} %"
    else:
        what = f"the rate is {number(rate * sharp, 4)}/λ, its limit {number(limit)}/λ"
    evident = {"rate": rate, "curvature": sharp, "loss": before, "lower_rate": slower, "loss_there": after}
    yield Finding(FindingKind.TOO_FAST, f"{steps.text}: {what}", evident, None, facts.cure(slower))
