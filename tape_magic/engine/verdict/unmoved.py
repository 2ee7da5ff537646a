"""Whether the steps of a variable are so small that they are lost when they are added to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tape_magic.engine.values.precision import double_of, epsilon
from tape_magic.engine.verdict.facts import Array, LossAt, RunFacts, Walker
from tape_magic.engine.verdict.words import number
from tape_magic.results.findings import Finding, FindingKind

SHARE = 0.9
"""At least this share of the elements that have a gradient stay what they are."""

COARSE = 1e-4
"""In a dtype of a larger epsilon, a variable may come to a halt on its way; else it never moved."""

LARGER = tuple(2.0**power for power in (8, 20, 32, 44))
"""By how much the rate is raised until a step shows."""

PATIENT = 64
"""The most steps of which an optimizer may take one only: it adds the gradients of the others up."""

MOST = 1e6
"""A rate that had to be raised by more is not what is wrong."""

LENGTHS = 1e-2, 1e-1, 1.0
"""How far the variable is then moved along its step, as parts of its size."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find a variable of which a step is less than half the distance to the next number of its dtype.

    Its gradient is not zero, a larger rate would move it, and that would lower the loss: a variable at its
    minimum, without a gradient, frozen, or held by a bound is none.
    """
    probe, rate = facts.walker, facts.rate
    if probe is None or not rate or facts.divergence is not None:
        return
    values = probe.values()
    halts = [
        epsilon(leaf.dtype) > COARSE or np.equal(start, value).mean() >= SHARE
        for leaf, start, value in zip(facts.leaves, facts.start, values, strict=True)
    ]
    if not any(halts) or not facts.repeats:
        return
    here = probe.step()
    stays = [np.equal(one, other) for one, other in zip(values, probe.values(), strict=True)]
    probe.back()
    for place, gradient in enumerate(here.gradients):
        lost = (gradient != 0) & stays[place]
        promise = np.abs(gradient[lost].astype(np.float64) * values[place][lost].astype(np.float64)).sum()
        if not (halts[place] and lost.sum() >= SHARE * (gradient != 0).sum()):
            continue
        if facts.worth(here.loss, here.loss - float(promise)):
            yield from _found(facts, probe, values, place, lost, here)


def _found(
    facts: RunFacts, probe: Walker, values: Sequence[Array], place: int, lost: Array, here: LossAt
) -> Iterator[Finding]:
    """Find that elements of one leaf that were `lost` in a step would lead to a lower loss."""
    leaf, value, rate = facts.leaves[place], values[place], facts.rate
    assert rate is not None
    step = np.where(lost, _step(facts, probe, place, value, rate), 0.0)
    none = not step.any() and epsilon(leaf.dtype) > COARSE and _stays(probe, place, value, rate)
    along = -np.where(lost, here.gradients[place].astype(np.float64), 0.0) if none else step
    moved = _lower(facts, probe, values, place, along, here.loss)
    if moved is None:
        return
    largest = np.argmax(np.abs(step))
    length, at = abs(float(step.flat[largest])), float(value.flat[largest])
    steps = f"its steps ({number(length, 1)}) are below {leaf.dtype}'s rounding of {number(at)}"
    far = length * MOST < epsilon(leaf.dtype) * abs(at)
    if none:
        steps = f"its steps are 0 in {leaf.dtype}"  # as Adam's, whose 0.999 is 1 in bfloat16
    elif far:
        return  # as on a plateau, where it is the gradient that is too small
    wider = "float32" if epsilon(leaf.dtype) > COARSE else double_of(leaf.dtype)
    cures = [] if far else ["raise --lr" if facts.by_name else "raise the rate"]
    cures += [f"make it {wider}"] if wider else []
    evident = {"step": length, "value": at, "loss": here.loss, "moved": moved}
    yield Finding(
        FindingKind.UNMOVED, f"{leaf.name} does not move: {steps}", evident, None, ", or ".join(cures)
    )


def _step(facts: RunFacts, probe: Walker, place: int, value: Array, rate: float) -> Array:
    """Return the step of each element as if nothing were rounded; 0 where none shows.

    Steps are in proportion to the rate. So a larger rate shows them: the larger, the more exactly, as long as
    they are small beside the value.
    """
    before, found = value.astype(np.float64), np.zeros(value.shape)
    for larger in facts.within(LARGER):
        probe.step(rate=rate * larger)
        moved = probe.values()[place].astype(np.float64) - before
        probe.back()
        better = np.isfinite(moved) & (moved != 0) & ((found == 0) | (np.abs(moved) < np.abs(before)))
        found = np.where(better, moved / larger, found)
    return found


def _stays(probe: Walker, place: int, value: Array, rate: float) -> bool:
    """Return whether a leaf stays where it is for many steps at a far larger rate."""
    probe.walk(PATIENT, rate=rate * LARGER[1])
    stays = bool(np.equal(value, probe.values()[place]).all())
    probe.back()
    return stays


def _lower(
    facts: RunFacts, probe: Walker, values: Sequence[Array], place: int, along: Array, loss: float
) -> float | None:
    """Return a loss further along a way of one leaf that is worth a word; ``None`` where none is found."""
    value, largest = values[place].astype(np.float64), float(np.abs(along).max())
    for length in facts.within(LENGTHS if largest else ()):
        there = value + length * float(np.abs(value).max()) / largest * along
        probe.place([*values[:place], there.astype(values[place].dtype), *values[place + 1 :]])
        moved = probe.evaluate().loss
        if np.isfinite(moved) and facts.worth(loss, moved):
            return moved
    return None
