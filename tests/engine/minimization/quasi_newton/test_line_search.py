"""Points that a line search accepts: on functions of one number, whose derivatives are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import tensorflow as tf

from tape_magic.engine.minimization.quasi_newton.line_search import DECREASE, FLATTER, MOST, Trial, search

Line = Callable[[float], tuple[float, float]]
"""The loss and its derivative at a length of the step."""

LINES: dict[str, Line] = {
    "the first length fits": lambda t: ((t - 1) ** 2, 2 * (t - 1)),
    "far too short": lambda t: ((t / 1e5 - 1) ** 2, 2e-5 * (t / 1e5 - 1)),
    "far too long": lambda t: ((1e6 * t - 1) ** 2, 2e6 * (1e6 * t - 1)),
    "a quartic": lambda t: ((t - 3) ** 4 + t, 4 * (t - 3) ** 3 + 1),
    "many minima": lambda t: (1 - t / 5 - math.sin(t), -1 / 5 - math.cos(t)),
    # (2.1) of Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", 1994
    "a flat tail": lambda t: (-t / (t * t + 2), (t * t - 2) / (t * t + 2) ** 2),
    "infinite beyond 0.1": lambda t: (
        (-math.log(0.1 - t) - 20 * t, 1 / (0.1 - t) - 20) if t < 0.1 else (math.inf, math.nan)
    ),
    "undefined beyond 1e-6": lambda t: (
        (-math.log(1e-6 - t) - 2e6 * t, 1 / (1e-6 - t) - 2e6) if t < 1e-6 else (math.nan, math.nan)
    ),
}


def searched(line: Line, first: float = 1.0, rounding: float = 0.0) -> tuple[bool, Trial, list[float]]:
    tried: list[float] = []

    def attempt(length: tf.Tensor) -> Trial:
        tried.append(float(length))
        loss, slope = (tf.constant(one, tf.float64) for one in line(tried[-1]))
        return Trial(length, loss, slope, slope[None])

    loss, slope = (tf.constant(one, tf.float64) for one in line(0.0))
    start = Trial(tf.zeros([], tf.float64), loss, slope, slope[None])
    found, taken = search(start, tf.constant(first, tf.float64), tf.constant(rounding, tf.float64), attempt)
    return bool(found), taken, tried


@pytest.mark.parametrize("name", LINES)
def test_the_strong_wolfe_conditions_hold_where_it_ends(name: str) -> None:
    line = LINES[name]
    found, taken, tried = searched(line)
    at = float(taken.at)
    (loss, slope), (before, down) = line(at), line(0.0)
    assert found
    assert tried[-1] == at  # where the variables have moved to
    assert loss <= before + DECREASE * at * down
    assert abs(slope) <= FLATTER * abs(down)
    assert len(tried) <= MOST


def test_near_the_rounding_of_the_loss_slopes_decide() -> None:
    """A parabola 1e-9 deep upon 1, in losses of float32: these are all alike, and the slopes are not."""
    import numpy as np

    found, taken, tried = searched(
        lambda t: (float(np.float32(1 + 1e-9 * (t - 1) ** 2)), 2e-9 * (t - 1)), first=0.01, rounding=1e-6
    )
    assert found
    assert abs(float(taken.at) - 1) < 0.9
    assert len(tried) < 6


def test_nothing_is_found_where_the_slope_lies() -> None:
    found, _, tried = searched(lambda t: (1 + t, -1.0))
    assert not found
    assert len(tried) <= MOST + 1


def test_the_lowest_point_is_taken_where_none_is_flat_enough() -> None:
    """A wedge: the slope is −1 on one side and 1000 on the other, and nowhere small."""
    found, taken, tried = searched(lambda t: (max(-t, 1000 * (t - 1) - 1), -1.0 if t < 1 else 1000.0))
    assert found
    assert float(taken.loss) < 0
    assert tried[-1] == float(taken.at)


def test_nothing_is_evaluated_where_no_search_is_wanted() -> None:
    tried: list[float] = []
    zero = tf.zeros([], tf.float64)
    start = Trial(zero, zero, zero, zero[None])
    found, taken = search(start, zero, zero, lambda length: tried.append(0.0), tf.constant(False))  # type: ignore[arg-type,func-returns-value]
    assert (bool(found), float(taken.at), tried) == (False, 0.0, [])
