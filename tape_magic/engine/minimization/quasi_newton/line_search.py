"""A search along a line for a point that the strong Wolfe conditions accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

DECREASE = 1e-4
"""c₁: the loss falls by at least this share of what the slope at the start promises."""

FLATTER = 0.9
"""c₂: the slope is at most this share of the one at the start."""

MOST = 30
"""The most evaluations of a search."""

_NARROWEST = 1e-12
"""An interval that is narrower, in relation to its end, holds no further point."""

_WIDEST = 20.0
"""The factor by which a step grows at most, until a point beyond the minimum is found."""


class Trial(NamedTuple):
    """A point on the line: scalars of float64, and the gradient there as a vector.

    Attributes
    ----------
    at
        The length of the step, in units of the direction.
    loss, slope
        The loss there, and its derivative by `at`.
    gradient
        The gradient.
    """

    at: Any
    loss: Any
    slope: Any
    gradient: Any


Try = Callable[[Any], Trial]
"""Moves the variables to a length of the step, and evaluates there."""


class _State(NamedTuple):
    count: Any
    done: Any
    # Whether the next point is the low end once more, which is taken in any case.
    back: Any
    next: Any
    # The last point, and the two ends of the interval: the loss is no higher than at the start at `low`, and
    # falls there; at `high` it rises, or is higher. `high` is infinite until such a point is found.
    last: Trial
    low: tuple[Any, Any, Any]
    high: tuple[Any, Any, Any]


def search(start: Trial, first: Any, rounding: Any, attempt: Try, wanted: Any = True) -> tuple[Any, Trial]:
    r"""Return whether a point was found, and the point, to which the variables have moved.

    An interval that holds acceptable points is found, then made smaller by cubic interpolation and bisection,
    as in section 3.5 of Nocedal and Wright, "Numerical Optimization" (2006). Its ends are told by the sign of
    the slope, and near the rounding of the loss the approximate Wolfe conditions decide, which compare slopes
    only: Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line
    search", SIAM Journal on Optimization 16 (2005). A loss that is not finite counts as higher.

    Parameters
    ----------
    start
        The point at 0, whose slope is below 0.
    first
        The first length to try, float64 scalar.
    rounding
        The differences of losses up to which rounding decides, float64 scalar.
    attempt
        See :data:`Try`.
    wanted
        Whether to search at all, truth value; if not, the start is returned, and nothing is found.

    Where no point is acceptable, the lowest that was met is taken, and nothing is found if none is lower.
    """
    import tensorflow as tf

    zero, infinite = tf.zeros([], tf.float64), tf.constant(float("inf"), tf.float64)

    def body(state: _State) -> tuple[_State]:
        last = attempt(state.next)
        finite = tf.math.is_finite(last.loss) & tf.math.is_finite(last.slope)
        wolfe = (last.loss <= start.loss + DECREASE * last.at * start.slope) & (
            tf.abs(last.slope) <= -FLATTER * start.slope
        )
        near = tf.abs(last.loss - start.loss) <= rounding
        approximate = near & (last.slope <= -0.8 * start.slope) & (last.slope >= FLATTER * start.slope)
        accepted = finite & (wolfe | approximate)
        below = finite & (last.loss <= start.loss + rounding) & (last.slope < 0)
        point = (last.at, last.loss, last.slope)
        low, high = _chosen(below, point, state.low), _chosen(below, state.high, point)
        bracketed = tf.math.is_finite(high[0])
        used_up = (state.count >= MOST) | (bracketed & (high[0] - low[0] <= _NARROWEST * high[0]))
        back = used_up & ~accepted & ~state.back & (low[0] > 0) & (low[1] < start.loss)
        following = tf.where(bracketed, _between(low, high, state.count), _beyond(state.low, low))
        done = state.back | accepted | (used_up & ~back)
        after = tf.where(back, low[0], following)
        return (_State(state.count + 1, done, back, after, last, low, high),)

    low, high = (zero, start.loss, start.slope), (infinite, infinite, zero)
    begin = _State(tf.constant(1), ~tf.convert_to_tensor(wanted), tf.constant(False), first, start, low, high)
    (state,) = tf.while_loop(lambda state: ~state.done, body, (begin,))
    last = state.last
    lower = (last.loss < start.loss) | (tf.abs(last.slope) < -start.slope)
    fits = tf.math.is_finite(last.loss) & (last.loss <= start.loss + rounding) & (last.at > 0)
    return fits & lower, last


def _chosen(holds: Any, one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    at, loss, slope = (tf.where(holds, new, old) for new, old in zip(one, other, strict=True))
    return at, loss, slope


def _beyond(before: tuple[Any, ...], low: tuple[Any, ...]) -> Any:
    """Return the next length where the loss still falls: by the secant of the slopes, two to twenty times."""
    import tensorflow as tf

    less = low[2] > before[2]
    secant = low[0] - low[2] * (low[0] - before[0]) / tf.where(less, low[2] - before[2], 1.0)
    return tf.where(less, tf.minimum(tf.maximum(secant, 2.0 * low[0]), _WIDEST * low[0]), _WIDEST * low[0])


def _between(low: tuple[Any, ...], high: tuple[Any, ...], count: Any) -> Any:
    """Return the next length within an interval: by cubic interpolation, and each third time its middle."""
    import tensorflow as tf

    width = high[0] - low[0]
    middle = low[0] + 0.5 * width
    # The minimum of the cubic with these values and slopes at both ends: (3.59) of Nocedal and Wright.
    first = low[2] + high[2] - 3.0 * (high[1] - low[1]) / width
    root = tf.sqrt(tf.maximum(first * first - low[2] * high[2], 0.0))
    cubic = high[0] - width * (high[2] + root - first) / (high[2] - low[2] + 2.0 * root)
    safe = tf.minimum(tf.maximum(cubic, low[0] + 0.1 * width), high[0] - 0.1 * width)
    known = tf.math.is_finite(cubic)
    # Where the far end is not finite, the loss may be so in most of the interval.
    short = tf.where(tf.math.is_finite(high[1]), middle, low[0] + 0.2 * width)
    return tf.where(known & (count % 3 != 2), safe, short)
