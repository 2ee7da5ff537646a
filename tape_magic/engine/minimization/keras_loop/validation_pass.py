"""One pass over the data of a validation: loss and tracked scalars, no gradient, and nothing changed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.minimization.compiling import compile_in_background
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.engine.minimization.data.streams import placed
from tape_magic.engine.minimization.eager_program import EagerProgram
from tape_magic.engine.minimization.keras_loop.protocol import CHUNK_SECONDS
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.process.output import hide_output
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.tracing.loss import require_loss
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.tensors import read_all

Array = np.ndarray[Any, Any]


class Pass(Protocol):
    """Sums up loss and tracked scalars over batches, piece by piece."""

    def undone(self) -> Any:
        """Return a context that puts everything back which the program changes in it."""

    def advance(self, cursor: DataCursor, sums: Array) -> tuple[bool, Array]:
        """Go on for about the time of a chunk.

        Parameters
        ----------
        cursor
            Where the pass stands.
        sums
            The sums so far of the loss and the tracked scalars, each weighed by the rows of its batch, and of
            the rows, (2 + tracked,), float64.

        Returns
        -------
        more, sums
            Whether there may be more batches, and the sums with those that were taken.
        """


class _Holders(Snapshot):
    """What a program may keep tensors in while it is traced, but no values of variables and arrays."""

    def visit_variable(self, variable: Any) -> None:
        """Leave a variable alone: a trace changes none."""

    def visit_array(self, array: np.ndarray[Any, Any]) -> None:
        """Leave an array alone."""


class GraphPass:
    """A pass inside TensorFlow, in a graph of its own, since ``TRAINING`` is false in it.

    Parameters
    ----------
    problem
        What is minimised.
    feed
        The data; a later pass may be over others of the same spec.
    jit
        Whether XLA compiles the evaluation of a batch; the loop over batches is a graph in any case.

    The workers of a run take the batches in turn, so that each is evaluated as on one device; the sums are
    then those of this worker.

    Attributes
    ----------
    spec
        The spec of the data.

    Raises what the trace of a program raises.
    """

    def __init__(self, problem: Problem, feed: Feed, *, jit: bool) -> None:
        self.spec, self._jit = feed.element_spec, jit
        names = [*problem.settings.names, *problem.program.names.assigns]
        holders = _Holders(problem.program, problem.namespace, names)
        try:
            with hide_output(), preserve_random_state(), problem.validating():
                self._traced = Traced(
                    problem.program,
                    problem.namespace,
                    problem.loss_name,
                    tracked=problem.settings.track,
                    inputs=dict(zip(feed.names, feed.element_spec[1], strict=True)),
                    for_xla=problem.settings.engine != "graph",
                )
        finally:
            holders.restore()
        self._front = 1 + len(problem.settings.track)
        together = problem.together
        self._turn, self._turns = (0, 1) if together is None else (together.place.worker, together.count)
        self._call: Any = None

    def line_of(self, message: str) -> int | None:
        """Return the user's line that an error message of TensorFlow names."""
        return self._traced.line_of(message)

    def lay_out(self, cursor: DataCursor) -> None:
        """Lay the loop over batches out, which is Python's work."""
        import tensorflow as tf

        sums, until = tf.TensorSpec([self._front + 1], tf.float64), tf.TensorSpec([], tf.float64)
        spec, most = tf.type_spec_from_value(cursor.iterator), tf.TensorSpec([], tf.int64)
        function = tf.function(self._over_batches, autograph=False)
        self._call = function.get_concrete_function(spec, sums, until, most)

    def begin_to_compile(self, first: DataCursor) -> Any:
        """Have a thread compile it for the first batch; see :func:`compile_in_background`."""
        import tensorflow as tf

        own = first.stand_in()
        sums = tf.zeros([self._front + 1], tf.float64)
        arguments = [own.iterator, sums, tf.constant(0.0, tf.float64), tf.constant(1, tf.int64)]
        return compile_in_background(self._call, arguments)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Put back in the end what the program assigns to variables itself."""
        before = read_all(self._traced.written)
        try:
            yield
        finally:
            assign_all(zip(self._traced.written, before, strict=True))

    def advance(self, cursor: DataCursor, sums: Array, most: int | None = None) -> tuple[bool, Array]:
        """Go on for about the time of a chunk, or for at most some batches; see :class:`Pass`."""
        import tensorflow as tf

        end = time.time() + CHUNK_SECONDS if most is None else math.inf
        until, most = tf.constant(end, tf.float64), tf.constant(most or 1 << 62, tf.int64)
        more, after = self._call(cursor.iterator, tf.constant(sums), until, most)
        return bool(more), after.numpy()

    def _over_batches(self, iterator: Any, sums: Any, until: Any, most: Any) -> Any:
        """Add batches to the sums until a time, `most` batches and the first of them in any case."""
        import tensorflow as tf

        def evaluated(*parts: Any) -> Any:
            front = self._traced.concrete(*parts)[: self._front]
            return tf.stack([tf.cast(number, tf.float64) for number in front])

        evaluate = tf.function(evaluated, autograph=False, jit_compile=True) if self._jit else evaluated

        def step(count: Any, __: Any, sums: Any) -> Any:
            batch = iterator.get_next_as_optional()

            def taken() -> Any:
                place, parts = placed(batch.get_value())
                rows = tf.cast(place[2], tf.float64)

                # A batch without rows has no mean.
                def weighed() -> Any:
                    found = tf.where(rows > 0, evaluate(*parts) * rows, tf.zeros([], tf.float64))
                    return sums + tf.concat([found, [rows]], 0)

                if self._turns == 1:
                    return True, weighed()
                return True, tf.cond(place[1] % self._turns == self._turn, weighed, lambda: sums)

            more, after = tf.cond(batch.has_value(), taken, lambda: (False, sums))
            return count + 1, more, after

        _, more, sums = tf.while_loop(
            lambda count, more, _: more & ((count == 0) | (tf.timestamp() < until)) & (count < most),
            step,
            (tf.zeros([], tf.int64), tf.constant(True), sums),
        )
        return more, sums


class EagerPass:
    """A pass in Python.

    Parameters
    ----------
    problem
        What is minimised.
    moved
        All variables that a step may change.
    """

    def __init__(self, problem: Problem, moved: Sequence[Any]) -> None:
        self._problem, self._moved = problem, moved
        self._program = EagerProgram(problem, require_loss)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Put back in the end all that the program reaches: variables, lists, counters, random states."""
        problem = self._problem
        names = [*problem.settings.names, *problem.program.names.assigns]
        snapshot = Snapshot(problem.program, problem.namespace, names)
        before = read_all(self._moved)
        try:
            with preserve_random_state(), problem.validating():
                yield
        finally:
            snapshot.restore()
            assign_all(zip(self._moved, before, strict=True))

    def advance(self, cursor: DataCursor, sums: Array) -> tuple[bool, Array]:
        """Go on for about the time of a chunk; see :class:`Pass`."""
        program, until = self._program, time.perf_counter() + CHUNK_SECONDS
        while True:
            batch = cursor.take()
            if cursor.over:
                return False, sums
            program.bind(cursor.named(batch))
            loss = program.compute()
            front = [float(number) for number in (loss, *program.scalars(self._problem.settings.track))]
            assert cursor.place is not None
            rows = float(cursor.place[2])
            sums = sums + np.array([*(rows * number if rows else 0.0 for number in front), rows])
            if time.perf_counter() >= until:
                return True, sums
