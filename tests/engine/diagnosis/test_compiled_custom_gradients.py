"""Custom gradients of 0 within ``tf.function``: named where they give it, and only there."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook

GATES = """\
import keras, tensorflow as tf
x = tf.Variable([1.0, 2.0])
w = tf.Variable([[0.5, -1.0]])
rows = tf.constant([[1.0, 2.0], [3.0, 4.0]])

@tf.custom_gradient
def gate(v):
    return 2.0 * v, lambda up: tf.zeros_like(up)

@tf.custom_gradient
def times(v):
    def grad(up):
        return 0.0 * up
    return tf.sin(v), grad

@tf.custom_gradient
def quant(v):
    return tf.nn.softplus(v), lambda up: up * tf.cast(v > 100.0, v.dtype)

@tf.custom_gradient
def pair(a, b):
    return tf.exp(a) * b, lambda up: (tf.zeros_like(a), tf.zeros([2]))

@tf.custom_gradient
def half(a, b):
    return a * b, lambda up: (0.0 * up, up * a)

@tf.custom_gradient
def rounded(v):
    return tf.round(v), lambda up: tf.zeros_like(up)

@tf.custom_gradient
def straight(v):
    return tf.round(v), lambda up: up

@tf.custom_gradient
def square(v):
    return v * v, lambda up: 2.0 * v * up

class Gating(keras.layers.Layer):
    def call(self, v):
        return gate(v)

layer = Gating()
"""


@pytest.fixture
def gates(shell: Notebook) -> Notebook:
    shell.ok(GATES)
    return shell


def why(shell: Notebook, body: str, source: str = "x") -> str:
    """The reason for the zero derivative of what a compiled function of one line returns."""
    shell.ok(f"@tf.function\ndef f(v):\n    return {body}")
    shell.ok(f"%%grad y --wrt {source}\ny = f({source})")
    (row,) = shell.ns["grads"]
    assert not row.value.numpy().any()
    return str(row.why)


def test_the_gradient_that_gives_0_is_named(gates: Notebook) -> None:
    for body, name in [
        ("tf.reduce_sum(gate(v))", "gate"),
        ("tf.reduce_sum(times(v)**2)", "times"),
        ("tf.reduce_sum(quant(3.0*v))", "quant"),
        ("tf.reduce_sum(pair(v, tf.ones(2)))", "pair"),
        ("tf.reduce_sum(pair(2.0*v, v))", "pair"),
        ("tf.reduce_sum(gate(v)*gate(2.0*v))", "gate"),
        ("tf.reduce_sum(layer(v))", "gate"),
    ]:
        reason = why(gates, body)
        assert reason.startswith(f"0 because the custom gradient of {name} returns 0, cell "), body
    body = "tf.reduce_sum(quant(tf.matmul(rows, v, transpose_b=True)))"
    assert "quant returns 0" in why(gates, body, source="w")
    gates.ok("%%grad y, z --wrt x\ny = f(x[tf.newaxis])\nz = tf.reduce_sum(times(x))")
    assert [row.why.partition(",")[0] for row in gates.ns["grads"]] == [
        "0 because the custom gradient of quant returns 0",
        "0 because the custom gradient of times returns 0",
    ]


def test_nothing_is_said_of_one_that_does_not(gates: Notebook) -> None:
    for body in [
        "tf.reduce_sum(straight(v)*0.0)",
        "tf.reduce_sum(square(v - v))",
        "tf.reduce_sum((gate(v) - 2.0*v)**2)",  # nothing arrives at the gate
        "tf.reduce_sum(gate(v)*0.0)",
        "tf.reduce_sum(half(v, v*0.0)*0.0)",
        "tf.reduce_sum(half(v, v) - v*v/2.0 - v*v/2.0)*0.0",
        "tf.reduce_sum(straight(v)) - tf.reduce_sum(straight(v))",
        "tf.reduce_sum(gate(v)) + tf.reduce_sum(v) - tf.reduce_sum(v)",
    ]:
        assert why(gates, body) == "", body


def test_an_operation_within_is_the_reason(gates: Notebook) -> None:
    for body in ("tf.reduce_sum(rounded(v))", "tf.reduce_sum(3.0*rounded(v)**2)"):
        assert why(gates, body).startswith("0 wherever it exists: Round, cell"), body
