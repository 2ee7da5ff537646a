"""Tensors that a record lets go of with the tape, and that are computed again where something is wrong."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.internals.operations import gradients_of
from tape_magic.engine.record.recomputed import DROPPABLE
from tape_magic.engine.record.recorder import Recorder
from tape_magic.results.reasons import Cause
from tests.support.notebook import Notebook

IMAGE = tf.random.stateless_uniform([2, 8, 8, 3], [1, 2])
VOLUME = tf.random.stateless_uniform([1, 4, 4, 4, 2], [1, 2])
SQUARE = tf.random.stateless_uniform([40, 40], [3, 4])
PILE = tf.random.stateless_uniform([2, 30, 30], [5, 6])

EXAMPLES: dict[str, Callable[[], Any]] = {
    "Add": lambda: tf.raw_ops.Add(x=SQUARE, y=SQUARE),
    "AddV2": lambda: SQUARE + SQUARE,
    "BatchMatMulV2": lambda: tf.raw_ops.BatchMatMulV2(x=PILE, y=PILE, adj_y=True),
    "BatchMatMulV3": lambda: tf.raw_ops.BatchMatMulV3(x=PILE, y=PILE, Tout=tf.float32, adj_x=True),
    "BiasAdd": lambda: tf.nn.bias_add(SQUARE, tf.ones([40])),
    "Conv2D": lambda: tf.nn.conv2d(IMAGE, tf.ones([3, 3, 3, 40]), [1, 2, 2, 1], "SAME"),
    "Conv3D": lambda: tf.nn.conv3d(VOLUME, tf.ones([2, 2, 2, 2, 40]), [1] * 5, "VALID"),
    "DepthwiseConv2dNative": lambda: tf.nn.depthwise_conv2d(IMAGE, tf.ones([3, 3, 3, 8]), [1] * 4, "VALID"),
    "Elu": lambda: tf.nn.elu(SQUARE),
    "Exp": lambda: tf.exp(SQUARE),
    "LogSoftmax": lambda: tf.nn.log_softmax(SQUARE),
    "MatMul": lambda: tf.matmul(SQUARE, SQUARE, transpose_b=True),
    "Mul": lambda: SQUARE * SQUARE,
    "Relu": lambda: tf.nn.relu(SQUARE - 0.5),
    "Relu6": lambda: tf.nn.relu6(SQUARE - 0.5),
    "Reshape": lambda: tf.reshape(SQUARE, [20, 80]),
    "Selu": lambda: tf.nn.selu(SQUARE),
    "Sigmoid": lambda: tf.sigmoid(SQUARE),
    "Softmax": lambda: tf.nn.softmax(SQUARE),
    "Sqrt": lambda: tf.sqrt(SQUARE),
    "Sub": lambda: SQUARE - SQUARE,
    "Tanh": lambda: tf.tanh(SQUARE),
    "Transpose": lambda: tf.transpose(SQUARE),
}


def heard(compute: Callable[[], Any]) -> tuple[Recorder, Any]:
    recorder = Recorder()
    with recorder.listening():
        result = compute()
    return recorder, result


@pytest.mark.parametrize("op_type", DROPPABLE)
def test_the_gradient_needs_no_value_of_what_is_passing(op_type: str) -> None:
    recorder, _result = heard(EXAMPLES[op_type])
    (entry,) = [entry for entry in recorder.entries if entry.type == op_type]
    inputs = [recorder.tensor(key) for key in entry.inputs]
    outputs = [recorder.tensor(key) for key in entry.outputs]
    given = [tf.random.stateless_uniform(outputs[0].shape, [7, 8])]
    expected = gradients_of(op_type, entry.attrs or (), inputs, outputs, given)
    for passes, tensors in zip(DROPPABLE[op_type], (inputs, outputs), strict=True):
        if passes:
            tensors[0] = tf.fill(tensors[0].shape, np.float32(np.nan))
    found = gradients_of(op_type, entry.attrs or (), inputs, outputs, given)
    assert any(gradient is not None for gradient in expected)
    for one, other in zip(found, expected, strict=True):
        if other is not None:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("op_type", [name for name, droppable in DROPPABLE.items() if droppable.output])
def test_what_was_let_go_is_computed_again(op_type: str) -> None:
    recorder, result = heard(EXAMPLES[op_type])
    key, expected, gone = result._id, result.numpy(), weakref.ref(result)
    assert recorder.entries
    del result
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(recorder.tensor(key), expected)
    assert recorder.tensor(key) is recorder.tensor(key)  # and kept then


def test_what_a_gradient_needs_is_kept() -> None:
    recorder, result = heard(lambda: tf.tanh(tf.nn.relu(tf.nn.bias_add(SQUARE @ SQUARE, tf.ones([40])))))
    del result
    gc.collect()
    kept = {entry.type: recorder.tensors[entry.outputs[0]] for entry in recorder.entries}
    assert list(kept) == ["MatMul", "Fill", "BiasAdd", "Relu", "Tanh"]
    gone = {name for name, one in kept.items() if isinstance(one, weakref.ref) and one() is None}
    assert gone == {"MatMul", "BiasAdd"}


def test_a_network_is_explained_from_what_is_computed_again(shell: Notebook) -> None:
    shell.ok(
        "import keras, tensorflow as tf\nkeras.utils.set_random_seed(0)\n"
        "layers = [keras.layers.Dense(60, 'relu'), keras.layers.Dense(70)]\n"
        "model = keras.Sequential([keras.Input((50,)), *layers])\n"
        "inputs = tf.random.normal([80, 50])"
    )
    shell.ok(
        "%%grad loss --wrt model\n"
        "hidden = tf.sqrt(tf.nn.relu(model(inputs)@tf.ones([70, 60]) + 0.0))\n"
        "loss = tf.reduce_sum(hidden)\n"
        "del hidden"
    )
    reason = shell.ns["grads"].rows[0].reason
    assert reason.cause is Cause.NOT_FINITE
    assert "sqrt" in reason.text
    assert reason.where.line == 2


def test_with_a_constant_of_the_cell_that_nothing_holds() -> None:
    """It was made by no operation, so that it cannot be made again, and stays."""
    report = tape_magic.grad(
        lambda x: tf.reduce_sum(tf.sqrt(tf.nn.relu(x * tf.constant(np.linspace(-1, 1, 2000), tf.float32)))),
        {"x": 1.0},
    )
    assert report.rows[0].reason is not None
    assert report.rows[0].reason.cause is Cause.NOT_FINITE
    assert "sqrt" in report.rows[0].reason.text


def test_within_a_custom_gradient(shell: Notebook) -> None:
    """The tapes know the product as what the custom gradient made."""
    shell.ok(
        "import tensorflow as tf\nx = tf.Variable(tf.zeros([40, 40]))\n@tf.custom_gradient\n"
        "def twice(x):\n    return x@(2*tf.eye(40)), lambda dy: 2*dy"
    )
    shell.ok("%%grad y --wrt x\ny = tf.reduce_sum(tf.sqrt(tf.nn.relu(twice(x))))")
    reason = shell.ns["grads"].rows[0].reason
    assert reason.cause is Cause.NOT_FINITE
    assert "sqrt" in reason.text
