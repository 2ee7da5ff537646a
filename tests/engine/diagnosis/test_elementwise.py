"""Which derivatives are functions of their source, element by element; known from mathematics."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook

SETUP = """
import tensorflow as tf, numpy as np
x = tf.linspace(-3.0, 3.0, 20)
column = tf.reshape(x, (20, 1))
w = tf.Variable(tf.linspace(0.1, 1.0, 20))
array = np.linspace(0.1, 2.0, 20)
a = tf.constant(2.0)
z = tf.complex(x, x)
matrix = tf.eye(20) + 0.01
network = tf.keras.Sequential(
    [tf.keras.Input((1,)), tf.keras.layers.Dense(4, "tanh"), tf.keras.layers.Dense(1)]
)
normed = tf.keras.Sequential(
    [tf.keras.Input((1,)), tf.keras.layers.Dense(4), tf.keras.layers.BatchNormalization()]
    + [tf.keras.layers.Dense(1)]
)
calls = []

@tf.function
def wave(t):
    return tf.sin(t) * tf.exp(-t * t)

@tf.function
def running(t):
    return tf.cumsum(t) ** 2

@tf.custom_gradient
def mine(t):
    def backward(upstream):
        calls.append(1)
        return upstream * 2 * t
    return t * t, backward
"""

ELEMENTWISE = [
    ("dy/dx", "y = tf.nn.sigmoid(x)"),
    ("dy/dx, d2y/dx2, d3y/dx3", "y = a * tf.sin(x)"),
    ("dy/dw", "y = w**3"),
    ("dy/darray", "y = array**2"),
    ("dy/dx, dy/dw", "y = x * w"),
    ("dy/dcolumn", "y = tf.sin(column)"),
    ("dy/dcolumn", "y = tf.reshape(column, (20,))**2"),
    ("dy/dcolumn, d2y/dcolumn2", "y = network(column)"),
    ("dy/dcolumn", "y = normed(column, training=False)"),
    ("dy/dx, d2y/dx2", "y = wave(x)"),
    ("dy/dx", "y = tf.nn.silu(x)"),
    ("dy/dx, d2y/dx2", "y = x * tf.nn.silu(x)"),
    ("dy/dx", "y = tf.keras.activations.gelu(x)"),
    ("dy/dx", "y = tf.where(x > 0, x * x, -x)"),
    ("dy/dx", "y = tf.clip_by_value(x, -1.0, 1.0)"),
    ("dy/dx", "y = tf.stack([x[i]**2 for i in range(20)])"),
    ("dy/dx", "y = tf.map_fn(lambda t: t * t, x)"),
    ("dy/dx", "y = tf.vectorized_map(lambda t: t**3, x)"),
    ("dy/dx", "y = x * tf.stop_gradient(tf.reduce_mean(x))"),
    ("dy/dx", "y = tf.sqrt(x)"),  # NaN below 0, and a function of x all the same
]

NOT = [
    ("dy/dw", "y = tf.reduce_sum((w * x)**2)"),
    ("dy/dx", "y = tf.cumsum(x)"),
    ("dy/dx", "y = running(x)"),
    ("dy/dx", "y = tf.nn.softmax(x)"),
    ("dy/dx", "y = tf.linalg.matvec(matrix, x)"),
    ("dy/dx", "y = x * tf.reverse(x, [0])"),
    ("dy/dx", "y = tf.reverse(x**2, [0])"),
    ("dy/dx", "y = tf.sort(-x)"),
    ("dy/dx", "y = x / tf.norm(x)"),
    ("dy/dx", "y = x - tf.reduce_mean(x)"),
    ("dy/dx", "y = tf.clip_by_norm(x, 1.0)"),
    ("dy/dx", "y = tf.concat([x[1:] - x[:-1], x[:1]], 0)"),
    (
        "dy/dx",
        "y = tf.reshape(tf.nn.conv1d(tf.reshape(x, (1, 20, 1)), tf.ones((3, 1, 1)), 1, 'SAME'), (20,))",
    ),
    ("dy/dcolumn", "y = normed(column, training=True)"),
    ("dy/dx", "y = [x**2, x**3]"),
    ("dy/dx", "y = tf.tile(x, [2])"),
    ("dy/dx", "y = tf.math.abs(z) * x[0]"),
    ("dy/da", "y = a * x"),
]


@pytest.mark.parametrize(
    ("line", "cell", "expected"), [*((*one, True) for one in ELEMENTWISE), *((*one, False) for one in NOT)]
)
def test_a_derivative_is_elementwise_or_not(shell: Notebook, line: str, cell: str, expected: bool) -> None:
    shell.ok(SETUP)
    shell.ok(f"%%grad {line} -q\n{cell}")
    assert {row.elementwise for row in shell.ns["grads"]} == {expected}


def test_a_backward_function_of_the_user_runs_once(shell: Notebook) -> None:
    shell.ok(SETUP)
    shell.ok("%%grad dy/dx -q\ny = mine(x)")
    assert shell.ns["calls"] == [1]
    assert not shell.ns["grads"].rows[0].elementwise


@pytest.mark.parametrize("kind", ["--jacobian", "--hessian", "--jvp x=x", "--hvp x=x"])
def test_other_kinds_are_no_curves(shell: Notebook, kind: str) -> None:
    shell.ok(SETUP)
    shell.ok(f"%%grad y {'' if '=' in kind else '--wrt x '}{kind} -q\ny = tf.reduce_sum(x**2)")
    assert not any(row.elementwise for row in shell.ns["grads"])
