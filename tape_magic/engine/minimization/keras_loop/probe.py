"""Asks the loss of a run once more after its end, for the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.protocol import Final, Loop
from tape_magic.engine.minimization.keras_loop.step_graph import apply_optimizer
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.process.output import hide_output
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.tensors import read_all
from tape_magic.engine.verdict.facts import Array, Domain, LossAt

LARGEST = 2**28
"""Most bytes of what a program reaches that are copied, so that it can run in Python again."""


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
    """Asks the loss of a run once more; a context that puts everything back.

    Parameters
    ----------
    problem, loop, optimizer, cursor
        What was minimised, by which loop and optimizer; over which data, ``None`` without.
    failure
        Where the run diverged; ``None`` where it did not.

    Raises :class:`Unsafe` on entry if the program runs in Python, and what it changes cannot be put back.
    """

    def __init__(
        self,
        problem: Problem,
        loop: Loop,
        optimizer: Any,
        cursor: DataCursor | None,
        failure: Failure | None,
        *,
        in_python: bool,
    ) -> None:
        self._problem, self._loop, self._optimizer = problem, loop, optimizer
        self._cursor, self._failure, self._in_python = cursor, failure, in_python
        self._before: Sequence[Any] = ()
        self._stack = ExitStack()

    def __enter__(self) -> LoopProbe:
        self._before = read_all(self._loop.moved)
        with ExitStack() as stack:
            if self._in_python:
                problem = self._problem
                names = [*problem.settings.names, *problem.program.names.assigns]
                snapshot = Snapshot(problem.program, problem.namespace, names)
                if snapshot.iterators or snapshot.size > LARGEST:
                    raise Unsafe
                stack.callback(snapshot.restore)
            stack.callback(self.back)
            stack.enter_context(hide_output())
            stack.enter_context(preserve_random_state())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def values(self) -> list[Array]:
        """Return the values of the leaves as they are."""
        return [np.array(leaf.value.numpy()) for leaf in self._loop.leaves]

    def domain(self) -> Domain:
        """Return where the run could move the leaves."""
        loop, problem = self._loop, self._problem
        starts = {
            id(leaf.value): start for leaf, start in zip(problem.leaves, problem.start_values, strict=True)
        }
        plain = (
            len(loop.kept) == len(loop.leaves)
            and not optimizers.decays(self._optimizer)
            and not any(getattr(leaf.owner, "constraint", None) for leaf in loop.leaves)
        )
        start = [starts[id(leaf.value)] for leaf in loop.leaves]
        options = loop.options
        return Domain(start, options.lower, options.upper, plain, options.rules.tol or 0.0)

    def evaluate(self, batch: Sequence[Any] | None = None) -> LossAt:
        """Return loss and gradients at the variables as they are."""
        return _loss_at(self._loop.evaluate(batch))

    def place(self, values: Sequence[Array]) -> None:
        """Move the leaves to other values."""
        assign_all(zip((leaf.value for leaf in self._loop.leaves), values, strict=True))

    def step(self, batch: Sequence[Any] | None = None, *, rate: float | None = None) -> LossAt:
        """Take a step of the optimizer from here, by `rate` in place of its own; return the loss before."""
        final = self._loop.evaluate(batch)
        if rate is not None:
            inner = getattr(self._optimizer, "inner_optimizer", self._optimizer)
            inner.learning_rate = rate  # one of the optimizer's variables: back() puts it back
        apply_optimizer(self._optimizer, self._loop.leaves, final.gradients, self._loop.options)
        return _loss_at(final)

    def back(self) -> None:
        """Put everything back to where the run ended."""
        assign_all(zip(self._loop.moved, self._before, strict=True))

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
        assign_all(zip(self._loop.moved, failure.values, strict=True))
        if failure.stepped:
            apply_optimizer(
                self._optimizer, self._loop.leaves, self._loop.evaluate().gradients, self._loop.options
            )
        return failure.batch

    def record(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of an evaluation at the variables as they are."""
        return self._loop.recorded(batch)


class Unsafe(Exception):
    """The program runs in Python, and what it changes cannot be put back."""


def _loss_at(final: Final) -> LossAt:
    return LossAt(float(final.loss), [gradient.numpy() for gradient in final.gradients])
