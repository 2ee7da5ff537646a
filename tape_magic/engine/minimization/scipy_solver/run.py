"""A minimisation by one of SciPy's methods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.problem import Minimization, Minimized
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.scipy_methods import Method, check_settings, find, require_scipy
from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations
from tape_magic.engine.minimization.scipy_solver.functions import CompiledFunctions
from tape_magic.engine.minimization.scipy_solver.iterations import Iterations, RunObserver, SolverOutcome
from tape_magic.engine.minimization.scipy_solver.vector import Vector
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.results.steps import Step


class ScipyRun(Minimization):
    """One run; the parameters and what is raised are those of :class:`Minimization`."""

    optimizer: Method

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        over: Sequence[str] | None,
        settings: Settings,
        cache: LoopCache | None = None,
    ) -> None:
        method = find(settings.optimizer)
        assert method is not None
        require_scipy(method)
        check_settings(method, settings)
        super().__init__(program, namespace, loss_name, over, settings, cache)
        found = self._found
        self._evaluations = Evaluations(
            program,
            namespace,
            loss_name,
            self.optimizer,
            self._settle,
            asked=settings.engine,
            same=settings.seed is not None,
            tracked=settings.track,
            made=found if isinstance(found, CompiledFunctions) and found.asked == settings.engine else None,
        )

    def run(self, asked: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        """All of it."""
        self._seed()
        self.selection.lift()
        evaluations, frame = self._evaluations, list[Vector]()

        def ready() -> Vector:
            """The start, once it is known what is minimised over."""
            if not evaluations.flat.size:
                self._refuse_unconnected(evaluations.reason, evaluations.record)
            low, high = evaluations.flat.spread(self._limits)
            frame[:] = low, high, _start(self.optimizer, evaluations.flat.read(), low, high)
            return frame[2]

        def waits(engine: str) -> None:
            self.paused = asked.paused
            step = Step(0, self.limit, math.nan, math.nan, self.seconds, engine, compiling=engine)
            asked.show(self.watched_step(step))

        evaluations.start(ready, CompileWaiter(asked, waits))
        self._note_unconnected(evaluations.connected, evaluations.record)
        compile_seconds = time.perf_counter() - self.started - asked.paused - evaluations.compile_seconds
        low, high, start = frame
        run: Iterations

        def tell(step: Step) -> None:
            self._series, self.paused = list(run.series), asked.paused
            if on_progress is not None:
                on_progress(self.watched_step(step))

        watch = RunObserver(self.started, asked, tell, CompileWaiter(asked))
        run = Iterations(evaluations, self.optimizer, self.settings, self.limit, low, high, watch)
        outcome, self.paused = run.run(start), asked.paused
        return self._left(outcome, compile_seconds + evaluations.compile_seconds)

    def _left(self, outcome: SolverOutcome, compile_seconds: float) -> Minimized:
        """Leave the names at the end, the compiled functions for the next run, and report."""
        evaluations = self._evaluations
        value = evaluations.finish(outcome.point.x)
        self._remember()
        self.reason, self.divergence = outcome.reason, outcome.divergence
        self._series = list(outcome.series)
        self._kept_best = min(outcome.series[0].values) if outcome.kept_best else None
        message = outcome.message
        if message and "terminated successfully" not in message:  # which the verdict says, too
            self.notes.append(f"{self.optimizer.name}: {message}")
        gradient = outcome.point.gradient
        norms = {} if gradient is None else evaluations.norms(gradient)
        found = [norms.get(id(leaf.value)) for leaf in self.leaves]
        return Minimized(self._report(evaluations, compile_seconds, found), value)

    def _remember(self) -> None:
        made = self._evaluations.made
        if self._cache is None or self._key is None or made is None or not made.traced.reusable:
            return
        if self.settings.seed is not None and not made.traced.repeatable:
            return  # what seeds the numbers of an operation is part of the trace
        made.lifted = self._made_lifted
        own = [leaf.value for leaf in self.leaves if not any(leaf.value is one for one in made.lifted)]
        self._cache.put(self._key, made, own[0] if own else None)


def _start(method: Method, given: Vector, low: Vector, high: Vector) -> Vector:
    """Where to begin: for trust-constr, off the bounds.

    From a bound itself it does not come away, and says that it converged.
    """
    if method.name != "trust-constr":
        return given
    room = 1e-4 * np.where(np.isfinite(high - low), np.minimum(high - low, 1.0), 1.0)
    return np.where(high > low, np.clip(given, low + room, high - room), given)
