"""Large arrays in a traced graph: inputs of it, wherever the array is read, and of the value that it had."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from tape_magic.engine.internals.constants import LEAST_BYTES, arrays_captured
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.tracing.traced import Traced

LARGE = np.random.default_rng(0).normal(size=(1000, 100)).astype("float32")
SMALL = LARGE[:10].copy()
W = tf.Variable(tf.fill([100, 1], 0.1), name="w")
HOLDER = {"x": LARGE}


class Holds:
    x = LARGE


def helper() -> Any:
    return LARGE @ W


@tf.function
def compiled_helper() -> Any:
    return LARGE @ W


def in_a_loop() -> Any:
    return tf.while_loop(lambda i, _: i < 2, lambda i, _: (i + 1, LARGE @ W), [0, tf.zeros([1000, 1])])[1]


def in_a_branch() -> Any:
    return tf.cond(W[0, 0] > 0.0, lambda: LARGE @ W, lambda: -LARGE @ W)


READERS: dict[str, Callable[[], Any]] = {
    "a product": lambda: LARGE @ W,
    "an item of a dict": lambda: HOLDER["x"] @ W,
    "an attribute": lambda: Holds.x @ W,
    "a function": helper,
    "a compiled function": compiled_helper,
    "a loop": in_a_loop,
    "a branch": in_a_branch,
    "tf.constant": lambda: tf.constant(LARGE) @ W,
    "tf.constant with a dtype": lambda: tf.constant(LARGE.astype("float64"), tf.float32) @ W,
    "tf.cast": lambda: tf.cast(LARGE.astype("float64"), tf.float32) @ W,
    "an operation of Keras": lambda: keras.ops.matmul(LARGE, W),
    "an array that is made from it": lambda: ((LARGE - LARGE.mean(0)) + LARGE.mean(0)) @ W,
    "a view, against the order of memory": lambda: np.asfortranarray(LARGE) @ W,
    "read three times": lambda: (LARGE @ W + LARGE @ W + LARGE @ W) / 3.0,
    "an array of integers": lambda: tf.cast((LARGE * 100).astype("int32"), tf.float32) @ W / 100.0,
}


def traced(read: Callable[[], Any]) -> Traced:
    return Traced(FunctionProgram(lambda: tf.reduce_sum(read() ** 2), {}), {}, None, for_xla=True)


def large_inputs(one: Traced) -> list[Any]:
    return [tensor for tensor in one.concrete.captured_inputs if tensor.dtype.size * len(tensor.shape) > 4]


@pytest.mark.parametrize("reader", READERS)
def test_a_large_array_is_an_input_of_the_graph(reader: str) -> None:
    found = traced(READERS[reader])
    assert found.concrete.graph.as_graph_def().ByteSize() < LEAST_BYTES // 4
    expected = np.sum(np.square((LARGE @ np.full((100, 1), 0.1, "float32")).astype("float64")))
    assert float(found.values()[0]) == pytest.approx(expected, rel=0.03 if "integers" in reader else 1e-4)


def test_an_array_that_is_read_often_is_held_once() -> None:
    found = traced(READERS["read three times"])
    assert sum(tensor.shape == LARGE.shape for tensor in found.concrete.captured_inputs) == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda: SMALL @ W,
        lambda: tf.reshape(W, np.array([1, 100])),
        lambda: tf.gather(W, np.arange(50)),
        lambda: tf.transpose(W, np.array([1, 0])),
        lambda: tf.fill([1000, 1000], 0.1) * W[0],
    ],
)
def test_small_arrays_stay_constants(read: Callable[[], Any]) -> None:
    assert all(tensor.dtype == tf.resource for tensor in traced(read).concrete.captured_inputs)


def test_text_stays_a_constant() -> None:
    words = np.array(["a word"] * 20_000, object)
    found = traced(lambda: W * tf.cast(tf.size(tf.constant(words)), tf.float32))
    assert all(tensor.dtype == tf.resource for tensor in found.concrete.captured_inputs)


def test_an_array_that_changes_during_the_trace_has_both_values() -> None:
    array = np.ones((300, 300), "float32")

    def read() -> Any:
        first = tf.reduce_mean(tf.constant(array))
        array[:] = 3.0
        return W[0] * (10.0 * first + tf.reduce_mean(tf.constant(array)))

    assert float(traced(read).values()[0]) == pytest.approx(1.3**2)


def test_an_array_that_changes_later_counts_as_it_was() -> None:
    array = np.ones((300, 300), "float32")
    found = traced(lambda: W[0] * tf.reduce_mean(tf.constant(array)))
    array[:] = 3.0
    assert float(found.values()[0]) == pytest.approx(0.01)


def test_a_gradient_goes_by_an_array() -> None:
    found = traced(lambda: LARGE @ W)
    with tf.GradientTape() as tape:
        loss = found.values()[0]
    expected = 2.0 * LARGE.T @ (LARGE @ W.numpy())
    np.testing.assert_allclose(tape.gradient(loss, W), expected, rtol=1e-3, atol=1e-2)


def test_nothing_is_left_in_tensorflow() -> None:
    before = ops._create_graph_constant
    with arrays_captured(), arrays_captured():
        assert ops._create_graph_constant is not before
    assert ops._create_graph_constant is before
    with pytest.raises(ZeroDivisionError), arrays_captured():
        raise ZeroDivisionError
    assert ops._create_graph_constant is before


def test_another_thread_traces_as_ever() -> None:
    sizes = []

    def trace() -> None:
        graph = tf.function(lambda: tf.constant(LARGE)).get_concrete_function().graph
        sizes.append(graph.as_graph_def().ByteSize())

    with arrays_captured():
        thread = threading.Thread(target=trace)
        thread.start()
        thread.join()
    assert sizes[0] > LARGE.nbytes


def test_a_graph_without_captures_has_constants() -> None:
    with arrays_captured(), tf.Graph().as_default():
        assert tf.constant(LARGE).op.type == "Const"


def test_a_tensorflow_without_the_function_has_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ops, "_create_graph_constant")
    with arrays_captured():
        assert not hasattr(ops, "_create_graph_constant")
