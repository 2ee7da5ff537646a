"""The iterations of one of SciPy's methods: what it calls, when it is stopped, and how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import RunControl, StopRequested
from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.scipy_methods import Method
from tape_magic.engine.minimization.scipy_solver.barrier import Barrier
from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations
from tape_magic.engine.minimization.scipy_solver.points import Point, Points
from tape_magic.engine.minimization.scipy_solver.vector import Vector
from tape_magic.engine.minimization.settings import Settings
from tape_magic.results.minimum import Divergence, StopReason
from tape_magic.results.steps import Step

PROGRESS_SECONDS = 0.05
"""Least seconds between two progress reports."""


@dataclass(frozen=True, eq=False)
class SolverOutcome:
    """How a run went.

    Attributes
    ----------
    point
        Where the variables are left, with the gradient if there is one.
    message
        What SciPy says of the end; empty if SciPy did not end the run.
    failed
        Where the loss or its gradient was not finite; ``None`` if that did not end the run.
    """

    point: Point
    message: str
    failed: Vector | None = None


@dataclass(frozen=True)
class RunObserver:
    """Who is asked whether the run should end, and told where it stands.

    Attributes
    ----------
    control
        Says whether the user wants the run to end.
    on_progress
        Told at most every 50 ms.
    waiter
        Waits for Python's part of compiling.
    """

    control: RunControl
    on_progress: Callable[[Step], None]
    waiter: CompileWaiter


class _Stop(Exception):
    """Ends SciPy's loop from within a function that SciPy calls."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


class Iterations:
    """The iterations of one method of SciPy.

    Parameters
    ----------
    evaluations
        Started, so that it is known what is minimised over.
    method, settings
        How to minimise.
    log
        Takes the loss after each iteration, then the tracked scalars, and why the run ended.
    bounds
        The lower and the upper bounds, each (size,), infinite where there are none.
    observer
        The user, and the display.
    """

    _accepted: Point
    _best: Point

    def __init__(
        self,
        evaluations: Evaluations,
        method: Method,
        settings: Settings,
        log: RunLog,
        bounds: tuple[Vector, Vector],
        observer: RunObserver,
    ) -> None:
        self._evaluations, self._method, self._settings = evaluations, method, settings
        self._log, self._bounds, self._observer = log, bounds, observer
        self._points = Points(evaluations, method, *bounds, self._allow)
        self._barrier = Barrier()
        self._bounded = bool(np.isfinite(bounds).any())
        self._told = -math.inf
        self._failed: Vector | None = None
        self._steps = -1  # nothing was evaluated yet

    def run(self, start: Vector) -> SolverOutcome:
        """Minimise from a vector on, until the method or a rule ends it.

        An error of the program's own passes, with the variables as they were after the last iteration.
        """
        message, log = "", self._log
        try:
            self._begin(start)
            log.reason, message = self._minimized()
        except _Stop as stop:
            log.reason = stop.reason
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            if error is self._points.error or self._steps < 0:
                self._put_back()
                raise
            log.reason, message = StopReason.METHOD_FAILED, str(error)
        except BaseException:
            self._put_back()
            raise
        self._tell(always=True)
        wanted = "best" if log.reason is StopReason.DIVERGED else "last"
        best = (self._settings.keep or wanted) == "best" and self._best.loss < self._accepted.loss
        log.put_back = log.lowest if best else None
        point = self._points.with_gradient(self._best if best else self._accepted)
        return SolverOutcome(point, message, self._failed)

    def _record(self, point: Point) -> None:
        self._steps += 1
        self._log.note(self._steps, [point.loss, *self._evaluations.tracked_at(point.x)])

    def _put_back(self) -> None:
        if self._steps >= 0:
            self._evaluations.flat.assign(self._accepted.x)

    # -- what SciPy calls ------------------------------------------------------------------------------

    def _minimized(self) -> tuple[StopReason, str]:
        """Let SciPy minimise; return why it ended, and what SciPy says of that."""
        options = self._method.options(self._settings, self._log.limit)
        x = self._accepted.x.copy()
        done = self._least_squares(x, options) if self._method.residuals else self._scalar(x, options)
        self._arrived(done.x)
        reason = StopReason.METHOD_CONVERGED if done.success else StopReason.METHOD_FAILED
        return reason, " ".join(str(done.message).split())

    def _scalar(self, x: Vector, options: dict[str, Any]) -> Any:
        from scipy.optimize import Bounds, minimize

        method, more = self._method, dict[str, Any]()
        if method.second:
            more[method.second] = {"hessp": self._points.product, "hess": self._hessian}[method.second]
        if method.gradient:
            more["jac"] = self._gradient if method.at_gradients else True
        if not method.at_gradients:
            more["callback"] = self._iterated
        if self._bounded:
            more["bounds"] = Bounds(*self._bounds, keep_feasible=method.name == "trust-constr")
        loss = self._loss_and_gradient if more.get("jac") is True else self._loss
        return minimize(loss, x, method=method.name, options=options, **more)

    def _least_squares(self, x: Vector, options: dict[str, Any]) -> Any:
        from scipy.optimize import least_squares

        if self._bounded:
            options = {**options, "bounds": self._bounds}
        if not self._method.at_gradients:
            options = {**options, "callback": self._iterated}
        return least_squares(self._residuals, x, jac=self._jacobian, method=self._method.name, **options)

    def _loss(self, x: Vector) -> float:
        return self._tried(x).loss

    def _loss_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        point = self._tried(x)
        assert point.gradient is not None
        return point.loss, point.gradient.copy()

    def _gradient(self, x: Vector) -> Vector:
        self._arrived(x)
        return self._loss_and_gradient(x)[1]

    def _hessian(self, x: Vector) -> Vector:
        # trust-exact asks for it where it only tries, too, and computes with it.
        return self._points.hessian(x) if self._points.at(x).finite else np.eye(len(x))

    def _tried(self, x: Vector) -> Point:
        """Return a point as the method sees it; methods for residuals see for themselves what is finite."""
        return self._barrier.seen(self._points.at(x), self._accepted)

    def _residuals(self, x: Vector) -> Vector:
        point = self._points.at(x)
        assert point.residuals is not None
        return point.residuals.copy()

    def _jacobian(self, x: Vector) -> Vector:
        if self._method.at_gradients:
            self._arrived(x)
        return self._points.jacobian(x)[1]

    def _iterated(self, x: Vector, *_: Any) -> None:
        """Note that an iteration has ended at a vector; this is SciPy's callback."""
        point = self._points.at(x)
        if self._points.count > 1:  # some methods call it after the first evaluation, too
            self._accept(point)
            # A simplex that has shrunk to one point asks for known points only, at which nobody else asks.
            self._allow(False)

    def _arrived(self, x: Vector) -> None:
        """Note where the method stands, which is an iteration only if it moved."""
        point = self._points.at(x)
        if not np.array_equal(point.x, self._accepted.x):
            self._accept(point)

    # -- the rules -------------------------------------------------------------------------------------

    def _begin(self, start: Vector) -> None:
        self._accepted = self._best = point = self._points.at(start)
        self._record(point)
        self._tell(always=True)
        if not point.finite:
            self._diverged(point)
        self._apply_rules(point)
        if self._log.limit == 0:
            raise _Stop(StopReason.STEPS)

    def _accept(self, point: Point) -> None:
        if not math.isfinite(point.loss):
            self._diverged(point)
        self._accepted = point
        self._record(point)
        if point.loss < self._best.loss:
            self._best = point
        self._tell()
        if not point.finite:
            self._diverged(point)
        self._apply_rules(point)

    def _diverged(self, point: Point) -> None:
        lost = not math.isfinite(point.loss)
        # The history has the loss of the start, but not that of a step that is not accepted.
        step = self._steps + (lost and point is not self._accepted)
        self._log.divergence = Divergence(step, "loss" if lost else "gradient", point.loss)
        self._failed = point.x
        raise _Stop(StopReason.DIVERGED)

    def _apply_rules(self, point: Point) -> None:
        """End the run if a rule holds that SciPy does not have."""
        settings = self._settings
        if settings.target is not None and point.loss <= settings.target:
            raise _Stop(StopReason.TARGET)
        if (
            settings.gtol is not None
            and not self._method.gtol
            and point.gradient is not None
            and float(np.linalg.norm(point.gradient)) <= settings.gtol
        ):
            raise _Stop(StopReason.GRADIENT)

    def _allow(self, new: bool) -> None:
        """End the run before a call, if the user, the time or the number of steps says so.

        The limit of steps counts only at a `new` point. Calls where the method stands may belong to its last
        iteration, of which the method itself says whether it converged.
        """
        if self._steps < 0:
            return
        self._tell()
        try:
            told = self._observer.control()
            if told is None:
                self._evaluations.reconsider(self._observer.waiter)
        except StopRequested:
            told = self._observer.control() or StopReason.INTERRUPTED
        if told is not None:
            raise _Stop(told)
        limit = self._settings.time
        if limit is not None and self._steps > 0 and self._log.seconds >= limit:
            raise _Stop(StopReason.TIME)
        if new and self._steps >= self._log.limit:
            raise _Stop(StopReason.STEPS)

    def _tell(self, *, always: bool = False) -> None:
        now = time.perf_counter()
        if self._steps < 0:
            return
        if always or now - self._told >= PROGRESS_SECONDS:
            self._told = now
            engine, beside = self._evaluations.engine, self._evaluations.compiling
            losses = self._accepted.loss, self._best.loss
            self._observer.on_progress(self._log.step(self._steps, *losses, engine, beside))
