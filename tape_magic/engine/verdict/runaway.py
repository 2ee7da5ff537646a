"""Whether the steps of a run grew, since its rate is above what the curvature of the loss allows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.landscape import Landscape
from tape_magic.engine.verdict.words import number, rounded_down
from tape_magic.results.findings import Finding, FindingKind

MOST = 1_000_000
"""The most numbers whose largest curvature is looked for."""

RISES = 10
"""A run that stays finite has gone up at each of so many of its last steps."""

FEW = 5
"""One that diverged, at each of so many, if it took as many."""

MARGIN = 1.003
"""By how much the rate is at least above what is stable, beyond the errors of differences."""

GROWN = 1e3
"""By how much the losses of batches have grown, which differ from each other."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that the rate is above c/λ, where λ is the curvature at the start or at the lowest loss.

    Only where the losses grew from step to step, and for an optimizer with a bound c/λ.
    """
    if not _grew(facts) or facts.rate is None or facts.stability is None:
        return
    lost = facts.divergence is not None
    for at_start in (True, False):
        landscape = Landscape.of(facts, most=MOST, at_start=at_start)
        if landscape is None or (not at_start and landscape.here[0] > facts.losses[0] and lost):
            return
        curvature = landscape.largest
        if curvature <= 0 or facts.rate < MARGIN * facts.stability / curvature:
            continue
        curvature = min(curvature, landscape.nearby(landscape.steepest))  # kinks make them differ
        if curvature <= 0 or facts.rate < MARGIN * facts.stability / curvature:
            return
        bound = facts.stability / curvature
        text = (
            f"the steps grow: the rate is above {number(facts.stability)}/λ (λ ≈ {number(curvature)}): "
            f"below {number(rounded_down(bound, 2))} it would not"
        )
        evidence = {"rate": facts.rate, "curvature": curvature, "bound": bound}
        cure = facts.cure(rounded_down(bound / 2))
        yield Finding(FindingKind.RUNAWAY, text, evidence, None, cure)
        return


def _grew(facts: RunFacts) -> bool:
    """Return whether the losses grew from step to step until the end of the run."""
    losses = facts.losses[np.isfinite(facts.losses)]
    if facts.divergence is not None and facts.divergence.cause:
        return False
    if len(losses) < 2 or losses[-1] <= losses[0]:
        return False
    if facts.of_data:
        return facts.divergence is not None and losses[-1] > GROWN * abs(losses[0])
    rises = np.diff(losses[-RISES - 1 if facts.divergence is None else -FEW :]) > 0
    return bool(rises.all()) and (facts.divergence is not None or len(rises) == RISES)
