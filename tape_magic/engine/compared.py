"""One derivative beside differences: what it predicts for a step, and how far that is off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.engine.differences import Array, Ends, Estimate
from tape_magic.engine.quantities import Quantity
from tape_magic.engine.rerun import Deltas
from tape_magic.notation import Kind
from tape_magic.results.check import Check
from tape_magic.results.gradients import Derivative

SAFETY = 4.0
"""How many times its estimate an error may be."""

_HIDES = 0.1
"""Where differences may be off by more than this share, they cannot tell right from wrong."""

_SMALL = 0.01
"""What is smaller than this share of the largest element need not be told that well."""


@dataclass(frozen=True)
class Direction:
    """A way to move leaves.

    Attributes
    ----------
    deltas
        For each leaf that moves, in which direction.
    scale
        The size of the numbers there, which the step is in proportion to.
    index
        The one element that moves, by its index; ``None`` where many do.
    unit
        1j where it moves along the imaginary axis.
    """

    deltas: Deltas
    scale: float
    index: tuple[int, ...] | None = None
    unit: complex = 1.0


@dataclass
class Compared:
    """A row of the report, with the numbers that are compared with differences.

    Attributes
    ----------
    row
        The derivative as reported.
    reported, again
        Its numbers, and those of a run in the precision of the differences; ``None`` where there is
        no connection.
    base
        What is differentiated, at the place itself.
    eps
        The rounding of the precision of the differences.
    """

    row: Derivative
    reported: Quantity | None
    again: Quantity | None
    base: Array
    eps: float
    notes: dict[str, None] = field(default_factory=dict)
    _worst: tuple[float, dict[str, Any]] = (-1.0, {})
    _lost: bool = False
    _compared: set[tuple[int, ...]] = field(default_factory=set)
    _left: dict[str, list[tuple[tuple[int, ...], str]]] = field(default_factory=dict)

    # -- what is compared --------------------------------------------------------------------------

    @property
    def product(self) -> bool:
        """Whether it is a product with vectors, which are the only direction then."""
        return self.row.kind in (Kind.JVP, Kind.HVP)

    def picked(self, change: Array) -> Array:
        """The change of what is differentiated → that which the derivative speaks of."""
        if self.row.kind is Kind.GRADIENT:
            return np.asarray(np.sum(np.real(change), keepdims=True))  # TensorFlow's is of the real part
        return change if self.product else np.asarray(np.real(change))

    def predicted(self, numbers: Quantity | None, deltas: Deltas) -> Array:
        """What the derivative says of the change along a direction."""
        if numbers is None:
            return np.zeros_like(self.picked(self.base))
        if self.product:
            return numbers.numbers
        moved = deltas[self.row.wrt[-1]]
        # A step along the imaginary axis finds the imaginary part: TensorFlow's is ∂f/∂x + i ∂f/∂y.
        derivative = np.conj(numbers.numbers)
        if self.row.kind is Kind.BATCH_JACOBIAN:
            rows = moved.reshape(moved.shape[0], -1)
            parts = derivative.reshape(moved.shape[0], -1, rows.shape[1])
            return np.asarray(np.real(np.einsum("boi,bi->bo", parts, rows))).reshape(-1)
        where = np.flatnonzero(moved)
        matrix = derivative.reshape(-1, moved.size)[:, where]
        return np.asarray(np.real(matrix @ moved.reshape(-1)[where]))

    def ends(self, ahead: Array, behind: Array, deltas: Deltas, step: float) -> Ends:
        """The residual of a central difference, from the numbers one step ahead and one behind."""
        with np.errstate(all="ignore"):
            sizes = np.maximum(np.abs(ahead), np.abs(behind))
            noise = np.sqrt(np.sum(sizes**2, keepdims=True)) if self.row.kind is Kind.GRADIENT else sizes
            slope = self.picked(ahead - behind) / (2 * step)
            return Ends(
                slope - self.predicted(_finite(self.again), deltas),
                self.picked(ahead - 2 * self.base + behind) / step,
                noise * self.eps / step,
                np.abs(slope),
            )

    # -- how it is judged --------------------------------------------------------------------------

    def judged(self, direction: Direction, estimate: Estimate) -> Judged:
        """The estimate of one direction beside the derivative."""
        again = self.predicted(self.again, direction.deltas)
        reported = self.predicted(self.reported, direction.deltas)
        difference = self.predicted(_finite(self.again), direction.deltas) + estimate.residual
        own = max(self.eps, self.eps if self.reported is None else self.reported.eps)
        numbers = np.zeros(1) if self.reported is None else self.reported.numbers
        largest = float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))
        return Judged(estimate, again, reported, difference, largest, self.eps ** (1 / 3), own ** (1 / 3))

    def enter(self, direction: Direction, judged: Judged, *, sure: bool) -> None:
        """Take note of one direction; where it is not `sure`, nothing is called wrong."""
        shape = self._shape(direction)
        for component in range(judged.difference.size):
            place = self._place(direction, component, shape)
            why, detail = judged.left_out(component, sure)
            if why:
                self._left.setdefault(why, []).append((place, detail))
                continue
            if self.product or direction.index is not None:
                self._compared.add(place)
            ratio, found = judged.finding(component, direction.unit)
            if ratio > self._worst[0]:
                self._worst = ratio, {**found, "place": place}
                self._lost = ratio > 1 and found["tolerance"] > judged.strict

    def check(self, dtype: str) -> Check:
        """What came of it."""
        count = self.elements
        for why, places in self._left.items():
            (first, detail), *others = places
            some = f" at {list(first)}" if first else ""
            more = f", and {len(others):,} more" if others else ""
            self.notes[f"not compared{some}{more}: {why}{detail}"] = None
        if self.reported is None and self._worst[0] > 1:
            self.notes["TensorFlow finds no derivative, but the differences are not 0"] = None
        if self._lost:
            self.notes["in float64 the derivative agrees, and as reported it has lost that to rounding"] = (
                None
            )
        nothing = {
            "error": np.nan,
            "tolerance": self.eps ** (1 / 3),
            "place": (),
            "derivative": np.nan,
            "difference": np.nan,
        }
        found = {**nothing, **self._worst[1]}
        return Check(
            key=self.row.key,
            **found,
            compared=min(len(self._compared), count),
            elements=count,
            dtype=dtype,
            note="; ".join(self.notes),
        )

    @property
    def elements(self) -> int:
        """How many numbers the derivative has."""
        return int(np.prod(self.row.shape))

    def _shape(self, direction: Direction) -> tuple[int, ...]:
        return tuple(next(iter(direction.deltas.values())).shape)

    def _place(self, direction: Direction, component: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The index within the derivative; empty where a whole direction was compared."""
        whole = self.row.shape
        if self.product:
            return _unraveled(component, whole)
        if direction.index is None:
            return ()
        if self.row.kind is Kind.GRADIENT:
            return direction.index
        shared = 1 if self.row.kind is Kind.BATCH_JACOBIAN else 0
        front = whole[: len(whole) - len(shape) + shared]
        return (*_unraveled(component, front), *direction.index[shared:])


@dataclass(frozen=True)
class Judged:
    """A derivative along one direction, as it came again, as reported, and by differences.

    The one that the tape gives in the precision of the differences is held against them strictly, and
    the one that was reported as strictly as its own precision allows: ε^(1/3) of either dtype, 6·10⁻⁶ in
    float64 and 5·10⁻³ in float32.
    """

    estimate: Estimate
    again: Array
    reported: Array
    difference: Array
    largest: float
    strict: float
    loose: float

    @property
    def errors(self) -> tuple[Array, Array]:
        """Of the derivative again, and of the one reported; each relative."""
        # What is much smaller than the rest of a derivative may be nothing but its rounding.
        floor = self.largest * self.loose if self.loose > self.strict else 0.0
        return self._errors(self.again, self.strict, 0.0), self._errors(self.reported, self.loose, floor)

    def _errors(self, derivative: Array, tolerance: float, floor: float) -> Array:
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(derivative), np.abs(self.difference))
            size = np.fmax(np.fmax(size, floor), self.bound / tolerance)
            error = np.abs(derivative - self.difference) / np.where(size == 0, 1.0, size)
        return np.where(np.isfinite(derivative), error, np.inf)

    @property
    def bound(self) -> Array:
        """How far the differences may be off."""
        return np.where(np.isfinite(self.estimate.error), SAFETY * self.estimate.error, 0.0)

    @property
    def severity(self) -> float:
        """How much it asks for a second look; at most 1 where all agrees, and is sure."""
        again, reported = self.errors
        worst = np.fmax(again / self.strict, reported / self.loose)
        doubt = self.estimate.broken | self._hidden | ~np.isfinite(self.difference)
        return float(np.max(np.where(doubt, np.fmax(worst, 1.0) * 2, worst), initial=0.0))

    @property
    def _hidden(self) -> Array:
        """Where rounding in the differences hides what they should tell."""
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(self.again), np.abs(self.difference))
            return (self.bound > _HIDES * size) & (size > _SMALL * self.largest) & (size > 0)

    def left_out(self, component: int, sure: bool) -> tuple[str, str]:
        """Why a component is not compared, and more of it; empty where it is."""
        again, reported = (errors[component] for errors in self.errors)
        if not np.isfinite(self.difference[component]):
            return "it is not finite nearby", ""
        if self.estimate.broken[component]:
            middle, gap = (float(np.real(one[component])) for one in (self.difference, self.estimate.gap))
            if abs(gap) > 1e3 * max(abs(middle), 1.0):
                return "a jump", ""
            # What is that much smaller than the other side is its rounding.
            below, above = (
                side if abs(side) > 1e-6 * abs(gap) else 0.0 for side in (middle - gap / 2, middle + gap / 2)
            )
            return "a kink", f", {below:.4g} from below and {above:.4g} from above".replace("-", "−")
        if self._hidden[component]:
            return "the differences do not settle", ""
        if max(again / self.strict, reported / self.loose) <= 1:
            return "", ""
        if not sure:
            return "it differs at first sight", ""
        # Wrong is called only what stays so, or what is not finite, or has been lost to rounding.
        wrong = self.estimate.lasting[component] or not np.isfinite(self.again[component])
        return ("" if wrong or again <= self.strict else "the differences do not settle"), ""

    def finding(self, component: int, unit: complex) -> tuple[float, dict[str, Any]]:
        """The worse of the two, in units of its tolerance, and what a check says of it."""
        again, reported = (float(errors[component]) for errors in self.errors)
        strictly = again / self.strict >= reported / self.loose
        derivative = (self.again if strictly else self.reported)[component] * unit
        error, tolerance = (again, self.strict) if strictly else (reported, self.loose)
        ratio, difference = error / tolerance, self.difference[component] * unit
        if ratio > 1 and np.isfinite(derivative):
            error = float(abs(derivative - difference) / max(abs(derivative), abs(difference)))
        found: dict[str, Any] = {
            "error": error,
            "tolerance": tolerance,
            "derivative": _plain(derivative),
            "difference": _plain(difference),
        }
        return ratio, found


def _finite(numbers: Quantity | None) -> Quantity | None:
    """With 0 for what is not finite, which the residual then holds as a whole."""
    if numbers is None or np.isfinite(numbers.numbers).all():
        return numbers
    return Quantity(np.where(np.isfinite(numbers.numbers), numbers.numbers, 0), numbers.dtype)


def _plain(value: complex) -> complex:
    return complex(value) if np.iscomplexobj(value) and value.imag != 0 else float(np.real(value))


def _unraveled(component: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(component, shape)))
