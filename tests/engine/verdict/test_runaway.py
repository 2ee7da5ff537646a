"""Steps that grow: found by the curvature, which is known in advance, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import Finding, FindingKind


def _found(
    loss: Callable[..., Any], optimizer: Any, steps: int | None = 200, **options: Any
) -> list[Finding]:
    options = {"engine": "graph", **options}
    result = tape_magic.minimize(loss, None, optimizer, steps, **options)
    return [one for one in result.findings if one.kind is FindingKind.RUNAWAY]


@pytest.mark.parametrize("engine", ["graph", "xla", "eager"])
def test_the_bound_of_the_rate_is_two_over_the_curvature(engine: str) -> None:
    """The second derivative of 6.2·x² is 12.4, and 2/12.4 = 0.161."""
    x = tf.Variable(5.0)
    (found,) = _found(lambda: 6.2 * x**2, "sgd", lr=0.2, engine=engine)
    assert str(found) == (
        "the steps grow: the rate is above 2/λ (λ ≈ 12.4): below 0.16 it would not · --lr 0.08"
    )
    assert found.evidence["curvature"] == pytest.approx(12.4, rel=1e-3)
    assert float(x) == 5.0  # the lowest loss is that of the start


def test_the_steepest_of_many_directions_decides() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    hessian = tf.constant(rotation * np.geomspace(1.0, 50.0, 100) @ rotation.T)
    x = tf.Variable(np.ones(100))
    (found,) = _found(lambda: tf.tensordot(x, tf.linalg.matvec(hessian, x), 1) / 2, "sgd", 2000, lr=0.05)
    assert found.evidence["curvature"] == pytest.approx(50, rel=0.02)


def test_momentum_allows_a_larger_rate() -> None:
    x = tf.Variable(1.0)
    momentum = keras.optimizers.SGD(0.5, momentum=0.9)  # stable below 2·1.9/10
    (found,) = _found(lambda: 5 * x**2, momentum, 500)
    assert found.cure == "learning_rate=0.1"
    assert found.evidence["bound"] == pytest.approx(0.38, rel=1e-3)


def test_growth_that_stays_finite_is_found() -> None:
    """At 1.02/1 of the bound, each step makes x² larger by 8 %."""
    x = tf.Variable(5.0)
    (found,) = _found(lambda: x**2, "sgd", 40, lr=1.02)
    assert found.evidence["bound"] == pytest.approx(1.0, rel=1e-3)


def test_it_is_found_over_data_and_in_a_model() -> None:
    rows = 4 * np.random.default_rng(0).standard_normal((64, 3)).astype("float32")
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    options: dict[str, Any] = {"lr": 0.2, "data": (rows, rows[:, :1]), "batch": 16, "epochs": 40}
    (found,) = _found(lambda x, t: tf.reduce_mean((model(x) - t) ** 2), "sgd", None, **options)
    assert 0 < found.evidence["bound"] < 0.2


@pytest.mark.parametrize(
    ("loss", "optimizer", "rate"),
    [
        (lambda x: x**2, "sgd", 0.99),  # back and forth, and down
        (lambda x: tf.math.log(2 * x), "sgd", 5.0),  # beyond the domain of an operation
        (lambda x: tf.abs(x), "sgd", 2.0),  # no curvature
        (lambda x: x**2, "adam", 50.0),  # no bound is known
        (lambda x: -(x**2), "sgd", 0.1),  # no minimum: a smaller rate is no help
    ],
    ids=["stable", "logarithm", "kink", "adam", "no minimum"],
)
def test_nothing_is_found_where_the_rate_is_not_to_blame(loss: Any, optimizer: str, rate: float) -> None:
    x = tf.Variable(1.5)
    assert _found(lambda: loss(x), optimizer, lr=rate) == []
