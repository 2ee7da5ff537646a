"""The data of a minimisation, batch by batch: every step binds the next batch to names of the cell."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tape_magic.engine.minimization.data import streams
from tape_magic.engine.minimization.data.batch_parts import BatchParts, is_composite
from tape_magic.engine.values.tensors import is_tensor
from tape_magic.errors import LineError, SourceError, a_kind

BATCH = 32
"""Rows in a batch of arrays where nothing else is asked, as in Keras."""

Stream = streams.ArrayStream | streams.DatasetStream | streams.PythonStream


class Feed:
    """Batches of data over some epochs, prefetched, from any place on.

    Parameters
    ----------
    data
        A ``tf.data.Dataset``, used as it is; a Keras ``PyDataset``; arrays, tensors or data frames with as
        many rows each, alone or in a tuple or dict, whose rows are shuffled anew in each epoch; or whatever
        gives batches each time that it is iterated over, such as a list of them, or a generator function.
    names
        What a batch is bound to: each of its parts to one, or all of it to a single one.
    batch
        Rows in a batch of arrays (32); the last batch of an epoch has what is left.
    epochs
        How often all of the data.
    seed
        Of the order of the rows; ``None`` draws one. Each epoch's order follows from it and the epoch alone.
    label
        What messages call the data.
    floats
        The dtype that NumPy's float32 and float64 take, and Python's floats; by default Keras's ``floatx``,
        as in ``fit``. Tensors and all other types stay as they are.

    Attributes
    ----------
    seed
        The one given or drawn; with it, and `taken`, a later process goes on with the same rows.
    element_spec
        Of what :meth:`start` gives: the epoch and the place in it, both int64 scalars, and one structure
        of tensors for each name. The first dimension of a batch is unknown where it is not always the same.
    steps_per_epoch
        Batches in an epoch; ``None`` where only the end of the first tells.
    endless
        Whether the first epoch never ends, as with ``dataset.repeat()``.

    Raises :class:`LineError` for a `batch` that does not go with the data, and :class:`SourceError` for data
    that are no batches, are empty, can be read only once, or do not fit the names.

    >>> import numpy as np
    >>> feed = Feed((np.arange(5), np.arange(5) ** 2), ("xb", "yb"), 2, epochs=3, seed=1)
    >>> feed.steps_per_epoch, feed.total
    (3, 9)
    >>> [(int(epoch), int(index), xb.shape[0]) for epoch, index, (xb, yb) in feed.start(taken=7)]
    [(2, 1, 2), (2, 2, 1)]
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
    ) -> None:
        import keras

        self.names, self.epochs, self.label = names, epochs, label
        self.seed = secrets.randbits(32) if seed is None else seed
        self._batches = BatchParts(names, label, floats or keras.config.floatx())
        self._stream = self._stream_of(data, batch)
        self.steps_per_epoch, self.endless = self._stream.steps_per_epoch, self._stream.endless
        if self.steps_per_epoch == 0:
            raise self.nothing()
        self.element_spec = self._stream.dataset(epochs, 0).element_spec

    @property
    def total(self) -> int | None:
        """Batches in all epochs together, where that is known."""
        return None if self.steps_per_epoch is None else self.steps_per_epoch * self.epochs

    @property
    def failure(self) -> BaseException | None:
        """What the user's own Python raised while it made a batch.

        TensorFlow hands it on as an error of its own, with the text of it alone.
        """
        return self._stream.failure

    def start(self, taken: int = 0, count: int = -1) -> Any:
        """A ``tf.data`` iterator over what follows the first `taken` batches, to the end of the last epoch.

        With `count`, over no more than so many batches.

        Of arrays and of a ``PyDataset`` it goes there at once, and of anything else it reads what comes
        before: bit for bit where the data are the same when they are read again, as those of a ``tf.data``
        pipeline are in another process if each ``shuffle`` in it has a seed.

        TensorFlow can save an iterator itself. On 2.20 and 2.21, though, what it restores shuffles the later
        epochs otherwise than the uncut one, where a ``shuffle`` had given all of its rows by then.
        """
        import tensorflow as tf

        return iter(self._stream.dataset(self.epochs, taken).take(count).prefetch(tf.data.AUTOTUNE))

    def nothing(self) -> SourceError:
        """What to raise when the first batch does not come."""
        return SourceError(f"{self.label} is empty: there is no batch to minimise over.")

    def _stream_of(self, data: Any, batch: int | None) -> Stream:
        import keras
        import tensorflow as tf

        if isinstance(data, tf.data.Dataset):
            self._refuse_batch(batch, "a tf.data.Dataset", f"give {self.label}.batch({batch})")
            self._batches.check(data.element_spec)
            return streams.DatasetStream(data, single=len(self.names) == 1)
        if isinstance(data, keras.utils.PyDataset):
            self._refuse_batch(batch, "a PyDataset", "set the size in it")
            return self._of_py_dataset(data)
        if self._is_columns(data):
            return streams.ArrayStream(self._batches.columns(data), batch or BATCH, self.seed, self.label)
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

    def _is_columns(self, data: Any) -> bool:
        """Whether the rows of the data are to be dealt out, rather than its items be batches."""
        if isinstance(data, list):  # [x, y], but not a list of batches
            return len(data) == len(self.names) and all(map(is_array, data))
        return isinstance(data, tuple | Mapping) or is_array(data)

    def _refuse_batch(self, batch: int | None, what: str, cure: str) -> None:
        if batch is not None:
            raise LineError(
                f"{self.label} is {what}, which makes its own batches: leave out batch, and {cure}."
            )

    def _repeated(self, data: Any) -> tuple[Callable[[], Iterable[Any]], Iterator[Any]]:
        """What gives the batches anew each time it is called, and an iterator over a first time."""
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


def is_array(value: Any) -> bool:
    """Whether rows can be picked from it: an array, a tensor or a data frame."""
    return (
        is_tensor(value) or is_composite(value) or (hasattr(value, "shape") and hasattr(value, "__array__"))
    )
