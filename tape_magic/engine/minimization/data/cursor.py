"""`DataCursor`: where a run stands in its data (today `data_loop.Batches`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.errors import SourceError

_NOT_TELLING = ("Graph execution error", "Detected at node", "File ", "<stack", "[[")
"""How the lines of TensorFlow's errors begin that speak of its own code."""


class DataCursor:
    """Where one run stands in its data.

    Attributes
    ----------
    iterator
        Gives what is still to be taken.
    last, before
        The batch that was taken last, a part for each name, and the one before it.
    over
        Whether there are no more.
    """

    def __init__(self, feed: Feed, taken: int = 0, count: int = -1) -> None:
        self.feed = feed
        self.last: Sequence[Any] | None = None
        self.before: Sequence[Any] | None = None
        self.over = False
        self.iterator = feed.start(max(taken - 1, 0), count)
        self._behind = taken > 0

    def catch_up(self) -> Any:
        """The iterator, past the batch that was taken last in the run that this one goes on from.

        That batch comes from the same iterator, since a pipeline that shuffles gives others when it is read
        once more; and not before all iterators of the run are made, since each that is made may change what
        another one shuffles later.
        """
        if self._behind:
            self._behind = False
            self.take()
        return self.iterator

    def take(self) -> Sequence[Any]:
        """The next batch; the last one again where there are no more."""
        import tensorflow as tf

        self.catch_up()
        try:
            _, _, batch = next(self.iterator)
            self.last, self.before = batch, self.last
        except StopIteration:
            self.over = True
        except tf.errors.OpError as error:
            raise self.failure(error) from None
        return self.any() if self.last is None else self.last

    def any(self) -> Sequence[Any]:
        """The batch that was taken last, here or in the run that this one goes on from; else the first."""
        self.catch_up()
        if self.last is None:
            try:
                self.last = next(self.feed.start())[2]
            except StopIteration:
                raise self.feed.nothing() from None
        assert self.last is not None
        return self.last

    def named(self, batch: Sequence[Any]) -> dict[str, Any]:
        """Return the parts of a batch by the names that they are bound to."""
        return dict(zip(self.feed.names, batch, strict=True))

    def failure(self, error: Exception) -> Exception:
        """What the user's own Python raised while it made a batch, or what TensorFlow says of the data."""
        if isinstance(self.feed.failure, Exception):
            return self.feed.failure
        lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
        telling = [line for line in lines if line and not line.startswith(_NOT_TELLING)]
        return SourceError(f"{self.feed.label} fails: {next(iter(telling), type(error).__name__)}")
