"""Variables whose steps are lost in their rounding, and variables that stay for good reasons."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import MinimizeResult


def unmoved(result: MinimizeResult) -> list[str]:
    return [str(one) for one in result.findings if one.kind is FindingKind.UNMOVED]


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_steps_below_the_rounding(engine: str) -> None:
    """The gradient of (w − 3)² at 1 is −4: steps of 4·10⁻⁹, where float32 needs 6·10⁻⁸."""
    w, v = tf.Variable(1.0), tf.Variable(1e-3)
    options: dict[str, Any] = {"lr": 1e-9, "engine": engine}
    result = tape_magic.minimize(lambda w, v: (w - 3) ** 2 + v**2, {"w": w, "v": v}, "sgd", 20, **options)
    assert unmoved(result) == [
        "w does not move: its steps (4·10⁻⁹) are below float32's rounding of 1 "
        "· raise --lr, or make it float64"
    ]
    assert w.numpy() == 1.0


@pytest.mark.parametrize(
    ("value", "dtype", "optimizer", "rate", "sentence"),
    [
        (
            1e8,
            "float32",
            "sgd",
            1e-3,
            "w does not move: its steps (0.004) are below float32's rounding",
        ),
        (
            1.0,
            "float16",
            "sgd",
            1e-5,
            "w does not move: its steps (4·10⁻⁵) are below float16",
        ),
        (
            1.0,
            "float16",
            "adam",
            1e-4,
            "w does not move: its steps (10⁻⁴) are below float16",
        ),
        (1.0, "bfloat16", "sgd", 1e-4, "w does not move: its steps (4·10⁻⁴) are below bfloat16"),
        # Adam's β₂ = 0.999 is 1 in bfloat16, and 1 − β₂ᵗ is 0 at each step.
        (1.0, "bfloat16", "adam", 0.1, "w does not move: its steps are 0 in bfloat16"),
    ],
)
def test_dtypes(value: float, dtype: str, optimizer: str, rate: float, sentence: str) -> None:
    w = tf.Variable(value, dtype=dtype)
    scale = value**-1
    result = tape_magic.minimize(
        lambda w: ((w - 3 * value) * scale) ** 2 * value, {"w": w}, optimizer, 20, lr=rate
    )
    (one,) = unmoved(result)
    assert one.startswith(sentence)


def test_a_halt_on_the_way() -> None:
    """In float16, numbers from 2 to 4 are 1/512 apart: steps of 0.002·(w − 3) are too small from 3.49 on."""
    w = tf.Variable(20.0, dtype="float16")
    (one,) = unmoved(tape_magic.minimize(lambda w: (w - 3) ** 2, {"w": w}, "sgd", 4000, lr=1e-3))
    assert "float16's rounding of 3.49" in one


def frozen() -> MinimizeResult:
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    layer.bias.trainable = False
    x = tf.ones((3, 2))
    return tape_magic.minimize(lambda: tf.reduce_mean((layer(x) - 1) ** 2), None, "sgd", 30, lr=0.1)


def embedding() -> MinimizeResult:
    """Of 100 rows, two are looked up."""
    table = tf.Variable(tf.ones((100, 2)))
    return tape_magic.minimize(
        lambda: tf.reduce_sum((tf.gather(table, [3, 7]) - 2) ** 2), None, "sgd", 30, lr=0.1
    )


def at_the_minimum() -> MinimizeResult:
    """In float32, the mean of 1, 2 and 6 is not quite where the gradient is 0."""
    w = tf.Variable(3.0)
    return tape_magic.minimize(
        lambda: tf.reduce_mean((w - tf.constant([1.1, 2.2, 6.3])) ** 2), None, "sgd", 300, lr=0.1
    )


def plateau() -> MinimizeResult:
    """The slope of a sigmoid at −30 is 10⁻¹³: where it leads is far from where it is."""
    w = tf.Variable(-30.0)
    return tape_magic.minimize(lambda: 1 - tf.sigmoid(w), None, "sgd", 30, lr=0.1)


def held_by_a_bound() -> MinimizeResult:
    return tape_magic.minimize(
        lambda w: (w + 1) ** 2, {"w": tf.Variable(0.0)}, "sgd", 30, lr=0.1, bounds={"w": (0.0, None)}
    )


def accumulated() -> MinimizeResult:
    w = tf.Variable(1.0, dtype="float16")
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=7)
    return tape_magic.minimize(lambda: (w - 3) ** 2, None, optimizer, 70)


def arrived_in_half_precision() -> MinimizeResult:
    w = tf.Variable(1.0, dtype="float16")
    return tape_magic.minimize(lambda: (w - 3) ** 2, None, "sgd", 100, lr=0.1)


def begun_at_the_minimum() -> MinimizeResult:
    w = tf.Variable(np.float32(3.0))
    return tape_magic.minimize(lambda: (w - 3) ** 2 + 1, None, "adam", 30, lr=0.1)


@pytest.mark.parametrize(
    "healthy",
    [
        frozen,
        embedding,
        at_the_minimum,
        plateau,
        held_by_a_bound,
        accumulated,
        arrived_in_half_precision,
        begun_at_the_minimum,
    ],
)
def test_nothing_is_said(healthy: Any) -> None:
    assert unmoved(healthy()) == []
