"""Jacobians against linear algebra, each through the Python function and through the magic."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.internals.vectorized import vectorized
from tape_magic.errors import LineError
from tests.support.arrays import assert_close
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

X = np.array([0.3, -1.2, 2.0])
A = np.arange(6.0).reshape(2, 3) / 5 - 0.4
SOFTMAX = np.exp(X) / np.exp(X).sum()
MAKERS = [tf.Variable, tf.constant, np.array, keras.Variable]

assert_close_in_single = functools.partial(assert_close, tolerance=1e-5)


def cube(values: np.ndarray) -> np.ndarray:
    """The array with the values on its space diagonal."""
    found = np.zeros((len(values),) * 3)
    found[(np.arange(len(values)),) * 3] = values
    return found


KNOWN = {
    "linear": ("y = tf.linalg.matvec(A, x)", "dy/dx", A),
    "elementwise": ("y = tf.sin(x)", "dy/dx", np.diag(np.cos(X))),
    "softmax": ("y = tf.nn.softmax(x)", "dy/dx", np.diag(SOFTMAX) - np.outer(SOFTMAX, SOFTMAX)),
    "outer product": (
        "y = tf.tensordot(x, x, 0)",
        "dy/dx",
        np.einsum("ik,j->ijk", np.eye(3), X) + np.einsum("i,jk->ijk", X, np.eye(3)),
    ),
    "cumulative sum": ("y = tf.cumsum(x)", "dy/dx", np.tril(np.ones((3, 3)))),
    "lookup": ("y = tf.gather(x, [2, 0, 2])", "dy/dx", np.eye(3)[[2, 0, 2]]),
    "scalar": ("y = tf.reduce_sum(x**2)", "dy/dx", 2 * X),
    "scalar lookup": ("y = tf.gather(x, [1])[0]**2", "dy/dx", [0, 2 * X[1], 0]),
    "one element": ("y = x[1:2]**2", "dy/dx", [[0, 2 * X[1], 0]]),
    "empty": ("y = x[:0]", "dy/dx", np.zeros((0, 3))),
    "itself": ("y = x + 0", "dy/dx", np.eye(3)),
    "matrix": ("y = 3*m", "dy/dm", 3 * np.eye(6).reshape(2, 3, 2, 3)),
    "a part of a list": ("y = [tf.reduce_sum(x), 2*x]", "dy[1]/dx", 2 * np.eye(3)),
    "second": ("y = x**3", "d2y/dx2", cube(6 * X)),
    "second of a scalar": ("y = tf.reduce_sum(x**3)", "d2y/dx2", np.diag(6 * X)),
    "mixed": ("y = x*s**2", "d2y/dx ds", np.eye(3) * 2 * 0.5),
    "loop in a graph": (
        "@tf.function\ndef f(t):\n    for _ in tf.range(2):\n        t = t*t\n    return t\ny = f(x)",
        "dy/dx",
        np.diag(4 * X**3),
    ),
}


@pytest.mark.parametrize(("name", "make"), covering(KNOWN, MAKERS))
@pytest.mark.both_doors("make")
def test_known_jacobians(door: Door, name: str, make: Callable[[Any], Any]) -> None:
    cell, line, expected = KNOWN[name]
    held = make(X) if make is not keras.Variable else keras.Variable(X, dtype="float64")
    namespace = {"tf": tf, "x": held, "A": A, "m": tf.constant(A), "s": tf.constant(0.5, tf.float64)}
    report = door.grad(Case(cell, f"{line} --jacobian", namespace))
    (row,) = report
    assert_close(row.value, expected, 1e-9)
    assert row.shape == np.shape(expected)
    assert row.dtype == row.value.dtype.name == "float64"
    assert set(row.sums) == {1}
    assert report.notes == ()
    assert report[line] is row.value


def test_polar_coordinates(door: Door) -> None:
    namespace = {"tf": tf, "p": tf.constant([2.0, 0.5], tf.float64)}
    report = door.grad(Case("y = p[0]*tf.stack([tf.cos(p[1]), tf.sin(p[1])])", "dy/dp --jacobian", namespace))
    c, s = np.cos(0.5), np.sin(0.5)
    assert_close(report["dy/dp"], [[c, -2 * s], [s, 2 * c]], 1e-12)
    assert np.linalg.det(report["dy/dp"].numpy()) == pytest.approx(2.0)  # the r of r dr dφ
    assert report.rows[0].label == "∂y/∂p"


def test_a_hundred_by_a_hundred(door: Door) -> None:
    matrix = np.random.default_rng(0).normal(size=(100, 100))
    namespace = {"tf": tf, "A": matrix, "x": tf.Variable(np.ones(100))}
    report = door.grad(Case("y = tf.linalg.matvec(A, x)", "dy/dx --jacobian", namespace))
    assert_close(report["dy/dx"], matrix, 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_type(door: Door, dtype: str) -> None:
    x = tf.constant([1.0, 2.0], dtype)
    report = door.grad(Case("y = x*x", "dy/dx --jacobian", {"x": x}))
    assert report.rows[0].dtype == dtype
    assert report["dy/dx"].dtype == dtype
    np.testing.assert_array_equal(tf.cast(report["dy/dx"], tf.float32), np.diag([2.0, 4.0]))


def test_of_another_type_than_its_source(door: Door) -> None:
    x = tf.constant([1.0, 2.0])
    report = door.grad(Case("y = tf.cast(x, tf.float64)**2", "dy/dx --jacobian", {"tf": tf, "x": x}))
    assert report["dy/dx"].dtype == tf.float32
    assert_close_in_single(report["dy/dx"], np.diag([2.0, 4.0]))


def test_a_holomorphic_function_gives_the_conjugate(door: Door) -> None:
    z = np.array([3 - 4j, 1 + 2j])
    report = door.grad(Case("y = z**2", "dy/dz --jacobian", {"z": tf.constant(z)}))
    assert_close(report["dy/dz"], np.diag((2 * z).conj()), 1e-9)


def test_structures_and_models(door: Door) -> None:
    dense = tf.keras.layers.Dense(2, name="d")
    dense.build((None, 3))
    namespace = {"tf": tf, "p": {"w": tf.constant([1.0, 2.0]), "b": 3.0}, "d": dense}
    cell = "y = p['w']*p['b']\nz = d(tf.ones((1, 3)))[0]"
    report = door.grad(Case(cell, "dy/dp dz/dd --jacobian", namespace))
    assert_close_in_single(report["y", "p"]["w"], 3 * np.eye(2))
    assert_close_in_single(report["y", "p"]["b"], [1.0, 2.0])
    assert_close_in_single(report["dy/dp['w']"], 3 * np.eye(2))
    kernel, bias = report["z", "d"]
    assert_close_in_single(kernel, np.stack([np.eye(2)] * 3, axis=1))
    assert_close_in_single(bias, np.eye(2))
    assert report["z", "kernel"] is kernel
    assert [row.of_model for row in report] == [False, False, True, True]


def test_not_connected(door: Door) -> None:
    namespace = {"x": tf.constant([1.0, 2.0]), "w": tf.zeros((2, 3), tf.float64)}
    report = door.grad(Case("y = x*2", "dy/dx dy/dw d2y/dx2 --jacobian", namespace))
    assert [row.connected for row in report] == [True, False, False]
    assert [row.shape for row in report] == [(2, 2), (2, 2, 3), (2, 2, 2)]
    assert report["dy/dw"] is None
    zeros = door.grad(Case("y = x*2", "dy/dw d2y/dx2 --jacobian --zero", namespace))
    assert_close_in_single(zeros["dy/dw"], np.zeros((2, 2, 3)))
    assert zeros["dy/dw"].dtype == tf.float64
    assert_close_in_single(zeros["d2y/dx2"], np.zeros((2, 2, 2)))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("y = tf.image.adjust_saturation(x, 2.0)", "AdjustSaturation"),
        ("y = tf.cast(x, tf.int32)", "y is int32"),
        ("y = x.numpy()", "line 2 leaves TensorFlow"),
    ],
)
def test_a_reason_keeps_the_other_rows(door: Door, cell: str, why: str) -> None:
    namespace = {"tf": tf, "x": tf.ones((1, 2, 2, 3))}
    report = door.grad(Case(f"{cell}\nz = x[0, 0, 0]", "dy/dx dz/dx --jacobian", namespace))
    assert report["dy/dx"] is None
    assert why in report.rows[0].why
    assert report["dz/dx"].shape == (3, 1, 2, 2, 3)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("y = (x, 2*x)", "y is a tuple of 2, and this needs one tensor: ask for y[0] by itself."),
        ("y = {'a': x}", "y is a dict of 1, and this needs one tensor: ask for y['a'] by itself."),
        ("y = tf.sparse.from_dense(x)", "y is a SparseTensor, and this needs a dense tensor"),
        ("y = tf.RaggedTensor.from_row_lengths(x, [1, 2])", "y is a RaggedTensor, and this needs a dense"),
    ],
)
@pytest.mark.parametrize("kind", ["--jacobian", "--batch-jacobian", "--jvp w=tf.ones(3)"])
@pytest.mark.both_doors("kind")
def test_more_than_a_tensor_is_refused(door: Door, cell: str, message: str, kind: str) -> None:
    namespace = {"tf": tf, "x": tf.constant([1.0, 2.0, 3.0]), "w": tf.ones(3)}
    by = "dw" if "jvp" in kind else "dx"  # forward mode cannot follow all that makes a sparse tensor
    refused = door.refused_grad(Case(cell, f"dy/{by} {kind}", namespace))
    assert refused.startswith(message)


# -- batches ---------------------------------------------------------------------------------------

BATCH = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("y = x**2", np.stack([np.diag(2 * row) for row in BATCH])),
        ("y = x @ tf.transpose(A)", np.stack([A, A])),
        ("y = tf.reshape(x, (2, 3, 1))**2", np.stack([np.diag(2 * r)[:, None] for r in BATCH])),
        ("y = x[:, :1]", np.broadcast_to([[1.0, 0, 0]], (2, 1, 3))),
        ("y = tf.reduce_sum(x**2, axis=1)", 2 * BATCH),
        ("y = x[:, :0]", np.zeros((2, 0, 3))),
    ],
)
@pytest.mark.parametrize("make", [tf.Variable, tf.constant, np.array])
def test_batch_jacobians(door: Door, cell: str, expected: Any, make: Callable[[Any], Any]) -> None:
    namespace = {"tf": tf, "x": make(BATCH), "A": A}
    report = door.grad(Case(cell, "dy/dx --batch-jacobian", namespace))
    assert_close(report["dy/dx"], expected, 1e-9)
    assert report.rows[0].shape == expected.shape
    assert report.notes == ()


def test_a_batch_of_numbers(door: Door) -> None:
    x = tf.constant([1.0, 2.0])
    report = door.grad(Case("y = tf.stack([x, x**2], axis=1)", "dy/dx --batch-jacobian", {"tf": tf, "x": x}))
    assert_close_in_single(report["dy/dx"], [[1, 2], [1, 4]])


def test_the_second_of_a_batch(door: Door) -> None:
    x = tf.constant(BATCH)
    report = door.grad(Case("y = x**3", "d2y/dx2 --batch-jacobian", {"x": x}))
    assert_close(report["d2y/dx2"], np.stack([cube(6 * row) for row in BATCH]), 1e-9)


def test_a_batch_that_is_not_connected(door: Door) -> None:
    namespace = {"x": tf.ones((2, 3)), "a": tf.ones((2, 4))}
    report = door.grad(Case("y = x*2", "dy/da --batch-jacobian", namespace))
    assert report["dy/da"] is None
    assert report.rows[0].shape == (2, 3, 4)
    zeros = door.grad(Case("y = x*2", "dy/da --batch-jacobian --zero", namespace))
    assert_close_in_single(zeros["dy/da"], np.zeros((2, 3, 4)))


@pytest.mark.parametrize("cell", ["y = tf.reduce_sum(x)", "y = x[:1]", "y = tf.ones((4, 3))*x[0]"])
@pytest.mark.both_doors("cell")
def test_no_batch(door: Door, cell: str) -> None:
    refused = door.refused_grad(Case(cell, "dy/dx --batch-jacobian", {"tf": tf, "x": tf.ones((2, 3))}))
    assert refused.startswith(
        "--batch-jacobian needs a batch axis of one size in front of both: y is of shape"
    )
    assert "x of shape (2, 3)" in refused


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("dy/dx --jacobian", "the Jacobian dy/dx would be of shape (20, 20), 1.562 KiB"),
        ("d2y/dx2 --jacobian", "the Jacobian dy/dx would be of shape (20, 20), 1.562 KiB"),
        ("dz/dx --batch-jacobian", "the batch Jacobian dz/dx would be of shape (20, 90), 7.031 KiB"),
        ("y --wrt x,a --hessian", "the Hessian of y would be of shape (21, 21), 1.723 KiB"),
    ],
)
@pytest.mark.both_doors("line")
def test_too_large(door: Door, line: str, shown: str) -> None:
    namespace = {"tf": tf, "x": tf.ones(20), "a": tf.constant(1.0)}
    cell = "y = a*x*x\nz = tf.tile(x[:, tf.newaxis], (1, 90))"
    refused = door.refused_grad(Case(cell, line, namespace, limit=1000))
    assert refused.startswith(f"{shown}, and the limit is 1000 bytes: --")
    assert "%config TapeMagics.derivative_limit = " in refused
    need = int(refused.rpartition("limit=")[2].removesuffix(" in Python."))
    if "d2y" not in line:
        door.grad(Case(cell, line, namespace, limit=need))
        door.refused_grad(Case(cell, line, namespace, limit=need - 1))


def test_each_order_has_its_size(door: Door) -> None:
    refused = door.refused_grad(Case("y = x*x", "d2y/dx2 --jacobian", {"x": tf.ones(20)}, limit=2000))
    assert refused.startswith("the Jacobian d2y/dx2 would be of shape (20, 20, 20), 31.25 KiB")


def test_what_is_too_large_is_never_computed(door: Door) -> None:
    namespace = {"x": tf.ones(10**6)}
    assert "(1000000, 1000000), 3.638 TiB" in door.refused_grad(
        Case("y = 2*x", "dy/dx --jacobian", namespace)
    )


@pytest.mark.parametrize("limit", [0, -5, 2.5, "1 GiB"])
def test_limits_that_are_none(limit: Any) -> None:
    with pytest.raises(LineError, match="it is a number of bytes above 0"):
        tape_magic.grad(lambda x: x, 2.0, jacobian=True, limit=limit)


# -- the slower way --------------------------------------------------------------------------------

ONLY_ONE_BY_ONE = """
@tf.custom_gradient
def f(t):
    def back(dy):
        if not tf.executing_eagerly():
            raise {error}
        return 2*dy*t
    return t*t, back
y = f(x)
"""


def test_an_operation_without_a_rule_is_named(door: Door) -> None:
    x = tf.constant(X)
    report = door.grad(Case("y = tf.math.cumulative_logsumexp(x)", "dy/dx --jacobian", {"tf": tf, "x": x}))
    assert report.notes == ("not vectorised: TensorFlow has no rule for CumulativeLogsumexp",)
    expected = np.tril(np.exp(X)) / np.cumsum(np.exp(X))[:, np.newaxis]
    assert_close(report["dy/dx"], expected, 1e-9)


@pytest.mark.parametrize(
    ("error", "note"),
    [
        ("ValueError('no')", "not vectorised: all rows at once made TensorFlow raise ValueError"),
        ("TypeError('no')", "not vectorised: all rows at once made TensorFlow raise TypeError"),
        (
            "tf.errors.ResourceExhaustedError(None, None, 'OOM')",
            "computed row by row: all rows at once do not fit into memory",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["--jacobian", "--batch-jacobian"])
@pytest.mark.both_doors("kind")
def test_row_by_row(door: Door, error: str, note: str, kind: str) -> None:
    case = Case(ONLY_ONE_BY_ONE.format(error=error), f"dy/dx {kind}", {"tf": tf, "x": tf.constant(BATCH)})
    report = door.grad(case)
    whole = np.diag(2 * BATCH.ravel()).reshape(2, 3, 2, 3)
    assert_close(report["dy/dx"], whole if kind == "--jacobian" else np.einsum("bnbm->bnm", whole), 1e-9)
    assert report.notes == (note,)


def test_row_by_row_of_a_hessian(door: Door) -> None:
    cell = ONLY_ONE_BY_ONE.format(error="ValueError('no')").replace("y = f(x)", "y = tf.reduce_sum(f(x)*x)")
    report = door.grad(Case(cell, "y --wrt x --hessian", {"tf": tf, "x": tf.constant(X)}))
    assert_close(report["d2y/dx2"], np.diag(6 * X), 1e-9)


def test_a_python_function_can_be_differentiated_only_once(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant([1.0, 2.0])}
    cell = "y = tf.py_function(lambda t: t*t, [x], tf.float32)\nz = x*3"
    report = door.grad(Case(cell, "dy/dx dz/dx --jacobian", namespace))
    assert report["dy/dx"] is None
    assert report.rows[0].why.startswith("tf.py_function can be differentiated only once")
    assert_close_in_single(report["dz/dx"], 3 * np.eye(2))


def test_tensorflow_logs_nothing(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    logger = tf.get_logger()
    before, filters = logger.level, list(logger.filters)
    namespace = {"tf": tf, "x": tf.constant(A)}
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        logger.addHandler(caplog.handler)
        for _ in range(6):  # from the fifth on, TensorFlow warns that it traces again and again
            door.grad(Case("y = tf.gather(x, [0, 1, 1])", "dy/dx --jacobian", namespace))
        logger.removeHandler(caplog.handler)
    assert caplog.records == []
    assert (logger.level, logger.filters) == (before, filters)


def test_functions_that_run_eagerly_still_do() -> None:
    def fails() -> None:
        tf.config.run_functions_eagerly(False)  # as the vectorised way does
        raise ValueError("no rule")

    tf.config.run_functions_eagerly(True)
    try:
        assert vectorized(fails, lambda: 3).value == 3
        assert tf.config.functions_run_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)


def test_an_interrupt_is_no_reason_to_go_on() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vectorized(interrupted, lambda: 3)


# -- in the notebook -------------------------------------------------------------------------------


def test_sources_that_the_cell_assigns(shell: Notebook) -> None:
    shell.ns["tf"] = tf
    shell.ok("%%grad dy/dx, dz/dh --jacobian\nx = [1.0, 2.0]\nh = x[0]*tf.ones(2)\ny = h*x[1]\nz = h**2")
    first, second = shell.ns["dy_dx"]
    assert_close_in_single(first, [2.0, 2.0])
    assert_close_in_single(second, [1.0, 1.0])
    assert_close_in_single(shell.ns["dz_dh"], 2 * np.eye(2))
    assert shell.ns["x"] == [1.0, 2.0]


def test_the_tape_within_the_cell(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.constant([1.0, 2.0]), w=tf.constant([3.0, 4.0]))
    cell = "with tape.stop_recording():\n    s = x*10\nu = x*w\ntape.reset()\ny = u*s*x"
    shell.ok(f"%%grad dy/dx --jacobian\n{cell}")
    assert_close_in_single(shell.ns["dy_dx"], np.diag([3.0 * 10, 8.0 * 20]))


def test_what_stands_in_the_notebook_comes_back(shell: Notebook) -> None:
    values = np.array([1.0, 2.0])
    shell.ns.update(tf=tf, x=values, s=2.0)
    shell.ok("%%grad dy/dx, dy/ds --jacobian -q -o jac\ny = s*x**2")
    assert shell.ns["x"] is values
    assert isinstance(shell.ns["s"], float)
    assert_close_in_single(shell.ns["jac"]["dy/dx"], np.diag(4 * values))
    assert_close_in_single(shell.ns["dy_ds"], values**2)
    run = shell.run("%%grad dy/dx --jacobian\ny = s*x**2\n1/0")
    assert isinstance(run.error, ZeroDivisionError)
    assert shell.ns["x"] is values
