"""One evaluation of a batch, whole and in pieces, before a run: how its numbers follow from the pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tape_magic.engine.diagnosis.graph_operations import RANDOM
from tape_magic.engine.distribution.reductions import (
    DRAWS,
    Reduction,
    Told,
    causes_of,
    cuts_of,
    kept_whole,
    reduction_of,
)
from tape_magic.engine.distribution.shared_evaluation import SharedEvaluation
from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.rows import picked_rows, row_parts, rows_of
from tape_magic.engine.values.tensors import read_all
from tape_magic.errors import LineError, describe_error

ENOUGH = 1000
"""So many elements of a gradient tell how it follows from those of the pieces."""


def look_at(
    shared: SharedEvaluation, traced: Traced, batch: Mapping[str, Any], names: Sequence[str]
) -> list[str]:
    """Set the reductions of a shared evaluation and what it cuts, and return sentences on them.

    No more rows are evaluated at once than one device has to take in any case, and nothing stays changed. A
    part that has as many rows as the batch by chance, such as a weight for each class, stays whole where the
    numbers only then follow from those of the pieces.

    Parameters
    ----------
    shared, traced
        The evaluation, and the program that it evaluates.
    batch
        The first batch, by names.
    names
        The names of the loss and of the tracked scalars.
    """
    import tensorflow as tf

    labels = [name for name, part in batch.items() for _ in tf.nest.flatten(part)]
    taken: tuple[Sequence[bool], list[Told]] | None = None
    failure: Exception | None = None
    for cut in cuts_of(shared.rows, row_parts(tuple(batch.values()))):
        try:
            told = _told(shared, traced, tuple(batch.values()), cut, len(names))
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            failure = failure or error
            continue
        fits = all(one.fits for one in told)
        if taken is None or fits:
            taken = cut, told
        if fits:
            break
    if taken is None:
        assert failure is not None
        shared.whole.call(*batch.values())  # which fails by itself where the pieces are not to blame
        first = labels[shared.rows.index(True)]
        raise LineError(
            f"--strategy cuts {', '.join(batch)} by the rows of {first}, and the cell does not run on parts "
            f"of a batch: {describe_error(failure)}"
        )
    cut, told = taken
    shared.take((one.reduction for one in told), cut)
    kept = kept_whole(labels, shared.rows, cut)
    return [
        *(f"{label} goes whole to each device, and is not cut with the rows" for label in kept),
        *_notes(told, names, shared.count, traced),
    ]


def _told(
    shared: SharedEvaluation, traced: Traced, batch: Sequence[Any], cut: Sequence[bool], front: int
) -> list[Told]:
    """Return what the loss and each tracked scalar tell, evaluated whole and in pieces, parts cut or not."""
    import tensorflow as tf

    count, rows = shared.count, int(rows_of(batch))
    few = rows // count if rows // count >= 2 * count else rows
    some = picked_rows(batch, 0, few, cut)
    taken = shared.pieces(some, cut)
    before = read_all(traced.written)
    try:
        with preserve_random_state():
            evaluated = [some, *(piece for piece, _, _ in taken)]
            whole, *pieces = (_numbers(shared.whole.call(*one)) for one in evaluated)
    finally:
        assign_all(zip(traced.written, before, strict=True))
    of = [int(rows) for _, rows, _ in taken]
    half = {tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum}
    low = any(kind.type in half for node in traced.operations() for kind in node.attr.values())
    told = [reduction_of([whole[0], *whole[front:]], [[one[0], *one[front:]] for one in pieces], of, low=low)]
    return told + [
        reduction_of([whole[at]], [[one[at]] for one in pieces], of, low=low) for at in range(1, front)
    ]


def _numbers(found: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the loss, the tracked scalars, and the beginning of each gradient."""
    front, gradients, _ = found
    return [*(number.numpy() for number in front), *(one.numpy().ravel()[:ENOUGH] for one in gradients)]


def _notes(told: Sequence[Told], names: Sequence[str], count: int, traced: Traced) -> list[str]:
    """Return sentences on the reductions, and on what keeps the numbers from those of one device."""
    causes = causes_of(variable.name for variable in traced.written)
    if DRAWS not in causes and any(node.op in RANDOM for node in traced.operations()):
        causes.append(DRAWS)
    found = [
        f"{name} of a batch is not made of that of its rows ({one.shown(count)}): one device finds another"
        for name, one in zip(names, told, strict=True)
        if not (one.fits or causes)
    ]
    if causes:
        found.append(f"{'; '.join(causes)}: results differ from those of one device")
    if math.isfinite(told[0].whole) and (told[0].fits or causes):
        found.append(f"{names[0]} {_SUM if told[0].reduction is Reduction.SUM else _MEAN}")
    return found


_MEAN = "is the mean over the rows: each part counts by its rows"
_SUM = "adds the rows up, and so do the parts"
