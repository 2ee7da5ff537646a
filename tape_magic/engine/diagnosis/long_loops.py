"""Loops of many rounds: run as TensorFlow runs them, to find the few rounds that are worth opening.

The last rounds are: what cuts a derivative in each of them cuts it in the loop, since every way through the
loop leads through them. So is a round after which a value is infinite or NaN that was not before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.values.tensors import to_array

LAST_ROUNDS = 10
"""The number of rounds at the end of a long loop that are opened."""

MAX_ROUNDS = 10_000
"""A loop of more rounds than this is not run again."""

_MAX_TURNS = 2


@dataclass(frozen=True, eq=False)
class LongLoop:
    """A loop that was run again.

    Attributes
    ----------
    rounds
        The number of its rounds.
    states
        The values of the loop before the rounds that are worth opening, by the number of the round; and those
        after the last round.
    """

    rounds: int
    states: dict[int, Sequence[Any]]


def run_loop(operation: Any, body: Any, state: Sequence[Any]) -> LongLoop | None:
    """Run a loop again, each round as one operation; ``None`` where that cannot be done.

    Parameters
    ----------
    operation, body
        The loop, an operation of a graph without side effects, and the graph of a round.
    state
        The tensors that it begins with.
    """
    import tensorflow as tf

    names = [operation.get_attr(name) for name in ("cond", "body")]
    dtypes = [tensor.dtype for tensor in body.outputs]
    states: dict[int, Sequence[Any]] = {}
    last: deque[tuple[int, Sequence[Any]]] = deque(maxlen=LAST_ROUNDS)
    flaws = _flaws(state)
    turns = rounds = 0
    try:
        while bool(tf.raw_ops.StatefulPartitionedCall(args=state, Tout=[tf.bool], f=names[0])[0]):
            if rounds >= MAX_ROUNDS:
                return None
            after = tf.raw_ops.StatefulPartitionedCall(args=state, Tout=dtypes, f=names[1])
            found = _flaws(after)
            if turns < _MAX_TURNS and any(new > old for new, old in zip(found, flaws, strict=True)):
                states[rounds] = state
                turns += 1
            last.append((rounds, state))
            flaws, state, rounds = found, after, rounds + 1
    except Exception:  # a function that is gone, or that must not run by itself
        return None
    return LongLoop(rounds, {**states, **dict(last), rounds: state})


def _flaws(state: Sequence[Any]) -> list[int]:
    """Return, for each tensor, 2 if it has a NaN, 1 if it is infinite, and else 0."""
    return [_flaw(tensor) for tensor in state]


def _flaw(tensor: Any) -> int:
    if not (tensor.dtype.is_floating or tensor.dtype.is_complex):
        return 0
    array = to_array(tensor)
    if np.isfinite(array).all():
        return 0
    return 2 if np.isnan(array).any() else 1
