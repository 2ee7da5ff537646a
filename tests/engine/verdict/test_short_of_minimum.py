"""Rules that ended a run at a saddle or on a plateau, and at minima of every shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import MinimizeResult


def _run(loss: Callable[..., Any], optimizer: str = "auto", **options: Any) -> MinimizeResult:
    options = {"engine": "graph", **options}
    result = tape_magic.minimize(loss, None, optimizer, **options)
    assert result.reason.converged
    return result


def _kinds(loss: Callable[..., Any], optimizer: str = "auto", **options: Any) -> list[FindingKind]:
    result = _run(loss, optimizer, **options)
    assert result.converged == (not result.findings)
    return [finding.kind for finding in result.findings]


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_saddle(engine: str) -> None:
    """From y = 0, descent on x² − y² never leaves the ridge."""
    x, y = tf.Variable(3.0, name="x"), tf.Variable(0.0, name="y")
    (found,) = _run(lambda: x**2 - y**2, "sgd", lr=0.1, engine=engine).findings
    assert str(found) == (
        "it settled at a saddle: the loss falls both ways along y (curvature −2) · start elsewhere"
    )
    assert found.kind is FindingKind.SADDLE


def test_saddles_among_many_numbers() -> None:
    x = tf.Variable(np.eye(100)[0])
    curvatures = np.ones(100)
    curvatures[7] = -0.5
    assert _kinds(lambda: tf.reduce_sum(curvatures * x**2), "sgd", lr=0.1) == [FindingKind.SADDLE]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_model_that_begins_at_zero_stays_by_symmetry(activation: str) -> None:
    rows = np.random.default_rng(0).standard_normal((64, 3)).astype("float32")
    layers = [keras.layers.Dense(4, activation, kernel_initializer="zeros")]
    layers.append(keras.layers.Dense(1, kernel_initializer="zeros"))
    model = keras.Sequential([keras.layers.Input((3,)), *layers])
    target = 2 * rows[:, :1] + 1
    kinds = _kinds(lambda: tf.reduce_mean((model(rows) - target) ** 2), "sgd", lr=0.1)
    assert kinds == [FindingKind.SADDLE]


def test_the_monkey_saddle() -> None:
    x = tf.Variable([0.5, 0.0], dtype=tf.float64)
    loss = lambda: x[0] ** 3 - 3 * x[0] * x[1] ** 2  # noqa: E731
    assert _kinds(loss, "sgd", steps=20_000, lr=0.01, tol=1e-6) == [FindingKind.SADDLE]


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_plateau(engine: str) -> None:
    """1 − 2eˣ + …, far to the left: the slope is 1.7·10⁻⁶ at −14."""
    x = tf.Variable(-14.0)
    (found,) = _run(lambda: (1 - tf.sigmoid(x)) ** 2, "sgd", lr=0.1, engine=engine).findings
    assert str(found) == (
        "it settled at a flat point (gradient 1.7·10⁻⁶, curvature 1.7·10⁻⁶), not at a minimum "
        "· start elsewhere, or set a lower --tol"
    )
    assert found.kind is FindingKind.FLAT_POINT


def test_plateaus_of_other_losses() -> None:
    x, y = tf.Variable(9.0, dtype=tf.float64), tf.Variable([12.0, 0.0])
    assert _kinds(lambda: tf.tanh(x) ** 2, "sgd", lr=0.1) == [FindingKind.FLAT_POINT]
    assert _kinds(lambda: -tf.exp(-tf.reduce_sum(y**2) / 4), "sgd") == [FindingKind.FLAT_POINT]


def test_a_point_of_inflection() -> None:
    x = tf.Variable(0.0, dtype=tf.float64)
    assert _kinds(lambda: x**3 + x**4 / 10) == [FindingKind.FLAT_POINT]


def test_a_rule_that_ends_a_run_on_its_way() -> None:
    x = tf.Variable(-3.0)
    (found,) = _run(lambda: (1 - tf.sigmoid(x)) ** 2, "sgd", lr=1.0, tol=0.2).findings
    assert found.kind is FindingKind.FLAT_POINT
    assert found.cure == "lower --tol"


ROWS = np.random.default_rng(0).standard_normal((32, 4)).astype("float32")
WIDE = np.random.default_rng(1).standard_normal((3, 8)).astype("float32")
SIDES = np.sign(ROWS[:, 0])


def _rosenbrock(x: Any) -> Any:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


@pytest.mark.parametrize(
    ("loss", "start", "optimizer", "options"),
    [
        (lambda x: (x - 3) ** 2, 0.0, "auto", {}),
        (lambda x: (x - 3) ** 2, 3.0, "auto", {}),
        (lambda x: (x - 3) ** 2 + 1000, 0.0, "sgd", {"lr": 0.05}),
        (lambda x: x**4, 3.0, "auto", {}),
        (lambda x: x**4, 3.0, "sgd", {"lr": 0.01}),
        (lambda x: x**4 + 1, 0.0, "auto", {}),
        (lambda x: tf.abs(x - 1), 3.0, "auto", {}),
        (tf.nn.relu, 3.0, "sgd", {"steps": 1000, "lr": 0.01, "tol": 1e-6}),
        (_rosenbrock, [-1.2, 1.0], "auto", {}),
        (_rosenbrock, [-1.2, 1.0], "adam", {"lr": 0.02}),
        (lambda x: 20 + tf.reduce_sum(x**2 - 10 * tf.cos(2 * np.pi * x)), [2.1, -1.2], "auto", {}),
        (lambda w: tf.reduce_sum((WIDE @ w[:, None] - 1) ** 2), [0.0] * 8, "sgd", {"lr": 0.01}),
        (lambda w: tf.reduce_mean((ROWS @ w[:, None] - 1) ** 2), [0.0] * 4, "sgd", {"lr": 0.1}),
        (lambda w: tf.reduce_mean(tf.abs(ROWS @ w[:, None] - 1)), [0.0] * 4, "auto", {}),
        (
            lambda w: tf.reduce_mean((ROWS @ w[:, None] - 1) ** 2) + 0.3 * tf.reduce_sum(tf.abs(w)),
            [1.0] * 4,
            "auto",
            {},
        ),
        (
            lambda w: tf.reduce_mean(tf.nn.softplus(-SIDES * tf.linalg.matvec(ROWS, w))),
            [0.0] * 4,
            "adam",
            {"steps": 3000, "lr": 0.05, "gtol": 1e-2},
        ),
    ],
    ids=[
        "square",
        "at its minimum",
        "beside 1,000",
        "fourth power",
        "by descent",
        "begun there",
        "kink",
        "the edge of a plateau",
        "Rosenbrock",
        "by Adam",
        "one minimum of many",
        "a valley without a floor's end",
        "regression",
        "absolute errors",
        "lasso",
        "separable",
    ],
)
def test_minima_of_every_shape(loss: Any, start: Any, optimizer: str, options: dict[str, Any]) -> None:
    x = tf.Variable(start)
    assert _kinds(lambda: loss(x), optimizer, **options) == []


def test_what_holds_the_variables_besides_the_loss_is_no_fault() -> None:
    x = tf.Variable(2.0)
    result = tape_magic.minimize(lambda x: (x + 1) ** 2, {"x": x}, bounds={"x": (0.0, None)}, engine="graph")
    assert not [one for one in result.findings if one.kind is not FindingKind.AT_BOUND]
    y = keras.Variable(2.0, constraint=keras.constraints.NonNeg())
    assert _kinds(lambda: (y + 1) ** 2, "sgd", lr=0.1) == []


def test_a_target_is_what_was_asked_for() -> None:
    x = tf.Variable(-6.0)
    assert _kinds(lambda: (1 - tf.sigmoid(x)) ** 2, "sgd", steps=100, lr=1.0, target=0.999) == []


def test_random_losses_are_not_checked() -> None:
    x = tf.Variable(-6.0)
    dropout = keras.layers.Dropout(0.5)
    ones = tf.ones((1, 8))
    options = {"steps": 200, "lr": 0.01, "tol": 10.0}
    assert _kinds(lambda: tf.reduce_mean(dropout(ones, training=True)) * x**2, "sgd", **options) == []
    assert _kinds(lambda: (x + tf.random.normal([])) ** 2, "sgd", **options) == []
