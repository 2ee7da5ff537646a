"""The end of a run: back to the step of a rule, or to the lowest loss, and an evaluation there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data_not_finite import TakenBatch
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.last_values import better_values, leave_averages, put_back
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.probe import Failure
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Final
from tape_magic.engine.minimization.keras_loop.recorded_values import nothing
from tape_magic.engine.minimization.keras_loop.validation import Validation
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import Recorded, RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.series import Series
from tape_magic.engine.minimization.stop_rules import GO, GRADIENT_LOST, LOSS_LOST, REASONS
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.tracing.loss import require_loss
from tape_magic.engine.values.tensors import read_all
from tape_magic.results.minimum import BY_HAND, Divergence, StopReason


class Ending:
    """Brings a run to where it ends, and evaluates there.

    Parameters
    ----------
    problem, log, builder, engines, cursor
        Those of the run.

    Attributes
    ----------
    final
        The evaluation at the end, after :meth:`evaluate`.
    failure
        Where the run diverged; ``None`` where it did not.
    """

    final: Final

    def __init__(
        self,
        problem: Problem,
        log: RunLog,
        builder: LoopBuilder,
        engines: Engines,
        cursor: DataCursor | None,
    ) -> None:
        self._problem, self._log, self._cursor = problem, log, cursor
        self._builder, self._engines = builder, engines
        self._met: TakenBatch | None = None
        self.failure: Failure | None = None

    def go_back(self, chunk: Chunk) -> Position:
        """Go back to the step that a rule speaks of, after a chunk that the rule ended."""
        log = self._log
        log.reason = REASONS[chunk.verdict]
        lost = chunk.verdict == LOSS_LOST
        if log.reason is not StopReason.DIVERGED:
            return self._back_to(chunk.last, chunk)
        self._diverged(chunk.last, chunk.verdict, chunk.loss)
        last = max(chunk.last - lost, log.first_step)
        return self._recovered(last, chunk, stepped=last < chunk.last)

    def _diverged(self, step: int, verdict: int, loss: float) -> None:
        """Note the step that was not finite, with its batch."""
        log, cursor = self._log, self._cursor
        log.reason = StopReason.DIVERGED
        log.divergence = Divergence(step, "loss" if verdict == LOSS_LOST else "gradient", loss)
        if cursor is not None:
            self._met = TakenBatch(cursor.named(cursor.any()), cursor.locator())

    def _note_failure(self, *, stepped: bool, evaluated: bool = False) -> None:
        """Note where the run diverged, here or one step on where it `stepped`, and whether data made it.

        Unless the program was `evaluated` here, what it counts itself is counted for that.
        """
        loop, met = self._engines.loop, self._met
        values, batch = read_all(loop.moved), None if met is None else list(met.parts.values())
        self.failure = Failure(values, stepped=stepped, batch=batch)
        self._log.explain_divergence(require_loss, met, None if evaluated else loop.final)
        assign_all(zip(loop.moved, values, strict=True))

    def _back_to(self, step: int, chunk: Chunk) -> Position:
        repeated = self._engines.loop.return_to(step, chunk)
        self._log.record(repeated.series, repeated.places)
        self._log.drop_from(step)
        return Position(step, repeated.position.memory, repeated.position.best)

    def _recovered(self, step: int, chunk: Chunk, *, stepped: bool) -> Position:
        """Go back to the last step at which all was finite, and from there to the lowest loss."""
        numbers = _numbers_at(step, chunk.series) or _numbers_at(step, self._log.series)
        position = self._back_to(step, chunk)
        self._note_failure(stepped=stepped)
        return self._to_lowest(position, numbers or self._engines.loop.evaluate().numbers)

    def _to_lowest(self, position: Position, numbers: Sequence[float]) -> Position:
        """Go back to the lowest loss from where a run diverged with these numbers, unless it is there."""
        if self._problem.settings.keep == "last":
            return position
        lowest = self._engines.loop.return_to_lowest(numbers[0])
        if lowest is None:
            return position
        self._log.note(position.step, numbers)
        self._log.put_back = lowest.step, math.nan
        return lowest

    def evaluate(self, position: Position, save: Callable[[Position], None]) -> Position:
        """Evaluate where the run ended, which may still be beyond what is finite, or within a rule.

        Where it goes back from there, `save` saves where it stands then. Return where that is.
        """
        log, loop = self._log, self._engines.loop
        untouched = position.step == log.first_step and log.reason in BY_HAND
        self.final = final = loop.final(counts=not untouched)
        found = loop.options.rules.check(position.step, final.loss, final.gradients, position.memory)
        verdict, loss = int(found[0]), float(final.loss)
        if verdict in (LOSS_LOST, GRADIENT_LOST) and log.divergence is None:
            self._diverged(position.step, verdict, loss)
            ended = position
            if verdict == LOSS_LOST and position.step > log.first_step:
                chunk = Chunk(position, verdict, (nothing(),) * len(log.series), loss, position.step - 1)
                position = self._recovered(position.step - 1, chunk, stepped=True)
            else:
                self._note_failure(stepped=False, evaluated=True)
                position = self._to_lowest(position, final.numbers)
            if position is not ended:
                save(position)
                self.final = final = loop.final()
        elif verdict != GO and log.reason in (StopReason.STEPS, StopReason.EPOCHS):
            log.reason = REASONS[verdict]
        if log.put_back is None:
            log.note(position.step, final.numbers)
        else:
            log.put_back = position.step, float(final.loss)
        return position

    def leave_averages(self, position: Position, before: Sequence[Any]) -> None:
        """Leave the averages of an optimizer that keeps them; `before` are the values at the last step."""
        problem, loop, optimizer = self._problem, self._engines.loop, self._builder.optimizer
        untouched = position.step == self._log.first_step
        if untouched or self._log.put_back is not None or not optimizers.keeps_averages(optimizer):
            return
        self.final = leave_averages(problem, loop, optimizer, before, float(self.final.loss))
        self._log.averaged = float(self.final.loss)

    def keep_best(self, position: Position, validation: Validation | None) -> None:
        """Put the values at the lowest loss back, if that was asked for and is not where the run ended."""
        if validation is not None:
            self.final = validation.keep_best(position, self._engines.loop, self.final)
        if self._problem.settings.keep != "best" or not position.best:
            return
        log, loop = self._log, self._engines.loop
        if better := better_values(self._problem, log, loop, position, float(self.final.loss)):
            log.put_back = log.lowest[0], float(position.best[0])
            self.final = put_back(self._problem, loop, better)


def _numbers_at(step: int, series: Sequence[Series | Recorded]) -> list[float]:
    """Return what each series has recorded at a step; nothing where one has not."""
    found = [one.values[one.steps == step] for one in series]
    return [float(values[0]) for values in found] if all(map(len, found)) else []
