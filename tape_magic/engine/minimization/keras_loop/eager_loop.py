"""The loop of a minimisation step by step in Python, for what cannot be compiled."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.eager_program import EagerProgram
from tape_magic.engine.minimization.keras_loop.best_values import best_after, no_best
from tape_magic.engine.minimization.keras_loop.protocol import (
    CHUNK_SECONDS,
    Chunk,
    Final,
    LoopOptions,
    Position,
    WayBack,
)
from tape_magic.engine.minimization.keras_loop.reached_variables import ReachedVariables
from tape_magic.engine.minimization.keras_loop.step_graph import apply_optimizer, own_verdict
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.quasi_newton.lbfgs import Lbfgs
from tape_magic.engine.minimization.stop_rules import GO
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.failures import CreatesVariable, missing_gradients
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import read_all, tf_variable


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: the loss, the tracked scalars, and a dense gradient for each leaf that has one."""

    loss: Any
    tracked: list[Any]
    gradients: list[Any]


@dataclass(frozen=True)
class FirstEvaluation:
    """The first evaluation of a program, which shows what is minimised over.

    Attributes
    ----------
    evaluated
        The loss and its gradients.
    connected
        For each leaf of the problem, whether it has a gradient.
    leaves
        The leaves that have one.
    written
        The variables that the program assigns itself, each with its value before the evaluation.
    record
        The operations.
    """

    evaluated: Evaluated
    connected: Sequence[bool]
    leaves: Sequence[Leaf]
    written: Sequence[tuple[Any, Any]]
    record: LossRecord


def first_evaluation(problem: Problem, program: EagerProgram, *, within_bounds: bool) -> FirstEvaluation:
    """Run a program once, or as if once, to find what is minimised over.

    Parameters
    ----------
    problem
        What is minimised; settled and begun afterwards.
    program
        The program, bound to a batch if there are data.
    within_bounds
        See :meth:`Problem.begin`.
    """
    import tensorflow as tf

    if problem.leaves:  # a trace that failed has found them
        problem.begin(within_bounds=within_bounds)
    recorder = Recorder()
    reached = ReachedVariables(problem.program, problem.namespace)
    with recorder.listening(), tf.GradientTape() as tape:
        loss, tracked = program.compute(), program.scalars(problem.settings.track)
        # A tape watches a variable as it is read, unless the variable is not trainable.
        read = tape.watched_variables()
        before = [variable.numpy() for variable in read]
    leaves = problem.settle(read)
    problem.note_recorded_steps(recorder)
    problem.begin(within_bounds=within_bounds)
    same = functools.partial(np.array_equal, equal_nan=True)
    moved = not all(map(same, before, [variable.numpy() for variable in read]))
    if moved or any(not getattr(leaf.value, "trainable", True) for leaf in leaves):
        # The state goes back, so that all is as if the program had run once, from within the bounds.
        assign_all(reached.written(recorder, [leaf.value for leaf in leaves] if moved else ()))
        recorder = Recorder()
        with recorder.listening(), _watching(leaves) as tape:
            loss, tracked = program.compute(), program.scalars(problem.settings.track)
    gradients = _gradients(tape, loss, leaves)
    connected = [gradient is not None for gradient in gradients]
    having = [leaf for leaf, has in zip(leaves, connected, strict=True) if has]
    written = list(reached.written(recorder, [leaf.value for leaf in having]))
    evaluated = Evaluated(loss, tracked, _dense(gradients))
    return FirstEvaluation(evaluated, connected, having, written, LossRecord(recorder, loss))


class EagerLoop:
    """Runs the program once for each step, and applies the optimizer in Python.

    Parameters
    ----------
    program
        The program; `first` is its last run.
    first
        Its first evaluation.
    optimizer
        A Keras optimizer, built for the leaves that have a gradient.
    options
        What a step does besides.
    tracked
        The names of further scalars to record.
    cursor
        The data; ``None`` without data.
    """

    def __init__(
        self,
        program: EagerProgram,
        first: FirstEvaluation,
        optimizer: Any,
        options: LoopOptions,
        tracked: Sequence[str],
        cursor: DataCursor | None,
    ) -> None:
        self._program, self._optimizer, self.options = program, optimizer, options
        self._tracked, self._cursor = tracked, cursor
        self.connected, self.leaves = first.connected, first.leaves
        self._evaluated: Evaluated | None = first.evaluated
        self._written = [variable for variable, _ in first.written]
        self._state = [value for _, value in first.written]
        self._record: LossRecord | None = first.record
        self._applied = self._began = 0
        self._has_batch = True
        self.way_back = WayBack(1)

    def begin(self, step: int = 0) -> Position:
        """Begin a run at a step, with the first evaluation."""
        self._applied = self._began = step
        assert self._evaluated is not None
        dtype = self._evaluated.loss.dtype
        best: tuple[Any, ...] = ()
        if self.options.keeps_best:
            best = no_best(read_all(self.kept), dtype, by_epoch=self.options.by_epoch)
        return Position(step, self.options.rules.memory(dtype), best)

    def prepare(self) -> None:
        """Do nothing: each step evaluates."""

    def reset(self) -> None:
        """Forget the last evaluation, since someone else has assigned variables."""
        self._evaluated = None

    def record(self) -> LossRecord:
        """Return the operations of the first evaluation; only before the first chunk."""
        assert self._record is not None
        return self._record

    @property
    def kept(self) -> list[Any]:
        """The variables that the optimizer moves, and those that the program assigns itself."""
        return [*(leaf.value for leaf in self.leaves), *self._written]

    @property
    def moved(self) -> list[Any]:
        """All variables that a step may change, the optimizer's slots included."""
        return [*self.kept, *self._slots]

    @property
    def _slots(self) -> list[Any]:
        return [tf_variable(variable) for variable in self._optimizer.variables]

    # -- steps ---------------------------------------------------------------------------------------

    def advance(self, position: Position, end: int, stretch: int, waiter: CompileWaiter) -> Chunk:
        """Run steps for about the time of a chunk, and record each."""
        self._forget_record()
        recorded: list[list[float]] = []
        places: list[Any] = []
        start, verdict, loss = position.step, GO, float("nan")
        deadline = time.perf_counter() + CHUNK_SECONDS
        while position.step < end and (not recorded or time.perf_counter() < deadline):
            if not self._has_batch:
                self._take_batch()
                if self._cursor is not None and self._cursor.over:
                    break
            verdict, position, numbers = self._step(position)
            recorded.append(numbers)
            places.append(self._cursor and self._cursor.place)
            loss = numbers[0]
            if verdict != GO:
                break
        rows = np.array(recorded).reshape(len(recorded), 1 + len(self._tracked))
        steps = start + np.arange(len(rows))
        series = tuple(Recorded(steps, rows[:, number]) for number in range(rows.shape[1]))
        return Chunk(position, verdict, series, loss, start + len(rows) - 1, np.array(places))

    def _forget_record(self) -> None:
        if self._record is not None:
            self._record.recorder.close()
            self._record = None

    def _step(self, position: Position) -> tuple[int, Position, list[float]]:
        self._evaluated = now = self._evaluated or self._evaluate()
        code, memory = self.options.rules.check(position.step, now.loss, now.gradients, position.memory)
        if isinstance(self._optimizer, Lbfgs):
            code = own_verdict(self._optimizer, code)
        verdict = int(code)
        place = self._cursor and self._cursor.place
        best = best_after(position.best, self.kept, now.loss, verdict, place)
        if verdict == GO:
            self._apply(position, now)
            self._has_batch = False
            self._evaluated, self._applied = None, position.step + 1
            position = Position(position.step + 1, memory, best)
        return verdict, position, [float(number) for number in (now.loss, *now.tracked)]

    def _apply(self, position: Position, now: Evaluated) -> None:
        leaves, slots = read_all(leaf.value for leaf in self.leaves), read_all(self._slots)
        # The way back leads to before the evaluation, which is then done once more.
        self.way_back.mark(position, [*leaves, *self._state, *slots])
        try:
            if isinstance(self._optimizer, Lbfgs):
                options = self.options
                self._optimizer.move(now.loss, now.gradients, self._tried, options.lower, options.upper)
            else:
                apply_optimizer(self._optimizer, self.leaves, now.gradients, self.options)
        except BaseException:  # a second interrupt may come between two variables
            self._put_back()
            raise

    def _tried(self) -> tuple[Any, Sequence[Any]]:
        """Return loss and gradients at a point that a search tries; what the program assigns is put back."""
        state, before = self._state, read_all(self._written)
        now = self._evaluate()
        assign_all(zip(self._written, before, strict=True))
        self._state = state
        return now.loss, now.gradients

    def _put_back(self) -> None:
        assign_all(zip(self.moved, self.way_back.last, strict=True))

    def return_to(self, step: int, chunk: Chunk) -> Chunk:
        """Go back to before the last step, if that step was applied; a rule may have held before."""
        if step < self._applied:
            self._put_back()
            self._evaluated, self._applied = None, step
            self._bind_batch_before()
        return chunk

    # -- evaluations -----------------------------------------------------------------------------------

    def final(self, *, counts: bool = True) -> Final:
        """Evaluate at the variables as they are, unless the last evaluation did."""
        self._forget_record()
        if self._evaluated is None and self._has_batch and self._applied == self._began:
            self._bind_batch_before()  # a run that goes on from its end has taken one batch too many
        now = self._evaluated or self._evaluate()
        if not counts or not math.isfinite(float(now.loss)):
            assign_all(zip(self._written, self._state, strict=True))  # no statistics of what is not finite
        return Final(now.loss, now.tracked, now.gradients, ())

    def finish(self, final: Final, problem: Problem) -> Any:
        """Return the value of the program's last expression; the names hold what the last run assigned."""
        return self._program.value

    def evaluate(self, batch: Sequence[Any] | None = None) -> Final:
        """Run the program at the variables as they are, and put back what it assigns to variables."""
        self._bind(batch)
        now = self._evaluate()
        assign_all(zip(self._written, self._state, strict=True))
        return Final(now.loss, now.tracked, now.gradients, ())

    def recorded(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Run the program, and return its operations."""
        self._bind(batch)
        recorder, state = Recorder(), read_all(self._written)
        with recorder.listening(), _watching(self.leaves):
            loss = self._program.compute()
        assign_all(zip(self._written, state, strict=True))
        return LossRecord(recorder, loss)

    def _bind(self, batch: Sequence[Any] | None) -> None:
        if self._cursor is not None:
            self._program.bind(self._cursor.named(self._cursor.any() if batch is None else batch))

    def _take_batch(self) -> None:
        if self._cursor is not None:
            self._program.bind(self._cursor.named(self._cursor.take()))
        self._has_batch = True

    def _bind_batch_before(self) -> None:
        if self._cursor is not None and self._cursor.before is not None:
            self._program.bind(self._cursor.named(self._cursor.before))

    def _evaluate(self) -> Evaluated:
        self._state = read_all(self._written)
        try:
            with _watching(self.leaves) as tape:
                loss, tracked = self._program.compute(), self._program.scalars(self._tracked)
            return Evaluated(loss, tracked, _dense(_gradients(tape, loss, self.leaves)))
        except BaseException as error:  # an evaluation that was not finished leaves nothing
            assign_all(zip(self._written, self._state, strict=True))
            if isinstance(error, CreatesVariable) and self.way_back.last:
                self._put_back()
            raise


@contextmanager
def _watching(leaves: Sequence[Leaf]) -> Iterator[Any]:
    """LossRecord with a tape that watches the leaves and nothing else."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for leaf in leaves:
            tape.watch(leaf.value)
        yield tape


def _gradients(tape: Any, loss: Any, leaves: Sequence[Leaf]) -> list[Any]:
    with missing_gradients():
        return list(tape.gradient(loss, [leaf.value for leaf in leaves]))


def _dense(gradients: Sequence[Any]) -> list[Any]:
    """Return the gradients that there are, those of lookups as full tensors."""
    import tensorflow as tf

    return [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
