"""What a few rows tell before all are computed: how outputs follow from those of parts, and what is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tape_magic.engine.accumulation.batches import DataPart, few_rows
from tape_magic.engine.accumulation.sums import PartResult
from tape_magic.engine.check.rerun import Rerun
from tape_magic.engine.distribution.reductions import (
    Reduction,
    Told,
    causes_of,
    cuts_of,
    kept_whole,
    reduction_of,
)
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.rows import row_parts
from tape_magic.engine.values.tensors import is_inexact, is_tensor
from tape_magic.errors import TargetError, describe_error

_FEW = 12
"""The most rows on which a sum is told from a mean."""

_SAMPLE = 10_000
"""The most numbers of each gradient by which a sum is told from a mean."""

_UNKNOWN = "taken for a mean over its rows, since the cell could not run again on a few of them"


@dataclass(frozen=True)
class FewRows:
    """What a few rows have told, whole and in two parts.

    Attributes
    ----------
    cut
        For each part of a batch, whether it is cut with the rows.
    told
        What is told of each output; ``None`` where its numbers tell nothing.
    changed
        The names of the variables that the program assigns.
    unknown
        Why nothing is told; empty where something is.
    """

    cut: Sequence[bool]
    told: Mapping[str, Told | None] = field(default_factory=dict)
    changed: Sequence[str] = ()
    unknown: str = ""

    @property
    def fits(self) -> bool:
        """Whether the outputs of the rows follow from those of the parts."""
        return all(one is None or one.fits for one in self.told.values())

    @property
    def reductions(self) -> Mapping[str, Reduction]:
        """How each output follows from those of the parts, where that is told."""
        return {name: one.reduction for name, one in self.told.items() if one is not None}

    def seen(self, part: DataPart) -> DataPart:
        """Return some rows, cut as was told."""
        return part if self.unknown or part.cut == self.cut else replace(part, cut=self.cut, beside="")

    def notes(self, outputs: Iterable[str], names: Sequence[str], first: DataPart) -> list[str]:
        """Return sentences on outputs that are no mean and no sum, and on parts that stay whole.

        Parameters
        ----------
        outputs
            The names of all outputs.
        names, first
            The names of the parts of a batch, and the first rows; no names where batches are not cut.
        """
        import tensorflow as tf

        if self.unknown:
            return [f"{', '.join(outputs)}: {self.unknown}"]
        labels = [name for name, part in zip(names, first.batch, strict=False) for _ in tf.nest.flatten(part)]
        kept = kept_whole(labels, first.cut, self.cut) if labels else []
        whole = [f"{label} goes whole to each device, and is not cut with the rows" for label in kept]
        return [*whole, *self._of_outputs()]

    def _of_outputs(self) -> list[str]:
        causes = causes_of(self.changed)
        why = f"; {' and '.join(causes)}" if causes else ""
        notes = [
            f"{name} of a batch is not made of those of its rows ({one.shown(2)}): results differ from those "
            f"of the whole batch{why}"
            for name, one in self.told.items()
            if one is not None and not one.fits
        ]
        return notes or (
            [f"{' and '.join(causes)}: results differ from those of the whole batch"] if causes else []
        )


def look_at(
    first: DataPart,
    second: DataPart,
    compute: Callable[[DataPart], PartResult],
    rerun: Rerun | None,
    silence: Callable[[], AbstractContextManager[Any]],
) -> FewRows:
    """Return what a few rows tell; the program runs on them and on two parts of them, and all is put back.

    Parameters
    ----------
    first, second
        Two parts of the data.
    compute
        Binds the names of a batch to some rows, and runs the program.
    rerun
        The program, before its own run; ``None`` for one that cannot run twice.
    silence
        Makes a context manager that hides what the program displays.

    Raises :class:`TargetError` for outputs that are not one number.
    """
    if rerun is None:
        return FewRows(first.cut, unknown=_UNKNOWN)
    found: FewRows | None = None
    failures: list[Exception] = []
    with rerun.opened(silence):
        for cut in cuts_of(first.cut, row_parts(first.batch)) if first.beside else [first.cut]:
            few = few_rows(replace(first, cut=cut), replace(second, cut=cut), _FEW)
            try:
                look = FewRows(cut, *_told(rerun, few, compute))
            except TargetError:
                raise
            except Exception as error:
                failures.append(error)
                continue
            found = look if found is None or look.fits else found
            if look.fits:
                break
    if found is not None:
        return found
    beside = f", with {first.beside} cut to them" * bool(first.beside)
    return FewRows(first.cut, unknown=f"{_UNKNOWN}{beside} ({describe_error(failures[0])})")


def _told(
    rerun: Rerun, whole: DataPart, compute: Callable[[DataPart], PartResult]
) -> tuple[Mapping[str, Told | None], Sequence[str]]:
    """Return what some rows and two parts of them tell of each output, and which variables change."""
    middle = whole.end - max(1, whole.rows // 3)
    found: list[PartResult] = []
    for begin, end in ((whole.begin, whole.end), (whole.begin, middle), (middle, whole.end)):
        part = replace(whole, begin=begin, end=end)

        def run(_: Program, __: Namespace, part: DataPart = part) -> PartResult:
            return compute(part)

        found.append(rerun.run(run))
    rows = [one.part.rows for one in found[1:]]
    return {name: _reduction(name, found, rows) for name in found[0].outputs}, rerun.changed_names()


def _reduction(name: str, found: Sequence[PartResult], rows: Sequence[int]) -> Told | None:
    """Return how an output follows from those of parts; ``None`` where a number is missing or not finite."""
    arrays: list[list[Any]] = []
    by = [row.wrt for row in found[0].result.report.rows if row.target == name]
    for one in found:
        values = {row.wrt: row.value for row in one.result.report.rows if row.target == name}
        if not (is_tensor(one.outputs[name]) and is_inexact(one.outputs[name])):
            return None
        arrays.append([one.outputs[name].numpy(), *(_sample(values.get(wrt)) for wrt in by)])
    known = [at for at in range(len(by) + 1) if all(one[at] is not None for one in arrays)]
    arrays = [[one[at] for at in known] for one in arrays]
    if not all(np.all(np.isfinite(array)) for one in arrays for array in one):
        return None
    return reduction_of(arrays[0], arrays[1:], rows, low=found[0].in_half)


def _sample(value: Any) -> Any:
    """Return some numbers of a derivative as an array; of a lookup's, the sum of its rows."""
    import tensorflow as tf

    if value is None:
        return None
    if isinstance(value, tf.IndexedSlices):
        value = tf.reduce_sum(value.values, 0)
    return tf.reshape(value, [-1])[:_SAMPLE].numpy()
