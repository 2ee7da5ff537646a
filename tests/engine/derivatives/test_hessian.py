"""Hessians against calculus, each through the Python function and through the magic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import SourceError
from tape_magic.results.curvature import Curvature
from tests.support.arrays import assert_close
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

Q = np.array([[2.0, 1.0, 0.0], [0.5, 3.0, -1.0], [0.0, 2.0, 4.0]])
X = np.array([0.5, -1.0, 2.0])
ROSENBROCK = "y = (1 - p[0])**2 + 100*(p[1] - p[0]**2)**2"


def keras_variable(values: Any) -> keras.Variable:
    return keras.Variable(values, dtype="float64")


KNOWN = {
    "quadratic form": ("y = tf.einsum('i,ij,j', x, Q, x)", Q + Q.T),
    "sum of cubes": ("y = tf.reduce_sum(x**3)", np.diag(6 * X)),
    "product": ("y = tf.reduce_prod(x)", [[0, 2, -1], [2, 0, 0.5], [-1, 0.5, 0]]),
    "straight line": ("y = tf.reduce_sum(3*x)", np.zeros((3, 3))),
    "lookup": ("y = tf.reduce_sum(tf.gather(x, [0, 2, 2])**2)", np.diag([2.0, 0, 4.0])),
    "in a graph": ("y = tf.function(lambda t: tf.reduce_sum(t**3))(x)", np.diag(6 * X)),
}


@pytest.mark.parametrize(
    ("name", "make"), covering(KNOWN, [tf.Variable, tf.constant, np.array, keras_variable])
)
@pytest.mark.both_doors("make")
def test_known_hessians(door: Door, name: str, make: Callable[[Any], Any]) -> None:
    cell, expected = KNOWN[name]
    report = door.grad(Case(cell, "y --wrt x --hessian", {"tf": tf, "x": make(X), "Q": Q}))
    (row,) = report
    assert_close(row.value, expected)
    assert_close(report.hessian.matrix, expected)
    np.testing.assert_allclose(report.hessian.eigenvalues, np.linalg.eigvalsh(expected), atol=1e-9)
    assert report.hessian["x"] is report.hessian["x", "x"] is row.value
    assert row.shape == (3, 3)
    assert (row.key, row.label, row.order) == ("d2y/dx2", "∂²y/∂x²", 2)
    assert row.connected
    assert report.notes == ()


def test_rosenbrock_at_its_minimum(door: Door) -> None:
    report = door.grad(Case(ROSENBROCK, "y --wrt p --hessian", {"p": tf.constant([1.0, 1.0], tf.float64)}))
    hessian = report.hessian
    assert_close(hessian.matrix, [[802.0, -400.0], [-400.0, 200.0]])
    # λ² − 1002 λ + 400 = 0
    np.testing.assert_allclose(hessian.eigenvalues, [501 - 250601**0.5, 501 + 250601**0.5])
    assert hessian.condition == pytest.approx(2508.0096, rel=1e-6)
    assert hessian.curvature is Curvature.MINIMUM
    assert hessian.stationary
    assert hessian.verdict == "a minimum: positive definite, and the gradient is 0"


def test_rosenbrock_beside_its_minimum(door: Door) -> None:
    report = door.grad(Case(ROSENBROCK, "y --wrt p --hessian", {"p": tf.constant([1.1, 1.2], tf.float64)}))
    assert report.hessian.curvature is Curvature.MINIMUM
    gradient = np.array([-2 * (1 - 1.1) - 400 * 1.1 * (1.2 - 1.21), 200 * (1.2 - 1.21)])
    assert report.hessian.gradient_norm == pytest.approx(np.linalg.norm(gradient))
    assert report.hessian.verdict.startswith(
        "positive definite, but no stationary point: the gradient's norm"
    )


@pytest.mark.parametrize(
    ("cell", "at", "verdict"),
    [
        ("y = x**2 - a**2", (0.0, 0.0), "a saddle: indefinite, and the gradient is 0"),
        ("y = -x**2 - 3*a**2", (0.0, 0.0), "a maximum: negative definite, and the gradient is 0"),
        ("y = x**2 - a**2", (1.0, 0.0), "indefinite, but no stationary point: the gradient's norm is 2"),
        (
            "y = x**2 + a**2",
            (617.0, 0.0),
            "positive definite, but no stationary point: the gradient's norm is 1,230",
        ),
        ("y = x**4 + a**4", (0.0, 0.0), "singular: the second derivatives do not decide"),
        ("y = x**2 + 0*a", (0.0, 1.0), "singular: the second derivatives do not decide"),
        ("y = x**2 - 2*x + a**2 - 4*a", (1.0, 2.0), "a minimum: positive definite, and the gradient is 0"),
        # The float that is nearest to where the gradient is 0, 0.1, is not quite there.
        ("y = 5*x**2 - x + a**2", (0.1, 0.0), "a minimum: positive definite, and the gradient is 0"),
        ("y = 5*x**2 - x + a**2", (0.1001, 0.0), "positive definite, but no stationary point"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_verdicts(door: Door, cell: str, at: tuple[float, float], verdict: str, dtype: str) -> None:
    namespace = {name: tf.Variable(value, dtype=dtype) for name, value in zip("xa", at, strict=True)}
    report = door.grad(Case(cell, "y --wrt x,a --hessian", namespace))
    assert report.hessian.verdict.startswith(verdict)


# -- blocks ----------------------------------------------------------------------------------------


def test_the_blocks_of_a_product(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(3.0), "a": tf.constant([1.0, 2.0])}
    report = door.grad(Case("y = tf.reduce_sum(x*a)", "y --wrt x,a --hessian", namespace))
    assert list(report.to_dict()) == ["d2y/dx2", "d2y/dxda", "d2y/da2"]
    assert [row.shape for row in report] == [(), (2,), (2, 2)]
    assert_close(report["d2y/dx2"], 0)
    assert_close(report["y", "x", "a"], [1.0, 1.0])
    assert_close(report["d2y/dadx"], [1.0, 1.0])
    assert_close(report.hessian["a"], np.zeros((2, 2)))
    assert_close(report.hessian.matrix, [[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    assert report.hessian.names == ("x", "a")
    assert [row.connected for row in report] == [True, True, True]
    with pytest.raises(KeyError, match="no 'b' in this Hessian; it has x, a"):
        report.hessian["x", "b"]


def test_matrices_keep_their_shapes(door: Door) -> None:
    m = np.arange(6.0).reshape(2, 3)
    namespace = {"tf": tf, "m": tf.constant(m), "v": tf.constant([1.0, 2.0, 3.0], tf.float64)}
    report = door.grad(
        Case("y = tf.reduce_sum(tf.linalg.matvec(m, v)**2)", "y --wrt m v --hessian", namespace)
    )
    v = np.array([1.0, 2.0, 3.0])
    by_hand = np.einsum("ik,j,l->ijkl", 2 * np.eye(2), v, v)
    assert_close(report.hessian["m"], by_hand)
    mixed = 2 * (np.einsum("il,j->ijl", m, v) + np.einsum("i,jl->ijl", m @ v, np.eye(3)))
    assert_close(report.hessian["m", "v"], mixed)
    assert_close(report.hessian["v", "m"], np.moveaxis(mixed, -1, 0))
    assert_close(report.hessian["v"], 2 * m.T @ m)


@pytest.mark.parametrize("line", ["d2y/dx da", "d2y/dxda, d2y/dx2", "d2y/dx2, y --wrt x,a"])
def test_blocks_by_name(shell: Notebook, line: str) -> None:
    shell.ns.update(x=2.0, a=5.0)
    shell.ok(f"%%grad {line} --hessian\ny = a*x**3")
    report = shell.ns["grads"]
    assert float(report.hessian["x", "a"]) == 12
    assert len(report.hessians) == 1
    if "dxda" in line or "dx da" in line:
        assert float(shell.ns["d2y_dxda"]) == 12
        assert float(report["d2y/dxda"]) == 12
    if "dx2" in line:
        assert float(shell.ns["d2y_dx2"]) == 60
        assert float(report["d2y/dx2"]) == 60


def test_the_plain_form_binds_only_the_report(shell: Notebook) -> None:
    shell.ns.update(x=2.0)
    shell.ok("%%grad y --wrt x --hessian\ny = x**3")
    assert set(shell.names) == {"x", "y", "grads"}


def test_structures_as_sources(door: Door) -> None:
    namespace = {"tf": tf, "p": {"w": tf.constant([1.0, 2.0]), "b": 3.0}}
    report = door.grad(Case("y = p['b']*tf.reduce_sum(p['w']**2)", "d2y/dp2 --hessian", namespace))
    assert [row.wrt for row in report] == [
        ("p['w']", "p['w']"),
        ("p['w']", "p['b']"),
        ("p['b']", "p['b']"),
    ]
    assert_close(report.hessian["p['w']"], 6 * np.eye(2))
    assert_close(report.hessian["p['w']", "p['b']"], [2.0, 4.0])
    nested = report["d2y/dp2"]
    assert set(nested) == set(nested["w"]) == {"w", "b"}
    assert_close(nested["b"]["w"], [2.0, 4.0])
    assert_close(nested["b"]["b"], 0.0)


def test_a_model_as_source(door: Door) -> None:
    model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1, name="last")])
    data = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    namespace = {"tf": tf, "model": model, "data": data}
    report = door.grad(Case("loss = tf.reduce_sum(model(data)**2)", "loss --wrt model --hessian", namespace))
    assert report.hessian.names == ("last/kernel", "last/bias")
    design = np.column_stack([data, np.ones(2)])
    assert_close(report.hessian.matrix, 2 * design.T @ design, 1e-5)
    assert report["loss", "last/kernel", "last/bias"].shape == (2, 1, 1)
    assert [len(inner) for inner in report["loss", "model", "model"]] == [2, 2]
    assert all(row.of_model for row in report)


def test_different_types(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(3.0), "a": tf.constant([1.0, 2.0], tf.float64)}
    cell = "y = tf.reduce_sum(tf.cast(x, tf.float64)**2*a**2)"
    report = door.grad(Case(cell, "y --wrt x,a --hessian", namespace))
    assert_close(report.hessian.matrix, [[10, 12, 24], [12, 18, 0], [24, 0, 18]])
    assert report.hessian.dtype == "float32"
    assert report.hessian["x", "a"].dtype == tf.float64
    assert report.hessian["a", "x"].dtype == tf.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(door: Door, dtype: str) -> None:
    x = tf.Variable([1.0, 2.0], dtype=dtype)
    report = door.grad(Case("y = tf.reduce_sum(x*x)", "y --wrt x --hessian", {"tf": tf, "x": x}))
    assert report.hessian.eigenvalues == (2.0, 2.0)
    assert report.hessian.curvature is Curvature.MINIMUM


def test_several_outputs(door: Door) -> None:
    report = door.grad(Case("y = x**2\nz = x**3", "y z --wrt x --hessian", {"x": tf.constant(2.0)}))
    assert {hessian.target: hessian.eigenvalues for hessian in report.hessians} == {"y": (2.0,), "z": (12.0,)}
    with pytest.raises(AttributeError, match=r"2 Hessians \(y, z\)"):
        report.hessian  # noqa: B018


def test_an_output_that_is_no_scalar(door: Door) -> None:
    report = door.grad(Case("y = x**3", "y --wrt x --hessian", {"x": tf.constant(X)}))
    assert_close(report["d2y/dx2"], np.diag(6 * X))
    assert report.rows[0].label == "∂²Σy/∂x²"
    assert report.notes == ("the Hessian of y is that of the sum of its 3 elements",)


# -- what is not there -----------------------------------------------------------------------------


def test_a_source_that_is_not_read(door: Door) -> None:
    namespace = {"x": tf.constant(2.0), "b": tf.constant([1.0, 2.0])}
    report = door.grad(Case("y = x**2", "y --wrt x,b --hessian", namespace))
    assert_close(report.hessian.matrix, np.diag([2.0, 0, 0]))
    assert [row.connected for row in report] == [True, False, False]
    assert report.hessian.curvature is Curvature.SINGULAR


def test_an_output_that_reads_no_source(door: Door) -> None:
    namespace = {"x": tf.constant(2.0), "b": tf.constant([1.0, 2.0])}
    report = door.grad(Case("y = x**2", "y --wrt b --hessian", namespace))
    assert report["d2y/db2"] is None
    assert report.rows[0].shape == (2, 2)
    assert report.hessians == ()
    with pytest.raises(AttributeError, match="there is no Hessian in this report"):
        report.hessian  # noqa: B018
    zeros = door.grad(Case("y = x**2", "y --wrt b --hessian --zero", namespace))
    assert_close(zeros["d2y/db2"], np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("y = tf.reduce_sum(tf.image.adjust_saturation(x, 2.0))", "AdjustSaturation"),
        ("y = tf.cast(x, tf.int32)", "y is int32"),
        ("y = float(tf.reduce_sum(x))", "line 2 leaves TensorFlow"),
    ],
)
def test_reasons(door: Door, cell: str, why: str) -> None:
    namespace = {"tf": tf, "x": tf.ones((1, 1, 2, 3))}
    report = door.grad(Case(f"{cell}\nz = tf.reduce_sum(x**2)", "y z --wrt x --hessian --zero", namespace))
    assert report["d2y/dx2"] is None
    assert why in report.rows[0].why
    assert report.hessian.target == "z"
    assert_close(report.hessian.matrix, 2 * np.eye(6))


def test_the_way_that_is_missing(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(2.0), "a": tf.constant(3.0)}
    report = door.grad(Case("y = a**2*float(x)", "y --wrt x,a --hessian", namespace))
    assert [row.connected for row in report] == [False, False, True]
    assert ["leaves TensorFlow: float(x)" in row.why for row in report] == [True, True, False]
    assert [float(row.value) for row in report] == [0.0, 0.0, 4.0]


def test_a_gradient_whose_own_gradient_is_not_registered(door: Door) -> None:
    cell = "y = tf.reduce_sum(tf.nn.local_response_normalization(x)**2)\nz = tf.reduce_sum(x**2)"
    case = Case(cell, "y z --wrt x --hessian --zero", {"tf": tf, "x": tf.ones((1, 1, 1, 2))})
    report = door.grad(case)
    assert report["d2y/dx2"] is None
    assert report.rows[0].why == "no gradient is registered for LRNGrad"
    assert report.rows[0].reason.operation == "LRNGrad"
    assert report.hessian.target == "z"


def test_gradients_that_are_finite_and_second_derivatives_that_are_not(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(0.0), "a": tf.constant(2.0)}
    report = door.grad(Case("y = tf.pow(x, 1.5) + x*a**2", "y --wrt x,a --hessian", namespace))
    assert [bool(np.isfinite(row.value)) for row in report] == [False, True, True]
    assert [bool(row.why) for row in report] == [True, False, False]
    assert report.rows[0].why.startswith("the gradient of Pow is inf for 0 and 0.5")


def test_what_is_not_finite_has_no_eigenvalues(door: Door) -> None:
    report = door.grad(Case("y = tf.sqrt(x)", "y --wrt x --hessian", {"tf": tf, "x": tf.constant(0.0)}))
    assert not np.isfinite(report.hessian.matrix).all()
    assert report.hessian.eigenvalues == ()
    assert (report.hessian.condition, report.hessian.curvature, report.hessian.verdict) == (None, None, "")


def test_more_than_512_rows(door: Door) -> None:
    x = tf.ones(513)
    report = door.grad(Case("y = tf.reduce_sum(x**2)", "y --wrt x --hessian", {"tf": tf, "x": x}))
    assert_close(report.hessian["x"], 2 * np.eye(513))
    assert (report.hessian.size, report.hessian.matrix, report.hessian.eigenvalues) == (513, None, ())
    report = door.grad(Case("y = tf.reduce_sum(x**2)", "y --wrt x --hessian", {"tf": tf, "x": x[:512]}))
    assert report.hessian.eigenvalues == (2.0,) * 512


def test_complex_sources_are_refused(door: Door) -> None:
    namespace = {"tf": tf, "z": tf.constant([1 + 2j])}
    refused = door.refused_grad(Case("y = tf.abs(z)**2", "y --wrt z --hessian", namespace))
    assert refused.startswith("z is complex, and a Hessian is of real sources")


def test_a_complex_output(door: Door) -> None:
    x = tf.constant(2.0, tf.float64)
    report = door.grad(Case("y = tf.complex(x**3, x**2)", "y --wrt x --hessian", {"tf": tf, "x": x}))
    assert_close(report["d2y/dx2"], 12.0)
    assert report.notes == ("y is complex, and its Hessian that of its real part",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "dy/dx --hessian",
            "dy/dx is no second derivative, as a Hessian holds them: write d2y/dx2, or y --wrt x.",
        ),
        ("d3y/dx3 --hessian", "d3y/dx3 is no second derivative"),
        ("y --wrt x --order 3 --hessian", "the order is 3, but a Hessian holds second derivatives."),
        ("y --wrt x --hessian --jacobian", "--jacobian and --hessian are different things"),
    ],
)
def test_refusals(shell: Notebook, line: str, message: str) -> None:
    shell.ns["x"] = 2.0
    assert shell.refused(f"%%grad {line}\ny = x**3").startswith(message)


def test_the_order_may_be_said(door: Door) -> None:
    report = door.grad(Case("y = x**3", "y --wrt x --order 2 --hessian", {"x": tf.constant(2.0)}))
    assert report.hessian.eigenvalues == (12.0,)


def test_complex_sources_are_refused_by_their_kind() -> None:
    with pytest.raises(SourceError):
        tape_magic.grad(lambda z: abs(z), 1 + 2j, hessian=True)


# -- in the notebook -------------------------------------------------------------------------------


def test_sources_that_the_cell_assigns_or_reads(shell: Notebook) -> None:
    shell.ns.update(tf=tf, v=tf.Variable(3.0))
    shell.ok("%%grad y --wrt x --hessian\nx = [1.0, 2.0]\ny = x[0]**2*x[1]")
    assert_close(shell.ns["grads"].hessian.matrix, [[4, 2], [2, 0]], 1e-6)
    assert shell.ns["x"] == [1.0, 2.0]
    shell.ok("%%grad --hessian\nv**4")
    assert float(shell.ns["grads"]["_", "v", "v"]) == 108


def test_the_tape_within_the_cell(shell: Notebook) -> None:
    shell.ns["x"] = tf.constant(3.0)
    shell.ok("%%grad d2y/dx2 --hessian\nwith tape.stop_recording():\n    s = x*x\ny = s*x*x")
    assert float(shell.ns["d2y_dx2"]) == 18


def test_errors_in_the_cell(shell: Notebook) -> None:
    shell.ns["x"] = 2.0
    run = shell.run("%%grad y --wrt x --hessian\ny = x**2\n1/0")
    assert isinstance(run.error, ZeroDivisionError)
    assert isinstance(shell.ns["x"], float)
