"""Losses over batches whose rest is noise, and runs over batches that still fall, fit, or are random."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import MinimizeResult

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(128, 4)).astype("float32")
Y = (X @ np.array([1.0, 2.0, 3.0, 4.0]) + RANDOM.normal(size=128)).astype("float32")


def regression(rate: float, batch: int, epochs: int, y: Any = Y, **options: Any) -> MinimizeResult:
    """Least squares over four weights: at the noise floor, the excess is about rate·4/batch of the loss."""
    w = tf.Variable(tf.zeros(4))
    return tape_magic.minimize(
        lambda a, b: tf.reduce_mean((tf.linalg.matvec(a, w) - b) ** 2),
        None,
        options.pop("optimizer", "sgd"),
        lr=rate,
        data=(X, y),
        batch=batch,
        epochs=epochs,
        seed=1,
        **options,
    )


def noise(result: MinimizeResult) -> list[str]:
    return [str(one) for one in result.findings if one.kind is FindingKind.NOISE_FLOOR]


def test_the_noise_of_batches() -> None:
    """With batches of 2 at a rate of 0.1, a fifth of the loss and more is noise."""
    assert noise(regression(0.1, 2, 12)) == [
        "what is left is the noise of batches of 2 · --lr 0.02, or raise --batch"
    ]


def test_adam_over_a_dataset() -> None:
    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(128, seed=1).batch(2)
    w = tf.Variable(tf.zeros(4))
    result = tape_magic.minimize(
        lambda a, b: tf.reduce_mean((tf.linalg.matvec(a, w) - b) ** 2),
        None,
        keras.optimizers.Adam(0.3),
        data=data,
        epochs=12,
    )
    assert noise(result) == [
        "what is left is the noise of batches of 2 · learning_rate=0.07, or take larger batches"
    ]


@pytest.mark.parametrize(
    "healthy",
    [
        lambda: regression(0.01, 32, 10),  # the excess is 0.1 %
        lambda: regression(0.002, 8, 10),  # still falling
        lambda: regression(0.1, 2, 1),  # one epoch
        lambda: regression(0.1, 2, 12, X @ np.array([1, 2, 3, 4], "float32")),  # fits each batch
        lambda: regression(0.1, 128, 60),  # all data at once
        lambda: regression(0.01, 32, 10, optimizer="adam"),
    ],
)
def test_nothing_is_said(healthy: Any) -> None:
    assert noise(healthy()) == []


@pytest.mark.parametrize("seed", [2, 4])
def test_a_net_that_comes_down_at_its_own_rate_only_seems_level(seed: int) -> None:
    """A lower rate leads lower at once, and so do as many steps at the rate that it has."""
    keras.utils.set_random_seed(seed)
    rows = np.random.default_rng(seed).normal(size=(64, 8)).astype("float32")
    layers = keras.layers.Dense(32), keras.layers.BatchNormalization(), keras.layers.ReLU()
    net = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1)])
    result = tape_magic.minimize(
        lambda a, b: tf.reduce_mean((net(a, training=True) - b) ** 2),
        None,
        keras.optimizers.Adam(0.01),
        data=(rows, np.sin(2 * rows[:, :1]) + rows[:, 1:2]),
        batch=16,
        epochs=40,
        seed=1,
    )
    assert noise(result) == []


def test_the_noise_of_dropout_is_not_that_of_batches() -> None:
    w, drop = tf.Variable(tf.zeros(4)), keras.layers.Dropout(0.5, seed=1)
    result = tape_magic.minimize(
        lambda a, b: tf.reduce_mean((tf.linalg.matvec(drop(a, training=True), w) - b) ** 2),
        None,
        "sgd",
        lr=0.05,
        data=(X, Y),
        batch=4,
        epochs=8,
    )
    assert noise(result) == []
