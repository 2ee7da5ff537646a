"""L-BFGS as an optimizer whose steps run inside TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.minimization.quasi_newton.inverse_hessian import InverseHessian
from tape_magic.engine.minimization.quasi_newton.line_search import Trial, search
from tape_magic.engine.minimization.quasi_newton.vector import Vector

GO, CONVERGED, STUCK = 0, 1, 2
"""How an optimizer's own rule ends a run: it does not; at a minimum; no lower point was found."""

IDLE = 10
"""So many steps in a row that lower the loss by no more than its rounding end a run."""

Evaluate = Callable[[], tuple[Any, Sequence[Any]]]
"""Returns the loss and its gradients at the variables as they are."""


class Lbfgs:
    r"""L-BFGS with a memory of ten pairs and a strong Wolfe line search.

    D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical
    Programming 45 (1989). Within bounds, each trial point is projected to them, and variables at a bound that
    the gradient pushes against stay there in that step: D. P. Bertsekas, "Projected Newton methods for
    optimization problems with simple constraints", SIAM Journal on Control and Optimization 20 (1982).

    The run has converged where half of gᵀHg, which is how far the loss lies above the minimum of the
    estimated quadratic, is below a thousandth of the rounding of the loss; where the variables do not move
    any more in their precision; or where the loss has not fallen by more than its rounding for ten steps.

    Attributes
    ----------
    built
        Whether there are variables.
    ended
        :data:`GO`, or how the own rule ends the run, int32 variable.

    >>> optimizer = Lbfgs()                                                    # doctest: +SKIP
    >>> optimizer.build([x])                                                   # doctest: +SKIP
    >>> loss, gradients = evaluate()                                           # doctest: +SKIP
    >>> optimizer.move(loss, gradients, evaluate, [None], [None])              # doctest: +SKIP
    """

    name = "lbfgs"
    description = "L-BFGS"

    def __init__(self) -> None:
        self.built = False

    def build(self, variables: Sequence[Any]) -> None:
        """Make the state for some variables."""
        import tensorflow as tf

        self._over = list(variables)
        self._vector = vector = Vector(variables)
        self._estimate = InverseHessian(vector.size, vector.dtype)
        self.ended = tf.Variable(GO, trainable=False)
        self._idle = tf.Variable(0, trainable=False)
        self._largest = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        # The last evaluation: where, the loss, and the gradient. NaN is no point.
        self._loss = tf.Variable(float("nan"), trainable=False, dtype=tf.float64)
        self._at = tf.Variable(
            tf.fill([vector.size], tf.constant(float("nan"), vector.dtype)), trainable=False
        )
        self._gradient = tf.Variable(tf.zeros([vector.size], vector.dtype), trainable=False)
        self.built = True

    @property
    def variables(self) -> list[Any]:
        """All state, that of :attr:`first` before the rest."""
        return [*self.first, self._at, self._gradient, self._estimate.pairs]

    @property
    def first(self) -> list[Any]:
        """The state whose first values begin a run anew; the rest is not read then."""
        return [self.ended, self._idle, self._largest, self._loss, *self._estimate.state]

    def fits(self, variables: Sequence[Any]) -> bool:
        """Return whether it was built for these variables, in this order."""
        return len(variables) == len(self._over) and all(
            one is other for one, other in zip(variables, self._over, strict=True)
        )

    # -- the last evaluation -----------------------------------------------------------------------------

    def remembered(self, dtype: Any) -> tuple[Any, Sequence[Any]]:
        """Return loss, of `dtype`, and gradients at the point that the last step moved to."""
        import tensorflow as tf

        return tf.cast(self._loss.read_value(), dtype), self._vector.parts(self._gradient.read_value())

    def remember(self, loss: Any, gradients: Sequence[Any]) -> None:
        """Take the loss and the gradients at the variables as they are, unless those are remembered.

        Where the same point has another loss, something else has changed, and the state is forgotten.
        """
        import numpy as np

        at, value = self._vector.read(), float(loss)
        here = bool(np.array_equal(at, self._at.numpy()))
        if here and abs(value - float(self._loss)) <= 1e-4 * abs(value):
            return
        self.ended.assign(GO)
        self._idle.assign(0)
        if here:
            self._estimate.forget()
        self._at.assign(at)
        self._loss.assign(value)
        self._gradient.assign(self._vector.of(gradients))

    # -- a step --------------------------------------------------------------------------------------------

    def move(
        self,
        loss: Any,
        gradients: Sequence[Any],
        evaluate: Evaluate,
        lower: Sequence[Any],
        upper: Sequence[Any],
    ) -> None:
        """Move the variables to a lower point, or set :attr:`ended`.

        Parameters
        ----------
        loss, gradients
            The loss and its gradients at the variables as they are.
        evaluate
            Called at each trial point; see :data:`Evaluate`.
        lower, upper
            For each variable its bound, a number or an array; ``None`` for none.
        """
        import tensorflow as tf

        vector, estimate = self._vector, self._estimate
        at, gradient = vector.read(), vector.of(gradients)
        low, high = vector.spread(lower, -float("inf")), vector.spread(upper, float("inf"))
        free = _free(at, gradient, low, high)
        slope_along = gradient if free is None else tf.where(free, gradient, 0.0)
        direction = -estimate.times(slope_along)
        direction = direction if free is None else tf.where(free, direction, 0.0)
        slope = _dot(slope_along, direction)
        steepest = ~(slope < 0) | ~tf.math.is_finite(slope)
        direction = tf.where(steepest, -slope_along, direction)
        slope = tf.where(steepest, -_dot(slope_along, slope_along), slope)
        known = ~steepest & (estimate.known > 0)
        begin = Trial(tf.zeros([], tf.float64), tf.cast(loss, tf.float64), slope, gradient)
        rounding = self._rounding(begin.loss, loss.dtype)
        still = tf.reduce_all(tf.abs(direction) <= 2.0 * _epsilon(vector.dtype) * tf.abs(at))
        flat = (slope == 0.0) | (known & ((-0.5 * slope <= 1e-4 * rounding) | still))
        code = tf.where(flat, CONVERGED, GO)

        def attempt(length: Any) -> Trial:
            point = at + tf.cast(length, vector.dtype) * direction
            point = point if low is None else tf.maximum(point, low)
            vector.assign(point if high is None else tf.minimum(point, high))
            there, found = evaluate()
            new = vector.of(found)
            moving = direction
            if low is not None or high is not None:
                inside = _inside(point, low, high)
                moving = tf.where(inside, direction, 0.0)
            return Trial(length, tf.cast(there, tf.float64), _dot(new, moving), new)

        def moved() -> Any:
            size = tf.sqrt(_dot(slope_along, slope_along))
            first = tf.where(known | (size < 1.0), tf.ones([], tf.float64), 1.0 / size)
            found, taken = search(begin, first, rounding, attempt)
            close = -0.5 * slope <= rounding
            return tf.cond(
                found,
                lambda: self._took(begin, at, taken, rounding),
                lambda: self._stuck(at, known, close),
            )

        goes_on = tf.equal(code, GO) & tf.equal(self.ended, GO)
        self.ended.assign(tf.cond(goes_on, moved, lambda: tf.maximum(code, self.ended)))

    def _took(self, begin: Trial, at: Any, taken: Trial, rounding: Any) -> Any:
        """Keep what the step has shown, and return whether the run goes on."""
        import tensorflow as tf

        now = self._vector.read()
        step, change = now - at, taken.gradient - begin.gradient
        curvature, size = _dot(step, change), tf.sqrt(_dot(step, step) * _dot(change, change))
        useful = curvature > _epsilon(self._vector.dtype) * size

        def add() -> Any:
            self._estimate.add(step, change)
            return tf.constant(GO)

        tf.cond(useful, add, lambda: tf.constant(GO))
        self._at.assign(now)
        self._loss.assign(taken.loss)
        self._gradient.assign(taken.gradient)
        idle = tf.where(begin.loss - taken.loss <= 0.1 * rounding, self._idle + 1, 0)
        self._idle.assign(idle)
        return tf.where(idle >= IDLE, CONVERGED, GO)

    def _stuck(self, at: Any, known: Any, close: Any) -> Any:
        """Go back and forget the estimate; without one, or `close` to a minimum, return that it is over."""
        import tensorflow as tf

        self._vector.assign(at)

        def again() -> Any:
            self._estimate.forget()
            return tf.constant(GO)

        return tf.cond(known & ~close, again, lambda: tf.where(close, CONVERGED, STUCK))

    def _rounding(self, loss: Any, dtype: Any) -> Any:
        """Return the differences of losses up to which rounding decides; `dtype` is that of the loss.

        A loss that is a sum of squares of differences can become as small as the square of their rounding.
        """
        import tensorflow as tf

        epsilon, size = _epsilon(dtype), tf.abs(loss)
        largest = tf.maximum(self._largest, size)
        self._largest.assign(largest)
        return 10.0 * epsilon * tf.maximum(size, 10.0 * epsilon * largest)


def _dot(one: Any, other: Any) -> Any:
    """Return the product of two vectors, in float64."""
    import tensorflow as tf

    return tf.cast(tf.tensordot(one, other, 1), tf.float64)


def _epsilon(dtype: Any) -> float:
    """Return the rounding of numbers near 1."""
    return {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}.get(dtype.name, 2.0**-7)


def _free(at: Any, gradient: Any, low: Any, high: Any) -> Any:
    """Return which elements the gradient does not push against a bound; ``None`` without bounds."""
    import tensorflow as tf

    if low is None and high is None:
        return None
    held = tf.zeros(at.shape, tf.bool)
    if low is not None:
        held |= (at <= low) & (gradient > 0)
    if high is not None:
        held |= (at >= high) & (gradient < 0)
    return ~held


def _inside(point: Any, low: Any, high: Any) -> Any:
    """Return which elements of a point, before it is projected, lie within the bounds."""
    import tensorflow as tf

    inside = tf.ones(point.shape, tf.bool)
    if low is not None:
        inside &= point > low
    if high is not None:
        inside &= point < high
    return inside
