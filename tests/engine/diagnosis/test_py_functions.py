"""What goes on within ``tf.py_function``, which passes on zeros where its function has no derivative."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.reasons import Cause
from tests.support.cells import elsewhere
from tests.support.doors import Case, Door


def call(function: str, more: str = "") -> str:
    return f"y = {more}tf.py_function(lambda v: {function}, [x], tf.float32)"


ZEROS = {
    "leaves, by a method": (call("np.sin(v.numpy())"), "0 because line 2 leaves TensorFlow: v.numpy()"),
    "leaves, by NumPy": (call("np.sin(v)"), "0 because line 2 leaves TensorFlow: np.sin(v)"),
    "leaves, and goes on": (call("tf.square(v.numpy())"), "0 because line 2 leaves TensorFlow: v.numpy()"),
    "does not read it": (
        call("3.0"),
        "0 because the function of tf.py_function does not read x, or leaves TensorFlow, "
        f"line 2: {call('3.0')}",
    ),
    "zero by rule": (call("tf.round(v)"), f"0 wherever it exists: Round, line 2: {call('tf.round(v)')}"),
    "no rule": (
        call("tf.cast(tf.argmax([v, v]), tf.float32)"),
        f"0 wherever it exists: ArgMax, line 2: {call('tf.cast(tf.argmax([v, v]), tf.float32)')}",
    ),
}


@pytest.mark.parametrize("name", ZEROS)
def test_why_a_python_function_gives_zeros(door: Door, name: str) -> None:
    cell, said = ZEROS[name]
    (row,) = door.grad(Case(cell, "dy/dx", {**elsewhere(""), "np": np, "x": tf.constant(2.0)}))
    assert float(row.value) == 0.0
    assert row.reason is not None
    assert row.reason.cause is Cause.ZERO
    assert row.reason.text == said


@pytest.mark.parametrize(
    ("cell", "at", "value"),
    [
        (call("v*v"), 0.0, 0.0),  # happens to be 0
        (call("v*v"), 3.0, 6.0),
        (call("v"), 3.0, 1.0),
        (call("v*np.sin(v)"), 0.0, 0.0),
        (call("v*3.0", "x*0.0 + 0.0*"), 3.0, 0.0),
        ("a, y = tf.py_function(lambda v: (np.sin(v), v**2), [x], [tf.float32]*2)", 0.0, 0.0),
    ],
)
def test_nothing_is_said_of_a_python_function_in_which_nothing_is_wrong(
    door: Door, cell: str, at: float, value: float
) -> None:
    (row,) = door.grad(Case(cell, "dy/dx", {**elsewhere(""), "np": np, "x": tf.constant(at)}))
    assert float(row.value) == value
    assert row.reason is None


def test_not_finite_within_a_python_function(door: Door) -> None:
    text = "def f(v):\n    w = v - 2.0\n    return tf.sqrt(w)\n"
    names = {"f": elsewhere(text)["f"], **elsewhere(""), "x": tf.constant(2.0)}
    (row,) = door.grad(Case("y = tf.py_function(f, [x], tf.float32)", "dy/dx", names))
    assert row.reason is not None
    assert (row.reason.cause, row.reason.operation) == (Cause.NOT_FINITE, "Sqrt")
    assert row.reason.where is not None
    assert row.reason.where.text == "return tf.sqrt(w)"


def test_a_python_function_within_a_compiled_one_may_leave_tensorflow(door: Door) -> None:
    text = "@tf.function\ndef f(v):\n    return tf.py_function(lambda a: np.sin(a), [v], tf.float32)\n"
    names = {**elsewhere(text, np=np), "x": tf.constant(2.0)}
    (row,) = door.grad(Case("y = f(x)", "dy/dx", names))
    assert float(row.value) == 0.0
    assert row.reason is not None
    assert row.reason.text.startswith("tf.py_function gives 0 also where its function leaves TensorFlow, ")
    assert row.reason.where is not None
    assert row.reason.where.line == 3
