"""Whether what is left of a loss over batches is their noise, which a lower rate would average."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from tape_magic.engine.verdict.facts import Array, Probe, RunFacts
from tape_magic.engine.verdict.further import fell, lower_rate, reversals
from tape_magic.results.findings import Finding, FindingKind

EPOCHS = 4
"""Of fewer epochs nobody can say that the loss no longer falls."""

LEVEL = 0.02
"""The most by which the last quarter of the steps lowers a loss that no longer falls, as a share of itself."""

FEWEST, MOST = 32, 1000
"""How many steps are taken at each rate."""

ERRORS = 4.0
"""So many standard errors lie between the losses at both rates, over the same batches."""

BATCHES, SIGNAL = 8, 0.4
"""How many batches are asked for their gradients, and the most that these have in common: the square of their
mean by the mean of their squares. At a rate r along a curvature λ it is rλ / (2 + rλ) at the noise floor."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that the loss of epochs stays, gradients of batches disagree, and a lower rate is better at once.

    Where the further steps nearly all turn back, the rate is too high for the loss of each batch.
    """
    probe, rate, epoch = facts.probe, facts.rate, facts.steps_per_epoch
    if probe is None or rate is None or epoch is None or epoch < 2:
        return
    if facts.steps[-1] - facts.first_step < EPOCHS * epoch or fell(facts) > LEVEL or not facts.repeats:
        return
    batches = list(probe.batches(BATCHES))
    if _signal(probe, batches) > SIGNAL:
        return
    slower = lower_rate(rate)
    both = _both(facts, probe, 2 * epoch, slower)
    if both is None:
        return
    here, there = both
    gain, before = here - there, float(here.mean())
    error = float(gain.std()) / np.sqrt(len(gain))
    if gain.mean() < ERRORS * error or not facts.worth(before, float(there.mean())):
        return
    rows = facts.batch or _rows(batches[0])
    text = "what is left is the noise of batches" + (f" of {rows:,}" if rows else "")
    larger = "raise --batch" if facts.batch and facts.by_name else "take larger batches"
    evident = {"loss": before, "rate": slower, "after": float(there.mean())}
    yield Finding(FindingKind.NOISE_FLOOR, text, evident, None, f"{facts.cure(slower)}, or {larger}")


def _signal(probe: Probe, batches: Sequence[Sequence[object]]) -> float:
    """Return the part of the gradients of batches that they have in common, without bias."""
    each = [
        np.concatenate([one.ravel().astype(np.float64) for one in probe.evaluate(batch).gradients])
        for batch in batches
    ]
    count, squares = len(each), float(np.mean([one @ one for one in each]))
    mean = np.mean(each, 0)
    return (count * float(mean @ mean) / squares - 1) / (count - 1) if squares and count > 1 else 1.0


def _both(facts: RunFacts, probe: Probe, wanted: int, slower: float) -> tuple[Array, Array] | None:
    """Return the losses over the same batches at the rate and at a lower one, after as many steps as those."""
    began = time.perf_counter()
    tried = len(probe.walk(FEWEST))
    probe.back()
    each = (time.perf_counter() - began) / max(tried, 1)
    count = int(min(wanted, MOST, facts.clock.left / (2.5 * each)))
    if count < FEWEST:
        return None
    here = probe.walk(count)
    probe.back()
    there = probe.walk(len(here), rate=slower)
    half = len(there) // 2
    return (here[half : len(there)], there[half:]) if half >= FEWEST // 2 else None


def _rows(batch: Sequence[object]) -> int:
    import tensorflow as tf

    shapes = [part.shape for part in tf.nest.flatten(batch)]
    return int(shapes[0][0]) if shapes and shapes[0].rank else 0
