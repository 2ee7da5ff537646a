"""Whether a run that was cut off by its limit was still on its way down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.results.findings import Finding, FindingKind
from tape_magic.results.minimum import StopReason

SHARE = 0.01
"""The share of the loss by which the last tenth of the steps lowers it at least."""

LEAST = 1e-6
"""The share of all that the run has gained which the last tenth has gained at least: x² at 10⁻¹⁸ is there."""

STEADY = 0.8
"""At least this share of these steps do not raise the loss; random ones go up as often as down."""

FEWEST = 10
"""A run of fewer steps was not meant to get anywhere."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that the loss still falls at the limit of steps; not over batches, whose losses scatter."""
    first, last = facts.first_step, int(facts.steps[-1])
    if facts.reason is not StopReason.STEPS or facts.of_data or last - first < FEWEST:
        return
    tenth = facts.steps >= last - (last - first) / 10
    stretch = facts.losses[tenth]
    before, end = float(stretch[0]), float(facts.losses[-1])
    gain, all_gain = before - end, float(facts.losses[0]) - end
    steadily = end <= float(facts.losses.min()) and float((np.diff(stretch) <= 0).mean()) >= STEADY
    if steadily and gain > SHARE * abs(end) and gain > LEAST * all_gain:
        cure = "raise --steps or --lr" if facts.rate is not None else "raise --steps"
        yield Finding(FindingKind.STILL_FALLING, "still falling", {"before": before, "end": end}, None, cure)
