"""The loop of a minimisation: chunks of whole steps, compiled by XLA or run as a graph.

A step evaluates the loss and its gradients at the variables as they are, looks at the rules, and applies
the gradients. Between two chunks, the variables are those after some number of steps, and nothing has been
evaluated there yet; :class:`Position` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Final, LoopOptions, Position, Recorded
from tape_magic.engine.minimization.optimizers import scaled_for
from tape_magic.engine.minimization.stop_rules import GO, LOSS_LOST
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import read_all, tf_variable

CHUNK_SECONDS = 0.05
"""About how long a chunk lasts: Stop, Ctrl-C and the display are served between chunks."""

ROWS = 1 << 12
"""How many values, or stretches of them, a chunk records of each series."""


class CompiledLoop:
    """Whole chunks of steps inside TensorFlow.

    Parameters
    ----------
    evaluation
        The loss and its gradients.
    leaves
        What has a gradient.
    optimizer
        A Keras optimizer, built for the leaves.
    written
        The variables that the program assigns itself.
    plan
        What else to do.
    jit
        Whether XLA compiles it.

    A chunk that a rule stops has applied one step too many. Then the variables are put back to where the
    chunk began, and the steps before are repeated: nothing has to be copied at each step. Where steps cannot
    be repeated, a careful loop carries copies.

    A loop is laid out and compiled before it takes a step; it can evaluate without that. `waiting` is how the
    run that it belongs to waits for what has to be compiled later.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        leaves: Sequence[Leaf],
        optimizer: Any,
        written: Sequence[Any],
        plan: LoopOptions,
        *,
        jit: bool,
    ) -> None:
        import tensorflow as tf

        self._evaluation, self._leaves, self._optimizer, self._plan = evaluation, leaves, optimizer, plan
        self.connected = evaluation.connected
        own = {id(leaf.value) for leaf in leaves}
        slots = [tf_variable(variable) for variable in optimizer.variables]
        self._kept = [leaf.value for leaf in leaves] + [v for v in written if id(v) not in own]
        self._moved = [*self._kept, *slots]
        loss = evaluation.dtype
        self._dtype = loss if loss.size >= 4 else tf.float32
        self._memory = plan.rules.memory(loss)
        self._marks: list[tuple[Position, list[Any]]] = []
        self._copies: list[Any] = []
        self._jit = jit
        self._call: Any = None
        self.waiting: CompileWaiter | None = None

    def lay_out(self) -> None:
        """Lay the chunk out for the compiler, which is Python's work."""
        self._call = self._function()

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """What there is to compile, and the arguments of a call of no steps."""
        return self._call, self._arguments(Position(0, self._memory, self._nothing()), 0, 1)

    def _function(self) -> Callable[..., Any]:
        """The chunk, compiled; a concrete function, since TensorFlow warns of retracing at the fifth loop."""
        import tensorflow as tf

        run = self._stretches if self._jit and not self._plan.careful else self._steps
        function = tf.function(run, autograph=False, jit_compile=self._jit)
        call: Callable[..., Any] = function.get_concrete_function(*self._specs())
        return call

    def _specs(self) -> list[Any]:
        import tensorflow as tf

        count = tf.TensorSpec([], tf.int64)
        carried = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in [*self._memory, *self._nothing()]]
        copies = [tf.TensorSpec(v.shape, v.dtype) for v in self._moved] if self._plan.careful else []
        return [count, count, count, carried, copies]

    @property
    def kept(self) -> Sequence[Any]:
        """What the optimizer moves, and what the program assigns itself."""
        return self._kept

    @property
    def moved(self) -> Sequence[Any]:
        """Those, and the optimizer's own."""
        return self._moved

    # -- the run, from Python ------------------------------------------------------------------------

    def take_over(self, other: CompiledLoop) -> None:
        """Go on from where another loop over the same variables stands, and go back as it could."""
        self._marks, self._copies = other._marks, other._copies

    def begin(self, step: int = 0) -> Position:
        """A new run from the variables as they are."""
        self._marks, self._copies = [], []
        return Position(step, self._memory, self._nothing())

    def release(self) -> None:
        """Let go of the values of a run that is over."""
        self._marks, self._copies, self.waiting = [], [], None

    def compile(self) -> None:
        """Have it compiled, by a chunk of no steps. Raises what TensorFlow refuses it with.

        For where nobody can wait for a :meth:`rehearsal`.
        """
        self._called(self.begin(), 0, 1)
        self._copies = []

    def advance(self, position: Position, end: int, stretch: int) -> Chunk:
        """One chunk, of as many steps as can be recorded."""
        # Reading costs next to nothing: a variable copies itself when it is assigned while it is read.
        self._marks = [*self._marks[-1:], (position, read_all(self._moved))]
        return self._called(position, min(end, position.step + self._capacity(stretch)), stretch)

    def _capacity(self, stretch: int) -> int:
        """How many steps a chunk can have."""
        return ROWS * stretch

    def stopped(self, chunk: Chunk, step: int) -> Chunk:
        """Put the variables back and repeat the steps until `step`; a careful loop has copies."""
        if self._plan.careful:
            copies = self._copies[0 if step == chunk.last else 1]
            self._assign(copies)
            return chunk
        position, values = next(mark for mark in reversed(self._marks) if mark[0].step <= step)
        self._assign(values)
        if step == position.step:
            return Chunk(position, GO, tuple(_nothing() for _ in chunk.series), chunk.loss, step)
        return self._called(position, step, max(1, -(-(step - position.step) // ROWS)))

    def final(self) -> Final:
        """Evaluate at the variables as they are, without XLA, which would have to compile that first."""
        before = read_all(self.kept)
        front, gradients, rest = self._evaluation.call(*self._last_batch())
        if not math.isfinite(float(front[0])):
            for variable, value in zip(self.kept, before, strict=True):
                variable.assign(value)  # no statistics of what is not finite
        return Final(front[0], front[1:], gradients, rest)

    def _last_batch(self) -> Sequence[Any]:
        """What the program is evaluated on at the end."""
        return ()

    def _assign(self, values: Sequence[Any]) -> None:
        assign_all(zip(self._moved, values, strict=True))

    def _nothing(self) -> tuple[Any, ...]:
        """What stands for the best before there is any."""
        import tensorflow as tf

        if not self._plan.keeps_best:
            return ()
        values = [tf.zeros(variable.shape, variable.dtype) for variable in self.kept]
        return (tf.constant(float("inf"), self._evaluation.dtype), *values)

    def _arguments(self, position: Position, end: int, stretch: int) -> list[Any]:
        import tensorflow as tf

        numbers = [tf.constant(number, tf.int64) for number in (position.step, end, stretch)]
        copies: list[Any] = []
        if self._plan.careful:
            copies = self._copies[0] if self._copies else read_all(self._moved)
        return [*numbers, [*position.memory, *position.best], copies]

    def _called(self, position: Position, end: int, stretch: int) -> Chunk:
        step, verdict, loss, rows, carried, recorded, self._copies = self._call(
            *self._arguments(position, end, stretch)
        )
        reached, code = int(step), int(verdict)
        split = len(position.memory)
        after = Position(reached, tuple(carried[:split]), tuple(carried[split:]))
        series = _series(position.step, int(rows), [tensor.numpy() for tensor in recorded])
        return Chunk(after, code, series, float(loss), reached - 1)

    # -- the run, in TensorFlow --------------------------------------------------------------------

    def _steps(self, start: Any, end: Any, stretch: Any, carried: list[Any], copies: list[Any]) -> Any:
        """Step by step, the values of each recorded."""
        import tensorflow as tf

        size = 1 + self._evaluation.tracked
        values = tf.TensorArray(self._dtype, ROWS, element_shape=[size])

        def step(at: Any, _: Any, __: Any, carried: Any, copies: Any, values: Any) -> Any:
            verdict, loss, recorded, carried, copies = self._step(at, carried, copies)
            values = values.write(tf.cast(at - start, tf.int32), recorded)
            return at + 1, verdict, loss, carried, copies, values

        at, verdict, loss, carried, copies, values = tf.while_loop(
            lambda at, verdict, *_: (verdict == GO) & (at < end),
            step,
            (start, tf.constant(GO), tf.zeros([], self._dtype), carried, self._two(copies), values),
        )
        return at, verdict, loss, at - start, carried, [values.stack()], copies

    def _stretches(self, start: Any, end: Any, stretch: Any, carried: list[Any], copies: list[Any]) -> Any:
        """Of each stretch of steps, the least and the greatest values recorded, and where they were.

        XLA runs a small inner loop as one piece of machine code, several times faster than one that
        also writes into a long buffer.
        """
        import tensorflow as tf

        size = 1 + self._evaluation.tracked
        extremes = tf.TensorArray(self._dtype, ROWS, element_shape=[2, size])
        places = tf.TensorArray(tf.int32, ROWS, element_shape=[2, size])
        infinite = tf.fill([size], tf.constant(float("inf"), self._dtype))

        def step(
            at: Any, stop: Any, _: Any, __: Any, carried: Any, low: Any, low_at: Any, high: Any, high_at: Any
        ) -> Any:
            verdict, loss, recorded, carried, _copies = self._step(at, carried, ())
            offset = tf.cast(at - start, tf.int32)
            less, more = beyond(recorded, low), beyond(-recorded, -high)
            low, low_at = tf.where(less, recorded, low), tf.where(less, offset, low_at)
            high, high_at = tf.where(more, recorded, high), tf.where(more, offset, high_at)
            return at + 1, stop, verdict, loss, carried, low, low_at, high, high_at

        def several(at: Any, _: Any, loss: Any, row: Any, carried: Any, extremes: Any, places: Any) -> Any:
            offset = tf.fill([size], tf.cast(at - start, tf.int32))
            stop = tf.minimum(at + stretch, end)
            at, _, verdict, loss, carried, low, low_at, high, high_at = tf.while_loop(
                lambda at, stop, verdict, *_: (verdict == GO) & (at < stop),
                step,
                (at, stop, tf.constant(GO), loss, carried, infinite, offset, -infinite, offset),
            )
            extremes = extremes.write(row, tf.stack([low, high]))
            places = places.write(row, tf.stack([low_at, high_at]))
            return at, verdict, loss, row + 1, carried, extremes, places

        zero = tf.constant(0)
        at, verdict, loss, rows, carried, extremes, places = tf.while_loop(
            lambda at, verdict, *_: (verdict == GO) & (at < end),
            several,
            (start, tf.constant(GO), tf.zeros([], self._dtype), zero, carried, extremes, places),
        )
        return at, verdict, loss, rows, carried, [extremes.stack(), places.stack()], copies

    def _step(self, at: Any, carried: Sequence[Any], copies: Sequence[Any]) -> Any:
        """Evaluate, look at the rules, apply."""
        import tensorflow as tf

        plan = self._plan
        before = [tf.identity(variable.read_value()) for variable in self._moved] if plan.careful else []
        verdict, loss, recorded, carried = self._applied(at, carried)
        # Of the step before this one, too: that is where a loss that is not finite leads back to.
        return verdict, loss, recorded, carried, [before, copies[0]] if plan.careful else copies

    def _applied(self, at: Any, carried: Sequence[Any], batch: Sequence[Any] = ()) -> Any:
        import tensorflow as tf

        (loss, *tracked), gradients, _ = self._evaluation.call(*batch)
        split = len(self._memory)
        verdict, memory = self._plan.rules.check(at, loss, gradients, carried[:split])
        best = self._better(loss, verdict, carried[split:])

        self._apply(gradients)
        recorded = [tf.cast(number, self._dtype) for number in (loss, *tracked)]
        return verdict, recorded[0], tf.stack(recorded), [*memory, *best]

    def _apply(self, gradients: Sequence[Any]) -> None:
        import tensorflow as tf

        scaled = scaled_for(self._optimizer, gradients)
        self._optimizer.apply(scaled, [leaf.owner for leaf in self._leaves])
        for leaf, low, high in zip(self._leaves, self._plan.lower, self._plan.upper, strict=False):
            if low is not None or high is not None:
                value = leaf.value.read_value()
                value = value if low is None else tf.maximum(value, tf.cast(low, value.dtype))
                leaf.value.assign(value if high is None else tf.minimum(value, tf.cast(high, value.dtype)))

    def _better(self, loss: Any, verdict: Any, best: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        if not best:
            return []
        better = (loss < best[0]) & (verdict != LOSS_LOST)
        chosen: list[Any] = tf.cond(
            better,
            lambda: [loss, *(tf.identity(variable.read_value()) for variable in self.kept)],
            lambda: [tf.identity(value) for value in best],
        )
        return chosen

    def _two(self, copies: list[Any]) -> list[list[Any]]:
        return [copies, copies] if self._plan.careful else []


def beyond(values: Any, low: Any) -> Any:
    """Which values are less than the least so far; the first NaN counts as less than anything, and stays."""
    return ~((values >= low) | (low != low))


def _nothing() -> Recorded:
    return Recorded(np.zeros(0, np.int64), np.zeros(0))


def _series(start: int, rows: int, recorded: list[Any]) -> tuple[Recorded, ...]:
    """What a chunk recorded, by series."""
    if len(recorded) == 1:
        values = recorded[0][:rows]
        return tuple(
            Recorded(start + np.arange(rows), values[:, number]) for number in range(values.shape[1])
        )
    extremes, places = (array[:rows] for array in recorded)
    found = []
    for number in range(extremes.shape[2]):
        steps, first = np.unique(places[:, :, number], return_index=True)
        found.append(Recorded(start + steps.astype(np.int64), extremes[:, :, number].reshape(-1)[first]))
    return tuple(found)
