"""Whether the steps of a variable are so small that they are lost when they are added to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.values.precision import double_of
from tape_magic.engine.verdict.facts import Array, Probe, RunFacts
from tape_magic.engine.verdict.figures import figure
from tape_magic.results.findings import Finding, FindingKind

SHARE = 0.9
"""At least this share of the elements that have a gradient stay what they are."""

LARGER = tuple(2.0**power for power in (8, 20, 32, 44))
"""By how much the rate is raised until a step shows."""

LENGTHS = 1e-2, 1e-1, 1.0
"""How far the variable is then moved along its step, as parts of its size."""

_WIDER = {"float16": "float32", "bfloat16": "float32"}


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find a variable of which a step is less than half the distance to the next number of its dtype.

    Its gradient is not zero, a larger rate would move it, and that would lower the loss: a variable at its
    minimum, without a gradient, frozen, or held by a bound is none.
    """
    probe, rate = facts.probe, facts.rate
    if probe is None or not rate or facts.divergence is not None:
        return
    values = probe.values()
    if not len(probe.walk(1)):
        return
    stays = [np.equal(one, other) for one, other in zip(values, probe.values(), strict=True)]
    probe.back()
    if not any(stay.any() for stay in stays) or not facts.repeats:
        return
    batch = next(iter(probe.batches(1)), None)  # the one of that step
    here = probe.evaluate(batch)
    for place, (leaf, value, gradient) in enumerate(zip(facts.leaves, values, here.gradients, strict=True)):
        pulled = gradient != 0
        lost = pulled & stays[place]
        promise = float(np.abs(gradient[lost].astype(np.float64) * value[lost].astype(np.float64)).sum())
        if lost.sum() < SHARE * pulled.sum() or not facts.worth(here.loss, here.loss - promise):
            continue
        step = np.where(lost, _step(probe, place, value, rate, batch), 0.0)
        moved = _lower(facts, values, place, step, here.loss, batch)
        if moved is None:
            continue
        largest = np.argmax(np.abs(step))
        length, at = abs(float(step.flat[largest])), float(value.flat[largest])
        text = (
            f"{leaf.name} does not move: its steps ({figure(length, 1)}) are below {leaf.dtype}'s rounding "
            f"of {figure(at)}"
        )
        wider = _WIDER.get(leaf.dtype) or double_of(leaf.dtype)
        cures = ["raise --lr" if facts.by_name else "raise the rate", *([f"make it {wider}"] if wider else [])]
        evident = {"step": length, "value": at, "loss": here.loss, "moved": moved}
        yield Finding(FindingKind.UNMOVED, text, evident, None, ", or ".join(cures))


def _step(probe: Probe, place: int, value: Array, rate: float, batch: Sequence[Any] | None) -> Array:
    """Return the step of each element as if nothing were rounded; 0 where none shows.

    Steps are in proportion to the rate. So a larger rate shows them: the larger, the more exactly, as long as
    they are small beside the value.
    """
    before, found = value.astype(np.float64), np.zeros(value.shape)
    for larger in LARGER:
        probe.step(batch, rate=rate * larger)
        moved = probe.values()[place].astype(np.float64) - before
        probe.back()
        better = np.isfinite(moved) & (moved != 0) & ((found == 0) | (np.abs(moved) < np.abs(before)))
        found = np.where(better, moved / larger, found)
    return found


def _lower(
    facts: RunFacts,
    values: Sequence[Array],
    place: int,
    step: Array,
    loss: float,
    batch: Sequence[Any] | None,
) -> float | None:
    """Return a loss further along the step of one leaf that is worth a word; ``None`` where none is found."""
    value, largest, probe = values[place].astype(np.float64), float(np.abs(step).max()), facts.probe
    assert probe is not None
    for length in LENGTHS if largest else ():
        there = value + length * float(np.abs(value).max()) / largest * step
        probe.place([*values[:place], there.astype(values[place].dtype), *values[place + 1 :]])
        moved = probe.evaluate(batch).loss
        if np.isfinite(moved) and facts.worth(loss, moved):
            return moved
    return None
