"""Which cells AutoGraph need not look at; whatever may hold an `if` on a tensor, it must."""

from __future__ import annotations

import ast
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.magics.cell.autograph import needs_no_autograph
from tests.support.doors import Case, Door


def halved(x: Any) -> Any:
    return x / 2 if x > 0 else x


NAMES = {
    "tf": tf,
    "np": np,
    "keras": keras,
    "x": tf.Variable(1.0),
    "halved": halved,
    "model": keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]),
    "held": {"f": halved},
    "partial": tf.function(halved),
}


@pytest.mark.parametrize(
    "cell",
    [
        "y = x**2",
        "a, b = x, -x\ny = a*tf.pow(b, 2) + tf.math.log(a)[..., 0]",
        "y = tf.reduce_sum(keras.ops.relu(x) + np.pi*np.exp(0.5), axis=[0])\ny",
    ],
)
def test_straight(cell: str) -> None:
    assert needs_no_autograph(ast.parse(cell), NAMES)


@pytest.mark.parametrize(
    "cell",
    [
        "y = halved(x)",
        "y = model(x)",
        "y = partial(x)",
        "y = held['f'](x)",
        "y = tf.map_fn(halved, x)",
        "y = tf.map_fn(held['f'], x)",
        "y = tf.map_fn(held, x)",
        "y = tf.cond(x > 0, lambda: x, lambda: -x)",
        "y = x if x > 0 else -x",
        "y = x and 1.0",
        "y = not x",
        "if x > 0:\n    y = x",
        "for i in tf.range(3):\n    y = x",
        "while x < 3:\n    x += 1",
        "assert x > 0",
        "def f(x):\n    return x\ny = f(x)",
        "y = x.numpy()",
        "y = unknown(x)",
        "x[0] = 1.0",
        "y = [v for v in x]",
        "print(x)",
    ],
)
def test_not_straight(cell: str) -> None:
    assert not needs_no_autograph(ast.parse(cell), NAMES)


@pytest.mark.parametrize(
    "cell",
    [
        "loss = x**2 if x > 1 else 0.5*x**2",
        "loss = f(x)**2",
        "loss = tf.reduce_sum(tf.map_fn(f, tf.reshape(x, [1])))**2",
    ],
)
def test_a_branch_on_a_tensor_compiles_wherever_it_stands(shell: Any, cell: str) -> None:
    variable = tf.Variable(3.0)
    shell.ok("def f(x):\n    if x > 1:\n        return x\n    return 0.5*x")
    line = "loss --over x --optimizer sgd --lr 0.1 --steps 20 --engine graph"
    result = Door("magic", shell).minimize(Case(cell, line, {"tf": tf, "x": variable}))
    assert result.engine == "graph"
    assert 0 < variable.numpy() < 1
