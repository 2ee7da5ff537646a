"""Asks the loss of a run once more after its end, for the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.protocol import Final, Loop
from tape_magic.engine.minimization.steppers import stepper_of
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.tensors import read_all
from tape_magic.engine.verdict.facts import Array, LossAt


class Failure:
    """Where a run diverged.

    Attributes
    ----------
    values
        What :attr:`Loop.moved` held at the last point at which the loss was finite.
    stepped
        Whether one more step led to where it was not; else a gradient was not finite at the point itself.
    batch
        The batch that was not finite; ``None`` without data.
    """

    def __init__(self, values: Sequence[Any], *, stepped: bool, batch: Sequence[Any] | None) -> None:
        self.values, self.stepped, self.batch = values, stepped, batch


class LoopProbe:
    """Asks the loss of a run once more.

    Parameters
    ----------
    loop, optimizer, cursor
        By which loop and optimizer it was minimised; over which data, ``None`` without.
    failure
        Where the run diverged; ``None`` where it did not.
    """

    def __init__(
        self,
        loop: Loop,
        optimizer: Any,
        cursor: DataCursor | None,
        failure: Failure | None,
    ) -> None:
        self._loop, self._optimizer = loop, optimizer
        self._cursor, self._failure = cursor, failure
        self._before = read_all(loop.moved)
        self._moved = False

    def values(self) -> list[Array]:
        """Return the values of the leaves as they are."""
        return [np.array(leaf.value.numpy()) for leaf in self._loop.leaves]

    def evaluate(self, batch: Sequence[Any] | None = None) -> LossAt:
        """Return loss and gradients at the variables as they are."""
        return _loss_at(self._loop.evaluate(batch))

    def place(self, values: Sequence[Array]) -> None:
        """Move the leaves to other values."""
        self._moved = True
        assign_all(zip((leaf.value for leaf in self._loop.leaves), values, strict=True))

    def step(self, batch: Sequence[Any] | None = None, *, rate: float | None = None) -> LossAt:
        """Take a step of the optimizer from here, by `rate` in place of its own; return the loss before."""
        final, self._moved = self._loop.evaluate(batch), True
        if rate is not None:
            inner = getattr(self._optimizer, "inner_optimizer", self._optimizer)
            inner.learning_rate = rate  # one of the optimizer's variables: back() puts it back
        self._apply(final, batch)
        return _loss_at(final)

    def _apply(self, final: Final, batch: Sequence[Any] | None = None) -> None:
        """Take the optimizer's step from an evaluation."""

        def evaluate() -> tuple[Any, Sequence[Any]]:
            there = self._loop.evaluate(batch)
            return there.loss, there.gradients

        stepper, options = stepper_of(self._optimizer, self._loop.leaves), self._loop.options
        stepper.move(final.loss, final.gradients, evaluate, options.lower, options.upper)

    def back(self) -> None:
        """Put everything back to where the run ended."""
        if self._moved:  # an evaluation moves nothing
            assign_all(zip(self._loop.moved, self._before, strict=True))
            self._moved = False

    def batches(self, count: int) -> Iterator[Sequence[Any]]:
        """Yield the first batches of the data, at most `count`; nothing without data."""
        if self._cursor is None:
            return
        first = DataCursor(self._cursor.feed, count=count)
        while True:
            batch = first.take()
            if first.over:
                return
            yield batch

    def fail(self) -> Sequence[Any] | None:
        """Move to the point at which the run diverged, and return its batch; ``None`` without data."""
        failure = self._failure
        if failure is None:
            return None
        self._moved = True
        assign_all(zip(self._loop.moved, failure.values, strict=True))
        if failure.stepped:
            self._apply(self._loop.evaluate())
        return failure.batch

    def record(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of an evaluation at the variables as they are."""
        return self._loop.recorded(batch)


def _loss_at(final: Final) -> LossAt:
    return LossAt(float(final.loss), [gradient.numpy() for gradient in final.gradients])
