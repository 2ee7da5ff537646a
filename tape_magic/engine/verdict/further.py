"""How the loss went at the end of a run, and where further steps lead."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.precision import epsilon
from tape_magic.engine.verdict.facts import Array, RunFacts

FEWEST = 10
"""A run of fewer steps was not meant to get anywhere."""

STEPS, STRAIGHT = 12, 0.25
"""How many steps are taken, and the most of them that do not turn back; by chance it would be a half."""

PIECE = 64
"""How many steps are taken until the clock is looked at again."""

LOST = 100
"""Steps of no more than so many roundings of what they move are no steps."""


def lower_rate(rate: float) -> float:
    """Return the largest number of one digit that is at most a quarter of a rate.

    >>> lower_rate(0.1), lower_rate(0.3), lower_rate(4e-5)
    (0.02, 0.07, 1e-05)
    """
    digit, exponent = f"{rate / 4:.5e}".split("e")
    return float(f"{digit[0]}e{exponent}")


def walked(facts: RunFacts, count: int, rate: float) -> Array:
    """Take steps at a rate, and return the loss before each; fewer than `count` where the time is over."""
    assert facts.walker is not None
    pieces = [min(PIECE, count - begin) for begin in range(0, count, PIECE)]
    losses = [facts.walker.walk(piece, rate=rate) for piece in facts.within(pieces)]
    return np.concatenate(losses) if losses else np.zeros(0)


def fell(facts: RunFacts) -> float:
    """Return by which share of itself the loss fell from the third quarter of the steps to the last."""
    first, last = facts.first_step, int(facts.steps[-1])
    edges = [first + part * (last - first) for part in (0.5, 0.75, 1.0)]
    third, fourth = (
        float(facts.losses[(facts.steps >= begin) & (facts.steps < end)].mean())
        for begin, end in itertools.pairwise(edges)
    )
    return (third - fourth) / abs(third) if third else 0.0


@dataclass(frozen=True)
class Reversals:
    """Some steps that turn back.

    Attributes
    ----------
    turned
        How many of them turned back, of all but the first.
    losses
        The loss before each.
    last, end
        The point before the last one, and the point after it.
    """

    turned: int
    losses: Array
    last: Sequence[Array]
    end: Sequence[Array]

    @property
    def text(self) -> str:
        """The steps in words."""
        return f"{self.turned} of {STEPS - 1} further steps turn back"


def reversals(facts: RunFacts, *, by_chance: bool = False) -> Reversals | None:
    """Take steps, and return them; ``None`` once some go on in one direction, or are lost in rounding.

    `by_chance` says that batches scatter, so that the first ones may go on as well as the last.
    """
    probe, losses, turned, before = facts.walker, list[float](), 0, None
    assert probe is not None
    last, end = probe.values(), probe.values()
    for taken in range(STEPS):
        losses += probe.walk(1).tolist()
        last, end = end, probe.values()
        step = _vector(end) - _vector(last)
        lost = not taken and all(map(_is_lost, facts.leaves, last, end))
        turned += before is not None and float(step @ before) < 0
        if (
            lost
            or len(losses) <= taken
            or taken - turned > STRAIGHT * (STEPS - 1 if by_chance else taken)
            or facts.clock.left <= 0
        ):
            return None
        before = step
    return Reversals(turned, np.array(losses), last, end)


def _vector(values: Sequence[Array]) -> Array:
    return np.concatenate([value.ravel().astype(np.float64) for value in values])


def _is_lost(leaf: Leaf, one: Array, other: Array) -> bool:
    """Return whether a leaf has moved by no more than some roundings of its largest element."""
    before, after = _vector([one]), _vector([other])
    size = np.abs(before).max(initial=0.0)
    return bool(np.abs(after - before).max(initial=0.0) <= LOST * epsilon(leaf.dtype) * size)


def curvature(facts: RunFacts, steps: Reversals) -> float:
    """Return the curvature along the last step: how much the gradient changed, by how far it went."""
    probe = facts.probe
    assert probe is not None
    gradients = []
    for point in (steps.last, steps.end):
        probe.place(point)
        gradients.append(_vector(probe.evaluate().gradients))
    step = _vector(steps.end) - _vector(steps.last)
    return float((gradients[1] - gradients[0]) @ step / (step @ step))
