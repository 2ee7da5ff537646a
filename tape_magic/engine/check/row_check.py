"""`RowCheck`: one row of the report, compared with central differences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.engine.check.finite_differences import Array, Differences, Estimate
from tape_magic.engine.check.judgement import Judgement, Skipped
from tape_magic.engine.check.precisions import is_coarse
from tape_magic.engine.check.quantities import FlatNumbers
from tape_magic.engine.check.rerun import Deltas
from tape_magic.engine.values.precision import epsilon
from tape_magic.notation import Kind
from tape_magic.results.check import Check
from tape_magic.results.gradients import Derivative

_TRIED = 2
"""Most directions along which a cause of a disagreement is tried."""


@dataclass(frozen=True)
class Direction:
    """A direction in which leaves are moved.

    Attributes
    ----------
    deltas
        Direction of each leaf that moves, by the leaf's name.
    scale
        Magnitude of the numbers that move, to which the step is proportional.
    index
        Flat index of the only element that moves; ``None`` where several move.
    unit
        1j where the element moves along the imaginary axis.
    """

    deltas: Deltas
    scale: float
    index: int | None = None
    unit: complex = 1.0


@dataclass
class RowCheck:
    """A row of the report, its numbers, and what the comparison with differences has found.

    Attributes
    ----------
    row
        The derivative as reported.
    reported, recomputed
        Numbers of the reported derivative, and of the one recomputed in the precision of the differences;
        ``None`` where the output does not depend on the source.
    base
        Numbers of the value that is differentiated, with nothing moved.
    dtype
        The least precise dtype on the ways from the leaves that move, in the run of the differences.
    own
        The least precise dtype of all that the reported derivative was computed with.
    reason
        What explains the comparison; see :class:`~tape_magic.results.check.Check`.
    """

    row: Derivative
    reported: FlatNumbers | None
    recomputed: FlatNumbers | None
    base: Array
    dtype: str
    own: str
    reason: str = ""
    _notes: dict[str, None] = field(default_factory=dict)
    _worst: float = -1.0
    _found: dict[str, Any] = field(default_factory=dict)
    _lost: bool = False
    _wrong: list[tuple[float, float, Direction]] = field(default_factory=list)
    _unsettled: list[tuple[float, Direction]] = field(default_factory=list)
    _skipped: dict[Skipped, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._compared = np.zeros(math.prod(self.row.shape), bool)

    @property
    def eps(self) -> float:
        """Machine epsilon of the precision of the differences."""
        return epsilon(self.dtype)

    # -- what is compared --------------------------------------------------------------------------

    @property
    def is_product(self) -> bool:
        """Whether the row is a product with vectors, which are then the only direction."""
        return self.row.kind in (Kind.JVP, Kind.HVP)

    def relevant(self, change: Array) -> Array:
        """Return the part of a change of the differentiated value that the derivative predicts."""
        if self.row.kind is Kind.GRADIENT:
            # tape.gradient differentiates the real part of the sum.
            return np.asarray(np.sum(np.real(change), keepdims=True))
        if self.row.kind is Kind.VJP:
            return np.asarray(np.sum(np.real(np.conj(self.row.weights) * change), keepdims=True))
        return change if self.is_product else np.asarray(np.real(change))

    def predicted(self, numbers: FlatNumbers | None, deltas: Deltas) -> Array:
        """Return the slope that a derivative of the given numbers predicts along a direction."""
        if numbers is None:
            return np.zeros_like(self.relevant(self.base))
        if self.is_product:
            return numbers.numbers
        moved = deltas[self.row.wrt[-1]]
        # TensorFlow's derivative by a complex number x + iy is g = ∂f/∂x + i ∂f/∂y, so that the slope along a
        # direction d is the real part of conj(g) d.
        if self.row.kind is Kind.BATCH_JACOBIAN:
            rows = moved.reshape(moved.shape[0], -1)
            parts = numbers.numbers.reshape(moved.shape[0], -1, rows.shape[1])
            return np.asarray(np.real(np.einsum("boi,bi->bo", np.conj(parts), rows))).reshape(-1)
        matrix, along = numbers.numbers.reshape(-1, moved.size), moved.reshape(-1)
        where = np.flatnonzero(along)
        if where.size < along.size:
            matrix, along = matrix[:, where], along[where]
        return np.asarray(np.real(np.conj(matrix) @ along))

    def differences(self, ahead: Array, behind: Array, deltas: Deltas, step: float) -> Differences:
        """Return the differences of the numbers one step ahead and one step behind."""
        with np.errstate(all="ignore"):
            slope = self.relevant(ahead - behind) / (2 * step)
            return Differences(
                slope - self.predicted(_finite_part(self.recomputed), deltas),
                self.relevant(ahead - 2 * self.base + behind) / step,
                self._magnitude(np.maximum(np.abs(ahead), np.abs(behind))) * self.eps / step,
                np.abs(slope),
            )

    def _magnitude(self, sizes: Array) -> Array:
        """Return the magnitude of the numbers whose rounding is in the value that is compared."""
        sizes = sizes * np.abs(self.row.weights) if self.row.kind is Kind.VJP else sizes
        summed = self.row.kind in (Kind.GRADIENT, Kind.VJP)
        return np.sqrt(np.sum(sizes**2, keepdims=True)) if summed else sizes

    # -- judgements --------------------------------------------------------------------------------

    def judge(self, direction: Direction, estimate: Estimate) -> Judgement:
        """Return the judgement on the derivative along one direction."""
        recomputed = self.predicted(self.recomputed, direction.deltas)
        reported = self.predicted(self.reported, direction.deltas)
        difference = self.predicted(_finite_part(self.recomputed), direction.deltas) + estimate.residual
        own = max(self.eps, epsilon(self.own), 0.0 if self.reported is None else self.reported.eps)
        numbers = np.zeros(1) if self.reported is None else self.reported.numbers
        largest = float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))
        strict, loose = self.eps ** (1 / 3), own ** (1 / 3)
        with np.errstate(all="ignore"):
            rounding = np.nan_to_num(self._magnitude(np.abs(self.base)) / direction.scale, posinf=0.0)
        return Judgement(
            estimate,
            recomputed,
            reported,
            difference,
            largest,
            strict,
            loose,
            fine=self.eps * rounding,
            rough=own * rounding,
            coarse=is_coarse(self.dtype),
        )

    def add(self, direction: Direction, judgement: Judgement, *, sure: bool) -> None:
        """Add the judgement of one direction; unless it is `sure`, no element is called wrong."""
        elements = self._elements(direction)
        reasons = judgement.skipped(sure)
        for reason in Skipped:
            places = np.flatnonzero(reasons == reason)
            if places.size:
                first = self._place(elements[places[0]]), judgement.slopes_beside(int(places[0]), reason)
                count, *first_of_all = self._skipped.get(reason, (0, *first))
                self._skipped[reason] = (count + places.size, *first_of_all)
        if sure and any(one in (Skipped.UNSETTLED, Skipped.COARSE, Skipped.JUMP) for one in reasons):
            self._unsettled.append((float(np.min(judgement.estimate.step)) / direction.scale, direction))
        kept = ~reasons.astype(bool)
        self._compared[elements[kept & (elements >= 0)]] = True
        ratios = np.where(kept, judgement.ratios, -1.0)
        worst = int(np.argmax(ratios))
        if ratios[worst] > 1:
            step = float(judgement.estimate.step[worst]) / direction.scale
            self._wrong.append((float(ratios[worst]), step, direction))
        if ratios[worst] > self._worst:
            self._worst = float(ratios[worst])
            self._found = judgement.finding(worst, direction.unit) | {"place": self._place(elements[worst])}
            self._lost = self._worst > 1 and self._found["tolerance"] > judgement.strict

    @property
    def worst(self) -> float:
        """The largest error found, divided by its tolerance; negative where nothing was compared."""
        return self._worst

    @property
    def wrong_directions(self) -> list[tuple[float, Direction]]:
        """The directions along which the derivative is most wrong, a few of them, with the steps to take."""
        ordered = sorted(self._wrong, key=lambda one: -one[0])
        return [(step, direction) for _, step, direction in ordered[:_TRIED]]

    @property
    def unexplained(self) -> list[tuple[float, Direction]]:
        """The same, or else the directions along which the differences do not settle, a few of them."""
        return self.wrong_directions or self._unsettled[:_TRIED]

    def check(self) -> Check:
        """Return the comparison of the row."""
        for why, (count, first, detail) in self._skipped.items():
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
            dtype=self.dtype,
            note="; ".join(self._notes),
            reason=self.reason,
        )

    def note(self, remark: str) -> None:
        """Add a remark to the note of the comparison, once."""
        self._notes[remark] = None

    def _elements(self, direction: Direction) -> Array:
        """Return the flat index in the derivative of each number compared; −1 for a sum over several."""
        numbers = np.arange(self.relevant(self.base).size)
        if self.is_product:
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
        """Return the index of an element in the derivative; empty where a whole direction was compared."""
        return () if element < 0 else tuple(map(int, np.unravel_index(element, self.row.shape)))


def _finite_part(numbers: FlatNumbers | None) -> FlatNumbers | None:
    """Return the numbers, with 0 for any that is not finite, so that its residual is the whole slope."""
    if numbers is None or np.isfinite(numbers.numbers).all():
        return numbers
    return FlatNumbers(np.where(np.isfinite(numbers.numbers), numbers.numbers, 0), numbers.dtype)
