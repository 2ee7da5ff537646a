"""Whether the steps of a run grew, since its rate is above what the curvature of the loss allows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.landscape import Landscape
from tape_magic.engine.verdict.words import number, rate_cure, rounded_down
from tape_magic.results.findings import Finding, FindingKind

MOST = 1_000_000
"""The most numbers whose largest curvature is looked for."""

RISES = 10
"""A run that stays finite has gone up at each of so many of its last steps."""

MARGIN = 1.02
"""By how much the rate is at least above what is stable, beyond the errors of differences."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that the rate is above c/λ, where λ is the curvature at the start or at the lowest loss.

    Only where the losses grew from step to step, and for an optimizer with a bound c/λ.
    """
    if not _grew(facts) or facts.rate is None or facts.stability is None or facts.of_data:
        return
    for at_start in (True, False):
        landscape = Landscape.of(facts, most=MOST, at_start=at_start)
        if landscape is None or not landscape.here[0] <= max(facts.losses[0], facts.losses.min()):
            return
        curvature = landscape.largest
        if curvature <= 0:
            continue
        bound = facts.stability / curvature
        if facts.rate < MARGIN * bound:
            continue
        landscape.confirm(landscape.steepest, curvature)
        text = (
            f"the steps grow: the rate is above {number(facts.stability)}/λ (λ ≈ {number(curvature)}): "
            f"below {number(rounded_down(bound, 2))} it would not"
        )
        evidence = {"rate": facts.rate, "curvature": curvature, "bound": bound}
        cure = rate_cure(facts, rounded_down(bound / 2))
        yield Finding(FindingKind.RUNAWAY, text, evidence, None, cure)
        return


def _grew(facts: RunFacts) -> bool:
    """Return whether the losses grew from step to step until the end of the run."""
    losses = facts.losses[np.isfinite(facts.losses)]
    if facts.divergence is None:
        last = losses[-RISES - 1 :]
        return len(last) > RISES and bool((np.diff(last) > 0).all()) and losses[-1] > losses[0]
    if facts.divergence.cause:
        return False
    last = losses[-5:]
    return len(last) > 1 and bool((np.diff(last) > 0).all()) and last[-1] > 2 * last[0]
