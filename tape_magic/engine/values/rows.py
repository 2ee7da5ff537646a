"""The rows of a batch: how many there are, and pieces of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def is_ragged_or_sparse(value: Any) -> bool:
    """Return whether a value is a ragged or sparse tensor."""
    import tensorflow as tf

    return isinstance(value, tf.RaggedTensor | tf.SparseTensor)


def _rank(part: Any) -> int | None:
    """Return the number of dimensions of an array, a tensor, or the spec of one; ``None`` if unknown."""
    rank: int | None = part.shape.rank if hasattr(part.shape, "rank") else len(part.shape)
    return rank


def _with_rows(flat: Iterable[Any]) -> Any:
    """Return the first part of a batch that is no scalar; ``None`` for none."""
    return next((part for part in flat if _rank(part) != 0), None)


def rows_of(batch: Any) -> Any:
    """Return the number of rows of a batch, those of its first part that is no scalar; 1 for scalars alone.

    >>> rows_of((np.float32(2), np.zeros([3, 2]), np.zeros([3])))
    3
    """
    import tensorflow as tf

    flat = tf.nest.flatten(batch)
    first = _with_rows(flat)
    if isinstance(first, np.ndarray):
        return len(first)
    if isinstance(first, tf.RaggedTensor):
        return tf.cast(first.nrows(), tf.int64)
    if isinstance(first, tf.SparseTensor):
        return first.dense_shape[0]
    if first is None:
        return tf.ones([], tf.int64) if any(map(tf.is_tensor, flat)) else 1
    # Of the shape of a scalar no rows are left, and their product is 1.
    return tf.reduce_prod(tf.shape(first, tf.int64)[:1])


def row_parts(batch: Any) -> list[bool]:
    """Return for each part of a batch, or of its spec, whether it has as many rows as the first with rows.

    >>> row_parts((np.float32(2), np.zeros([3, 2]), np.zeros([4]), np.zeros([3])))
    [False, True, False, True]
    """
    import tensorflow as tf

    flat = tf.nest.flatten(batch)
    first = _with_rows(flat)
    return [_rank(part) != 0 and part.shape[0] == first.shape[0] for part in flat]


def share_of_rows(index: int, count: int, rows: Any) -> tuple[Any, Any]:
    """Return where the rows of one of `count` pieces begin and end; pieces differ by one row at most.

    `rows` may be an int64 scalar of TensorFlow's.

    >>> [share_of_rows(index, 3, 7) for index in range(3)]
    [(0, 2), (2, 4), (4, 7)]
    """
    return index * rows // count, (index + 1) * rows // count


def picked_rows(batch: Any, begin: Any, end: Any, cut: Any = None) -> Any:
    """Return the rows from `begin` to before `end` of each part of a batch.

    A part that does not have as many rows as the first one, such as a scalar, stays whole.

    Parameters
    ----------
    batch
        A structure of dense, ragged and sparse tensors.
    begin, end
        int64 scalars.
    cut
        For each part, whether it has rows; a boolean tensor in a graph that is for batches of both kinds.

    >>> import tensorflow as tf
    >>> [part.numpy().tolist() for part in picked_rows((tf.range(5), tf.constant(2)), 1, 3)]
    [[1, 2], 2]
    """
    import tensorflow as tf

    flat = tf.nest.flatten(batch)
    first = _with_rows(flat)

    def picked(part: Any, cuts: Any) -> Any:
        if _rank(part) == 0 or cuts is False:
            return part
        low, high = begin, end
        known = part.shape[0], first.shape[0]
        if None not in known and known[0] != known[1]:
            return part
        if cuts is not True or (None in known and part is not first):
            own = rows_of(part)
            has = tf.logical_and(tf.equal(own, rows_of(first)), cuts)
            low = tf.where(has, tf.cast(low, tf.int64), 0)
            high = tf.where(has, tf.cast(high, tf.int64), own)
        if isinstance(part, tf.SparseTensor):
            start = tf.concat([[tf.cast(low, tf.int64)], tf.zeros_like(part.dense_shape[1:])], 0)
            size = tf.concat([[tf.cast(high - low, tf.int64)], part.dense_shape[1:]], 0)
            return tf.sparse.slice(part, start, size)
        return part[low:high]

    cuts = [True] * len(flat) if cut is None else tf.unstack(cut) if tf.is_tensor(cut) else cut
    return tf.nest.pack_sequence_as(batch, [picked(*one) for one in zip(flat, cuts, strict=True)])
