"""Whether what is left of a loss over batches is their noise, which a lower rate would average."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from tape_magic.engine.verdict.facts import WORTH, Array, RunFacts, Walker
from tape_magic.engine.verdict.further import STEPS, fell, lower_rate, reversals, walked
from tape_magic.results.findings import Finding, FindingKind

EPOCHS = 4
"""Of fewer epochs nobody can say that the loss no longer falls."""

LEVEL, SCATTER = 0.02, 0.3
"""A loss that no longer falls loses at most the one share of itself in the last quarter of the steps, and at
most the other where the means of epochs scatter by as much."""

STAYS = 0.6
"""At its own rate, further steps get at most this share of what a lower rate gains."""

FEWEST, MOST = 32, 3000
"""The fewest steps to compare, and the most to take."""

ERRORS, ENOUGH, STRETCHES = 3.0, 4, 8
"""So many standard errors lie between the losses at both rates. They come from the means of epochs, which
have all rows, where there are so many epochs; else from those of so many stretches."""

WHOLE, SETTLED = 512, 400
"""An epoch of at most so many batches is evaluated as a whole; after at most so many steps at the lower
rate."""

TRIED = 48
"""How many steps are taken to see how long one takes, since the first takes longest."""

BATCHES, SIGNAL = 16, 0.6
"""How many batches are asked for their gradients, and the most that these have in common: the square of their
mean by the mean of their squares. At a rate r along a curvature λ it is rλ / (2 + rλ) at the noise floor."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that the loss of epochs stays, gradients of batches disagree, and a lower rate is better at once.

    Where gradients agree and steps turn back, it is the rate that is too high, and not the noise.
    """
    probe, rate, epoch = facts.walker, facts.rate, facts.steps_per_epoch
    if probe is None or rate is None or epoch is None or epoch < 2:
        return
    if (
        facts.steps[-1] - facts.first_step < EPOCHS * epoch
        or not _is_level(facts, epoch)
        or not facts.repeats_from_state
    ):
        return
    half = _last_half(facts)
    batches = list(probe.batches(BATCHES))
    noise = _signal(facts, probe, batches) < SIGNAL
    back = None if noise or not facts.same_loss else reversals(facts, by_chance=True)
    if not (noise or back):
        return
    probe.back()
    slower = lower_rate(rate)
    # With numbers that are drawn by a seed, an evaluation of all batches would draw the same for each.
    if facts.same_loss and half is not None and epoch <= WHOLE:
        read = len(batches) + (STEPS if back else 0)
        here, (there, taken), scatters = half, _of_epoch(facts, probe, epoch, slower, read), [half]
    else:
        here, there = _both(facts, probe, half, epoch, slower)
        scatters, taken = [here, there], len(there)
    if not len(there):
        return
    before, after = float(here.mean()), float(there.mean())
    gain, error = before - after, float(np.sqrt(sum(_variance(losses, epoch) for losses in scatters)))
    if gain < max(ERRORS * error, max(WORTH, 2 * fell(facts)) * abs(before)):
        return
    if not facts.worth(before, after) or not _stays(facts, rate, taken, before - STAYS * gain):
        return
    evident = {"rate": rate, "loss": before, "lower_rate": slower, "loss_there": after}
    if back:
        text = f"{back.text}: at a rate of {slower:g} the loss falls by {100 * gain / abs(before):.0f} %"
        yield Finding(FindingKind.TOO_FAST, text, evident, None, facts.cure(slower))
        return
    rows = facts.batch or _rows(batches[0])
    text = "what is left is the noise of batches" + (f" of {rows:,}" if rows else "")
    if not facts.same_loss:
        text += " and of the numbers that are drawn"
    larger = "raise --batch" if facts.batch and facts.by_name else "take larger batches"
    yield Finding(FindingKind.NOISE_FLOOR, text, evident, None, f"{facts.cure(slower)}, or {larger}")


def _is_level(facts: RunFacts, epoch: int) -> bool:
    """Return whether the means of epochs did not fall from the third quarter of the run to the last."""
    fallen, last = fell(facts), int(facts.steps[-1])
    numbers = (last - 1 - facts.steps) // epoch  # of an epoch, counted from the end
    half = sorted(set(numbers.tolist()) & set(range((last - facts.first_step) // (2 * epoch))))
    means = [float(facts.losses[numbers == number].mean()) for number in half]
    scatter = np.std(np.diff(means)) / np.sqrt(2.0) if len(means) > 2 else 0.0  # without their trend
    error = 3 * np.sqrt(2.0) * scatter / np.sqrt(len(means) / 2) / abs(np.mean(means))
    return bool(fallen <= max(LEVEL, min(error, SCATTER)))


def _signal(facts: RunFacts, probe: Walker, batches: Sequence[Sequence[object]]) -> float:
    """Return the part of the gradients of batches that they have in common, without bias."""
    each = [
        np.concatenate([one.ravel().astype(np.float64) for one in probe.evaluate(batch).gradients])
        for batch in facts.within(batches)
    ]
    count, squares = len(each), sum(float(one @ one) for one in each)
    if count < 2 or not squares:
        return 1.0
    mean = np.mean(each, 0)
    return (count**2 * float(mean @ mean) / squares - 1) / (count - 1)


def _last_half(facts: RunFacts) -> Array | None:
    """Return the loss of each step of the last half of the run; ``None`` where not all were kept."""
    run = int(facts.steps[-1]) - facts.first_step
    half = facts.losses[facts.steps >= facts.steps[-1] - run // 2][:-1]  # the last is no step's
    return half if len(half) == run // 2 else None


def _seconds(probe: Walker, rate: float | None = None) -> float:
    """Return how long a step takes, by taking some."""
    began, tried = time.perf_counter(), len(probe.walk(TRIED, rate=rate))
    return (time.perf_counter() - began) / max(tried, 1)


def _of_epoch(facts: RunFacts, probe: Walker, epoch: int, slower: float, read: int) -> tuple[Array, int]:
    """Return the losses of all batches of an epoch after some steps at a lower rate; and how many steps.

    There are no losses where there is no time. So many batches were `read` before. The whole epoch has each
    row once: its mean has no error but that of the point. Steps at a rate of 0 evaluate it as fast as the run
    took steps; what momentum has gathered moves the point on, a little. All steps of this look
    together are no more than the run had: the data may end there.
    """
    each, run = _seconds(probe, slower), int(facts.steps[-1]) - facts.first_step
    read += TRIED
    most = min(int(facts.clock.left / each - epoch) // 2, SETTLED, (run - read - epoch - TRIED) // 2)
    count = (read + most) // epoch * epoch - read
    if count < 0 or len(walked(facts, count, slower)) < count:
        return np.zeros(0), 0
    losses = walked(facts, epoch, 0.0)
    return losses if len(losses) == epoch else losses[:0], TRIED + count


def _stays(facts: RunFacts, rate: float, count: int, least: float) -> bool:
    """Return whether the loss stays above a value over as many further steps at the run's own rate.

    A net that only seems level, since its epochs scatter, comes down at its own rate as well.
    """
    assert facts.walker is not None
    facts.walker.back()
    losses = walked(facts, count, rate)
    return len(losses) == count and float(losses[count // 2 :].mean()) > least


def _both(
    facts: RunFacts, probe: Walker, half: Array | None, epoch: int, slower: float
) -> tuple[Array, Array]:
    """Return the losses of the last half of the run, and those of some steps after as many at a lower rate.

    The steps are those of whole epochs where there is time for so many; none where there is none at all.
    """
    run = int(facts.steps[-1]) - facts.first_step
    each, left = _seconds(probe), run - BATCHES - STEPS - TRIED  # of the batches
    count = min(int(facts.clock.left / (3.5 * each)), MOST // 2, left // 4)
    count = count // epoch * epoch or count
    if count < FEWEST:
        return np.zeros(0), np.zeros(0)
    probe.back()
    here = probe.walk(count) if half is None else half
    probe.back()
    probe.walk(count, rate=slower)
    there = probe.walk(count)
    return here, there if len(there) >= FEWEST else there[:0]


def _variance(losses: Array, epoch: int) -> float:
    """Return the variance of the mean of losses, of which neighbours may be alike."""
    epochs = len(losses) // epoch
    parts = np.array_split(losses, epochs if epochs >= ENOUGH else STRETCHES)
    return float(np.var([part.mean() for part in parts], ddof=1)) / len(parts)


def _rows(batch: Sequence[object]) -> int:
    import tensorflow as tf

    shapes = [part.shape for part in tf.nest.flatten(batch)]
    return int(shapes[0][0]) if shapes and shapes[0].rank else 0
