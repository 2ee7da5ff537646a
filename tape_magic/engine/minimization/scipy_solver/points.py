"""The points at which a program was evaluated: SciPy asks for loss and derivatives in separate calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization.scipy_methods import Method
from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations
from tape_magic.engine.minimization.scipy_solver.vector import Vector


@dataclass(frozen=True, eq=False)
class Point:
    """One evaluation.

    Attributes
    ----------
    x
        The vector (size,).
    loss
        The loss at `x`; for residuals, half the sum of their squares.
    gradient
        The gradient at `x` (size,); ``None`` while it was not asked for.
    residuals
        The residuals at `x`, flat; ``None`` for a method that takes a loss.
    """

    x: Vector
    loss: float
    gradient: Vector | None = None
    residuals: Vector | None = None

    @property
    def finite(self) -> bool:
        """Whether the loss, and the gradient if it is known, are finite."""
        return math.isfinite(self.loss) and (self.gradient is None or bool(np.isfinite(self.gradient).all()))


class Points:
    """Evaluates, and keeps the last two points and the lowest, which SciPy asks for again.

    Parameters
    ----------
    evaluations
        The functions to call, started.
    method
        The method of SciPy, which says what is evaluated.
    low, high
        The bounds (size,), infinite where there are none: nothing is evaluated beyond them.
    allow
        Takes whether the next call is at a new point. Called before each call; may raise to end the run.

    Attributes
    ----------
    count
        The number of points so far.
    error
        The error that the program raised, if it did.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        method: Method,
        low: Vector,
        high: Vector,
        allow: Callable[[bool], None],
    ) -> None:
        self._evaluations, self._method = evaluations, method
        self._low, self._high, self._allow = low, high, allow
        self._kept: list[Point] = []
        self._lowest: Point | None = None
        self.count = 0
        self.error: BaseException | None = None

    def at(self, x: Vector) -> Point:
        """Return the point at a vector, evaluated if it is not known."""
        x = np.clip(np.array(x, np.float64), self._low, self._high)
        known = [*self._kept, *([self._lowest] if self._lowest is not None else [])]
        for point in known:
            if np.array_equal(point.x, x):
                return point
        self._allow(True)
        point = self._evaluated(x)
        self._kept = [*self._kept[-1:], point]
        if self._lowest is None or point.loss < self._lowest.loss:
            self._lowest = point
        return point

    def _evaluated(self, x: Vector) -> Point:
        self.count += 1
        if self._method.residuals:
            residuals = self._call("residuals", x)
            with np.errstate(over="ignore"):
                return Point(x, 0.5 * float(residuals @ residuals), residuals=residuals)
        if self._method.gradient:
            loss, gradient = self._call("gradient", x)
            return Point(x, float(loss), gradient)
        return Point(x, float(self._call("loss", x)))

    def product(self, x: Vector, vector: Vector) -> Vector:
        """Return the Hessian times a vector."""
        self._allow(False)
        found: Vector = self._call("product", self._inside(x), np.array(vector, np.float64).ravel())
        return found

    def hessian(self, x: Vector) -> Vector:
        """Return the Hessian (size, size)."""
        found: Vector = self._call("hessian", self._inside(x))
        return found

    def jacobian(self, x: Vector) -> tuple[Point, Vector]:
        """Return the Jacobian J (residuals, size), after the point with the gradient J^T r that follows."""
        point = self.at(x)
        assert point.residuals is not None
        found: Vector = self._call("jacobian", point.x)
        return replace(point, gradient=found.T @ point.residuals), found

    def with_gradient(self, point: Point) -> Point:
        """Return the point with its gradient, evaluated if the method never asked for it there."""
        if point.gradient is not None:
            return point
        if self._method.residuals:
            return self.jacobian(point.x)[0]
        return replace(point, gradient=self._evaluations.gradients_at(point.x))

    def _inside(self, x: Vector) -> Vector:
        return np.clip(np.array(x, np.float64), self._low, self._high)

    def _call(self, kind: str, *vectors: Vector) -> Any:
        try:
            return self._evaluations.call(kind, *vectors)
        except Exception as error:
            self.error = error
            raise
