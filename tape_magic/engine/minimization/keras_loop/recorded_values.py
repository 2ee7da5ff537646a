"""What a compiled chunk records: the values of each step, or the extremes of stretches with their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.stop_rules import GO

ROWS = 1 << 12
"""The most values, or stretches of values, that a chunk records of each series."""


def in_stretches(
    take: Callable[..., Any], span: list[Any], carried: list[Any], copies: list[Any], dtype: Any, size: int
) -> Any:
    """Run a chunk in stretches of steps within TensorFlow, each step by `take`; see :class:`CompiledLoop`.

    `size` scalars of `dtype` are recorded at each step.
    """
    import tensorflow as tf

    start, end, stretch, _ = span
    extremes = tf.TensorArray(dtype, ROWS, element_shape=[2, size])
    places = tf.TensorArray(tf.int32, ROWS, element_shape=[2, size])
    infinite = tf.fill([size], tf.constant(float("inf"), dtype))

    def step(
        at: Any, stop: Any, _: Any, __: Any, carried: Any, low: Any, low_at: Any, high: Any, high_at: Any
    ) -> Any:
        verdict, loss, recorded, carried, _copies = take(at, carried, ())
        found = extended(recorded, tf.cast(at - start, tf.int32), low, low_at, high, high_at)
        return at + 1, stop, verdict, loss, carried, *found

    def several(at: Any, _: Any, loss: Any, row: Any, carried: Any, extremes: Any, places: Any) -> Any:
        offset = tf.fill([size], tf.cast(at - start, tf.int32))
        stop = tf.minimum(at + stretch, end)
        at, _, verdict, loss, carried, low, low_at, high, high_at = tf.while_loop(
            lambda at, stop, verdict, *_: (verdict == GO) & (at < stop),
            step,
            (at, stop, tf.constant(GO), loss, carried, infinite, offset, -infinite, offset),
        )
        extremes = extremes.write(row, tf.stack([low, high]))
        places = places.write(row, tf.stack([low_at, high_at]))
        return at, verdict, loss, row + 1, carried, extremes, places

    zero = tf.constant(0)
    at, verdict, loss, rows, carried, extremes, places = tf.while_loop(
        lambda at, verdict, *_: (verdict == GO) & (at < end),
        several,
        (start, tf.constant(GO), tf.zeros([], dtype), zero, carried, extremes, places),
    )
    return at, verdict, loss, rows, carried, [extremes.stack(), places.stack()], copies


def extended(recorded: Any, offset: Any, low: Any, low_at: Any, high: Any, high_at: Any) -> tuple[Any, ...]:
    """Return the least and the greatest values so far, each with its place, once more values are recorded."""
    import tensorflow as tf

    less, more = beyond(recorded, low), beyond(-recorded, -high)
    low, low_at = tf.where(less, recorded, low), tf.where(less, offset, low_at)
    high, high_at = tf.where(more, recorded, high), tf.where(more, offset, high_at)
    return low, low_at, high, high_at


def beyond(values: Any, low: Any) -> Any:
    """Return where `values` is a new minimum. NaN is smaller than any number, and the first NaN is kept."""
    return ~((values >= low) | (low != low))


def nothing() -> Recorded:
    """Return no values."""
    return Recorded(np.zeros(0, np.int64), np.zeros(0))


def series_of(start: int, rows: int, recorded: list[Any]) -> tuple[Recorded, ...]:
    """Return what a chunk recorded, by series."""
    if len(recorded) == 1:
        values = recorded[0][:rows]
        return tuple(
            Recorded(start + np.arange(rows), values[:, number]) for number in range(values.shape[1])
        )
    extremes, places = (array[:rows] for array in recorded)
    found = []
    for number in range(extremes.shape[2]):
        steps, first = np.unique(places[:, :, number], return_index=True)
        found.append(Recorded(start + steps.astype(np.int64), extremes[:, :, number].reshape(-1)[first]))
    return tuple(found)
