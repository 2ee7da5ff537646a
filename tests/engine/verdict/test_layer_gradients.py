"""Gradients that shrink or grow from layer to layer, by factors that are known."""

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
T = X[:, :1] + X[:, 1:2]
KINDS = FindingKind.VANISHING, FindingKind.EXPLODING


def found(loss: Callable[[], Any], over: Any, optimizer: str = "sgd", **options: Any) -> list[Finding]:
    options = {"lr": 1e-3, "engine": "graph", **options}
    result = tape_magic.minimize(loss, over, optimizer, options.pop("steps", 10), **options)
    return [one for one in result.findings if one.kind in KINDS]


def chain(factor: float, count: int = 7) -> tuple[list[Any], Callable[[], Any]]:
    """Return weights, and a loss of layers of which each multiplies values and gradients by a factor."""
    weights = [tf.Variable(factor * np.eye(4, dtype="float32")) for _ in range(count)]

    def loss() -> Any:
        h = X
        for w in weights:
            h = h @ w
        return tf.reduce_mean((tf.reduce_sum(h, 1, keepdims=True) - T) ** 2)

    return weights, loss


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_gradient_that_vanishes(engine: str) -> None:
    weights, loss = chain(0.1)  # the six layers behind the first multiply what arrives by 10⁻⁶
    (finding,) = found(loss, {"w": weights}, engine=engine)
    assert finding.kind is FindingKind.VANISHING
    assert finding.sentence == "the gradient shrinks by 10⁻⁶ from w[6] to w[0]"
    assert finding.evidence["ratio"] == pytest.approx(1e-6, rel=0.1)
    assert finding.line is not None
    assert finding.line.text == "h = h @ w"


def test_a_gradient_that_explodes() -> None:
    weights, loss = chain(10.0)
    (finding,) = found(loss, weights)
    assert finding.kind is FindingKind.EXPLODING
    assert finding.evidence["ratio"] == pytest.approx(1e6, rel=0.1)
    assert "10⁶" in finding.sentence


def test_layers_of_sigmoids_are_named_with_a_cure() -> None:
    keras.utils.set_random_seed(0)
    between = [keras.layers.Dense(8, activation="sigmoid", name=f"layer_{n}") for n in range(9)]
    model = keras.Sequential([keras.layers.Input((4,)), *between, keras.layers.Dense(1, name="last")])
    (finding,) = found(partial(squares, model), model, lr=0.1, steps=30)
    assert finding.sentence.endswith(" from last to layer_0")
    assert finding.cure.startswith("use relu with he_normal in place of sigmoid")


def squares(model: Any) -> Any:
    return tf.reduce_mean((model(X) - T) ** 2)


def deep(activation: str, *, count: int = 6, **options: Any) -> Any:
    keras.utils.set_random_seed(0)
    between = [keras.layers.Dense(16, activation=activation, **options) for _ in range(count)]
    return keras.Sequential([keras.layers.Input((4,)), *between, keras.layers.Dense(1)])


def test_nothing_is_said_of_healthy_deep_nets() -> None:
    for activation, initializer in (("relu", "he_normal"), ("tanh", "glorot_uniform")):
        model = deep(activation, kernel_initializer=initializer)
        assert found(partial(squares, model), model, lr=1e-6) == []
    model = deep("relu", bias_initializer=keras.initializers.Constant(-9.0))  # dead, and no chain
    assert found(partial(squares, model), model) == []


def test_nothing_is_said_where_the_optimizer_makes_up_for_it_or_the_loss_is_learnt() -> None:
    weights, loss = chain(0.1)
    assert found(loss, weights, "adam", lr=1e-2) == []  # each weight moves by 0.01 a step
    weights, loss = chain(0.1)
    kept = tf.Variable(0.0)
    assert (
        found(lambda: loss() * 0 + (kept - 1) ** 2 + 1e-9 * loss(), [*weights, kept], lr=0.4, steps=20) == []
    )


def test_nothing_is_said_of_a_rate_that_is_too_large() -> None:
    model = deep("relu")
    assert found(partial(squares, model), model, lr=100.0, steps=20) == []
