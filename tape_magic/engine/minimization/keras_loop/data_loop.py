"""The loop over batches of data.

``tf.data`` cannot run inside XLA. So XLA compiles the step alone, and a graph loops around it. A batch cannot
be taken twice, so the loop carries the values from before each step along; a graph does that without copies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop, in_time, twice
from tape_magic.engine.minimization.keras_loop.protocol import Chunk
from tape_magic.engine.minimization.keras_loop.recorded_values import ROWS
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.keras_loop.way_back import Position, WayBack
from tape_magic.engine.minimization.stop_rules import GO, LOSS_LOST
from tape_magic.engine.values.tensors import read_all


class DataLoop(CompiledLoop):
    """Runs chunks of steps over batches, the step compiled by XLA or run as a graph.

    Parameters
    ----------
    graph, jit
        See :class:`CompiledLoop`.
    cursor
        The data of the run. Before another run begins, it sets the attribute of that name.
    """

    def __init__(self, graph: StepGraph, cursor: DataCursor, *, jit: bool) -> None:
        super().__init__(graph, jit=jit)
        self.cursor = cursor

    @property
    def _data(self) -> DataCursor:
        assert self.cursor is not None
        return self.cursor

    def _function(self) -> Callable[..., Any]:
        import tensorflow as tf

        step: Callable[..., Any] = functools.partial(self._graph.step, previous=self._previous.copies)
        if self._jit:
            step = tf.function(step, autograph=False, jit_compile=True)
        self._compiled_step = step
        function = tf.function(self._over_batches, autograph=False)
        spec = tf.type_spec_from_value(self._data.iterator)
        self._chunk: Any = function.get_concrete_function(spec, *self._specs())
        return lambda *arguments: self._chunk(self._data.catch_up(), *arguments)

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """Return the function to compile, and the arguments of a call.

        The call has no steps as a graph, and one with XLA, which compiles at the first step.
        """
        begin = self._graph.position(0)
        own = DataCursor(self._data.feed, count=1)
        return self._chunk, [own.catch_up(), *self._arguments(begin, 1 if self._jit else 0, 1, math.inf)]

    def compile(self) -> None:
        """Compile by a call; XLA compiles at the first step, which is taken back."""
        values = read_all(self.moved)
        cursor, self.cursor = self.cursor, DataCursor(self._data.feed, count=1)
        try:
            self._called(self.begin(), 1 if self._jit else 0, 1, CompileWaiter())
        finally:
            self.cursor, self.way_back = cursor, WayBack()
            if self._jit:
                self._assign(values)

    def advance(self, position: Position, end: int, stretch: int, waiter: CompileWaiter) -> Chunk:
        """Run one chunk and record each step; the data may end within it."""
        import tensorflow as tf

        try:
            return super().advance(position, end, 1, waiter)
        except tf.errors.OpError as error:
            if self._data.feed.failure is not None or "IteratorGetNext" in str(error):
                raise self._data.failure(error) from None
            raise

    def _called(
        self, position: Position, end: int, stretch: int, waiter: CompileWaiter, until: float = math.inf
    ) -> Chunk:
        chunk = super()._called(position, end, stretch, waiter, until)
        *self.way_back.copies, places, more, last, before = self.way_back.copies
        data = self._data
        data.over = not more
        if last.has_value():
            data.note(last.get_value(), before.get_value()[1] if before.has_value() else data.last)
        return replace(chunk, places=places.numpy()[: len(chunk.series[0].steps)])

    def return_to(self, step: int, chunk: Chunk) -> Chunk:
        """Go back to where `step` steps were applied, and to the batch of that step."""
        if step < chunk.last or chunk.verdict == LOSS_LOST:
            self._data.last = self._data.before or self._data.last
        return super().return_to(step, chunk)

    def _last_batch(self) -> Sequence[Any]:
        return self._data.any()

    def _over_batches(self, iterator: Any, span: list[Any], carried: list[Any], copies: list[Any]) -> Any:
        """Run step by step; return after the copies the places, a flag for more batches, and the last two."""
        import tensorflow as tf

        start, end, _, until = span
        size = self._graph.recorded
        nothing = tf.experimental.Optional.empty(self._data.feed.element_spec)

        def step(
            at: Any, verdict: Any, more: Any, loss: Any, carried: Any, copies: Any, written: Any, lasts: Any
        ) -> Any:
            batch = iterator.get_next_as_optional()

            def taken() -> Any:
                before = [variable.read_value() for variable in self.moved] if self._carries_copies else []
                place, parts = batch.get_value()
                verdict, loss, recorded, after = self._compiled_step(at, carried, parts, place)
                row = tf.cast(at - start, tf.int32)
                return (
                    at + 1,
                    verdict,
                    True,
                    loss,
                    after,
                    [before, copies[0]] if self._carries_copies else copies,
                    [written[0].write(row, recorded), written[1].write(row, place)],
                    [batch, lasts[0]],
                )

            return tf.cond(
                batch.has_value(),
                taken,
                lambda: (at, verdict, False, loss, carried, copies, written, lasts),
            )

        at, verdict, more, loss, carried, copies, written, lasts = tf.while_loop(
            lambda at, verdict, more, *_: (verdict == GO) & more & (at < end) & in_time(at, start, until),
            step,
            (
                start,
                tf.constant(GO),
                tf.constant(True),
                tf.zeros([], self._graph.dtype),
                carried,
                twice(copies),
                [
                    tf.TensorArray(self._graph.dtype, ROWS, element_shape=[size]),
                    tf.TensorArray(tf.int64, ROWS, element_shape=[3]),
                ],
                [nothing, nothing],
            ),
        )
        values, places = (array.stack() for array in written)
        return at, verdict, loss, at - start, carried, [values], [*copies, places, more, *lasts]
