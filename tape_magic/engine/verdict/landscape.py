"""The loss around a point, asked by values and gradients alone: curvatures, and ways down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.engine.verdict.facts import Array, Probe, RunFacts
from tape_magic.engine.verdict.spectrum import (
    DESCENT_PRODUCTS,
    PRODUCTS,
    Spectrum,
    Unclear,
    lanczos,
    whole,
)

SMALL = 8
"""Over at most so many numbers, all second derivatives are taken."""

BATCHES = 4
"""Over data, the loss is the mean over so many batches."""

AGREED = 0.2
"""By how much of itself a curvature may change when it is taken over a quarter of the distance."""

DOUBLINGS = 40
"""The most steps of a search along a line, each twice as long as the one before."""

SHORTEST = 1e-3
"""The least part of a step at which a search along its line gives up."""

FARTHEST = 100.0
"""How far a search along a line begins at most, by :attr:`Landscape.scale`; it ends as many times as far."""

FROM_ZERO = 0.1
"""The least size of a run that began at 0."""


_PRECISE = frozenset({"float32", "float64"})


class OutOfTime(Exception):
    """The time of all evidence is over."""


@dataclass(frozen=True, eq=False)
class Descent:
    """A way down along a line, on which the loss never rose.

    Attributes
    ----------
    end, gain
        Where it ends, and by how much the loss is lower there.
    distance
        How far that is, but at most the length of Newton's step: minima may be at infinity.
    steepest
        The steepest slope on the way, by the slope at its beginning.
    curvature
        The largest curvature on the way.
    """

    end: Array
    gain: float
    distance: float
    steepest: float
    curvature: float


class Landscape:
    """The loss around a point.

    Second derivatives are differences of gradients, over ε^(1/3) of the size of the point; what follows from
    them is looked at by the loss itself. Each question raises :class:`OutOfTime` rather than take longer than
    there is time, and :class:`Unclear` where the answer would not hold.

    Parameters
    ----------
    facts, probe
        The run, and what asks its loss; whoever makes a landscape puts the leaves back.
    values
        Where to look.
    batches
        What the loss is the mean over; ``None`` in it stands for no data.

    Attributes
    ----------
    point
        All numbers of the leaves in a row, where to look.
    travelled
        How far that is from the beginning of the run.
    """

    def __init__(
        self, facts: RunFacts, probe: Probe, values: Sequence[Array], batches: Sequence[Any]
    ) -> None:
        self._probe, self._batches, self._clock = probe, batches, facts.clock
        self._cost = facts.step_seconds  # until one evaluation is timed
        self._like = [(np.shape(value), value.dtype) for value in values]
        self.point = flat(values)
        self.travelled = float(np.linalg.norm(self.point - flat(facts.start)))
        lower, upper = ([limits[side] for limits in facts.limits] for side in (0, 1))
        self._low, self._high = flat(_full(lower, values, -np.inf)), flat(_full(upper, values, np.inf))

    @classmethod
    def of(cls, facts: RunFacts, *, most: int, at_start: bool = False) -> Landscape | None:
        """Return the loss around the end or the start of a run; ``None`` for what is no such loss.

        It is one over at most so many numbers, in float32 or float64, that the leaves alone decide, with
        nothing else that moves these; over data, the mean over the next batches.
        """
        probe = facts.probe
        if probe is None or not facts.plain or any(leaf.dtype not in _PRECISE for leaf in facts.leaves):
            return None
        if sum(math.prod(leaf.shape) for leaf in facts.leaves) > most:
            return None
        probe.back()
        batches: list[Any] = list(probe.batches(BATCHES))
        if facts.of_data and not batches:
            return None
        return cls(facts, probe, facts.start if at_start else probe.values(), batches or [None])

    @property
    def size(self) -> int:
        """How many numbers the loss depends on."""
        return self.point.size

    @cached_property
    def scale(self) -> float:
        """The size of the point or of the way to it, whichever is larger.

        A run that began at 0 and did not get far has none, and gets one of its own.
        """
        size = float(np.linalg.norm(self.point))
        return max(size, self.travelled, FROM_ZERO if size == self.travelled else 0.0)

    @cached_property
    def here(self) -> tuple[float, Array]:
        """Loss and gradient at the point; :class:`Unclear` where two evaluations differ."""
        (loss, gradient), (again, same) = self.at(self.point), self.at(self.point)
        if not abs(loss - again) <= self.rounding(loss) or not np.allclose(gradient, same, rtol=1e-3):
            raise Unclear
        return loss, np.where(self._free(gradient), gradient, 0.0)

    @cached_property
    def along_gradient(self) -> Spectrum:
        """The curvatures in the directions that descent takes."""
        _, gradient = self.here
        if self.size <= SMALL or not gradient.any():
            return self.overall
        return lanczos(self._product, gradient, gradient, DESCENT_PRODUCTS, self.error)

    @cached_property
    def overall(self) -> Spectrum:
        """The extreme curvatures; all of them over few numbers."""
        _, gradient = self.here
        if self.size <= SMALL:
            return whole(self._exact_product, gradient, ~self._held, self.error)
        anywhere = np.random.default_rng(0).standard_normal(self.size)
        return lanczos(self._product, gradient, np.where(self._held, 0.0, anywhere), PRODUCTS, self.error)

    @property
    def largest(self) -> float:
        """The largest curvature."""
        return float(self.overall.values[-1])

    @property
    def steepest(self) -> Array:
        """The direction of the largest curvature."""
        return np.asarray(self.overall.vectors[:, -1])

    def at(self, point: Array) -> tuple[float, Array]:
        """Return loss and gradient at a point."""
        left = self._clock.left
        if left < self._cost:
            raise OutOfTime
        parts = np.split(point, np.cumsum([math.prod(shape) for shape, _ in self._like])[:-1])
        pieces = zip(parts, self._like, strict=True)
        with np.errstate(over="ignore"):  # what is too large for float32 is no place to look
            self._probe.place([part.reshape(shape).astype(dtype) for part, (shape, dtype) in pieces])
        found = [self._probe.evaluate(batch) for batch in self._batches]
        loss = sum(one.loss for one in found) / len(found)
        gradient = np.mean([flat(one.gradients) for one in found], axis=0)
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            raise Unclear
        self._cost = max(0.5 * self._cost, left - self._clock.left)
        return loss, gradient

    def rounding(self, loss: float) -> float:
        """Return how far two losses may differ by rounding alone."""
        return 100 * self._epsilon * abs(loss)

    def confirm(self, direction: Array, curvature: float) -> None:
        """Raise :class:`Unclear` unless a direction has its curvature over a quarter of the distance, too."""
        if not abs(self.nearby(direction) - curvature) <= AGREED * abs(curvature):
            raise Unclear

    def nearby(self, direction: Array) -> float:
        """Return the curvature along a direction over a quarter of the distance."""
        return float(direction @ self._product(direction, 0.25))

    def along(self, step: Array, times: float) -> tuple[float, float]:
        """Return loss and slope at some times a step from the point."""
        loss, gradient = self.at(self.point + times * step)
        return loss, float(gradient @ step)

    def descend(self, worth: float) -> Descent | None:
        """Return a way down that lowers the loss by as much as is worth it; ``None`` for none.

        It goes along Newton's step, which is doubled for as long as the slope leads down. Where the loss
        rises at once, it begins with less.
        """
        loss, gradient = self.here
        step = self.along_gradient.newton
        first, length = float(gradient @ step), float(np.linalg.norm(step))
        if not first < 0 or not length or not math.isfinite(length):
            return None
        t = min(1.0, FARTHEST * self.scale / length)
        slopes, times, losses = [first], [0.0], [loss]
        for _ in range(DOUBLINGS):
            straight = self.point + t * step
            moved = np.clip(straight, self._low, self._high)
            there, around = self.at(moved)
            if there > losses[-1] + self.rounding(loss):
                if len(times) > 1 or t < SHORTEST:
                    break
                t /= 2
                continue
            slopes.append(float(around @ np.where(moved == straight, step, 0.0)))
            times.append(t)
            losses.append(there)
            t *= 2
            if slopes[-1] >= 0 or t * length > FARTHEST**2 * self.scale:
                break
        if loss - losses[-1] < worth:
            return None
        bends = np.diff(slopes) / np.diff(times) / length**2
        steepest = float(min(slopes) / first)
        end = np.clip(self.point + times[-1] * step, self._low, self._high)
        distance = min(1.0, times[-1]) * length
        return Descent(end, loss - losses[-1], distance, steepest, float(bends.max()))

    def bends_from_level(self, direction: Array, curvature: float) -> bool:
        """Return whether the slope in a direction of length 1 is nothing beside its curvature."""
        return abs(float(self.here[1] @ direction)) <= AGREED * abs(curvature) * self._distance

    def falls(self, direction: Array, worth: float) -> bool:
        """Return whether the loss falls by as much as is worth it in a direction, without rising before."""
        loss, _ = self.here
        lowest, t = loss, self._distance
        while t <= FARTHEST * self.scale:
            there, _ = self.at(np.clip(self.point + t * direction, self._low, self._high))
            if loss - there >= worth:
                return True
            if there > lowest + self.rounding(loss):
                return False
            lowest, t = min(there, lowest), 2 * t
        return False

    # -- second derivatives ----------------------------------------------------------------------------

    @property
    def _epsilon(self) -> float:
        return float(max(np.finfo(dtype).eps for _, dtype in self._like))

    @property
    def _distance(self) -> float:
        return float(self._epsilon ** (1 / 3) * self.scale)

    @property
    def error(self) -> float:
        """The share of the largest curvature below which others are rounding."""
        return float(0.1 * self._epsilon ** (2 / 3))

    def _product(self, direction: Array, part: float = 1.0) -> Array:
        """Return the Hessian times a direction of length 1, over a part of the distance."""
        distance = part * self._distance
        _, ahead = self.at(self.point + distance * direction)
        return np.where(self._held, 0.0, (ahead - self.here[1]) / distance)

    def _exact_product(self, direction: Array) -> Array:
        """Return the same by central differences, for which small curvatures are not lost in large ones."""
        return np.asarray(self._product(direction) - self._product(-direction)) / 2

    @cached_property
    def _held(self) -> Array:
        """Which numbers a bound holds."""
        _, gradient = self.here
        return ~self._free(gradient)

    def _free(self, gradient: Array) -> Array:
        at_low = (self.point <= self._low) & (gradient >= 0)
        return ~(at_low | ((self.point >= self._high) & (gradient <= 0)))


def flat(values: Sequence[Any]) -> Array:
    """Return all numbers of some values in a row, float64."""
    row: Array = np.concatenate([np.asarray(value, np.float64).reshape(-1) for value in values])
    return row


def _full(bounds: Sequence[Any], values: Sequence[Array], none: float) -> list[Array]:
    given = bounds or [None] * len(values)
    return [
        np.broadcast_to(none if bound is None else bound, np.shape(value))
        for bound, value in zip(given, values, strict=True)
    ]
