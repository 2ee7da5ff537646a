"""A graph that is run operation by operation: only what leads to the loss, and only in the time there is."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from tape_magic.engine.record.loss_record import record_of
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.verdict.recorded_loss import RecordedLoss


def recorded(loss: Any, variable: Any, seconds: float = 60.0) -> tuple[RecordedLoss, list[Leaf]]:
    def evaluated() -> list[Any]:
        with tf.GradientTape() as tape:
            y = loss()
        return [y, tape.gradient(y, variable)]

    record = record_of(tf.function(evaluated).get_concrete_function())
    nothing: Any = None  # no line is asked for
    return RecordedLoss(record, nothing, lambda: seconds), [Leaf("w", variable, variable)]


def kinds(of: RecordedLoss) -> set[str]:
    return {entry.type for entry in of.flow.entries}


def test_gradients_are_left_out() -> None:
    w = tf.Variable([1.0, -2.0])
    one, leaves = recorded(lambda: tf.reduce_sum(tf.nn.relu(w)), w)
    assert "ReluGrad" not in {kind for kind, _ in one.operations()} | kinds(one)
    assert float(one.loss) == 1
    assert [entry.type for entry in one.way(leaves)][:3] == ["ReadVariableOp", "Relu", "Sum"]
    replay = one.replay(leaves)
    assert replay is not None
    assert list(one.leaves_behind(frozenset({"Relu"}), leaves)) == [frozenset({0})]


def test_random_numbers_and_variables_that_the_loss_assigns_are_known() -> None:
    w, count = tf.Variable(2.0), tf.Variable(3.0)

    def loss() -> Any:
        y = w * count + 0 * tf.random.uniform([])
        count.assign_add(1.0)
        return y

    one, leaves = recorded(loss, w)
    assert float(one.loss) == 6
    assert one.way(leaves)
    assert float(count) == 3  # nothing was assigned

    def loss_of_later() -> Any:
        count.assign_add(1.0)
        return w * count

    assert recorded(loss_of_later, w)[0].loss is None  # its value is not known without the assignment


def test_functions_and_loops_are_looked_into_before_they_run() -> None:
    w = tf.Variable(2.0)

    @tf.function
    def inner(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, tf.tanh(x)), (0, x))[1]

    one, leaves = recorded(lambda: inner(w), w)
    assert "Tanh" in {kind for kind, _ in one.operations()}
    assert list(one.leaves_behind(frozenset({"Tanh"}), leaves)) == [frozenset()]


@pytest.mark.parametrize("seconds", [0.0, 1e-3])
def test_nothing_runs_without_the_time(seconds: float) -> None:
    w = tf.Variable(2.0)
    one, leaves = recorded(lambda: tf.tanh(tf.tanh(tf.tanh(w))), w, seconds)
    assert one.loss is None
    assert one.way(leaves) == []
    assert one.replay(leaves) is None
