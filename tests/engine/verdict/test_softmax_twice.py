"""A softmax before a loss that takes its own: found where it is really taken twice."""

from __future__ import annotations

import pytest

from tape_magic.results.findings import FindingKind
from tests.support.notebook import Notebook

SETUP = """
import keras
import numpy as np
import tensorflow as tf
X, t = np.arange(12, dtype="float32").reshape(4, 3) / 12, np.array([0, 1, 1, 0])
one_hot = tf.one_hot(t, 2)
w = tf.Variable(tf.ones((3, 2)))
"""


def _lines(shell: Notebook, body: str, engine: str = "graph") -> list[int | None]:
    line = f"--over w --lr 0.01 --steps 2 --optimizer sgd --engine {engine}"
    run = shell.run(f"%%minimize y {line}\n{body}")
    assert run.success, run.traceback
    found = [one for one in shell.ns["minimum"].findings if one.kind is FindingKind.SOFTMAX_TWICE]
    return [None if one.line is None else one.line.line for one in found]


def test_probabilities_in_place_of_logits_are_found(shell: Notebook) -> None:
    shell.run(SETUP)
    body = "p = tf.nn.softmax(X @ w)\ny = tf.reduce_mean(tf.nn.{}(labels={}, logits=p))"
    for engine in ("graph", "eager"):
        assert _lines(shell, body.format("softmax_cross_entropy_with_logits", "one_hot"), engine) == [3]
    (found,) = (one for one in shell.ns["minimum"].findings if one.kind is FindingKind.SOFTMAX_TWICE)
    assert found.cure == "drop the softmax of line 2"
    assert found.evidence == {"operation": "SoftmaxCrossEntropyWithLogits", "activation": "Softmax"}
    assert _lines(shell, body.format("sparse_softmax_cross_entropy_with_logits", "t")) == [3]


@pytest.mark.filterwarnings("ignore:.*does not represent logits")
def test_keras_finds_the_logits_in_a_graph_and_not_in_python(shell: Notebook) -> None:
    shell.run(SETUP)
    keras_loss = "keras.losses.SparseCategoricalCrossentropy(from_logits=True)(t, p)"
    body = f"p = tf.nn.softmax(X @ w)\ny = {keras_loss}"
    assert _lines(shell, body) == []  # what Softmax was given is taken as the logits
    assert _lines(shell, body, "eager") == [3]


@pytest.mark.parametrize(
    "body",
    [
        "p = X @ w\ny = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(t, p)",
        "p = tf.nn.softmax(X @ w)\ny = keras.losses.SparseCategoricalCrossentropy()(t, p)",
        "p = keras.activations.softmax(X @ w)\ny = keras.losses.CategoricalCrossentropy()(one_hot, p)",
        "p = tf.nn.log_softmax(X @ w)\n"
        "y = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=p))",
        "p = 10 * tf.nn.softmax(X @ w)\n"
        "y = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=p))",
        "p = tf.nn.softmax(X @ w) @ tf.transpose(w)[:, :2]\n"
        "y = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=p))",
    ],
)
def test_one_softmax_is_not_found(shell: Notebook, body: str) -> None:
    shell.run(SETUP)
    for engine in ("graph", "eager"):
        assert _lines(shell, body, engine) == []
