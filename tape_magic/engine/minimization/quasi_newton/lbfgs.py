"""L-BFGS as an optimizer whose steps run inside TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.quasi_newton.inverse_hessian import InverseHessian
from tape_magic.engine.minimization.quasi_newton.line_search import Trial, search
from tape_magic.engine.minimization.quasi_newton.vector import Vector
from tape_magic.engine.values.precision import epsilon

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
        return [*self.first, self._at, self._gradient, *self._estimate.rest]

    @property
    def first(self) -> list[Any]:
        """The state whose first values begin a run anew; the rest is not read then."""
        return [self.ended, self._idle, self._largest, self._loss, *self._estimate.first]

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
        place: Any = None,
        wanted: Any = True,
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
        place
            Not needed here.
        wanted
            Whether to step, truth value; if not, all stays as it is.
        """
        import tensorflow as tf

        vector, estimate = self._vector, self._estimate
        at, gradient = vector.read(), vector.of(gradients)
        low, high = vector.spread(lower, -float("inf")), vector.spread(upper, float("inf"))
        free = _free(at, gradient, low, high)
        downhill = gradient if free is None else tf.where(free, gradient, 0.0)
        direction = -estimate.times(downhill)
        direction = direction if free is None else tf.where(free, direction, 0.0)
        slope, steepest = _dot(downhill, direction), -_dot(downhill, downhill)
        falls = slope < 0  # not so for NaN
        direction = tf.where(falls, direction, -downhill)
        slope = tf.where(falls, slope, steepest)
        known = falls & estimate.known
        begin = Trial(tf.zeros([], tf.float64), tf.cast(loss, tf.float64), slope, gradient)
        rounding = self._rounding(begin.loss, loss.dtype)
        still = tf.reduce_all(tf.abs(direction) <= 2.0 * epsilon(vector.dtype.name) * tf.abs(at))
        arrived = tf.equal(slope, 0.0) | (known & ((-0.5 * slope <= 1e-4 * rounding) | still))

        def attempt(length: Any) -> Trial:
            point = at + tf.cast(length, vector.dtype) * direction
            moving = direction
            if low is not None or high is not None:
                moving = tf.where(_inside(point, low, high), direction, 0.0)
                point = point if low is None else tf.maximum(point, low)
                point = point if high is None else tf.minimum(point, high)
            vector.assign(point)
            there, found = evaluate()
            new = vector.of(found)
            return Trial(length, tf.cast(there, tf.float64), _dot(new, moving), new)

        size = tf.sqrt(-steepest)
        first = tf.where(known | (size < 1.0), tf.ones([], tf.float64), 1.0 / size)
        goes = tf.equal(self.ended, GO) & wanted
        searched = goes & ~arrived
        found, taken = search(begin, first, rounding, attempt, searched)
        ended = self._took(begin, at, found, taken, rounding, known, searched)
        ended = tf.where(arrived, CONVERGED, ended)
        self.ended.assign(tf.where(goes, ended, self.ended))

    def _took(
        self, begin: Trial, at: Any, found: Any, taken: Trial, rounding: Any, known: Any, searched: Any
    ) -> Any:
        """Keep what a search has shown; go back if it found nothing. Return how the own rule ends the run.

        Without a search, all stays as it is. Without a lower point, the estimate is forgotten, and the next
        step is one along the gradient. The run is over if this one was, or if the estimate promises no more
        than the rounding of the loss.
        """
        import tensorflow as tf

        vector, estimate = self._vector, self._estimate
        now = tf.where(found, vector.read(), at)
        vector.assign(now)
        gradient = tf.where(found, taken.gradient, begin.gradient)
        step, change = now - at, gradient - begin.gradient
        curvature, size = _dot(step, change), tf.sqrt(_dot(step, step) * _dot(change, change))
        useful = curvature > epsilon(vector.dtype.name) * size
        estimate.add(step, change, useful & tf.math.is_finite(1.0 / curvature))
        loss = tf.where(found, taken.loss, begin.loss)
        self._at.assign(now)
        self._loss.assign(loss)
        self._gradient.assign(gradient)
        fell = found & (begin.loss - loss > 0.1 * rounding)
        idle = tf.where(fell, 0, self._idle + tf.cast(searched, tf.int32))
        self._idle.assign(idle)
        close = -0.5 * begin.slope <= rounding
        forget = searched & ~found & known & ~close
        estimate.forget(forget)
        over = tf.where(found | forget, GO, tf.where(close, CONVERGED, STUCK))
        return tf.where(idle >= IDLE, CONVERGED, over)

    def _rounding(self, loss: Any, dtype: Any) -> Any:
        """Return the differences of losses up to which rounding decides; `dtype` is that of the loss.

        A loss that is a sum of squares of differences can become as small as the square of their rounding.
        """
        import tensorflow as tf

        unit, size = epsilon(dtype.name), tf.abs(loss)
        largest = tf.maximum(self._largest, size)
        self._largest.assign(largest)
        return 10.0 * unit * tf.maximum(size, 10.0 * unit * largest)


def _dot(one: Any, other: Any) -> Any:
    """Return the product of two vectors, in float64."""
    import tensorflow as tf

    return tf.cast(tf.reduce_sum(one * other), tf.float64)


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
