"""The loop of a minimisation step by step in Python, for what cannot be compiled."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.eager_program import EagerProgram
from tape_magic.engine.minimization.keras_loop.best_values import best_after, no_best
from tape_magic.engine.minimization.keras_loop.first_evaluation import (
    Evaluated,
    FirstEvaluation,
    dense,
    gradients_by,
    watching,
)
from tape_magic.engine.minimization.keras_loop.protocol import (
    CHUNK_SECONDS,
    Chunk,
    Final,
    LoopOptions,
)
from tape_magic.engine.minimization.keras_loop.way_back import Position, WayBack
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.steppers import own_verdict, stepper_of
from tape_magic.engine.minimization.stop_rules import GO
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.failures import CreatesVariable
from tape_magic.engine.values.tensors import read_all


class EagerLoop:
    """Runs the program once for each step, and applies the optimizer in Python.

    Parameters
    ----------
    program
        The program; `first` is its last run.
    first
        Its first evaluation.
    optimizer
        Built for the leaves that have a gradient.
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
        self._program, self.options = program, options
        self._tracked, self._cursor = tracked, cursor
        self.connected, self.leaves = first.connected, first.leaves
        self._stepper = stepper_of(optimizer, first.leaves)
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
        self._has_batch = self._cursor is None or not self._cursor.over
        assert self._evaluated is not None
        dtype = self._evaluated.loss.dtype
        best: tuple[Any, ...] = ()
        if self.options.keeps_best:
            best = no_best(read_all(self.kept), dtype, by_epoch=self.options.by_epoch)
        return Position(step, self.options.rules.memory(dtype, len(self.leaves)), best)

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
        return [*self.kept, *self._stepper.variables]

    # -- steps ---------------------------------------------------------------------------------------

    def advance(self, position: Position, end: int, stretch: int, waiter: CompileWaiter) -> Chunk:
        """Run steps for about the time of a chunk, and record each."""
        self._forget_record()
        if self._cursor is not None and not self.options.keeps_best:
            self.way_back.stretches.begin(position, self.moved, self._values_here())
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
        self.way_back.stretches.add(rows[:, 0])
        return Chunk(position, verdict, series, loss, start + len(rows) - 1, np.array(places))

    def _forget_record(self) -> None:
        if self._record is not None:
            self._record.recorder.close()
            self._record = None

    def _step(self, position: Position) -> tuple[int, Position, list[float]]:
        self._evaluated = now = self._evaluated or self._evaluate()
        code, memory = self.options.rules.check(position.step, now.loss, now.gradients, position.memory)
        numbers = [float(number) for number in (now.loss, *now.tracked)]
        verdict = int(own_verdict(self._stepper, code))
        place = self._cursor and self._cursor.place
        best = best_after(position.best, self.kept, now.loss, verdict, place)
        if verdict == GO:
            self._apply(position, now)
            if self._cursor is None and numbers[0] < self.way_back.lowest:
                self.way_back.hold(position.step, numbers[0], self.moved)
            self._has_batch = False
            self._evaluated, self._applied = None, position.step + 1
            position = Position(position.step + 1, memory, best)
        return verdict, position, numbers

    def _values_here(self) -> Iterator[Any]:
        """Yield what :attr:`moved` holds before the evaluation here, which is done once more to go on."""
        yield from read_all(leaf.value for leaf in self.leaves)
        yield from self._state if self._evaluated is not None else read_all(self._written)
        yield from read_all(self._stepper.variables)

    def _apply(self, position: Position, now: Evaluated) -> None:
        self.way_back.mark(position, list(self._values_here()))
        try:
            lower, upper = self.options.lower, self.options.upper
            place = self._cursor and self._cursor.place
            self._stepper.move(now.loss, now.gradients, self._tried, lower, upper, place)
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

    def return_to_lowest(self, loss: float) -> Position | None:
        """Go back to the lowest loss; over data, to where the best stretch of steps began."""
        way = self.way_back
        if self._cursor is not None:
            mark = way.stretches.best()
        else:
            mark = way.before(way.lowest_step) if way.lowest < loss else None
        if mark is None:
            return None
        assign_all(zip(self.moved, mark[1], strict=True))
        self._evaluated, self._applied = None, mark[0].step
        return mark[0]

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
        with recorder.listening(), watching(self.leaves):
            loss = self._program.compute()
        assign_all(zip(self._written, state, strict=True))
        return LossRecord(recorder, loss)

    def _bind(self, batch: Sequence[Any] | None) -> None:
        if self._cursor is not None:
            self._program.bind(self._cursor.named(self._cursor.any() if batch is None else batch))

    def _take_batch(self) -> None:
        if self._cursor is not None:
            self._program.bind(self._cursor.named(self._cursor.take()))
        self._has_batch = self._cursor is None or not self._cursor.over

    def _bind_batch_before(self) -> None:
        if self._cursor is not None and self._cursor.before is not None:
            self._program.bind(self._cursor.named(self._cursor.before))

    def _evaluate(self) -> Evaluated:
        self._state = read_all(self._written)
        try:
            with watching(self.leaves) as tape:
                loss, tracked = self._program.compute(), self._program.scalars(self._tracked)
            return Evaluated(loss, tracked, dense(gradients_by(tape, loss, self.leaves)))
        except BaseException as error:  # an evaluation that was not finished leaves nothing
            assign_all(zip(self._written, self._state, strict=True))
            if isinstance(error, CreatesVariable) and self.way_back.last:
                self._put_back()
            raise
