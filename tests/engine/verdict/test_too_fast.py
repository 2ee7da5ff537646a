"""Rates just below what is stable, found, and steps back and forth that lead down or are at the minimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import Finding, FindingKind

ENGINES = ("xla", "graph", "eager")


def found(loss: Callable[..., Any], optimizer: Any, steps: int, **options: Any) -> list[Finding]:
    result = tape_magic.minimize(loss, None, optimizer, steps, **options)
    return [one for one in result.findings if one.kind is FindingKind.TOO_FAST]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rate_at_the_limit(engine: str) -> None:
    """The curvature of 100·x² is 200: at a rate of 0.01 = 2/λ, x becomes −x."""
    x = tf.Variable(1.0)
    result = tape_magic.minimize(lambda: 100 * x**2, None, "sgd", 50, lr=0.01, engine=engine)
    (one,) = result.findings
    assert str(one) == "11 of 11 further steps turn back: the rate is 2/λ, its limit 2/λ · --lr 0.002"
    assert one.evidence["curvature"] == pytest.approx(200, rel=1e-3)
    assert one.evidence["loss_there"] < 1e-3 * one.evidence["loss"]
    assert x.numpy() == pytest.approx(1.0)  # and all is where the run ended


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rate_below_the_limit_is_named_and_more_of_it_not_advised(engine: str) -> None:
    """At 1.99/λ, x is multiplied by −0.99 a step: a loss that still falls needs no higher rate."""
    x, y = tf.Variable(1.0), tf.Variable(1.0)
    result = tape_magic.minimize(lambda: 100 * x**2 + y**2, None, "sgd", 50, lr=0.00995, engine=engine)
    (one,) = result.findings
    assert one.sentence.endswith("the rate is 1.99/λ, its limit 2/λ")


def test_momentum_has_a_limit_of_its_own() -> None:
    """With momentum β, the limit is 2(1 + β)/λ: 3.8/λ = 1.9 for x² and 0.9."""
    x = tf.Variable(1.0, dtype=tf.float64)
    optimizer = keras.optimizers.SGD(1.9, momentum=0.9)
    (one,) = found(lambda: x**2, optimizer, 50)
    assert float(optimizer.learning_rate) == pytest.approx(1.9)
    assert "its limit 3.8/λ" in one.sentence
    assert one.cure == "learning_rate=0.4"


@pytest.mark.parametrize(
    ("optimizer", "rate", "cure"), [("sgd", 0.3, "--lr 0.07"), ("rmsprop", 0.3, "--lr 0.07")]
)
def test_a_kink_keeps_a_fixed_rate_from_the_minimum(optimizer: str, rate: float, cure: str) -> None:
    x = tf.Variable(5.1)
    (one,) = found(lambda: tf.abs(x), optimizer, 200, lr=rate)
    assert one.cure == cure


def test_all_data_in_one_batch() -> None:
    """The curvature of the mean of (s·w − t)² with s² = 1 is 2."""
    s, w = np.array([1.0, -1.0, 1.0, -1.0], "float32"), tf.Variable(0.0)
    (one,) = found(lambda a, b: tf.reduce_mean((a * w - b) ** 2), "sgd", 20, lr=1.0, data=(s, 2 * s), batch=4)
    assert "the rate is 2/λ" in one.sentence


def test_batches_that_scatter() -> None:
    """At 1.9/λ, the noise of batches is amplified to 1/(1 − 0.9²), about five times that of one step."""
    random = np.random.default_rng(1)
    s = np.sign(random.normal(size=64)).astype("float32")
    t, w = (2 * s + random.normal(size=64)).astype("float32"), tf.Variable(0.0)
    result = tape_magic.minimize(
        lambda a, b: tf.reduce_mean((a * w - b) ** 2), None, "sgd", 960, lr=0.95, data=(s, t), batch=4, seed=1
    )
    (one,) = result.findings
    assert one.kind in (FindingKind.TOO_FAST, FindingKind.NOISE_FLOOR)
    assert one.cure.startswith("--lr 0.2")


def quadratic(rate: float, steps: int, optimizer: str = "sgd") -> tuple[Callable[[], Any], Any, int, float]:
    """x² + 1 from 3, whose curvature is 2."""
    x = tf.Variable(3.0)
    return lambda: x**2 + 1, optimizer, steps, rate


def lasso() -> tuple[Callable[[], Any], Any, int, float]:
    """Of three weights, one belongs at 0, and goes back and forth by half a step of its penalty's."""
    w, b = tf.Variable([1.0, 1.0, 1.0]), tf.constant([2.0, -1.0, 0.0])
    return lambda: tf.reduce_sum((w - b) ** 2) + 0.3 * tf.reduce_sum(tf.abs(w)), "sgd", 200, 0.05


def random_loss() -> tuple[Callable[[], Any], Any, int, float]:
    x = tf.Variable(3.0)
    return lambda: (x + tf.random.normal([])) ** 2, "sgd", 100, 0.95


def narrow() -> tuple[Callable[[], Any], Any, int, float]:
    """Across the valley, x is there at once; along it, y has far to go at any stable rate."""
    x, y = tf.Variable(1.0), tf.Variable(1.0)
    return lambda: 100 * x**2 + 0.1 * y**2, "sgd", 100, 0.0095


@pytest.mark.parametrize(
    "healthy",
    [
        lambda: quadratic(0.95, 100),  # 1.9/λ: it falls by 19 % a step
        lambda: quadratic(0.95, 12),
        lambda: quadratic(0.1, 200),
        lambda: quadratic(0.75, 200),  # at the minimum but for the rounding of x
        lambda: quadratic(0.001, 200),  # slow
        lambda: quadratic(0.1, 500, "adam"),
        lambda: quadratic(0.01, 500, "rmsprop"),  # back and forth by 0.005
        lambda: quadratic(1.0, 5),  # five steps are a look
        lasso,
        random_loss,
        narrow,
    ],
)
def test_nothing_is_said(healthy: Callable[[], tuple[Callable[[], Any], Any, int, float]]) -> None:
    loss, optimizer, steps, rate = healthy()
    assert found(loss, optimizer, steps, lr=rate) == []


def test_a_network_at_the_edge_of_stability() -> None:
    """Full batches at a fixed rate sharpen the loss up to 2/λ, from where on they bounce and still learn."""
    random = np.random.default_rng(1)
    x = random.normal(size=(64, 4)).astype("float32")
    y = (np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]).astype("float32")
    start = [
        random.normal(0, size, shape) for size, shape in ((0.5, (4, 24)), (0.2, (24, 24)), (0.2, (24, 1)))
    ]
    weights = [tf.Variable(one.astype("float32")) for one in start]

    def loss() -> Any:
        hidden = tf.tanh(tf.tanh(x @ weights[0]) @ weights[1])
        return tf.reduce_mean((hidden @ weights[2] - y) ** 2)

    assert found(loss, "sgd", 400, lr=0.3) == []


def test_momentum_swings_over_and_comes_back() -> None:
    x = tf.Variable(3.0)
    assert found(lambda: (x - 1) ** 2, keras.optimizers.SGD(0.1, momentum=0.9), 60) == []


def test_averages_that_were_left_are_the_cure() -> None:
    x = tf.Variable(3.0)
    averaging = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    assert found(lambda: x**2, averaging, 30) == []


def test_a_schedule_is_left_alone() -> None:
    x = tf.Variable(3.0)
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 100, 0.99)
    assert found(lambda: x**2, "sgd", 30, lr=schedule) == []
