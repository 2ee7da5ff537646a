"""The best values of a run that keeps them, as its loops carry them from step to step.

They are those at the lowest loss; over data, those at the end of the epoch with the lowest mean, unless
each epoch is one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.minimization.stop_rules import GO, LOSS_LOST
from tape_magic.engine.values.tensors import read_all


def no_best(values: Sequence[Any], dtype: Any, *, by_epoch: bool) -> tuple[Any, ...]:
    """Return the best of a :class:`Position` before there is any, with values that stand for it."""
    import tensorflow as tf

    lowest = tf.constant(float("inf"), tf.float64 if by_epoch else dtype)
    return lowest, *values, *([tf.zeros([], tf.float64)] * 2 if by_epoch else [])


def best_after(
    best: Sequence[Any], kept: Sequence[Any], loss: Any, verdict: Any, place: Any
) -> tuple[Any, ...]:
    """Return the best once a loss is evaluated, before the step from there; nothing where `best` is empty.

    Parameters
    ----------
    best
        The best before, as in :class:`Position`.
    kept
        The variables whose values are kept.
    loss, verdict
        The loss at these, and what the rules say.
    place
        The epoch of the batch, its place in it, and its rows.
    """
    import tensorflow as tf

    if not best:
        return ()
    best, sums = best[: 1 + len(kept)], best[1 + len(kept) :]
    better = tf.not_equal(verdict, LOSS_LOST)
    if sums:
        # The variables are still those at the end of the epoch before, if this batch is the first of one.
        total, rows = sums
        begins = tf.equal(place[1], 0)
        better &= begins & (rows > 0)
        sums = _sums(total, rows, loss, tf.equal(verdict, GO), begins, place)
        loss = total / rows
    better &= loss < best[0]
    chosen = tf.cond(
        better,
        lambda: [loss, *map(tf.identity, read_all(kept))],
        lambda: [tf.identity(value) for value in best],
    )
    return (*chosen, *sums)


def _sums(total: Any, rows: Any, loss: Any, counts: Any, begins: Any, place: Any) -> tuple[Any, ...]:
    """Return the sum and the rows of an epoch with one more batch, unless that comes once more."""
    import tensorflow as tf

    nothing = tf.zeros([], tf.float64)
    weight = tf.where(counts, tf.cast(place[2], tf.float64), nothing)
    added = tf.where(counts, tf.cast(loss, tf.float64) * weight, nothing)
    return tuple(tf.where(begins, nothing, old) + new for old, new in ((total, added), (rows, weight)))
