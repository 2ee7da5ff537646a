"""Gradients of the parts of a batch, added up; and what was said of single parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tape_magic.engine.accumulation.batches import DataPart
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.outputs import structured
from tape_magic.engine.derivatives.run import Run, RunResult
from tape_magic.engine.distribution.reductions import Reduction
from tape_magic.engine.record.half_precision import computes_in_half
from tape_magic.engine.values.leaves import regroup
from tape_magic.engine.values.tensors import is_inexact
from tape_magic.notation import Target
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Reason

Key = tuple[str, tuple[str, ...]]
"""An output, and the source that it is differentiated by."""


@dataclass(frozen=True)
class PartResult:
    """What the run on a part gave.

    Attributes
    ----------
    part, result
        The part, and its derivatives.
    outputs
        The numbers that were differentiated, by name.
    templates
        For each output and source, the structure of the source with the place of a row for each leaf.
    in_half
        Whether something was computed in float16 or bfloat16; not looked at for most parts.
    """

    part: DataPart
    result: RunResult
    outputs: Mapping[str, Any]
    templates: Mapping[Key, Any]
    in_half: bool = False

    @classmethod
    def of(
        cls,
        part: DataPart,
        differentiated: Callable[[Callable[[Run], None]], RunResult],
        *,
        precision: bool = False,
    ) -> PartResult:
        """Return what a run gives, which is looked at before its record is gone."""
        outputs: dict[str, Any] = {}
        templates: dict[Key, Any] = {}
        in_half: list[bool] = []

        def look(run: Run) -> None:
            assert isinstance(run, Gradients)
            for target in run.asked:
                source = run.selection[target.wrt[0]]
                outputs[target.name] = run.output(target.name)
                places = _places((target.name, (leaf.name,)) for leaf in source.leaves)
                # Now, since floats come back into their lists when the run ends.
                templates[target.name, target.wrt] = structured(source.value, source.leaves, places)
            in_half.append(precision and computes_in_half(run.tapes.recorder))

        return cls(part, differentiated(look), outputs, templates, any(in_half))

    @property
    def finite(self) -> bool:
        """Whether all its numbers are finite."""
        rows = self.result.report.rows
        return all(map(_finite, [*self.outputs.values(), *(row.value for row in rows)]))


@dataclass
class _Sum:
    """A derivative, added up over the parts so far.

    Attributes
    ----------
    row
        Its row in the first part that has a value, or else in the first part.
    value
        The sum; ``None`` while no part has a value.
    missing, wrong
        The parts without a value, and those in which it is not finite, each with the reason.
    """

    row: Derivative
    value: Any = None
    missing: list[tuple[str, Reason | None]] = field(default_factory=list)
    wrong: list[tuple[str, Reason | None]] = field(default_factory=list)


class Sums:
    """Adds up the derivatives of the parts of a batch.

    Parameters
    ----------
    reductions
        How each output follows from those of the parts, by name; a mean unless it is said.
    device
        Where they are added up; empty for wherever TensorFlow puts it.

    Attributes
    ----------
    rows, parts
        The numbers of rows and of parts so far.
    """

    def __init__(self, reductions: Mapping[str, Reduction], device: str = "") -> None:
        self._reductions, self._device = reductions, device
        self.rows = self.parts = 0
        self._sums: dict[str, _Sum] = {}
        self._outputs: dict[str, Any] = {}
        self._seconds = [0.0, 0.0]
        self._notes: list[tuple[str, bool, Sequence[str]]] = []
        self._last: PartResult | None = None

    def add(self, done: PartResult) -> None:
        """Add the derivatives of a part."""
        import tensorflow as tf

        report, rows = done.result.report, done.part.rows
        self.parts, self._last = self.parts + 1, done
        self._seconds[0] += report.forward_seconds
        self._seconds[1] += report.backward_seconds
        self._notes.append((done.part.label, done.finite, report.notes))
        with tf.device(self._device or None):
            for name, value in done.outputs.items():
                self._outputs[name] = self._sum(name, self._outputs.get(name), value, rows)
            places = _places((row.target, row.wrt) for row in report.rows)
            for place, row in zip(places, report.rows, strict=True):
                self._add_row(place, row, done.part)
        self.rows += rows

    def _add_row(self, place: str, row: Derivative, part: DataPart) -> None:
        total = self._sums.setdefault(place, _Sum(row))
        if row.value is None:
            total.missing.append((part.label, row.reason))
        elif total.value is None:
            total.row = row
        if row.value is not None and not _finite(row.value):
            total.wrong.append((part.label, row.reason))
        total.value = self._sum(row.target, total.value, row.value, part.rows)

    def _sum(self, name: str, before: Any, value: Any, rows: int) -> Any:
        """Return the sum or the mean of what there is and of what a part adds; ``None`` counts as zeros."""
        if not (value is None or is_inexact(value)):  # it left TensorFlow, and has no derivative either
            return value
        if self._reductions.get(name, Reduction.MEAN) is Reduction.SUM:
            weights = 1.0, 1.0
        else:
            weights = self.rows / (self.rows + rows), rows / (self.rows + rows)
        scaled = [_times(one, weight) for one, weight in zip((before, value), weights, strict=True)]
        return _added(*scaled)

    # -- the report --------------------------------------------------------------------------------

    def result(self, notes: Sequence[str]) -> RunResult:
        """Return the result over all parts, with what is said of how they were added up."""
        assert self._last is not None
        last = self._last.result
        rows = {place: self._row(total) for place, total in self._sums.items()}
        values = {place: row.value for place, row in rows.items()}
        structures = {key: regroup(one, values.get) for key, one in self._last.templates.items()}
        report = replace(
            last.report,
            rows=tuple(rows.values()),
            structures=structures,
            forward_seconds=self._seconds[0],
            backward_seconds=self._seconds[1],
            notes=(*notes, *self._partial_notes(), *self._common_notes()),
        )
        bound = {Target(name, wrt).binding: value for (name, wrt), value in structures.items()}
        bindings = {name: bound[name] for name in last.bindings}
        return replace(last, report=report, bindings=bindings, value=self._value(last.value))

    def outputs(self) -> Mapping[str, Any]:
        """Return the outputs over all parts, by name."""
        return self._outputs

    def _value(self, value: Any) -> Any:
        """Return an output over all parts, where the value of the last part is that of one."""
        assert self._last is not None
        same = (name for name, one in self._last.outputs.items() if one is value)
        return next((self._outputs[name] for name in same), value)

    def _row(self, total: _Sum) -> Derivative:
        row = replace(total.row, value=total.value)
        if total.wrong:
            return replace(row, reason=self._where(total.wrong))
        if total.value is None:
            return replace(row, reason=total.row.reason)
        zero = total.row.reason is not None and not np.any(_array(total.value))
        return replace(row, reason=total.row.reason if zero else None)

    def _where(self, found: Sequence[tuple[str, Reason | None]]) -> Reason | None:
        """Return the first reason that is known, with the rows that it is of."""
        label, reason = next((one for one in found if one[1] is not None), found[0])
        if reason is None or self.parts == 1:
            return reason
        more = f" and {len(found) - 1} more of {self.parts} parts" if len(found) > 1 else ""
        return replace(reason, text=f"in {label}{more}: {reason.text}")

    def _partial_notes(self) -> list[str]:
        """Return which derivatives are missing in some parts only."""
        return [
            f"{total.row.label} is None in {total.missing[0][0]} and counts as 0 there"
            + (f": {total.missing[0][1]}" if total.missing[0][1] is not None else "")
            for total in self._sums.values()
            if total.missing and total.value is not None
        ]

    def _common_notes(self) -> list[str]:
        """Return the notes of all parts, and those of parts in which something is not finite."""
        everywhere = set.intersection(*(set(notes) for _, _, notes in self._notes))
        found = [note for note in self._notes[0][2] if note in everywhere]
        found += [
            f"in {label}: {note}"
            for label, finite, notes in self._notes
            if not finite
            for note in notes
            if note not in everywhere
        ]
        return list(dict.fromkeys(found))


def _places(keys: Iterable[Key]) -> list[str]:
    """Return a text for each derivative, which is another one for two variables of one name.

    >>> _places([("y", ("x",)), ("y", ("x",))])
    ['dy/dx 1', 'dy/dx 2']
    """
    seen = Counter[Key]()
    found = []
    for key in keys:
        seen[key] += 1
        found.append(f"d{key[0]}/d{', '.join(key[1])} {seen[key]}")
    return found


def _times(value: Any, weight: float) -> Any:
    import tensorflow as tf

    if value is None or weight == 1.0:
        return value
    if isinstance(value, tf.IndexedSlices):
        return tf.IndexedSlices(_times(value.values, weight), value.indices, value.dense_shape)
    return value * tf.cast(weight, value.dtype)


def _added(one: Any, other: Any) -> Any:
    """Return the sum of two derivatives; rows of a lookup stay rows if both are."""
    import tensorflow as tf

    if one is None or other is None:
        return other if one is None else one
    sparse = [isinstance(value, tf.IndexedSlices) for value in (one, other)]
    if all(sparse):
        values, indices = (tf.concat(both, 0) for both in zip(_rows(one), _rows(other), strict=True))
        return tf.IndexedSlices(values, indices, one.dense_shape)
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(other)


def _rows(value: Any) -> tuple[Any, Any]:
    return value.values, value.indices


def _array(value: Any) -> Any:
    """Return the numbers of a derivative, or of the rows that a lookup's has."""
    return np.asarray(value.values if hasattr(value, "indices") else value)


def _finite(value: Any) -> bool:
    import tensorflow as tf

    if value is None:
        return True
    flat = value.values if isinstance(value, tf.IndexedSlices) else value
    return bool(tf.reduce_all(tf.math.is_finite(tf.abs(flat))))
