"""Reasons that are only right if values are followed through loops, lists, sorts and calls to the end."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.diagnosis.evidence import RunEvidence
from tape_magic.engine.diagnosis.expansion import CallExpansion
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.recorder import Recorder
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause
from tests.support.cells import elsewhere
from tests.support.doors import Case, Door

POINT = [3.0, 1.0, 2.0]


def by_x(door: Door, cell: str, point: Any = POINT, **names: Any) -> Derivative:
    (row,) = door.grad(Case(cell, "dy/dx", {**elsewhere(""), **names, "x": tf.constant(point)}))
    return row


def test_a_sort_of_which_only_the_places_lead_on_cuts(door: Door) -> None:
    row = by_x(door, "order = tf.argsort(x)\ny = tf.gather(tf.range(3.0), order)")
    assert row.reason is not None
    assert (row.reason.cause, row.reason.operation) == (Cause.CUT, "TopKV2")


def test_what_is_zero_is_not_put_down_to_a_shape_that_is_read(door: Door) -> None:
    row = by_x(door, "n = tf.cast(tf.shape(x)[0], tf.float32)\ny = tf.reduce_sum(tf.sign(x)) / n")
    assert row.why == "0 wherever it exists: Sign, line 3: y = tf.reduce_sum(tf.sign(x)) / n"


LEAVING = {
    "a comprehension": ("y = tf.stack([float(v) for v in x])", 2, "float(v)"),
    "a loop": ("t = 0.0\nfor v in x:\n    t += float(v)\ny = tf.constant(t)", 4, "float(v)"),
    "what a loop goes over": ("t = 0.0\nfor v in x.numpy():\n    t += v\ny = tf.constant(t)", 3, "x.numpy()"),
    "a round before": (
        "t = 0.0\nfor v in x:\n    y = tf.constant(t)\n    t = v.numpy()",
        5,
        "v.numpy()",
    ),
    "a list that grows": ("t = []\nfor v in x:\n    t.append(v.numpy())\ny = tf.stack(t)", 4, "v.numpy()"),
    "a handler": ("try:\n    z\nexcept NameError:\n    y = tf.constant(x.numpy())", 5, "x.numpy()"),
}


@pytest.mark.parametrize("name", LEAVING)
def test_what_leaves_tensorflow_in_a_loop(door: Door, name: str) -> None:
    cell, line, text = LEAVING[name]
    row = by_x(door, cell)
    assert row.value is None
    assert row.reason is not None
    assert row.reason.text == f"line {line} leaves TensorFlow: {text}"


def test_predictions_of_a_model_leave_tensorflow(door: Door) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    row = by_x(door, "y = tf.reduce_sum(model.predict(x[None], verbose=0))", model=model)
    assert row.why == "line 2 leaves TensorFlow: model.predict(x[None], verbose=0); call model(…) itself"


def test_not_finite_within_lists_that_loops_keep(door: Door) -> None:
    text = "@tf.function\ndef f(v):\n    return tf.map_fn(lambda a: tf.math.log(a), v)\n"
    row = by_x(door, "y = f(x)", [0.0, 1.0, 2.0], f=elsewhere(text)["f"])
    assert np.isinf(row.value[0])
    assert row.reason is not None
    assert (row.reason.cause, row.reason.operation) == (Cause.NOT_FINITE, "Log")


def test_not_finite_within_a_list_of_many_shapes(door: Door) -> None:
    text = (
        "@tf.function\ndef f(v):\n"
        "    kept = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[None])\n"
        "    for i in tf.range(3):\n        kept = kept.write(i, tf.sqrt(v[:i + 1]))\n"
        "    return kept.concat()\n"
    )
    row = by_x(door, "y = f(x)", [0.0, 1.0, 2.0], f=elsewhere(text)["f"])
    assert row.reason is not None
    assert (row.reason.cause, row.reason.operation) == (Cause.NOT_FINITE, "Sqrt")


def test_what_is_not_a_number_is_told_though_a_pool_hides_it(door: Door) -> None:
    """Of nothing but NaN, it gives the least number that there is, and what is computed of that overflows."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 1, kernel_initializer="ones"),
            layers.MaxPool2D(),
            layers.Conv2D(1, 1, kernel_initializer="ones"),
        ]
    )
    names = {**elsewhere(""), "model": model, "image": tf.fill([1, 4, 4, 1], np.nan)}
    cell = "scaled = image * 2.0\ny = tf.reduce_sum(model(scaled)**2)"
    for row in door.grad(Case(cell, "y --wrt model", names)):
        assert row.why == "a value that is not finite is read, line 2: scaled = image * 2.0"


def test_a_layer_that_is_built_within_a_compiled_function_can_be_looked_into(door: Door) -> None:
    text = "@tf.function\ndef f(v):\n    return tf.sqrt(layer(v) * 0.0)\n"
    layer = keras.layers.Dense(1)
    names = elsewhere(text, layer=layer)
    rows = door.grad(Case("y = f(x[None])", "y --wrt layer", {**names, "x": tf.constant(POINT)}))
    assert len(rows) == 2
    for row in rows:
        assert row.reason is not None
        assert (row.reason.cause, row.reason.operation) == (Cause.NOT_FINITE, "Sqrt")


def test_a_gradient_that_fails_spoils_no_other(door: Door) -> None:
    cell = "y = tf.linalg.sqrtm(tf.linalg.diag(x) * [[1.0, 0, 0], [0, 0, 0], [0, 0, 1]])[1, 1] * w + w**2"
    names = {**elsewhere(""), "x": tf.constant(POINT), "w": tf.Variable(2.0)}
    by_x, by_w = door.grad(Case(cell, "dy/dx, dy/dw", names))
    assert by_x.value is None
    assert by_x.reason is not None
    said = "the gradient of MatrixSquareRoot fails (Input matrix is not invertible), line 2: "
    assert by_x.reason.text == said + cell
    assert by_x.reason.cure == "the matrix is singular: add a small multiple of the identity"
    assert float(by_w.value) == 4.0


def test_a_python_function_in_a_second_derivative_is_not_said_to_be_straight(door: Door) -> None:
    cell = "y = tf.py_function(lambda a: a**2, [x], tf.float32)"
    (row,) = door.grad(Case(cell, "d2y/dx2", {**elsewhere(""), "x": tf.constant(3.0)}))
    assert row.value is None
    assert row.why.startswith("tf.py_function can be differentiated only once")


def test_the_first_tensor_of_a_process_is_followed_through_a_branch() -> None:
    """Its key is 0."""
    traced = tf.function(lambda v: tf.cond(v > 5.0, lambda: v + 1.0, lambda: v))
    graph = traced.get_concrete_function(tf.TensorSpec([])).graph
    recorder = Recorder()
    recorder.tensors[0] = tf.constant(3.0)
    output = recorder.keep(tf.constant(3.0))
    entry = Entry("Call", None, (0,), (output,), (), graph=graph)
    expansion = CallExpansion(recorder, lambda operation: ())
    expansion.expand(entry, 0)
    reached = {0}
    for one in expansion.entries:
        if not reached.isdisjoint(one.inputs):
            reached.update(one.outputs)
    assert output in reached


def test_a_record_that_cannot_be_read_costs_no_derivative(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(RunEvidence, "flow", property(broken))
    (row, other) = door.grad(
        Case("y = tf.sqrt(x)\nz = x**2", "dy/dx, dz/dx", {**elsewhere(""), "x": tf.constant(0.0)})
    )
    assert np.isinf(row.value)
    assert row.why == "the reason is not known: the record of the run could not be read"
    assert float(other.value) == 0.0
    assert other.reason is None
