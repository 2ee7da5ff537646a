"""A minimisation by a Keras optimizer, in the fastest loop that runs it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import RunControl, StopRequested
from tape_magic.engine.minimization.experiment_log import ExperimentLog, experiment_log
from tape_magic.engine.minimization.keras_loop.checkpoint import SavedRun
from tape_magic.engine.minimization.keras_loop.continuation import (
    Continuation,
    Trail,
    saved_run,
    trail_of,
)
from tape_magic.engine.minimization.keras_loop.default_optimizer import reason_for
from tape_magic.engine.minimization.keras_loop.ending import Ending
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.findings import findings_of
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.validation import data_of
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import Minimized, RunLog
from tape_magic.engine.minimization.norms import norm_of
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.run_result import result_of
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER
from tape_magic.engine.minimization.steppers import method_name
from tape_magic.engine.minimization.stop_rules import GO
from tape_magic.engine.program.random_states import RandomStates
from tape_magic.engine.values.tensors import read_all
from tape_magic.errors import ClusterError
from tape_magic.results.minimum import StopReason
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

    _here: Position | None = None
    _trail: Trail
    _experiment: ExperimentLog

    def __init__(self, problem: Problem, cache: LoopCache | None) -> None:
        self._problem = problem
        self._log = log = RunLog(problem)
        self._continuation = Continuation(problem, cache)
        log.first_step = self._continuation.step
        self._cursor, self._validation = data_of(problem, log, self._continuation)
        self._continuation.settle_length(log.limit)
        self._builder = LoopBuilder(problem, self._continuation, self._cursor, log.limit)
        self._engines = Engines(self._builder, problem.settings.engine)
        self._ending = Ending(problem, log, self._builder, self._engines, self._cursor)

    def run(self, control: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        """Run all of it, and tell `on_progress` after each chunk where the run stands."""
        with experiment_log(self._log, self._problem) as self._experiment:
            try:
                for step in self.steps(control):
                    if on_progress is not None:
                        on_progress(self._log.shown(step))
            except ClusterError:  # other workers are lost, and what this one has is whole unless they compute
                if self._here is not None and self._builder.sharing.is_whole:
                    self._continuation.save(self._saved(self._here))
                raise
            return self.finish()

    def steps(self, control: RunControl) -> Generator[Step, None, None]:
        """Yield where the run stands, after each chunk."""
        log, engines, cursor, validation = self._log, self._engines, self._cursor, self._validation
        ending, sharing = self._ending, self._builder.sharing
        log.follow(control)
        engines.waiter = CompileWaiter(control, lambda compiling: log.last_step(engines.engine, compiling))
        self._here = position = self._begin()
        if validation is not None:
            validation.begin(position, self._builder, engines, control)
        best = float(log.series[0].values.min(initial=math.inf))
        open_end = bool(self._problem.settings.unbounded or method_name(self._builder.optimizer))
        while not (cursor is not None and cursor.over) and position.step < log.limit:
            if _ends(log, self._problem.settings.time, position.step, control):
                break
            began, self._here = position.step, position
            try:
                end = log.limit if validation is None else validation.end_of_chunk(began, log.limit)
                chunk = engines.advance(position, end)
            except StopRequested:
                continue
            position = chunk.position
            if chunk.verdict != GO:
                position = ending.go_back(chunk)
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
        sharing.end()
        if cursor is not None and (cursor.over or position.step == cursor.feed.total):
            log.data_over()
        self._save(position)
        before = read_all(engines.loop.kept)
        position = ending.evaluate(position, self._save)
        ending.leave_averages(position, before)
        ending.keep_best(position, validation)
        if log.reason is not StopReason.INTERRUPTED:  # whose listener may be the one who pressed
            loss = float(ending.final.loss)
            best = min(best, loss) if math.isfinite(loss) else loss
            last = int(log.series[0].steps[-1])  # a run that diverged went back from there
            yield log.step(last, loss, best, engines.engine, engines.compiling)

    def finish(self) -> Minimized:
        """Leave the program's names at the final values, and report."""
        problem, engines = self._problem, self._engines
        final = self._ending.final
        value = engines.loop.finish(final, problem)
        if self._cursor is not None:
            self._cursor.close()
        findings = findings_of(problem, self._log, self._builder, engines, self._cursor, self._ending.failure)
        self._continuation.leave(self._trail, self._builder.made)
        leaves, gradients = engines.loop.leaves, final.gradients
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
            devices=self._builder.sharing.count,
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
        self._builder.sharing.begin(loop.moved, fresh=saved is None)
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
    # Not before the first steps, however long compiling took.
    late = limit is not None and step > log.first_step and log.seconds >= limit
    log.reason = control.ends(late=late) or log.reason
    return log.reason is not StopReason.STEPS


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
