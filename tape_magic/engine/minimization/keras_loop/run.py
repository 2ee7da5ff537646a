"""A minimisation by a Keras optimizer, in the fastest loop that runs it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import RunControl, StopRequested
from tape_magic.engine.minimization.data_not_finite import TakenBatch
from tape_magic.engine.minimization.experiment_log import ExperimentLog, experiment_log
from tape_magic.engine.minimization.keras_loop.checkpoint import SavedRun
from tape_magic.engine.minimization.keras_loop.continuation import (
    Continuation,
    Trail,
    saved_run,
    trail_of,
)
from tape_magic.engine.minimization.keras_loop.default_optimizer import reason_for
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.findings import findings_of
from tape_magic.engine.minimization.keras_loop.last_values import better_values, leave_averages, put_back
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.probe import Failure
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Final
from tape_magic.engine.minimization.keras_loop.recorded_values import nothing
from tape_magic.engine.minimization.keras_loop.validation import data_of
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import Minimized, Recorded, RunLog
from tape_magic.engine.minimization.norms import norm_of
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.run_result import result_of
from tape_magic.engine.minimization.series import Series
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER
from tape_magic.engine.minimization.steppers import method_name
from tape_magic.engine.minimization.stop_rules import GO, GRADIENT_LOST, LOSS_LOST, REASONS
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.program.random_states import RandomStates
from tape_magic.engine.tracing.loss import require_loss
from tape_magic.engine.values.tensors import read_all
from tape_magic.results.minimum import BY_HAND, Divergence, StopReason
from tape_magic.results.steps import Step


class KerasRun:
    """One minimisation by a Keras optimizer.

    Parameters
    ----------
    problem
        What is minimised.
    cache
        Where compiled loops wait for the next run of an unchanged cell; ``None`` for none.

    Raises :class:`TapeMagicError` for what can be refused before anything runs.
    """

    _final: Final
    _trail: Trail
    _experiment: ExperimentLog

    def __init__(self, problem: Problem, cache: LoopCache | None) -> None:
        self._problem = problem
        self._log = log = RunLog(problem)
        self._continuation = Continuation(problem, cache)
        self._met: TakenBatch | None = None
        self._failure: Failure | None = None
        log.first_step = self._continuation.step
        self._cursor, self._validation = data_of(problem, log, self._continuation)
        self._continuation.settle_length(log.limit)
        self._builder = LoopBuilder(problem, self._continuation, self._cursor, log.limit)
        self._engines = Engines(self._builder, problem.settings.engine)

    def run(self, control: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        """Run all of it, and tell `on_progress` after each chunk where the run stands."""
        with experiment_log(self._log, self._problem) as self._experiment:
            for step in self.steps(control):
                if on_progress is not None:
                    on_progress(self._log.shown(step))
            return self.finish()

    def steps(self, control: RunControl) -> Generator[Step, None, None]:
        """Yield where the run stands, after each chunk."""
        log, engines, cursor, validation = self._log, self._engines, self._cursor, self._validation
        log.follow(control)
        engines.waiter = CompileWaiter(control, lambda compiling: log.last_step(engines.engine, compiling))
        position = self._begin()
        if validation is not None:
            validation.begin(position, self._builder, engines, control)
        best = float(log.series[0].values.min(initial=math.inf))
        open_end = bool(self._problem.settings.unbounded or method_name(self._builder.optimizer))
        while not (cursor is not None and cursor.over) and position.step < log.limit:
            if _ends(log, self._problem.settings.time, position.step, control):
                break
            began = position.step
            try:
                end = log.limit if validation is None else validation.end_of_chunk(began, log.limit)
                chunk = engines.advance(position, end)
            except StopRequested:
                continue
            position = chunk.position
            if chunk.verdict != GO:
                position = self._stopped(chunk)
                break
            log.record(chunk.series, chunk.places)
            if validation is not None:
                validation.at_end_of_epoch(position, engines, control)
            if chunk.last < began:
                continue  # the data were over
            best = min(best, float(chunk.series[0].values.min()))
            norms = engines.loop.options.rules.norms_in(position.memory)
            self._experiment.follow(position.step, self._builder.optimizer, engines.loop.leaves, norms)
            yield log.step(chunk.last, chunk.loss, best, engines.engine, engines.compiling)
            if self._continuation.due():
                self._continuation.save(self._saved(position))
            with contextlib.suppress(StopRequested):
                engines.reconsider(position, _expected_end(position.step, log.limit, open_end=open_end))
        if cursor is not None and (cursor.over or position.step == cursor.feed.total):
            log.data_over()
        self._save(position)
        before = read_all(engines.loop.kept)
        position = self._evaluate(position)
        self._leave_averages(position, before)
        self._keep_best(position)
        if log.reason is not StopReason.INTERRUPTED:  # whose listener may be the one who pressed
            loss = float(self._final.loss)
            best = min(best, loss) if math.isfinite(loss) else loss
            last = int(log.series[0].steps[-1])  # a run that diverged went back from there
            yield log.step(last, loss, best, engines.engine, engines.compiling)

    def finish(self) -> Minimized:
        """Leave the program's names at the final values, and report."""
        problem, engines = self._problem, self._engines
        value = engines.loop.finish(self._final, problem)
        if self._cursor is not None:
            self._cursor.close()
        findings = findings_of(problem, self._log, self._builder, engines, self._cursor, self._failure)
        self._continuation.leave(self._trail, self._builder.made)
        leaves, gradients = engines.loop.leaves, self._final.gradients
        norms = {id(leaf.value): norm_of(one) for leaf, one in zip(leaves, gradients, strict=True)}
        problem.notes += self._experiment.end()
        result = result_of(
            self._log,
            problem,
            self._continuation.wanted or self._builder.optimizer,
            norms,
            engine=engines.engine,
            engine_reason=engines.reason,
            compile_seconds=engines.compile_seconds,
            findings=findings,
            devices=max(1, len(self._builder.sharing.devices)),
        )
        return Minimized(result, value)

    # -- the start -----------------------------------------------------------------------------------

    def _begin(self) -> Position:
        """Start the first loop, and go on from where an earlier run left off."""
        log, problem = self._log, self._problem
        position = _started(problem, self._engines, log.first_step, fresh=self._continuation.saved is None)
        loop, saved, settings = self._engines.loop, self._continuation.saved, problem.settings
        if settings.optimizer == DEFAULT_OPTIMIZER:
            name = method_name(self._builder.optimizer) or "adam"
            log.choice = reason_for(name, settings, loop.leaves, same=self._builder.same_loss)
        problem.note_unconnected(loop.connected, loop.record)
        if saved is None:
            self._builder.reset_optimizer()
        position = self._continuation.go_on(position, loop.moved, self._builder.optimizer)
        if saved is None:
            loop.prepare()
            return position
        loop.reset()
        loop.prepare()
        log.restore(saved.tracked, saved.series, saved.means, saved.validation)
        if position.step >= log.limit:
            by_steps = self._cursor is None or problem.settings.steps is not None
            more = f"raise {'--steps' if by_steps else '--epochs'} to go on"
            problem.notes.append(f"the run stands at step {position.step:,} already: {more}")
        return position

    # -- the end -------------------------------------------------------------------------------------

    def _stopped(self, chunk: Chunk) -> Position:
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
        self._failure = Failure(values, stepped=stepped, batch=batch)
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

    def _evaluate(self, position: Position) -> Position:
        """Evaluate where the run ended, which may still be beyond what is finite, or within a rule."""
        log, loop = self._log, self._engines.loop
        untouched = position.step == log.first_step and log.reason in BY_HAND
        self._final = final = loop.final(counts=not untouched)
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
                self._save(position)
                self._final = final = loop.final()
        elif verdict != GO and log.reason in (StopReason.STEPS, StopReason.EPOCHS):
            log.reason = REASONS[verdict]
        if log.put_back is None:
            log.note(position.step, final.numbers)
        else:
            log.put_back = position.step, float(final.loss)
        return position

    def _leave_averages(self, position: Position, before: Sequence[Any]) -> None:
        """Leave the averages of an optimizer that keeps them; `before` are the values at the last step."""
        problem, loop, optimizer = self._problem, self._engines.loop, self._builder.optimizer
        untouched = position.step == self._log.first_step
        if untouched or self._log.put_back is not None or not optimizers.keeps_averages(optimizer):
            return
        self._final = leave_averages(problem, loop, optimizer, before, float(self._final.loss))
        self._log.averaged = float(self._final.loss)

    def _keep_best(self, position: Position) -> None:
        """Put the values at the lowest loss back, if that was asked for and is not where the run ended."""
        if self._validation is not None:
            self._final = self._validation.keep_best(position, self._engines.loop, self._final)
        if self._problem.settings.keep != "best" or not position.best:
            return
        log, loop = self._log, self._engines.loop
        if better := better_values(self._problem, log, loop, position, float(self._final.loss)):
            log.put_back = log.lowest[0], float(position.best[0])
            self._final = put_back(self._problem, loop, better)

    # -- for later runs --------------------------------------------------------------------------------

    def _saved(self, position: Position) -> SavedRun:
        seed = 0 if self._cursor is None else self._cursor.feed.seed
        return saved_run(position, self._problem, self._log, seed)

    def _save(self, position: Position) -> None:
        """Save where the run ended, and remember it for a later run in this process."""
        saved, builder, loop = self._saved(position), self._builder, self._engines.loop
        self._continuation.save(saved)
        self._trail = trail_of(saved, self._problem, loop, builder.optimizer, builder.first_slots)


def _ends(log: RunLog, limit: float | None, step: int, control: RunControl) -> bool:
    """Return whether the user, or the `limit` of seconds, ends the run at a step."""
    if (asked := control()) is not None:
        log.reason = asked
    # Not before the first steps, however long compiling took.
    elif limit is not None and step > log.first_step and log.seconds >= limit:
        log.reason = StopReason.TIME
    return log.reason is not StopReason.STEPS


def _numbers_at(step: int, series: Sequence[Series | Recorded]) -> list[float]:
    """Return what each series has recorded at a step; nothing where one has not."""
    found = [one.values[one.steps == step] for one in series]
    return [float(values[0]) for values in found] if all(map(len, found)) else []


def _started(problem: Problem, engines: Engines, step: int, *, fresh: bool) -> Position:
    """Seed all random numbers, and start the first loop; `fresh` for a run that goes on from no other."""
    problem.seed(step)
    problem.open()
    seed = problem.settings.seed
    if seed is None or not fresh:
        return engines.start(step)
    states = RandomStates(problem.program, problem.namespace)
    states.reseed(seed)
    position = engines.start(step)
    if engines.engine != "eager":
        # The graph reaches more random states: those of modules that the program calls.
        states.reseed(seed, engines.loop.kept)
    return position


def _expected_end(step: int, limit: int, *, open_end: bool) -> int:
    """Return the step at which a run will end as far as can be told; one with an open end doubles."""
    return min(limit, 2 * step + 100) if open_end else limit
