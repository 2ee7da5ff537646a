"""The loop in Python, for what cannot be compiled."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.compiled_loop import CHUNK_SECONDS
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Final, LoopOptions, Position, Recorded
from tape_magic.engine.minimization.keras_loop.reached_variables import ReachedVariables
from tape_magic.engine.minimization.optimizers import scaled_for
from tape_magic.engine.minimization.problem import Settle
from tape_magic.engine.minimization.stop_rules import GO, LOSS_LOST
from tape_magic.engine.minimization.unconnected import Record
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.failures import VariableCreated, creates_a_variable, operation_without_gradient
from tape_magic.engine.tracing.loss import require_loss, require_scalar
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.tensors import read_all, tf_variable
from tape_magic.errors import TargetError, closest
from tape_magic.notation import place


class EagerLoop:
    """Step by step; each step runs the program once.

    Parameters
    ----------
    program, namespace, loss_name, tracked
        What is minimised, and what is recorded besides.
    settle
        The variables that were read → what is minimised over.
    optimizer
        What has a gradient → the optimizer for it.
    plan
        What has a gradient → what to do beside the evaluation.
    batches
        What each step takes the next of; ``None`` without data.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        tracked: Sequence[str],
        settle: Settle,
        optimizer: Callable[[Sequence[Leaf]], Any],
        plan: Callable[[Sequence[Leaf]], LoopOptions],
        batches: DataCursor | None = None,
    ) -> None:
        self._program, self._namespace = program, namespace
        self._loss_name, self._tracked = loss_name, tracked
        # Each step begins with what the names held before the run, as a compiled step does.
        self._entry = {name: namespace[name] for name in program.names.reads_first if name in namespace}
        self._settle, self._make_optimizer, self._make_plan = settle, optimizer, plan
        self._batches = batches
        self._leaves: list[Leaf] = []
        self._optimizer: Any = None
        self._plan: LoopOptions
        self._evaluated: tuple[Any, list[Any], list[Any]] | None = None
        self._before: list[Any] = []
        self._written: list[Any] = []
        self._state: list[Any] = []
        self._applied = self._began = 0
        self._has_batch = False
        self.connected: Sequence[bool] = ()
        self.recorder = Recorder()
        self.loss: Any = None
        self.value: Any = None

    def begin(self, step: int = 0) -> Position:
        """Evaluate the loss, and find out by that what is minimised over."""
        import tensorflow as tf

        self._applied = self._began = step
        self._take_batch()
        reached = ReachedVariables(self._program, self._namespace)
        with self.recorder.listening(), tf.GradientTape() as tape:
            loss, tracked = self._run()
            # What a variable holds is watched as it is read; what is not trainable has to be said.
            read = tape.watched_variables()
            before = [variable.numpy() for variable in read]
            leaves = self._settle(read)
        # It may have begun outside its bounds.
        same = functools.partial(np.array_equal, equal_nan=True)
        moved = not all(map(same, before, [variable.numpy() for variable in read]))
        if moved or any(not getattr(leaf.value, "trainable", True) for leaf in leaves):
            # As if it had been evaluated once, where it begins.
            assign_all(reached.written(self.recorder, [leaf.value for leaf in leaves] if moved else ()))
            self.recorder = Recorder()
            with (
                self.recorder.listening(),
                tf.GradientTape(watch_accessed_variables=False) as tape,
            ):
                for leaf in leaves:
                    tape.watch(leaf.value)
                loss, tracked = self._run()
        self.loss = loss
        gradients = _gradients(tape, loss, leaves)
        self.connected = [gradient is not None for gradient in gradients]
        self._leaves = [leaf for leaf, has in zip(leaves, self.connected, strict=True) if has]
        self._evaluated = loss, tracked, _dense(gradients)
        written = list(reached.written(self.recorder, [leaf.value for leaf in self._leaves]))
        self._written, self._state = [variable for variable, _ in written], [value for _, value in written]
        self._optimizer, self._plan = self._make_optimizer(self._leaves), self._make_plan(self._leaves)
        best: tuple[Any, ...] = ()
        if self._plan.keeps_best:
            best = (
                tf.constant(float("inf"), loss.dtype),
                *read_all(self.kept),
            )
        return Position(step, self._plan.rules.memory(loss.dtype), best)

    def reset(self) -> None:
        """What was evaluated no longer holds: the variables have been changed."""
        self._evaluated = None

    def record(self) -> Record:
        """The operations of the first evaluation, once it has been."""
        return Record(self.recorder, self.loss)

    def forget(self) -> None:
        """Let go of what :meth:`record` needs."""
        self.recorder.close()
        self.loss = None

    @property
    def kept(self) -> list[Any]:
        """What the optimizer moves, and what the program assigns itself."""
        return [*(leaf.value for leaf in self._leaves), *self._written]

    @property
    def moved(self) -> list[Any]:
        """Those, and the optimizer's own."""
        return [*self.kept, *self._slots]

    @property
    def _slots(self) -> list[Any]:
        return [tf_variable(variable) for variable in self._optimizer.variables]

    def advance(self, position: Position, end: int, stretch: int) -> Chunk:
        """Steps for about the time of a chunk."""
        recorded: list[list[float]] = []
        start, verdict, loss = position.step, GO, float("nan")
        deadline = time.perf_counter() + CHUNK_SECONDS
        while position.step < end and (not recorded or time.perf_counter() < deadline):
            if not self._has_batch:
                self._take_batch()
                if self._batches is not None and self._batches.over:
                    break
            verdict, position, numbers = self._step(position)
            recorded.append(numbers)
            loss = numbers[0]
            if verdict != GO:
                break
        rows = np.array(recorded).reshape(len(recorded), 1 + len(self._tracked))
        steps = start + np.arange(len(rows))
        series = tuple(Recorded(steps, rows[:, number]) for number in range(rows.shape[1]))
        return Chunk(position, verdict, series, loss, start + len(rows) - 1)

    def _step(self, position: Position) -> tuple[int, Position, list[float]]:
        loss, tracked, gradients = self._evaluated or self._evaluate()
        self._evaluated = loss, tracked, gradients
        code, memory = self._plan.rules.check(position.step, loss, gradients, position.memory)
        verdict, best = int(code), position.best
        if best and verdict != LOSS_LOST and float(loss) < float(best[0]):
            best = (loss, *read_all(self.kept))
        if verdict == GO:
            self._apply(gradients)
            self._has_batch = False
            self._evaluated, self._applied = None, position.step + 1
            position = Position(position.step + 1, memory, best)
        numbers = [float(number) for number in (loss, *tracked)]
        return verdict, position, numbers

    def _apply(self, gradients: Sequence[Any]) -> None:
        import tensorflow as tf

        leaves = read_all(leaf.value for leaf in self._leaves)
        slots = read_all(self._slots)
        # Back means before the evaluation, which is then done once more.
        self._before = [*leaves, *self._state, *slots]
        try:
            scaled = scaled_for(self._optimizer, gradients)
            self._optimizer.apply(scaled, [leaf.owner for leaf in self._leaves])
            for leaf, low, high in zip(self._leaves, self._plan.lower, self._plan.upper, strict=False):
                if low is not None:
                    leaf.value.assign(tf.maximum(leaf.value, tf.cast(low, leaf.value.dtype)))
                if high is not None:
                    leaf.value.assign(tf.minimum(leaf.value, tf.cast(high, leaf.value.dtype)))
        except BaseException:  # a second interrupt may come between two variables
            self._put_back()
            raise

    def _put_back(self) -> None:
        assign_all(zip(self.moved, self._before, strict=True))

    def stopped(self, chunk: Chunk, step: int) -> Chunk:
        """A loss that is not finite leads back to before the last step; else nothing has been applied."""
        if step < self._applied:
            self._put_back()
            self._evaluated, self._applied = None, step
            self._batch_before()
        return chunk

    def _batch_before(self) -> None:
        if self._batches is not None and self._batches.before is not None:
            self._namespace.update(zip(self._batches.feed.names, self._batches.before, strict=True))

    def final(self) -> Final:
        """Evaluate at the variables as they are, unless that is what was done last."""
        if self._evaluated is None and self._has_batch and self._applied == self._began:
            self._batch_before()  # a run that goes on, and is at its end already, has taken one too many
        loss, tracked, gradients = self._evaluated or self._evaluate()
        if not math.isfinite(float(loss)):
            assign_all(zip(self._written, self._state, strict=True))  # no statistics of what is not finite
        return Final(loss, tracked, gradients, ())

    # -- one evaluation ------------------------------------------------------------------------------

    def _take_batch(self) -> None:
        if self._batches is not None:
            self._namespace.update(zip(self._batches.feed.names, self._batches.take(), strict=True))
        self._has_batch = True

    def _evaluate(self) -> tuple[Any, list[Any], list[Any]]:
        import tensorflow as tf

        self._state = read_all(self._written)
        try:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for leaf in self._leaves:
                    tape.watch(leaf.value)
                loss, tracked = self._run()
            return loss, tracked, _dense(_gradients(tape, loss, self._leaves))
        except BaseException:  # an evaluation that was not finished leaves nothing
            assign_all(zip(self._written, self._state, strict=True))
            raise

    def _run(self) -> tuple[Any, list[Any]]:
        """The loss, and what is tracked."""
        import tensorflow as tf

        def refuse(create: Any, **arguments: Any) -> Any:
            raise VariableCreated

        self._namespace.update(self._entry)
        # Layers that were not built yet make their variables in the first evaluation.
        scope = tf.variable_creator_scope(refuse) if self._optimizer is not None else contextlib.nullcontext()
        try:
            with scope:
                self.value = self._program.run(self._namespace, {})
        except VariableCreated as error:
            if self._before:
                self._put_back()
            raise creates_a_variable(self._program, error) from None
        loss = require_loss(self.value, self._namespace, self._loss_name)
        return loss, [self._scalar(name) for name in self._tracked]

    def _scalar(self, name: str) -> Any:
        base = place(name)[0]
        if base not in self._namespace:
            raise TargetError(f"the cell never assigns {base}{closest(base, self._namespace)}")
        return require_scalar(look_up(name, self._namespace), name)


def _gradients(tape: Any, loss: Any, leaves: Sequence[Leaf]) -> list[Any]:
    try:
        return list(tape.gradient(loss, [leaf.value for leaf in leaves]))
    except LookupError as error:
        operation = operation_without_gradient(error)
        if not operation:
            raise
        raise TargetError(
            f"the loss goes through {operation}, which TensorFlow has no gradient of."
        ) from None


def _dense(gradients: Sequence[Any]) -> list[Any]:
    """The gradients that there are, those of lookups as full tensors."""
    import tensorflow as tf

    return [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
