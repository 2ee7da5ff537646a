"""(n, 1) less (n,) is n × n: found where predictions meet targets so, and nowhere else."""

from __future__ import annotations

import pytest

from tape_magic.results.findings import FindingKind
from tests.support.notebook import Notebook

SETUP = """
import keras
import numpy as np
import tensorflow as tf
X, t = np.arange(12, dtype="float32").reshape(4, 3) / 12, np.arange(4, dtype="float32")
c, w = tf.Variable([0.1, 0.2, 0.3, 0.4]), tf.Variable([[1.0], [1.0], [1.0]])
"""


def _lines(shell: Notebook, body: str, line: str = "--over w") -> list[int | None]:
    run = shell.run(f"%%minimize y {line} --lr 0.01 --steps 2 --optimizer sgd\n{body}")
    assert run.success, run.traceback
    found = [one for one in shell.ns["minimum"].findings if one.kind is FindingKind.BROADCAST]
    return [None if one.line is None else one.line.line for one in found]


def test_predictions_that_meet_all_targets_are_found(shell: Notebook) -> None:
    shell.run(SETUP)
    for engine in ("graph", "xla", "eager"):
        over = f"--over w --engine {engine}"
        assert _lines(shell, "p = X @ w\ny = tf.reduce_mean((p - t) ** 2)", over) == [3]
    (found,) = shell.ns["minimum"].findings[:1]
    assert found.sentence == (
        "line 3 subtracts (4,) from (4, 1): that is (4, 4), every prediction against every target"
    )
    assert found.evidence == {"shapes": ((4, 1), (4,)), "rows": 4}
    assert _lines(shell, "p = X @ w\nd = t - p\ny = tf.reduce_sum(d * d)") == [3]
    assert _lines(shell, "p = X @ w\ny = tf.reduce_mean(tf.reduce_mean(tf.abs(t - p), axis=-1))") == [3]
    assert _lines(shell, "p = X @ w\ny = tf.reduce_mean(tf.math.squared_difference(p, t))") == [3]
    shell.run("m = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])")
    over = "--over m --for 'xb, tb in (X, t)' --batch 2"
    assert _lines(shell, "p = m(xb)\ny = tf.reduce_mean((p - tb) ** 2)", over) == [3]


@pytest.mark.parametrize(
    "body",
    [
        "p = X @ w\ny = tf.reduce_mean((p[:, 0] - t) ** 2)",  # as it should be
        "p = X @ w\ny = tf.reduce_mean((p - t[:, None]) ** 2)",
        "p = X @ w\ny = tf.reduce_mean(keras.losses.mean_squared_error(t, p))",  # Keras makes the axis
        "p = tf.keras.losses.MeanSquaredError()\ny = p(t, X @ w)",
        "p = (X @ w)[:, 0]\ny = tf.reduce_mean((p[:, None] - p) ** 2)",  # all pairs of predictions
        "y = tf.reduce_mean(tf.exp(-((t[:, None] - (X @ w)[:, 0]) ** 2)))",  # a kernel
        "p = X @ w\ny = tf.reduce_mean(tf.reduce_min((p - t) ** 2, axis=1))",  # the nearest target of each
        "p = X @ w\ny = -tf.reduce_mean(tf.nn.log_softmax(p - t))",  # contrasts
        "p = X @ w\ny = tf.reduce_mean((p * tf.transpose(p)) ** 2)",
        "p = X @ w\ny = tf.reduce_mean((p - tf.reduce_mean(t)) ** 2)",
        "p = X @ w + c[0]\ny = tf.reduce_mean((p[:, 0] - t) ** 2)",
    ],
)
def test_what_is_meant_is_not_found(shell: Notebook, body: str) -> None:
    shell.run(SETUP)
    assert _lines(shell, body) == []


def test_distances_to_centres_are_not_found(shell: Notebook) -> None:
    shell.run(SETUP + "\ndata = t[:, None]")
    assert _lines(shell, "y = tf.reduce_mean((data - c) ** 2)", "--over c") == []
    assert _lines(shell, "y = tf.reduce_mean((data - 2 * c) ** 2)", "--over c") == []
