"""Layers of which no unit reacts to the data: named where that keeps the loss up, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import Finding, FindingKind

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
T = np.sin(2 * X[:, :1])
OFF = keras.initializers.Constant(-20.0)


def found(loss: Callable[..., Any], over: Any, optimizer: Any = "sgd", **options: Any) -> list[Finding]:
    options = {"lr": 0.01, "engine": "graph", **options}
    result = tape_magic.minimize(loss, over, optimizer, options.pop("steps", 10), **options)
    return [one for one in result.findings if one.kind is FindingKind.DEAD_UNITS]


def layers(*between: Any, inputs: int = 4) -> keras.Sequential:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.layers.Input((inputs,)), *between, keras.layers.Dense(1)])


def dense(units: int, activation: str, **options: Any) -> keras.layers.Dense:
    return keras.layers.Dense(units, activation=activation, **options)


def squares(model: Any) -> Callable[[], Any]:
    return lambda: tf.reduce_mean((model(X) - T) ** 2)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_rectifiers_that_are_off_for_all_rows(engine: str) -> None:
    """The bias is 20 below what any row reaches; the second layer hears nothing, and is not to blame."""
    model = layers(dense(8, "relu", bias_initializer=OFF, name="first"), dense(8, "relu", name="second"))
    (finding,) = found(squares(model), model, engine=engine)
    assert finding.sentence.startswith("0 of 8 units of first fire on these 16 rows, ")
    assert finding.evidence == {"units": 8, "rows": 16, "operation": "Relu"}
    assert finding.line is not None
    assert "squares" not in finding.line.text
    assert "model(X)" in finding.line.text


def off_by_20(activation: Any, w: Any, v: Any) -> Any:
    return tf.reduce_mean((activation(X @ w - 20) @ v + T) ** 2)


def of_columns(w: Any, v: Any) -> Any:
    hidden = tf.nn.relu(w[:3] @ X.T.copy() - 20)
    return tf.reduce_mean((tf.reduce_sum(hidden * v[:3], 0) + T[:, 0]) ** 2)


def test_units_of_a_straight_function() -> None:
    w, v = tf.Variable(np.eye(4, dtype="float32")), tf.Variable(tf.ones((4, 1)))
    for off in (tf.nn.relu, tf.nn.relu6, partial(tf.maximum, 0.0)):
        (finding,) = found(partial(off_by_20, off, w, v), [w, v])
        assert finding.sentence.startswith("0 of 4 units fire on these 16 rows")
    (finding,) = found(partial(of_columns, w, v), [w, v])
    assert finding.sentence.startswith("0 of 3 units fire on these 16 rows")


def test_a_dead_layer_under_dropout_and_a_penalty_and_over_batches() -> None:
    model = layers(
        dense(8, "relu", bias_initializer=OFF, kernel_regularizer="l2", name="off"), keras.layers.Dropout(0.5)
    )
    (finding,) = found(
        lambda xb, tb: tf.reduce_mean((model(xb, training=True) - tb) ** 2) + sum(model.losses),
        None,
        data=(X, T),
        batch=8,
    )
    assert finding.sentence.startswith("0 of 8 units of off fire on these 8 rows")


@pytest.mark.parametrize("scale", [1.0, 1e6], ids=["bias", "unscaled"])
def test_saturated_units(scale: float) -> None:
    bias = keras.initializers.Constant(20.0 if scale == 1 else 0.0)
    model = layers(dense(8, "tanh", bias_initializer=bias, name="flat"))
    (finding,) = found(lambda: tf.reduce_mean((model(scale * X) - T) ** 2), model, lr=0.001)
    assert finding.sentence.startswith("all 8 outputs of tanh of flat are saturated on these 16 rows")
    assert finding.cure.startswith(
        "start with smaller weights" if scale == 1 else "scale the input, which is about"
    )


W = tf.Variable(tf.zeros((4, 1)))
SIGNS = np.sign(X[:, :1])


@pytest.mark.parametrize(
    "loss",
    [
        lambda w: tf.reduce_mean(tf.nn.relu(1 - SIGNS * (X @ w))),  # a hinge
        lambda w: tf.reduce_mean(tf.nn.relu(tf.abs(X @ w - T) - 5.0)),  # a tube that all rows are in
        lambda w: tf.reduce_mean(tf.nn.relu(1 - SIGNS * (X @ (w + 9 * np.eye(4, 1))))),
        lambda w: -tf.reduce_mean(tf.math.log(tf.sigmoid(40 * SIGNS * (X @ w)) + 1e-6)),  # rightly sure
        lambda w: tf.reduce_sum((tf.nn.relu(w - 1) - 1) ** 2) + tf.reduce_mean((X @ w) ** 2),  # no rows
        lambda w: tf.reduce_mean((tf.nn.relu(X @ w - 20) + T) ** 2) * 0 + tf.reduce_sum(w**2),
        lambda w: tf.reduce_mean((X @ w * tf.sigmoid(X @ w + 30) - T) ** 2),  # an open gate
        lambda w: tf.reduce_mean(tf.nn.relu(X @ w - 20)),  # it need not fire: the loss would rise
    ],
    ids=["hinge", "tube", "margin", "sure", "no rows", "unused", "gate", "satisfied"],
)
@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_nothing_is_said_where_units_are_rightly_at_an_end(loss: Any, engine: str) -> None:
    W.assign(tf.zeros((4, 1)))
    assert found(lambda: loss(W), W, "adam", steps=30, lr=0.1, engine=engine) == []


def test_nothing_is_said_of_healthy_nets() -> None:
    for activation in ("relu", "tanh", "sigmoid", "gelu", "silu"):
        model = layers(dense(8, activation))
        assert found(squares(model), model, "adam", steps=20) == []
    skip = layers(dense(8, "relu", bias_initializer=OFF))
    straight = keras.layers.Dense(4)
    loss = lambda: tf.reduce_mean((skip(straight(X)) + straight(X)[:, :1] - T) ** 2)  # noqa: E731
    loss()
    assert found(loss, [skip, straight], "adam") == []  # the way around learns


def test_nothing_is_said_of_solved_tasks() -> None:
    """Exclusive or, by units of tanh that end far out on either side; a curve that has levelled off."""
    q, z = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32"), np.array([[0], [1], [1], [0]], "float32")
    w = tf.Variable([[20.0, -20.0], [-20.0, 20.0]])
    v, b = tf.Variable([[1.0], [1.0]]), tf.Variable([-10.0, -10.0])
    assert (
        found(lambda: tf.reduce_mean((tf.tanh(q @ w + b) @ v + 2 - 2 * z) ** 2), [w, v, b], lr=0.1, steps=50)
        == []
    )
    a, rate, x = tf.Variable(1.0), tf.Variable(3.0), np.linspace(5, 9, 16, dtype="float32")[:, None]
    noisy = 2 + 0.1 * np.sign(T)
    assert (
        found(lambda: tf.reduce_mean((a * tf.tanh(rate * x) - noisy) ** 2), [a, rate], lr=0.1, steps=50) == []
    )
