"""Asks the loss of a run once more after its end, for the verdict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.composite import parts_of
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.protocol import Final, Loop
from tape_magic.engine.minimization.steppers import stepper_of
from tape_magic.engine.minimization.stop_rules import GO
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
        final = self._loop.evaluate(batch)
        self._set(rate)
        self._apply(final, batch)
        return _loss_at(final)

    def walk(self, count: int, *, rate: float | None = None) -> Array:
        """Take steps from here as the run did; return the loss before each."""
        self._set(rate)
        if isinstance(self._loop, CompiledLoop):
            return np.array(_steps_of(self._loop, count, self._ahead))
        batches = itertools.repeat(None, count) if self._ahead is None else self.batches(count)
        return np.array([self.step(batch).loss for batch in batches])

    @cached_property
    def _ahead(self) -> DataCursor | None:
        """The data once more, from the first batch on; to begin with them takes tens of milliseconds."""
        return None if self._cursor is None else DataCursor(self._cursor.feed, soon=True)

    def _set(self, rate: float | None) -> None:
        self._moved = True
        if rate is not None:
            # One of the optimizer's variables: back() puts it back.
            for one in parts_of(self._optimizer):
                getattr(one, "inner_optimizer", one).learning_rate = rate

    def _apply(self, final: Final, batch: Sequence[Any] | None = None) -> None:
        """Take the optimizer's step from an evaluation."""

        def evaluate() -> tuple[Any, Sequence[Any]]:
            there = self._loop.evaluate(batch)
            return there.loss, there.gradients

        stepper, options = stepper_of(self._optimizer, self._loop.leaves), self._loop.options
        place = self._cursor and self._cursor.place
        stepper.move(final.loss, final.gradients, evaluate, options.lower, options.upper, place)

    def back(self) -> None:
        """Put everything back to where the run ended."""
        if self._moved:  # an evaluation moves nothing
            assign_all(zip(self._loop.moved, self._before, strict=True))
            self._moved = False

    def batches(self, count: int) -> Iterator[Sequence[Any]]:
        """Yield the next batches of the data, at most `count`; nothing without data."""
        for _ in range(count):
            if self._ahead is None:
                return
            batch = self._ahead.take()
            if self._ahead.over:
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


def _steps_of(loop: CompiledLoop, count: int, cursor: DataCursor | None) -> list[float]:
    """Have a loop take steps after its run, over the batches of a cursor; return the loss before each."""
    before, loop.cursor = loop.cursor, cursor
    position, losses = loop.begin(), list[float]()
    try:
        while len(losses) < count:
            chunk = loop.advance(position, count, 1, CompileWaiter())
            losses += chunk.series[0].values.tolist()
            if chunk.verdict != GO or chunk.position.step == position.step:
                break
            position = chunk.position
    finally:
        loop.cursor = before
    return losses


def _loss_at(final: Final) -> LossAt:
    return LossAt(float(final.loss), [gradient.numpy() for gradient in final.gradients])
