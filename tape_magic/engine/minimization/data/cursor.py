"""Where a run stands in its data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.errors import SourceError

_NOT_TELLING = ("Graph execution error", "Detected at node", "File ", "<stack", "[[")
"""The beginnings of those lines in TensorFlow's errors that speak of its own code."""


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
    iterator
        A ``tf.data`` iterator over the batches that are still to be taken.
    last, before
        The batch that was taken last, a part for each name, and the one before it.
    place
        The epoch of the last batch, its place in it, and its rows; ``None`` before the first.
    epoch
        The epoch, where each is stopped after; else ``None``.
    over
        Whether there are no more batches, or none of that epoch.
    """

    def __init__(
        self, feed: Feed, taken: int = 0, count: int = -1, *, soon: bool = False, by_epoch: bool = False
    ) -> None:
        self.feed, self.epoch = feed, 0 if by_epoch else None
        self.last: Sequence[Any] | None = None
        self.before: Sequence[Any] | None = None
        self.place: Sequence[int] | None = None
        self.over = False
        if by_epoch:
            self.iterator, self._behind = feed.start_epoch(0), taken
        else:
            self.iterator, self._behind = feed.start(max(taken - 1, 0), count, soon=soon), min(taken, 1)

    def next_epoch(self) -> None:
        """Go on with the epoch after the one that is over, if that is not the last."""
        if self.epoch is not None and self.epoch + 1 < self.feed.epochs:
            self.epoch, self.over = self.epoch + 1, False
            self.iterator = self.feed.start_epoch(self.epoch)

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

    def take(self) -> Sequence[Any]:
        """Return the next batch; the last one again where there are no more."""
        import tensorflow as tf

        self.catch_up()
        try:
            self.note(next(self.iterator), self.last)
        except StopIteration:
            self.over = True
        except tf.errors.OpError as error:
            raise self.failure(error) from None
        return self.any() if self.last is None else self.last

    def note(self, element: Sequence[Any], before: Sequence[Any] | None) -> None:
        """Note what was taken last from the iterator, and the batch before it."""
        place, self.last = element
        self.place, self.before = place.numpy().tolist(), before

    def locator(self) -> Callable[[Sequence[int]], tuple[Sequence[int], str]]:
        """Return what takes rows of the last batch, and returns their numbers and what they are rows of."""
        return functools.partial(self.feed.located, self.place)

    def any(self) -> Sequence[Any]:
        """Return the batch that was last, here or in the run that this one goes on from; else the first."""
        self.catch_up()
        if self.last is None:
            try:
                self.last = next(self.feed.start())[1]
            except StopIteration:
                raise self.feed.nothing() from None
        assert self.last is not None
        return self.last

    def named(self, batch: Sequence[Any]) -> dict[str, Any]:
        """Return the parts of a batch by the names that they are bound to."""
        return dict(zip(self.feed.names, batch, strict=True))

    def failure(self, error: Exception) -> Exception:
        """Return the error that the user's Python raised in making a batch, or one that says TensorFlow's."""
        if isinstance(self.feed.failure, Exception):
            return self.feed.failure
        lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
        telling = [line for line in lines if line and not line.startswith(_NOT_TELLING)]
        return SourceError(f"{self.feed.label} fails: {next(iter(telling), type(error).__name__)}")
