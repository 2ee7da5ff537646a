"""Losses that fall slowly: by steps that could be longer, or in a valley; on quadratics known in advance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import Finding, FindingKind

KINDS = FindingKind.TOO_SLOW, FindingKind.ILL_CONDITIONED


def _found(loss: Callable[..., Any], optimizer: Any, steps: int | None, **options: Any) -> list[Finding]:
    options = {"engine": "graph", **options}
    result = tape_magic.minimize(loss, None, optimizer, steps, **options)
    return [one for one in result.findings if one.kind in KINDS]


def _quadratic(*curvatures: float) -> Callable[[], Any]:
    """Return ½xᵀHx over a fresh x = (1, …, 1), with H of these eigenvalues and no axis among its vectors."""
    count = len(curvatures)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((count, count)))[0]
    hessian, x = tf.constant(rotation * curvatures @ rotation.T), tf.Variable(np.ones(count))
    return lambda: tf.tensordot(x, tf.linalg.matvec(hessian, x), 1) / 2


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_steps_that_could_be_longer(engine: str) -> None:
    x = tf.Variable(5.0)
    (found,) = _found(lambda: (x - 3) ** 2, "sgd", 100, lr=1e-5, engine=engine)
    assert str(found) == "each step could be 50,000 times as long · --lr 0.5"
    assert found.kind is FindingKind.TOO_SLOW


def test_the_largest_curvature_bounds_the_rate() -> None:
    (found,) = _found(_quadratic(*np.linspace(1, 20, 40)), "sgd", 100, lr=2e-6)
    assert found.cure == "--lr 0.05"  # 1/20
    momentum = keras.optimizers.SGD(1e-6, momentum=0.9)
    (found,) = _found(_quadratic(1.0, 2.0), momentum, 100)
    assert found.cure == "learning_rate=0.5"


def test_steps_of_adam_could_be_longer() -> None:
    x = tf.Variable(5.0)
    (found,) = _found(lambda: (x - 3) ** 2, "adam", 100, lr=1e-6)
    assert found.kind is FindingKind.TOO_SLOW
    # 32 steps of 10⁻² have not passed the minimum, two away; 32 of 10⁻¹ have.
    assert found.cure == "--lr 0.01"


def test_it_is_found_over_data() -> None:
    rows = np.random.default_rng(0).standard_normal((128, 3)).astype("float32")
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    options: dict[str, Any] = {"lr": 1e-6, "data": (rows, rows[:, :1]), "batch": 16, "epochs": 10}
    (found,) = _found(lambda x, t: tf.reduce_mean((model(x) - t) ** 2), "sgd", None, **options)
    assert found.kind is FindingKind.TOO_SLOW


def test_a_usual_rate_over_data_is_not_found() -> None:
    """The losses of 16 rows scatter by more than 60 steps lower them, and yet each step lowers them well."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((64, 8)).astype("float32")
    sides = (rows[:, :1] + generator.standard_normal((64, 1)) > 0).astype("float32")
    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1, kernel_initializer="ones")])
    options: dict[str, Any] = {"lr": 0.01, "data": (rows, sides), "batch": 16, "epochs": 15}

    def loss(x: Any, t: Any) -> Any:
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(t, model(x)))

    assert _found(loss, "sgd", None, **options) == []


def test_a_rule_that_ended_a_run_of_short_steps_did_not_converge() -> None:
    x = tf.Variable(5.0, dtype=tf.float64)
    result = tape_magic.minimize(lambda: (x - 3) ** 2, None, "sgd", lr=1e-10, engine="graph")
    assert [one.kind for one in result.findings] == [FindingKind.TOO_SLOW]
    assert not result.converged


def test_a_narrow_valley() -> None:
    x, y = tf.Variable(1.0, name="x"), tf.Variable(1.0, name="y")
    (found,) = _found(lambda: (40_000 * x**2 + y**2) / 2, "sgd", 500, lr=3e-5)
    assert str(found) == "a narrow valley: 1 : 40,000 · lbfgs, or scale x and y alike"
    assert found.kind is FindingKind.ILL_CONDITIONED
    for curvatures in ((1.0, 40_000.0), (0.01, 1.0, 1e4), (*[1.0] * 10, *[4e4] * 10)):
        (found,) = _found(_quadratic(*curvatures), "sgd", 500, lr=1 / curvatures[-1])
        assert found.kind is FindingKind.ILL_CONDITIONED


def test_a_valley_is_as_narrow_as_float64_tells() -> None:
    (found,) = _found(_quadratic(1.0, 1e8), "sgd", 500, lr=1e-8)
    assert str(found).startswith("a narrow valley: 1 : 100,000,000 ·")


def test_the_valley_of_rosenbrock() -> None:
    x = tf.Variable([-1.2, 1.0])
    (found,) = _found(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, "sgd", 1000, lr=1e-3)
    assert found.kind is FindingKind.ILL_CONDITIONED


@pytest.mark.parametrize(
    ("loss", "optimizer", "steps", "rate"),
    [
        (lambda x: (x - 3) ** 2, "sgd", 1000, 0.01),  # there
        (lambda x: (x - 3) ** 2 + 1000, "sgd", 500, 0.001),  # nothing beside the 1,000
        (lambda x: (x - 3) ** 2, "sgd", 20, 1e-5),  # twenty steps are a look
        (lambda x: (x - 3) ** 2, "sgd", 200, 0.001),  # slower than it could be, and on its way
        (lambda x: tf.abs(x - 3), "sgd", 500, 0.01),
        (lambda x: x**4, "sgd", 2000, 0.01),
        (lambda x: 1e-3 * tf.random.normal([]) + 0 * x + 1, "sgd", 200, 1e-6),
    ],
    ids=["arrived", "offset", "few steps", "on its way", "kink", "fourth power", "noise"],
)
def test_nothing_is_found_of_other_runs(loss: Any, optimizer: str, steps: int, rate: float) -> None:
    x = tf.Variable(5.0)
    assert _found(lambda: loss(x), optimizer, steps, lr=rate) == []


def test_nothing_is_found_in_a_valley_once_it_is_crossed() -> None:
    assert _found(_quadratic(1.0, 1000.0), "sgd", 10_000, lr=1e-3) == []
    assert _found(_quadratic(0.01, 1e4), "lbfgs", None) == []


def test_weight_decay_holds_where_the_loss_would_fall() -> None:
    x = tf.Variable(5.0)
    decaying = keras.optimizers.SGD(1e-5, weight_decay=1e-3)
    assert _found(lambda: (x - 3) ** 2, decaying, 200) == []
