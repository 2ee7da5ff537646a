"""One derivative beside differences: what it predicts for a step, and how far that is off."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.engine.check.finite_differences import Array, Ends, Estimate
from tape_magic.engine.check.judgement import Judgement, Skipped
from tape_magic.engine.check.quantities import FlatNumbers
from tape_magic.engine.check.rerun import Deltas
from tape_magic.notation import Kind
from tape_magic.results.check import Check
from tape_magic.results.gradients import Derivative


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
        The one element that moves, by its flat index; ``None`` where many do.
    unit
        1j where it moves along the imaginary axis.
    """

    deltas: Deltas
    scale: float
    index: int | None = None
    unit: complex = 1.0


@dataclass
class RowCheck:
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
    reported: FlatNumbers | None
    again: FlatNumbers | None
    base: Array
    eps: float
    _notes: dict[str, None] = field(default_factory=dict)
    _worst: float = -1.0
    _found: dict[str, Any] = field(default_factory=dict)
    _lost: bool = False
    _left: dict[Skipped, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compared = np.zeros(math.prod(self.row.shape), bool)

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

    def predicted(self, numbers: FlatNumbers | None, deltas: Deltas) -> Array:
        """What the derivative says of the change along a direction."""
        if numbers is None:
            return np.zeros_like(self.picked(self.base))
        if self.product:
            return numbers.numbers
        moved = deltas[self.row.wrt[-1]]
        # A step along the imaginary axis finds the imaginary part: TensorFlow's is ∂f/∂x + i ∂f/∂y.
        if self.row.kind is Kind.BATCH_JACOBIAN:
            rows = moved.reshape(moved.shape[0], -1)
            parts = numbers.numbers.reshape(moved.shape[0], -1, rows.shape[1])
            return np.asarray(np.real(np.einsum("boi,bi->bo", np.conj(parts), rows))).reshape(-1)
        where = np.flatnonzero(moved)
        matrix = numbers.numbers.reshape(-1, moved.size)[:, where]
        return np.asarray(np.real(np.conj(matrix) @ moved.reshape(-1)[where]))

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

    def judged(self, direction: Direction, estimate: Estimate) -> Judgement:
        """The estimate of one direction beside the derivative."""
        again = self.predicted(self.again, direction.deltas)
        reported = self.predicted(self.reported, direction.deltas)
        difference = self.predicted(_finite(self.again), direction.deltas) + estimate.residual
        own = max(self.eps, self.eps if self.reported is None else self.reported.eps)
        numbers = np.zeros(1) if self.reported is None else self.reported.numbers
        largest = float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))
        return Judgement(estimate, again, reported, difference, largest, self.eps ** (1 / 3), own ** (1 / 3))

    def enter(self, direction: Direction, judged: Judgement, *, sure: bool) -> None:
        """Take note of one direction; where it is not `sure`, nothing is called wrong."""
        elements = self._elements(direction)
        reasons = judged.left_out(sure)
        for reason in Skipped:
            places = np.flatnonzero(reasons == reason)
            if places.size:
                first = self._place(elements[places[0]]), judged.sides(int(places[0]), reason)
                count, *first_of_all = self._left.get(reason, (0, *first))
                self._left[reason] = (count + places.size, *first_of_all)
        kept = ~reasons.astype(bool)
        self._compared[elements[kept & (elements >= 0)]] = True
        ratios = np.where(kept, judged.ratios, -1.0)
        worst = int(np.argmax(ratios))
        if ratios[worst] > self._worst:
            self._worst = float(ratios[worst])
            self._found = judged.finding(worst, direction.unit) | {"place": self._place(elements[worst])}
            self._lost = self._worst > 1 and self._found["tolerance"] > judged.strict

    def check(self, dtype: str) -> Check:
        """What came of it."""
        for why, (count, first, detail) in self._left.items():
            some = f" at {list(first)}" if first else ""
            more = f", and {count - 1:,} more" if count > 1 else ""
            self.note(f"not compared{some}{more}: {why.value}{detail}")
        if self.reported is None and self._worst > 1:
            self.note("TensorFlow finds no derivative, but the differences are not 0")
        if self._lost:
            self.note("in float64 the derivative agrees, and as reported it has lost that to rounding")
        nothing = {"error": np.nan, "tolerance": self.eps ** (1 / 3), "place": ()}
        values = {"derivative": np.nan, "difference": np.nan}
        return Check(
            key=self.row.key,
            **{**nothing, **values, **self._found},
            compared=int(self._compared.sum()),
            elements=self._compared.size,
            dtype=dtype,
            note="; ".join(self._notes),
        )

    def note(self, remark: str) -> None:
        """Say something of it, once."""
        self._notes[remark] = None

    def _elements(self, direction: Direction) -> Array:
        """Which element of the derivative each number that is compared is; −1 where it is of several."""
        numbers = np.arange(self.picked(self.base).size)
        if self.product:
            return numbers
        if direction.index is None:
            return np.full(numbers.shape, -1)
        shape = next(iter(direction.deltas.values())).shape
        if self.row.kind is not Kind.BATCH_JACOBIAN:
            return numbers * math.prod(shape) + direction.index
        inner = math.prod(shape[1:])
        row, place = divmod(direction.index, inner)
        return np.where(numbers * shape[0] // numbers.size == row, numbers * inner + place, -1)

    def _place(self, element: int) -> tuple[int, ...]:
        """The index within the derivative; empty where a whole direction was compared."""
        return () if element < 0 else tuple(map(int, np.unravel_index(element, self.row.shape)))


def _finite(numbers: FlatNumbers | None) -> FlatNumbers | None:
    """With 0 for what is not finite, which the residual then holds as a whole."""
    if numbers is None or np.isfinite(numbers.numbers).all():
        return numbers
    return FlatNumbers(np.where(np.isfinite(numbers.numbers), numbers.numbers, 0), numbers.dtype)
