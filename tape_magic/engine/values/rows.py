"""The rows of a batch: how many there are, and pieces of them."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_ragged_or_sparse(value: Any) -> bool:
    """Return whether a value is a ragged or sparse tensor."""
    import tensorflow as tf

    return isinstance(value, tf.RaggedTensor | tf.SparseTensor)


def rows_of(batch: Any) -> Any:
    """Return the number of rows of a batch, those of its first part; 1 for a part without rows.

    >>> rows_of((np.zeros([3, 2]), np.zeros([3])))
    3
    """
    import tensorflow as tf

    first = next(iter(tf.nest.flatten(batch)), None)
    if isinstance(first, np.ndarray | np.generic):
        return len(np.atleast_1d(first))
    if isinstance(first, tf.RaggedTensor):
        return tf.cast(first.nrows(), tf.int64)
    if isinstance(first, tf.SparseTensor):
        return first.dense_shape[0]
    # Of the shape of a scalar no rows are left, and their product is 1.
    return tf.reduce_prod(tf.shape(first, tf.int64)[:1]) if tf.is_tensor(first) else tf.ones([], tf.int64)


def share_of_rows(index: int, count: int, rows: Any) -> tuple[Any, Any]:
    """Return where the rows of one of `count` pieces begin and end; pieces differ by one row at most.

    `rows` may be an int64 scalar of TensorFlow's.

    >>> [share_of_rows(index, 3, 7) for index in range(3)]
    [(0, 2), (2, 4), (4, 7)]
    """
    return index * rows // count, (index + 1) * rows // count


def picked_rows(batch: Any, begin: Any, end: Any) -> Any:
    """Return the rows from `begin` to before `end` of each part of a batch.

    A part that does not have as many rows as the first one, such as a scalar, stays whole.

    Parameters
    ----------
    batch
        A structure of dense, ragged and sparse tensors.
    begin, end
        int64 scalars.

    >>> import tensorflow as tf
    >>> [part.numpy().tolist() for part in picked_rows((tf.range(5), tf.constant(2)), 1, 3)]
    [[1, 2], 2]
    """
    import tensorflow as tf

    first = next(iter(tf.nest.flatten(batch)), None)
    rows = None if first is None else first.shape[:1].as_list()

    def picked(part: Any) -> Any:
        if not part.shape.rank or part.shape[:1].as_list() != rows:
            return part
        if isinstance(part, tf.SparseTensor):
            start = tf.concat([[tf.cast(begin, tf.int64)], tf.zeros_like(part.dense_shape[1:])], 0)
            size = tf.concat([[tf.cast(end - begin, tf.int64)], part.dense_shape[1:]], 0)
            return tf.sparse.slice(part, start, size)
        return part[begin:end]

    return tf.nest.map_structure(picked, batch)
