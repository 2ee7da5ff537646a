"""The data of a minimisation, batch by batch: each step binds the next batch to names of the cell."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tape_magic.engine.minimization.data import streams
from tape_magic.engine.minimization.data.batch_parts import BatchParts
from tape_magic.engine.minimization.data.pipelines import Pipelines
from tape_magic.engine.values.rows import is_ragged_or_sparse
from tape_magic.engine.values.tensors import is_tensor
from tape_magic.errors import LineError, SourceError, a_kind

BATCH = 32
"""Rows in a batch of arrays by default, as in Keras."""

Stream = streams.ArrayStream | streams.DatasetStream | streams.PythonStream


class Feed:
    """Gives batches of data over some epochs, prefetched, from any position on.

    Parameters
    ----------
    data
        A ``tf.data.Dataset``, used as it is; a Keras ``PyDataset``; arrays, tensors or data frames with the
        same number of rows, alone or in a tuple or dict, whose rows are shuffled anew in each epoch; or
        whatever gives batches each time that it is iterated over, such as a list, or a generator function.
    names
        The names that a batch is bound to: one for each of its parts, or a single one for all of it.
    batch
        Rows in a batch of arrays (32); the last batch of an epoch has what is left.
    epochs
        Passes over the data.
    seed
        The seed of the rows' order; ``None`` draws one. An epoch's order follows from the seed and the epoch.
    label
        What messages call the data.
    floats
        The dtype for NumPy's float32 and float64 and Python's floats; by default Keras's ``floatx``, as in
        ``fit``. Tensors and all other types stay as they are.
    pattern
        The names in tuples, where the parts of a batch nest: ``(("x", "z"), "y")``; empty otherwise.
    pipelines
        What was traced for pipelines; ``None`` for nothing. An attribute, too.
    shuffles
        Whether the rows of arrays are shuffled.

    Attributes
    ----------
    seed
        The seed that was given or drawn; with it and `taken`, a later process goes on with the same rows.
    element_spec
        The spec of what :meth:`start` gives: the epoch, the place in it and mostly the number of rows as an
        int64 vector (see :func:`streams.placed`), and one structure of tensors for each name. The first
        dimension of a batch is unknown where it varies.
    steps_per_epoch
        Batches in an epoch; ``None`` where only the end of the first epoch tells.
    endless
        Whether the first epoch never ends, as with ``dataset.repeat()``.
    arrays
        The stream of rows of arrays; ``None`` for data that make batches of their own.
    batch
        Rows in a batch of arrays; else ``None``.

    Raises :class:`LineError` for a `batch` that does not go with the data. Raises :class:`SourceError` for
    data that are no batches, are empty, can be read only once, or do not fit the names.

    >>> import numpy as np
    >>> feed = Feed((np.arange(5), np.arange(5) ** 2), ("xb", "yb"), 2, epochs=3, seed=1)
    >>> feed.steps_per_epoch, feed.total
    (3, 9)
    >>> [(place.numpy().tolist(), xb.shape) for place, (xb, yb) in feed.start(taken=7)]
    [([2, 1, 2], TensorShape([2])), ([2, 2, 1], TensorShape([1]))]
    """

    def __init__(
        self,
        data: Any,
        names: tuple[str, ...],
        batch: int | None = None,
        epochs: int = 1,
        seed: int | None = None,
        *,
        label: str = "the data",
        floats: str | None = None,
        pattern: tuple[Any, ...] = (),
        pipelines: Pipelines | None = None,
        shuffles: bool = True,
    ) -> None:
        import keras
        import tensorflow as tf

        self.names, self.epochs, self.label = names, epochs, label
        self.seed = secrets.randbits(32) if seed is None else seed
        self._batches = BatchParts(names, label, floats or keras.config.floatx(), pattern)
        self._shuffles = shuffles
        self._stream = self._stream_of(data, batch)
        self.steps_per_epoch, self.endless = self._stream.steps_per_epoch, self._stream.endless
        self.arrays = self._stream if isinstance(self._stream, streams.ArrayStream) else None
        self.batch = None if self.arrays is None else self.arrays.batch
        if self.steps_per_epoch == 0:
            raise self.nothing()
        asked = data.options().autotune.enabled if isinstance(data, tf.data.Dataset) else None
        self._tuned = bool(asked)
        self.pipelines = Pipelines() if pipelines is None else pipelines
        layout = self._stream.layout(epochs, 0)
        self.element_spec = self.pipelines.ready(layout, -1, tuned=self._tuned).element_spec

    @property
    def total(self) -> int | None:
        """The number of batches in all epochs together; ``None`` where it is not known."""
        return None if self.steps_per_epoch is None else self.steps_per_epoch * self.epochs

    @property
    def failure(self) -> BaseException | None:
        """The error that the user's own Python raised while it made a batch.

        TensorFlow raises an error of its own instead, with the text of the user's.
        """
        return self._stream.failure

    def start(self, taken: int = 0, count: int = -1, *, soon: bool = False) -> Any:
        """Return a ``tf.data`` iterator over what follows the first `taken` batches.

        It ends with the last epoch, or after `count` batches. One for `soon` gives its first batch in half of
        the time, and is not made ready for many: tf.data does not rewrite it. What the pipeline leaves to
        ``tf.data.AUTOTUNE`` runs on as many threads as there are cores, at most 16, and is tuned only where
        the options of the user's dataset ask for it.

        For arrays and for a ``PyDataset``, it goes to that position at once. For other data it reads the
        batches before; the rest is the same bit for bit where the data are the same when they are read again.
        In another process, a ``tf.data`` pipeline gives the same data if each ``shuffle`` in it has a seed.

        TensorFlow can save an iterator itself. In TensorFlow 2.20 and 2.21, a restored iterator shuffles
        later epochs in another order than the uncut one, if a ``shuffle`` had given all of its rows by then.
        """
        layout = self._stream.layout(self.epochs, taken)
        return iter(self.pipelines.ready(layout, count, soon=soon, tuned=self._tuned))

    def start_epoch(self, epoch: int) -> Any:
        """Return an iterator over one epoch: for data of unknown length, its end is that of the epoch."""
        layout = self._stream.layout(epoch + 1, 0, epoch)
        return iter(self.pipelines.ready(layout, -1, tuned=self._tuned))

    def located(self, place: Sequence[int] | None, rows: Sequence[int]) -> tuple[Sequence[int], str]:
        """Return which rows of the data some rows of a batch are, and what they are rows of.

        For arrays, these are rows of the arrays; else they are rows of the batch itself.

        Parameters
        ----------
        place
            The epoch, and the place of the batch in it; ``None`` where they are not known.
        rows
            Rows of the batch.
        """
        if place is None:
            return rows, f"a batch of {self.label}"
        picked = self._stream.picked_rows(*place[:2])
        if picked is None:
            return rows, f"batch {place[1] + 1:,} of {self.label}"
        return [int(picked[row]) for row in rows], self.label

    def nothing(self) -> SourceError:
        """Return what to raise when there is no first batch."""
        return SourceError(f"{self.label} is empty: there is no batch in it.")

    def _stream_of(self, data: Any, batch: int | None) -> Stream:
        import keras
        import tensorflow as tf

        if isinstance(data, tf.data.Dataset):
            self._refuse_batch(batch, "a tf.data.Dataset", f"give {self.label}.batch({batch})")
            self._batches.check(data.element_spec)
            parts = self._batches.parts if self._batches.pattern else None
            return streams.DatasetStream(data, single=len(self.names) == 1, parts=parts)
        if isinstance(data, keras.utils.PyDataset):
            self._refuse_batch(batch, "a PyDataset", "set the size in it")
            return self._of_py_dataset(data)
        if is_columns(data, self.names):
            seed = self.seed if self._shuffles else None
            return streams.ArrayStream(self._batches.columns(data), batch or BATCH, seed, self.label)
        return self._of_iterable(data, batch)

    def _of_py_dataset(self, data: Any) -> streams.PythonStream:
        size = data.num_batches
        peeked = [data[index] for index in range(2 if size is None else min(size, 2))]
        fresh = streams.of_py_dataset(data)
        return streams.PythonStream(fresh, self._batches, peeked, size, jumps=True, endless=size is None)

    def _of_iterable(self, data: Any, batch: int | None) -> streams.PythonStream:
        again, first = self._repeated(data)
        self._refuse_batch(batch, a_kind(data), "set the size where they are made")
        listed = isinstance(data, list)
        peeked = data if listed else itertools.islice(first, 2)
        size = len(data) if hasattr(type(data), "__len__") else None
        return streams.PythonStream(streams.of_iterable(again), self._batches, peeked, size, jumps=listed)

    def _refuse_batch(self, batch: int | None, what: str, cure: str) -> None:
        if batch is not None:
            raise LineError(
                f"{self.label} is {what}, which makes its own batches: leave out batch, and {cure}."
            )

    def _repeated(self, data: Any) -> tuple[Callable[[], Iterable[Any]], Iterator[Any]]:
        """Return what gives the batches anew at each call, and an iterator over a first time."""
        kind = type(data).__name__
        iterable = hasattr(type(data), "__iter__") or hasattr(type(data), "__getitem__")
        if isinstance(data, str | bytes) or not (iterable or callable(data)):
            raise SourceError(
                f"{self.label} is of type {kind}, which has no batches: give a tf.data.Dataset, a tuple of "
                "arrays, or a list of batches."
            )
        again: Callable[[], Iterable[Any]] = (lambda: data) if iterable else data
        first = iter(again())
        if first is data or (not iterable and first is iter(again())):
            raise SourceError(
                f"{self.label} is of type {kind}, which can be read only once: give a list of the batches, "
                "or the function that makes them."
            )
        return again, first


def is_columns(data: Any, names: Sequence[str]) -> bool:
    """Return whether data are rows to deal out to some names; otherwise the items are batches."""
    if isinstance(data, list):  # [x, y], but not a list of batches
        return len(data) == len(names) and all(map(is_array, data))
    return isinstance(data, tuple | Mapping) or is_array(data)


def is_array(value: Any) -> bool:
    """Return whether rows can be picked from a value: an array, a tensor or a data frame."""
    like_array = hasattr(value, "shape") and hasattr(value, "__array__")
    return is_tensor(value) or is_ragged_or_sparse(value) or like_array
