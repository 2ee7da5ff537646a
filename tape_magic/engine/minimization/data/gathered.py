"""Batches of small arrays that are gathered at once, for a look at a few of them.

A pipeline with functions in it takes TensorFlow 2.21 some 20 ms to give its first batch, even where it was
traced before; slices of a tensor are there in a tenth of that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tape_magic.engine.values.tensors import is_tensor

EPOCHS = 4
"""So many epochs are gathered, and come again after that."""

LIMIT = 16 * 2**20
"""The most bytes of all of them."""


def gathered(columns: Any, rows: int, batch: int, order_of: Callable[[int], Any], epochs: int) -> Any:
    """Return a dataset of the batches of the first epochs, with their places, over and over.

    Returns ``None`` where the batches are not of one size, or the arrays large or no dense tensors.

    Parameters
    ----------
    columns
        A structure of tensors with so many rows.
    rows, batch
        Rows of the columns, and of a batch.
    order_of
        The number of an epoch → the order of its rows, int64; not asked where a batch has all of them.
    epochs
        How many epochs there are.

    >>> import tensorflow as tf
    >>> batches = gathered((tf.range(4),), 4, 2, lambda epoch: tf.constant([3, 1, 0, 2], tf.int64), 9)
    >>> [(place.tolist(), part.tolist()) for place, (part,) in batches.take(2).as_numpy_iterator()]
    [([0, 0, 2], [3, 1]), ([0, 1, 2], [0, 2])]
    """
    import tensorflow as tf

    if batch == rows:
        return tf.data.Dataset.from_tensors((tf.constant([0, 0, rows], tf.int64), columns)).repeat()
    parts, count = tf.nest.flatten(columns), min(epochs, EPOCHS)
    if rows % batch or not all(map(is_tensor, parts)):
        return None
    if any(part.dtype == tf.string for part in parts):  # whose bytes are not known
        return None
    if count * sum(part.shape.num_elements() * part.dtype.size for part in parts) > LIMIT:
        return None
    order = tf.concat([order_of(epoch) for epoch in range(count)], 0)
    places = [(*place, batch) for place in itertools.product(range(count), range(rows // batch))]

    def dealt(column: Any) -> Any:
        return tf.reshape(tf.gather(column, order), [-1, batch, *column.shape[1:]])

    slices = tf.constant(places, tf.int64), tf.nest.map_structure(dealt, columns)
    return tf.data.Dataset.from_tensor_slices(slices).repeat()
