"""Streams of ``(place, batch)`` out of each kind of data, from any batch on.

A place is the epoch, the index in it, and the number of rows: one int64 vector, so that a loop records it by
one small write. :func:`placed` adds the rows where a stream leaves them out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tape_magic.engine.minimization.data.batch_parts import BatchParts
from tape_magic.engine.minimization.data.gathered import gathered
from tape_magic.engine.minimization.data.pipelines import PipelinePlan, unconverted
from tape_magic.engine.values.rows import rows_of
from tape_magic.errors import SourceError


class ArrayStream:
    """Deals out rows of arrays, shuffled anew in each epoch.

    Parameters
    ----------
    columns
        A structure of arrays and tensors with the same number of rows.
    batch
        Rows in a batch.
    seed
        Determines, with the number of an epoch, the order of its rows; ``None`` leaves them in theirs.
    label
        What messages call the data.

    Attributes
    ----------
    columns, rows
        The columns as tensors, and how many rows each has.
    batch, seed
        Rows in a batch, no more than there are; the seed as it was given.
    """

    endless = False
    failure: BaseException | None = None

    def __init__(self, columns: tuple[Any, ...], batch: int, seed: int | None, label: str) -> None:
        import tensorflow as tf

        with tf.device("CPU:0"):  # tf.data picks the rows there
            self.columns = tf.nest.map_structure(tf.convert_to_tensor, columns)
        shapes = [column.shape for column in tf.nest.flatten(self.columns)]
        if not shapes or any(shape.rank == 0 for shape in shapes):
            raise SourceError(f"{label} has a number where an array of rows is needed.")
        rows = list(dict.fromkeys(int(shape[0]) for shape in shapes))
        if len(rows) > 1:
            raise SourceError(
                f"{label} has arrays of {' and '.join(map(str, rows))} rows: give as many of each."
            )
        self.rows, self.batch, self.seed = rows[0], min(batch, max(rows[0], 1)), seed
        self.steps_per_epoch: int | None = -(-self.rows // self.batch)

    def layout(self, epochs: int, taken: int, begin: int = 0) -> PipelinePlan:
        """Return how to lay out the epochs from `begin` to `epochs`, without the first `taken` batches."""
        import tensorflow as tf

        first_epoch, first = divmod(taken, self.steps_per_epoch or 1)
        shuffles, seed = self.seed is not None, self.seed or 0
        numbers = [tf.constant(number, tf.int64) for number in (seed, first_epoch + begin, first, epochs)]
        build = functools.partial(_dealt, rows=self.rows, batch=self.batch, shuffles=shuffles)
        key = "arrays", self.rows, self.batch, shuffles
        few = functools.partial(gathered, self.columns, self.rows, self.batch, self._order_of, epochs)
        first = not taken and not begin
        return PipelinePlan(key, build, (self.columns, *numbers), own=True, few=few if first else None)

    def picked_rows(self, epoch: int, index: int) -> Any:
        """Return the rows of the arrays that a batch of an epoch has."""
        if self.batch == self.rows:
            return range(self.rows)
        return self._order_of(epoch)[index * self.batch : (index + 1) * self.batch].numpy()

    def _order_of(self, epoch: int) -> Any:
        import tensorflow as tf

        seed = None if self.seed is None else tf.constant(self.seed, tf.int64)
        return row_order(self.rows, self.batch, seed, tf.constant(epoch, tf.int64))


def _dealt(
    columns: Any,
    seed: Any,
    first_epoch: Any,
    first: Any,
    epochs: Any,
    *,
    rows: int,
    batch: int,
    shuffles: bool,
) -> Any:
    """Return a dataset of batches of columns with so many rows, from a batch of an epoch on."""
    import tensorflow as tf

    def of_epoch(epoch: Any) -> Any:
        start = tf.where(tf.equal(epoch, first_epoch), first, tf.zeros([], tf.int64))
        order = row_order(rows, batch, seed if shuffles else None, epoch)

        def of_index(index: Any) -> Any:
            picked = _picked(columns, order, index, rows, batch)
            return tf.stack([epoch, index, rows_of(picked)]), picked

        return tf.data.Dataset.range(start, -(-rows // batch)).map(unconverted(of_index))

    return tf.data.Dataset.range(first_epoch, epochs).flat_map(unconverted(of_epoch))


def row_order(rows: int, batch: int, seed: Any, epoch: Any) -> Any:
    """Return the order of the rows in an epoch; ``None`` for one batch, in which it does not matter.

    Without a `seed`, it is that of the data.
    """
    import tensorflow as tf

    if batch == rows:
        return None
    if seed is None:
        return tf.range(rows, dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(tf.range(rows, dtype=tf.int64), tf.stack([seed, epoch]))


def _picked(columns: Any, order: Any, index: Any, rows: int, batch: int) -> Any:
    import tensorflow as tf

    if order is None:
        return columns
    taken = order[index * batch : (index + 1) * batch]
    if rows % batch == 0:
        taken = tf.ensure_shape(taken, [batch])
    return tf.nest.map_structure(lambda column: tf.gather(column, taken), columns)


class DatasetStream:
    """Reads the elements of a ``tf.data.Dataset`` once in each epoch.

    Parameters
    ----------
    dataset
        The dataset, as the user made it.
    single
        Whether each of its elements is bound to one name as a whole.
    parts
        Turns an element into a tuple with a part for each name, where the parts nest; else ``None``.
    """

    failure: BaseException | None = None

    def __init__(
        self, dataset: Any, *, single: bool, parts: Callable[[Any], tuple[Any, ...]] | None = None
    ) -> None:
        import tensorflow as tf

        size = int(dataset.cardinality())
        self.endless = size == tf.data.INFINITE_CARDINALITY
        self.steps_per_epoch = size if size >= 0 else None
        spec = dataset.element_spec
        self._whole = single and not (isinstance(spec, tuple) and len(spec) == 1)
        self._dataset, self._parts = dataset, parts

    def picked_rows(self, epoch: int, index: int) -> None:
        """Return ``None``: the rows of a batch have no numbers but those in the batch."""

    def layout(self, epochs: int, taken: int, begin: int = 0) -> PipelinePlan:
        """Return how to lay out the epochs from `begin` to `epochs`, without the first `taken` batches.

        These are read as well.
        """
        import tensorflow as tf

        known = self.steps_per_epoch
        build = functools.partial(_numbered, whole=self._whole, parts=self._parts, known=known is not None)
        numbers = [tf.constant(number, tf.int64) for number in (epochs, taken, begin, known or 0)]
        return PipelinePlan(("dataset", self._whole, known is None), build, (self._dataset, *numbers))


def placed(element: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the place and the parts of a batch, of an element of a stream."""
    import tensorflow as tf

    place, parts = element
    if place.shape[0] == 2:
        place = tf.concat([place, tf.reshape(rows_of(parts), [1])], 0)
    return place, parts


def _numbered(
    dataset: Any,
    epochs: Any,
    taken: Any,
    begin: Any,
    steps: Any,
    *,
    whole: bool,
    parts: Callable[[Any], tuple[Any, ...]] | None,
    known: bool,
) -> Any:
    """Return a dataset of the elements with their places, after so many of them.

    Where the `steps` of an epoch are `known`, the rows are left out of the places, and no function is called
    for each element, which would take a fifth of a millisecond of a processor (TensorFlow 2.21).
    """
    import tensorflow as tf

    def of_epoch(epoch: Any) -> Any:
        return tf.data.Dataset.from_tensor_slices(tf.stack([tf.fill([steps], epoch), tf.range(steps)], 1))

    def counted(epoch: Any, element: Any) -> Any:
        index, batch = element
        epoch += tf.cast(tf.equal(index, 0), tf.int64)
        return epoch, (tf.stack([epoch, index, rows_of(batch)]), batch)

    def parted(*element: Any) -> tuple[Any, ...]:
        assert parts is not None
        return parts(element if len(element) > 1 else element[0])

    if parts is not None:
        dataset = dataset.map(unconverted(parted))
    if whole:
        dataset = tf.data.Dataset.zip((dataset,))
    if known:
        places = tf.data.Dataset.range(begin, epochs).flat_map(unconverted(of_epoch))
        return tf.data.Dataset.zip((places, dataset.repeat(epochs - begin))).skip(taken)
    # repeat() and not a dataset for each epoch within flat_map, which tf.data does not tune.
    numbered = tf.data.Dataset.zip((tf.data.Dataset.range(1 << 62), dataset)).repeat(epochs - begin)
    return numbered.scan(begin - 1, unconverted(counted)).skip(taken)


Opened = Callable[[int, int], Iterator[Any]]
"""Takes an epoch and an index, and returns the batches of the epoch from there on."""


def of_py_dataset(data: Any) -> Callable[[], Opened]:
    """Return what opens the epochs of a Keras ``PyDataset``, which is told of them and gives any batch."""

    def fresh() -> Opened:
        done = 0

        def opened(epoch: int, index: int) -> Iterator[Any]:
            nonlocal done
            while done < epoch:  # called as often as if the earlier epochs had been read
                data.on_epoch_begin()
                data.on_epoch_end()
                done += 1
            data.on_epoch_begin()
            size = data.num_batches
            for position in itertools.count(index) if size is None else range(index, size):
                yield data[position]
            data.on_epoch_end()
            done += 1

        return opened

    return fresh


def of_iterable(again: Callable[[], Iterable[Any]]) -> Callable[[], Opened]:
    """Return what opens the epochs of an iterable; `again` returns it anew for each epoch."""

    def opened(epoch: int, index: int) -> Iterator[Any]:
        return itertools.islice(iter(again()), index, None)

    return lambda: opened


class PythonStream:
    """Gives batches that Python makes, while the steps before them are computed.

    Parameters
    ----------
    fresh
        Returns what opens an epoch; called once for each dataset.
    batches
        Turns batches into tensors.
    peeked
        Some batches, the first among them, for their shapes.
    steps_per_epoch
        Batches in an epoch, if known; 0 if there is none.
    jumps
        Whether any batch can be had without the batches before it.

    Attributes
    ----------
    failure
        The error that the user's Python raised in a stream.
    endless
        Whether an epoch never ends.
    """

    def __init__(
        self,
        fresh: Callable[[], Opened],
        batches: BatchParts,
        peeked: Iterable[Any],
        steps_per_epoch: int | None,
        *,
        jumps: bool,
        endless: bool = False,
    ) -> None:
        self._fresh, self._batches, self._jumps = fresh, batches, jumps
        self.steps_per_epoch, self.endless = steps_per_epoch, endless
        self.failure: BaseException | None = None
        self._spec: Any = ()
        for position, batch in enumerate(peeked):
            values = batches.values(batch)
            self._spec = batches.spec(values, self._spec if position else None)
        if not self._spec:
            self.steps_per_epoch = 0

    def picked_rows(self, epoch: int, index: int) -> None:
        """Return ``None``: the rows of a batch have no numbers but those in the batch."""

    def layout(self, epochs: int, taken: int, begin: int = 0) -> PipelinePlan:
        """Return how to lay out the epochs from `begin` to `epochs`, without the first `taken` batches."""
        import tensorflow as tf

        signature = tf.TensorSpec([3], tf.int64), self._spec
        generator = functools.partial(self._elements, epochs, taken, begin)
        # Its Python belongs to this dataset alone.
        return PipelinePlan(
            None, lambda: tf.data.Dataset.from_generator(generator, output_signature=signature), ()
        )

    def _elements(self, epochs: int, taken: int, begin: int) -> Iterator[Any]:
        try:
            opened = self._fresh()
            known = self._jumps and self.steps_per_epoch
            epoch, start = divmod(taken, known) if known else (0, 0)
            epoch += begin
            seen = 0 if self._jumps else -taken
            while epoch < epochs:
                for index, batch in enumerate(opened(epoch, start), start):
                    seen += 1
                    if seen > 0:
                        values = self._batches.values(batch)
                        self._batches.refuse_unlike(values, self._spec, index)
                        yield np.array([epoch, index, int(rows_of(values))], np.int64), values
                epoch, start = epoch + 1, 0
        except Exception as error:
            self.failure = error
            raise
