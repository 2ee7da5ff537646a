"""A minimisation by one of SciPy's methods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.experiment_log import ExperimentLog, experiment_log
from tape_magic.engine.minimization.log import Minimized, RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.run_result import result_of
from tape_magic.engine.minimization.scipy_methods import Method, check_settings
from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations, at_rest
from tape_magic.engine.minimization.scipy_solver.findings import findings_of
from tape_magic.engine.minimization.scipy_solver.functions import CompiledFunctions
from tape_magic.engine.minimization.scipy_solver.iterations import Iterations, RunObserver, SolverOutcome
from tape_magic.engine.minimization.scipy_solver.messages import in_words
from tape_magic.engine.minimization.scipy_solver.points import Point
from tape_magic.engine.minimization.scipy_solver.vector import Vector
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Step


class ScipyRun:
    """One minimisation by a method of SciPy.

    Parameters
    ----------
    problem
        What is minimised.
    cache
        Where compiled functions wait for the next run of an unchanged cell; ``None`` for none.

    Raises :class:`TapeMagicError` for what can be refused before anything runs.
    """

    _experiment: ExperimentLog

    def __init__(self, problem: Problem, cache: LoopCache | None) -> None:
        settings = problem.settings
        self._problem, self._cache = problem, cache
        self._method: Method = optimizers.resolve(settings.optimizer, settings.lr)
        check_settings(self._method, settings)
        self._log = RunLog(problem)
        made: CompiledFunctions | None = None
        if cache is not None and problem.key is not None:
            made = cache.get(problem.key)
        if made is not None:
            problem.lifted.reuse(made.lifted)
        fits = made is not None and made.demanded == settings.engine
        self._evaluations = Evaluations(problem, self._method, made if fits else None)

    def run(self, control: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        """Run all of it, and tell `on_progress` between iterations where the run stands."""
        with experiment_log(self._log, self._problem) as self._experiment:
            return self._run(control, on_progress)

    def _run(self, control: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        problem, log, evaluations = self._problem, self._log, self._evaluations
        log.follow(control)
        problem.seed()
        problem.open()
        waiter = CompileWaiter(control, lambda engine: log.last_step(engine, engine))
        start = evaluations.start(self._start, waiter)
        problem.note_unconnected(evaluations.connected, evaluations.record)
        compile_seconds = log.seconds - evaluations.compile_seconds

        def tell(step: Step) -> None:
            self._experiment.follow(step.step)
            if on_progress is not None:
                on_progress(log.shown(step))

        observer = RunObserver(control, tell, CompileWaiter(control))
        bounds = evaluations.flat.spread(problem.limits)
        if evaluations.stopped:
            return self._finish(self._at_rest(start, control), compile_seconds + evaluations.compile_seconds)
        iterations = Iterations(evaluations, self._method, problem.settings, log, bounds, observer)
        outcome = iterations.run(start)
        return self._finish(outcome, compile_seconds + evaluations.compile_seconds)

    def _start(self) -> Vector:
        """Return where to begin, once it is known what is minimised over.

        Raises :class:`TargetError` where the loss depends on nothing of it.
        """
        flat = self._evaluations.flat
        if not flat.size:
            self._problem.refuse_unconnected(self._evaluations.reason, self._evaluations.record)
        return _off_bounds(self._method, flat.read(), *flat.spread(self._problem.limits))

    def _at_rest(self, start: Vector, control: RunControl) -> SolverOutcome:
        """Return the outcome of a run that the user has stopped before SciPy was called."""
        log, evaluations = self._log, self._evaluations
        log.reason = control() or StopReason.INTERRUPTED
        loss, gradient = at_rest(evaluations, start)
        log.note(0, [loss, *evaluations.tracked_at(start)])
        return SolverOutcome(Point(start, loss, gradient), "")

    def _finish(self, outcome: SolverOutcome, compile_seconds: float) -> Minimized:
        """Leave the names at the end, and the compiled functions for the next run; report."""
        evaluations, problem = self._evaluations, self._problem
        value = evaluations.finish(outcome.point.x)
        self._log.explain_divergence(evaluations.require)
        findings = findings_of(problem, self._log, evaluations, outcome.failed)
        self._keep()
        # The verdict says "terminated successfully", too.
        if outcome.message and "terminated successfully" not in outcome.message:
            problem.notes.append(f"{self._method.name}: {in_words(outcome.message)}")
        problem.notes += self._experiment.end()
        gradient = outcome.point.gradient
        result = result_of(
            self._log,
            self._problem,
            self._method,
            {} if gradient is None else evaluations.norms(gradient),
            engine=evaluations.engine,
            engine_reason=evaluations.reason,
            compile_seconds=compile_seconds,
            findings=findings,
        )
        return Minimized(result, value)

    def _keep(self) -> None:
        """Leave the compiled functions for the next run, if it can use them again."""
        problem, made = self._problem, self._evaluations.made
        if self._cache is None or problem.key is None or made is None or not made.traced.reusable:
            return
        if problem.settings.seed is not None and not made.traced.repeatable:
            return  # what seeds the numbers of an operation is part of the trace
        made.lifted = problem.lifted.made
        self._cache.put(problem.key, made, problem.owner)


def _off_bounds(method: Method, given: Vector, low: Vector, high: Vector) -> Vector:
    """Return where to begin, for trust-constr a little off the bounds.

    From a bound itself, trust-constr does not come away, and says that it converged.
    """
    if method.name != "trust-constr":
        return given
    room = 1e-4 * np.where(np.isfinite(high - low), np.minimum(high - low, 1.0), 1.0)
    return np.where(high > low, np.clip(given, low + room, high - room), given)
