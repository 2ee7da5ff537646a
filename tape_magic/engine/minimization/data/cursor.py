"""Where a run stands in its data."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.engine.minimization.data.pipelines import only
from tape_magic.engine.minimization.data.streams import placed
from tape_magic.errors import SourceError, telling_line


class DataCursor:
    """Where one run stands in its data.

    Parameters
    ----------
    feed
        The data.
    taken
        How many batches were taken in the run that this one goes on from.
    count
        The most batches to take; -1 for all.
    soon
        Whether the first batch should come soon, for a look at a few.
    by_epoch
        Whether to stop after each epoch, until :meth:`next_epoch`.

    Attributes
    ----------
    epoch
        The epoch, where each is stopped after; else ``None``.
    over
        Whether there are no more batches, or none of that epoch.
    """

    def __init__(
        self, feed: Feed, taken: int = 0, count: int = -1, *, soon: bool = False, by_epoch: bool = False
    ) -> None:
        self.feed, self.epoch = feed, 0 if by_epoch else None
        self._last: Any = None
        self._before: Any = None
        self.over = False
        self._jumped: int | None = None
        if by_epoch:
            self.iterator, self._behind = feed.start_epoch(0), taken
        else:
            most = count + (taken > 0 and count >= 0)
            self.iterator, self._behind = feed.start(max(taken - 1, 0), most, soon=soon), min(taken, 1)
        self._ahead: Any = None

    @property
    def iterator(self) -> Any:
        """A ``tf.data`` iterator over the batches that are still to be taken; ``None`` once it is closed."""
        if self._jumped is not None:
            self._iterator, self._jumped = self.feed.start(self._jumped), None
        return self._iterator

    @iterator.setter
    def iterator(self, iterator: Any) -> None:
        self._iterator, self._jumped = iterator, None

    @property
    def last(self) -> Sequence[Any] | None:
        """The batch that was taken last, a part for each name; ``None`` before the first."""
        return None if self._last is None else _element(self._last)[1]

    @property
    def last_taken(self) -> Any:
        """The batch that was taken last, as :meth:`note` takes it."""
        return self._last

    @property
    def before(self) -> Sequence[Any] | None:
        """The batch before the last one; ``None`` where it is not known."""
        return None if self._before is None else _element(self._before)[1]

    @property
    def place(self) -> Sequence[int] | None:
        """The epoch of the last batch, its place in it, and its rows; ``None`` before the first."""
        if self._last is None:
            return None
        place = _element(self._last)[0]
        return None if place is None else place.numpy().tolist()

    def next_epoch(self) -> None:
        """Go on with the epoch after the one that is over, if that is not the last."""
        if self.epoch is not None and self.epoch + 1 < self.feed.epochs:
            self.epoch, self.over = self.epoch + 1, False
            self.iterator, self._ahead = self.feed.start_epoch(self.epoch), None

    def catch_up(self) -> Any:
        """Return the iterator, past the batch that was last in the run that this one goes on from.

        That batch is taken from this iterator, since a pipeline that shuffles gives other batches when it is
        read once more. It is taken late, when all iterators of the run are made: each new iterator may change
        what another one shuffles later.
        """
        behind, self._behind = self._behind, 0
        for _ in range(behind):
            self.take()
            if self.over:  # the batch is the first of the next epoch
                self.next_epoch()
                self.take()
        return self.iterator

    def ahead(self) -> Any:
        """Return the batch that comes next, an optional, which stays the next one until it is noted."""
        self.catch_up()
        if self._ahead is None:
            self._ahead = self.iterator.get_next_as_optional()
        return self._ahead

    def stand_in(self) -> DataCursor:
        """Return a cursor over the next batch alone, which stays the next one here; for a rehearsal.

        The data are not read for it: a pipeline that shuffles would fill its buffer once more, and each
        further iterator changes the order of the epochs that follow.
        """
        batch, other = self.ahead(), copy.copy(self)
        if batch.has_value():
            other.iterator, other._ahead = iter(only(batch.get_value(), self.feed.element_spec)), None
        return other

    def take(self) -> Sequence[Any]:
        """Return the next batch; the last one again where there are no more."""
        import tensorflow as tf

        try:
            batch, self._ahead = self.ahead(), None
        except tf.errors.OpError as error:
            raise self.failure(error) from None
        if batch.has_value():
            self.note(batch, self._last)
        else:
            self.over = True
        return self.any() if self._last is None else _element(self._last)[1]

    def note(self, last: Any, before: Any, ahead: Any = None) -> None:
        """Note the batch that was taken last, the one before it, and the next one, as optionals."""
        self._last, self._before, self._ahead = last, before, ahead

    def jump(self, taken: int, last: tuple[Any, Sequence[Any]]) -> None:
        """Go to where so many batches are taken, of which `last` is the last: its place, and its parts.

        For data in which that takes no time: the iterator is made anew, once it is asked for.
        """
        self.note(last, None)
        self.iterator, self._behind, self.over = None, 0, False
        self._jumped = taken

    def step_back(self) -> None:
        """Take the batch before the last one for the last, where it is known."""
        self._last = self._last if self._before is None else self._before

    def close(self) -> None:
        """Let go of the iterator and of the threads that work for it; what was taken last stays."""
        self.iterator = self._ahead = None

    def locator(self) -> Callable[[Sequence[int]], tuple[Sequence[int], str]]:
        """Return what takes rows of the last batch, and returns their numbers and what they are rows of."""
        return functools.partial(self.feed.located, self.place)

    def any(self) -> Sequence[Any]:
        """Return the batch that was last, here or in the run that this one goes on from; else the first."""
        if self._last is None and self.iterator is not None:
            ahead = self.ahead()
            if self._last is None and ahead.has_value():
                self._last = None, ahead.get_value()[1]
        if self._last is None:
            try:
                self._last = None, next(self.feed.start(count=1))[1]
            except StopIteration:
                raise self.feed.nothing() from None
        return _element(self._last)[1]

    def named(self, batch: Sequence[Any]) -> dict[str, Any]:
        """Return the parts of a batch by the names that they are bound to."""
        return dict(zip(self.feed.names, batch, strict=True))

    def failure(self, error: Exception) -> Exception:
        """Return the error that the user's Python raised in making a batch, or one that says TensorFlow's."""
        if isinstance(self.feed.failure, Exception):
            return self.feed.failure
        told = telling_line(str(getattr(error, "message", error)))
        return SourceError(f"{self.feed.label} fails: {told or type(error).__name__}")


def _element(batch: Any) -> tuple[Any, Sequence[Any]]:
    """Return the place and the parts of a batch, which is an optional, or has no place."""
    return batch if isinstance(batch, tuple) else placed(batch.get_value())
