"""The loop of a minimisation in chunks of whole steps, compiled by XLA or run as a graph.

A step evaluates the loss and its gradients at the variables as they are, looks at the rules, and applies
the gradients. Between two chunks, the variables are those after some number of steps, and nothing has been
evaluated there yet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.graph_evaluations import GraphEvaluations
from tape_magic.engine.minimization.keras_loop.previous_values import PreviousValues
from tape_magic.engine.minimization.keras_loop.protocol import (
    CHUNK_SECONDS,
    Chunk,
    Loop,
)
from tape_magic.engine.minimization.keras_loop.recorded_values import ROWS, in_stretches, nothing, series_of
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.keras_loop.way_back import Position, WayBack
from tape_magic.engine.minimization.stop_rules import GO
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.values.copies import LARGE, bytes_of
from tape_magic.engine.values.tensors import read_all

LONGEST_SECONDS = 2 * CHUNK_SECONDS
"""A chunk ends with the step in which so much time has passed, however many were planned.

Steps that wait for data, or for Python, can become slower at any time. Others cannot, and a look at the clock
would take them 3 µs; XLA has no clock.
"""


class CompiledLoop(GraphEvaluations):
    """Runs whole chunks of steps inside TensorFlow.

    A chunk that a rule stops has applied one step too many, unless the optimizer asks whether to step. Then
    the variables are put back to where this or an earlier chunk began, and the steps from there are repeated:
    nothing has to be copied at each step. Where steps cannot be repeated, a careful loop carries copies.

    A loop is laid out and compiled before it takes a step; it can evaluate without that.

    Parameters
    ----------
    graph
        What each step does.
    jit
        Whether XLA compiles it.

    Attributes
    ----------
    cursor
        The data of the run that the loop belongs to; ``None`` for a program without data.
    """

    def __init__(self, graph: StepGraph, *, jit: bool) -> None:
        super().__init__(graph)
        self._jit = jit
        self._call: Any = None
        self.way_back = WayBack()
        self.cursor: DataCursor | None = None
        in_place = graph.options.careful and not jit and sum(map(bytes_of, self.moved)) >= LARGE
        self._previous = PreviousValues(self.moved if in_place else ())

    def prepare(self) -> None:
        """Make ready for the first step, from the variables as they are."""
        self._graph.prepare()

    def lay_out(self) -> None:
        """Lay the chunk out for the compiler, which is Python's work."""
        self._call = self._function()

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """Return the function to compile, and the arguments of a call of no steps."""
        return self._call, self._arguments(self._graph.position(0), 0, 1, math.inf)

    def _function(self) -> Callable[..., Any]:
        """Return the chunk as a concrete function, since TensorFlow warns of many traces of other ones."""
        import tensorflow as tf

        run = self._stretches if self._jit and not self._graph.options.careful else self._steps
        function = tf.function(run, autograph=False, jit_compile=self._jit)
        call: Callable[..., Any] = function.get_concrete_function(*self._specs())
        return call

    def _specs(self) -> list[Any]:
        import tensorflow as tf

        count, until = tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float64)
        begin = self._graph.position(0)
        carried = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in [*begin.memory, *begin.best]]
        copies = [tf.TensorSpec(v.shape, v.dtype) for v in self.moved] if self._carries_copies else []
        return [[count, count, count, until], carried, copies]

    # -- the run, from Python ------------------------------------------------------------------------

    def take_over(self, other: Loop, step: int) -> None:
        """Go on from the step where another loop over the same variables stands, and go back as it could."""
        self.way_back = other.way_back
        self.way_back.taken_until(step, other)
        if isinstance(other, CompiledLoop) and (before := other.before_last_step):
            assign_all(zip(self._previous.copies, before, strict=False))
            if self._carries_copies:
                self.way_back.copies = [before, before]

    @property
    def before_last_step(self) -> Sequence[Any]:
        """For a careful loop, the variables before its last step; empty where it took none."""
        if self._carries_copies:
            return self.way_back.copies[0] if self.way_back.copies else ()
        return self._previous.taken()

    @property
    def _carries_copies(self) -> bool:
        """Whether a careful loop carries the variables from before its steps along, and not in place."""
        return self._graph.options.careful and not self._previous.copies

    def begin(self, step: int = 0) -> Position:
        """Begin a run at a step, from the variables as they are."""
        self.way_back = WayBack()
        return self._graph.position(step)

    def release(self) -> None:
        """Let go of the values and the data of a run that is over."""
        self.way_back, self.cursor = WayBack(), None
        self._previous.release()

    def reset(self) -> None:
        """Do nothing: a compiled loop keeps no evaluation."""

    def compile(self) -> None:
        """Compile by a chunk of no steps, for where nobody can wait for a :meth:`rehearsal`.

        Raises what TensorFlow refuses it with.
        """
        self._called(self.begin(), 0, 1, CompileWaiter())
        self.way_back = WayBack()

    def advance(self, position: Position, end: int, stretch: int, waiter: CompileWaiter) -> Chunk:
        """Run one chunk, of as many steps as can be recorded; see :meth:`Loop.advance`."""
        options, way = self._graph.options, self.way_back
        if not options.careful:
            way.note(position, self.moved, self._graph.is_finite)
        elif not options.keeps_best:
            way.stretches.begin(position, self.moved, (variable.read_value() for variable in self.moved))
        end = min(end, position.step + self._capacity(stretch))
        chunk = self._called(position, end, stretch, waiter, deadline(self._graph.evaluation))
        self._note_losses(chunk)
        return chunk

    def _note_losses(self, chunk: Chunk) -> None:
        """Note the losses of a chunk, for :meth:`return_to_lowest`."""
        steps, losses = chunk.series[0].steps, chunk.series[0].values
        if self._graph.options.careful:
            self.way_back.stretches.add(losses)
        elif len(losses):
            place = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
            self.way_back.hold(int(steps[place]), float(losses[place]), self.moved)

    def _capacity(self, stretch: int) -> int:
        """Return the most steps of a chunk."""
        return ROWS * stretch

    def return_to(self, step: int, chunk: Chunk) -> Chunk:
        """Put the variables back and repeat the steps until `step`; a careful loop has copies."""
        if step == chunk.last and self._graph.stays:
            return chunk
        if self._previous.copies:
            if step < chunk.last:
                self._assign(self.before_last_step)
            return chunk
        if self._carries_copies:
            self._assign(self.way_back.copies[0 if step == chunk.last else 1])
            return chunk
        again = self._repeated(step)
        self._note_losses(again)
        return again

    def return_to_lowest(self, loss: float) -> Position | None:
        """Go back to the lowest loss; of steps that cannot be repeated, to where their best stretch began."""
        if not self._graph.options.careful:
            way = self.way_back
            return self._repeated(way.lowest_step).position if way.lowest < loss else None
        mark = self.way_back.stretches.best()
        if mark is None:
            return None
        self._assign(mark[1])
        return mark[0]

    def _repeated(self, step: int) -> Chunk:
        """Put the variables back to the last mark, and repeat the steps from there until `step`."""
        position, values = self.way_back.before(step)
        self._assign(values)
        chunk = Chunk(position, GO, tuple(nothing() for _ in range(self._graph.recorded)), math.nan, step)
        while chunk.position.step < step:
            begin = chunk.position
            loop, until = self.way_back.taker(begin.step)
            end = min(step, until or step)
            stretch = max(1, -(-(end - begin.step) // ROWS))
            chunk = (loop or self)._called(begin, end, stretch, CompileWaiter())
        return chunk

    def _assign(self, values: Sequence[Any]) -> None:
        assign_all(zip(self.moved, values, strict=True))

    def _arguments(self, position: Position, end: int, stretch: int, until: float) -> list[Any]:
        import tensorflow as tf

        numbers = [tf.constant(number, tf.int64) for number in (position.step, end, stretch)]
        copies: list[Any] = []
        if self._carries_copies:
            copies = self.way_back.copies[0] if self.way_back.copies else read_all(self.moved)
        span = [*numbers, tf.constant(until, tf.float64)]
        return [span, [*position.memory, *position.best], copies]

    def _called(
        self, position: Position, end: int, stretch: int, waiter: CompileWaiter, until: float = math.inf
    ) -> Chunk:
        step, verdict, loss, rows, carried, recorded, self.way_back.copies = self._call(
            *self._arguments(position, end, stretch, until)
        )
        reached, code = int(step), int(verdict)
        split = len(position.memory)
        after = Position(reached, tuple(carried[:split]), tuple(carried[split:]))
        series = series_of(position.step, int(rows), [tensor.numpy() for tensor in recorded])
        return Chunk(after, code, series, float(loss), reached - 1)

    # -- the run, in TensorFlow --------------------------------------------------------------------

    def _steps(self, span: list[Any], carried: list[Any], copies: list[Any]) -> Any:
        """Run step by step, and record the values of each."""
        import tensorflow as tf

        start, end, _, until = span
        size = self._graph.recorded
        timed = self._graph.options.careful and not self._jit
        values = tf.TensorArray(self._graph.dtype, ROWS, element_shape=[size])

        def goes_on(at: Any, verdict: Any, *_: Any) -> Any:
            more = (verdict == GO) & (at < end)
            return more & in_time(at, start, until) if timed else more

        def step(at: Any, _: Any, __: Any, carried: Any, copies: Any, values: Any) -> Any:
            verdict, loss, recorded, carried, copies = self._step(at, carried, copies)
            values = values.write(tf.cast(at - start, tf.int32), recorded)
            return at + 1, verdict, loss, carried, copies, values

        at, verdict, loss, carried, copies, values = tf.while_loop(
            goes_on,
            step,
            (start, tf.constant(GO), tf.zeros([], self._graph.dtype), carried, twice(copies), values),
        )
        return at, verdict, loss, at - start, carried, [values.stack()], copies

    def _stretches(self, span: list[Any], carried: list[Any], copies: list[Any]) -> Any:
        """Run stretches of steps, and record the least and the greatest values of each, with their places.

        XLA runs a small inner loop as one piece of machine code, several times faster than one that
        also writes into a long buffer.
        """
        return in_stretches(self._step, span, carried, copies, self._graph.dtype, self._graph.recorded)

    def _step(self, at: Any, carried: Sequence[Any], copies: Sequence[Any]) -> Any:
        """Run a step; a careful loop copies the variables from before it."""
        import tensorflow as tf

        careful = self._carries_copies
        before = [tf.identity(variable.read_value()) for variable in self.moved] if careful else []
        verdict, loss, recorded, carried = self._graph.step(at, carried, previous=self._previous.copies)
        # The copies from before the last step stay: a loss that is not finite leads back to there.
        return verdict, loss, recorded, carried, [before, copies[0]] if careful else copies


def deadline(evaluation: Evaluation) -> float:
    """Return the time at which a chunk that begins now has to end, in seconds since the epoch.

    One whose steps all workers take together ends by its steps alone.
    """
    return math.inf if evaluation.is_joint else time.time() + LONGEST_SECONDS


def in_time(at: Any, start: Any, until: Any) -> Any:
    """Return whether a chunk goes on at a step, for the time that it has; its first step is always run."""
    import tensorflow as tf

    return (at == start) | (tf.timestamp() < until)


def twice(copies: list[Any]) -> list[list[Any]]:
    """Return the copies from before the last step, and those from before the step ahead of it."""
    return [copies, copies] if copies else []
