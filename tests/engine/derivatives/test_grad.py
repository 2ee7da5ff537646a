"""Derivatives against calculus, each through the Python function and through the magic."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import LineError, SourceError, TapeMagicError, TargetError
from tests.support.clock import Clock
from tests.support.covering import covering
from tests.support.doors import Case, Door

TAN, TANH, SIGMOID = np.tan, np.tanh, lambda x: 1 / (1 + np.exp(-x))


def tangents(t: Any, sign: int) -> list[Any]:
    """Derivatives of tan (sign 1) and tanh (sign −1), by their value."""
    q = 1 + sign * t * t
    return [
        q,
        sign * 2 * t * q,
        sign * 2 * q * (1 + sign * 3 * t * t),
        8 * t * q * (2 + sign * 3 * t * t),
    ]


def sigmoids(s: Any) -> list[Any]:
    q = s * (1 - s)
    return [q, q * (1 - 2 * s), q * (1 - 6 * s + 6 * s**2), q * (1 - 2 * s) * (1 - 12 * s + 12 * s**2)]


def hermites(x: Any) -> list[Any]:
    """Derivatives of exp(−x²), divided by it."""
    return [-2 * x, 4 * x**2 - 2, -8 * x**3 + 12 * x, 16 * x**4 - 48 * x**2 + 12]


@dataclass(frozen=True)
class Known:
    """A function of x as a cell, a place to be at, and its derivatives there, order by order."""

    cell: str
    at: float
    derivatives: Callable[[Any], Sequence[Any]]


FUNCTIONS = {
    "cube": Known("y = x**3", 2.0, lambda x: [3 * x**2, 6 * x, 6 + 0 * x]),
    "pow": Known("y = tf.pow(x, 5)", 1.5, lambda x: [5 * x**4, 20 * x**3, 60 * x**2, 120 * x]),
    "polynomial": Known(
        "y = 0.5*x**4 - 2*x**3 + x - 7",
        -1.2,
        lambda x: [2 * x**3 - 6 * x**2 + 1, 6 * x**2 - 12 * x, 12 * x - 12],
    ),
    "inverse": Known("y = 1/x", 1.7, lambda x: [-1 / x**2, 2 / x**3, -6 / x**4, 24 / x**5]),
    "rational": Known(
        "y = (x**2 + 1)/(x - 1)",
        3.0,
        lambda x: [(x**2 - 2 * x - 1) / (x - 1) ** 2, 4 / (x - 1) ** 3, -12 / (x - 1) ** 4],
    ),
    "sqrt": Known(
        "y = tf.sqrt(x)",
        2.5,
        lambda x: [x**-0.5 / 2, -(x**-1.5) / 4, 3 * x**-2.5 / 8, -15 * x**-3.5 / 16],
    ),
    "exp": Known("y = tf.exp(x)", 0.7, lambda x: [np.exp(x)] * 4),
    "exp of 2x": Known("y = tf.exp(2*x)", 0.3, lambda x: [2**n * np.exp(2 * x) for n in (1, 2, 3, 4)]),
    "expm1": Known("y = tf.math.expm1(x)", 0.2, lambda x: [np.exp(x)] * 4),
    "log": Known("y = tf.math.log(x)", 1.3, lambda x: [1 / x, -1 / x**2, 2 / x**3, -6 / x**4]),
    "log1p": Known(
        "y = tf.math.log1p(x)",
        0.4,
        lambda x: [(-1) ** n * math.factorial(n) / (1 + x) ** (n + 1) for n in range(4)],
    ),
    "sin": Known("y = tf.sin(x)", 0.9, lambda x: [np.cos(x), -np.sin(x), -np.cos(x), np.sin(x)]),
    "cos": Known("y = tf.cos(x)", 0.9, lambda x: [-np.sin(x), -np.cos(x), np.sin(x), np.cos(x)]),
    "tan": Known("y = tf.tan(x)", 0.5, lambda x: tangents(np.tan(x), 1)),
    "tanh": Known("y = tf.tanh(x)", 0.5, lambda x: tangents(np.tanh(x), -1)),
    "sinh": Known("y = tf.sinh(x)", 0.8, lambda x: [np.cosh(x), np.sinh(x), np.cosh(x), np.sinh(x)]),
    "cosh": Known("y = tf.cosh(x)", 0.8, lambda x: [np.sinh(x), np.cosh(x), np.sinh(x), np.cosh(x)]),
    "sigmoid": Known("y = tf.sigmoid(x)", 0.6, lambda x: sigmoids(SIGMOID(x))),
    "softplus": Known("y = tf.nn.softplus(x)", 0.6, lambda x: [SIGMOID(x), *sigmoids(SIGMOID(x))[:3]]),
    "atan": Known(
        "y = tf.atan(x)",
        0.7,
        lambda x: [
            1 / (1 + x**2),
            -2 * x / (1 + x**2) ** 2,
            (6 * x**2 - 2) / (1 + x**2) ** 3,
            24 * x * (1 - x**2) / (1 + x**2) ** 4,
        ],
    ),
    "asin": Known(
        "y = tf.asin(x)",
        0.4,
        lambda x: [
            (1 - x**2) ** -0.5,
            x * (1 - x**2) ** -1.5,
            (1 + 2 * x**2) * (1 - x**2) ** -2.5,
            3 * x * (3 + 2 * x**2) * (1 - x**2) ** -3.5,
        ],
    ),
    "asinh": Known(
        "y = tf.asinh(x)",
        0.6,
        lambda x: [
            (1 + x**2) ** -0.5,
            -x * (1 + x**2) ** -1.5,
            (2 * x**2 - 1) * (1 + x**2) ** -2.5,
            3 * x * (3 - 2 * x**2) * (1 + x**2) ** -3.5,
        ],
    ),
    "gauss": Known("y = tf.exp(-x**2)", 0.8, lambda x: [np.exp(-(x**2)) * h for h in hermites(x)]),
    "erf": Known(
        "y = tf.math.erf(x)",
        0.5,
        lambda x: [2 / math.sqrt(math.pi) * np.exp(-(x**2)) * h for h in [1, *hermites(x)[:3]]],
    ),
    "product": Known("y = x*tf.exp(x)", 0.4, lambda x: [(x + n) * np.exp(x) for n in (1, 2, 3, 4)]),
    "damped": Known(
        "y = tf.exp(-x)*tf.sin(x)",
        0.4,
        lambda x: [
            np.exp(-x) * (np.cos(x) - np.sin(x)),
            -2 * np.exp(-x) * np.cos(x),
            2 * np.exp(-x) * (np.sin(x) + np.cos(x)),
            -4 * np.exp(-x) * np.sin(x),
        ],
    ),
    "x to the x": Known(
        "y = x**x", 1.4, lambda x: [x**x * (np.log(x) + 1), x**x * ((np.log(x) + 1) ** 2 + 1 / x)]
    ),
    "chain": Known(
        "u = x**2\nv = tf.sin(u)\ny = tf.math.log(2.0 + v)",
        0.8,
        lambda x: [2 * x * np.cos(x**2) / (2 + np.sin(x**2))],
    ),
    "loop": Known(
        "y = 1.0\nfor i in range(4):\n    y = y*x", 1.1, lambda x: [4 * x**3, 12 * x**2, 24 * x, 24 + 0 * x]
    ),
    "newton's square root": Known(
        "y = 1.0\nfor i in range(30):\n    y = (y + x/y)/2", 3.0, lambda x: [x**-0.5 / 2, -(x**-1.5) / 4]
    ),
    "relu": Known("y = tf.nn.relu(x)", 1.5, lambda x: [1 + 0 * x]),
    "abs": Known("y = abs(x)", -1.5, lambda x: [-1 + 0 * x]),
    "where": Known("y = tf.where(x > 0, x**3, -x**3)", -1.5, lambda x: [-3 * x**2, -6 * x]),
    "function": Known(
        "def f(t):\n    return t**3 + t\ny = f(f(x))",
        0.3,
        lambda x: [(3 * (x**3 + x) ** 2 + 1) * (3 * x**2 + 1)],
    ),
    "tf.function": Known(
        "@tf.function\ndef f(t):\n    return tf.sin(t)*t\ny = f(x)",
        0.9,
        lambda x: [np.sin(x) + x * np.cos(x), 2 * np.cos(x) - x * np.sin(x), -3 * np.sin(x) - x * np.cos(x)],
    ),
    "custom gradient": Known(
        "@tf.custom_gradient\ndef f(t):\n    return tf.identity(t), lambda dy: 7*dy*t\ny = f(x)",
        2.0,
        lambda x: [7 * x, 7 + 0 * x],
    ),
    "comprehension": Known(
        "y = sum([x**n for n in (1, 2, 3)])", 0.5, lambda x: [1 + 2 * x + 3 * x**2, 2 + 6 * x, 6 + 0 * x]
    ),
    "starred assignment": Known(
        "first, *rest = x, x**2, x**3\ny = first + rest[1]", 0.5, lambda x: [1 + 3 * x**2, 6 * x]
    ),
    "einsum": Known("y = tf.einsum('...,...->...', x, x)*x", 0.5, lambda x: [3 * x**2, 6 * x]),
}

# How x is given: (name, what stands for a number or an array, dtype of the derivative).
KINDS = {
    "variable": (lambda at: tf.Variable(at, dtype=tf.float32), "float32"),
    "float64 variable": (lambda at: tf.Variable(at, dtype=tf.float64), "float64"),
    "tensor": (lambda at: tf.constant(at, tf.float64), "float64"),
    "float": (float, "float32"),
    "NumPy scalar": (np.float64, "float64"),
    "vector": (lambda at: tf.constant(at + np.array([-0.05, 0.0, 0.05])), "float64"),
    "array": (lambda at: at + np.array([[-0.05, 0.0], [0.02, 0.05]]), "float64"),
}
TOLERANCE = {"float32": 2e-3, "float64": 1e-9}
LINES = {1: "dy/dx", 2: "dy/dx, d2y/dx2", 3: "dy/dx, d2y/dx2, d3y/dx3", 4: "dy/dx, d2y/dx2, d3y/dx3, d4y/dx4"}


def numbers(value: Any) -> np.ndarray:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def assert_numbers_close(value: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(numbers(value), expected, rtol=tolerance, atol=tolerance)
    assert numbers(value).shape == np.shape(expected)


@pytest.mark.parametrize(("name", "kind"), covering(FUNCTIONS, KINDS, times=2))
@pytest.mark.both_doors("kind")
def test_functions(door: Door, name: str, kind: str) -> None:
    known, (make, dtype) = FUNCTIONS[name], KINDS[kind]
    x = make(known.at)
    place = numbers(x).astype(np.float64)
    expected = known.derivatives(place)
    report = door.grad(Case(known.cell, LINES[len(expected)], {"tf": tf, "x": x}))
    assert [row.order for row in report] == list(range(1, len(expected) + 1))
    for row, want in zip(report, expected, strict=True):
        assert_numbers_close(row.value, np.broadcast_to(want, place.shape), TOLERANCE[dtype])
        assert row.value.dtype.name == row.dtype == dtype
        assert row.shape == place.shape
        assert row.connected
        assert row.why == ""
        assert row.sums == (place.size,) * row.order
    first = report["dy/dx"]
    assert first is report.rows[0].value


def test_log_gamma(door: Door) -> None:
    x = tf.constant(1.0, tf.float64)
    report = door.grad(Case("y = tf.math.lgamma(x)", LINES[4], {"tf": tf, "x": x}))
    expected = [-np.euler_gamma, math.pi**2 / 6, -2.4041138063191886, math.pi**4 / 15]
    for row, want in zip(report, expected, strict=True):
        assert_numbers_close(row.value, want, 1e-9)


X, A, B = 1.3, 0.7, -0.4
T = X * A * B
R = X**2 + A**2
MIXED = {
    "product": (
        "y = x**2*a**3",
        {
            "dy/dx": 2 * X * A**3,
            "dy/da": 3 * X**2 * A**2,
            "d2y/dxda": 6 * X * A**2,
            "d2y/dadx": 6 * X * A**2,
            "d2y/dx2": 2 * A**3,
            "d2y/da2": 6 * X**2 * A,
            "d3y/dx2da": 6 * A**2,
            "d3y/dxda2": 12 * X * A,
            "d4y/dx2da2": 12 * A,
        },
    ),
    "quotient": (
        "y = x/a",
        {"dy/dx": 1 / A, "dy/da": -X / A**2, "d2y/dxda": -1 / A**2, "d2y/da2": 2 * X / A**3},
    ),
    "sin": ("y = tf.sin(x*a)", {"d2y/dxda": math.cos(X * A) - X * A * math.sin(X * A)}),
    "three": (
        "y = tf.exp(x*a*b)",
        {"d3y/dxdadb": math.exp(T) * (1 + 3 * T + T**2), "d2y/dadb": math.exp(T) * (1 + T) * X},
    ),
    "angle": (
        "y = tf.atan2(x, a)",
        {"dy/dx": A / R, "dy/da": -X / R, "d2y/dxda": (X**2 - A**2) / R**2},
    ),
    "logarithm": (
        "y = tf.math.log(x**2 + a**2)",
        {"d2y/dxda": -4 * X * A / R**2, "d2y/dx2": 2 * (A**2 - X**2) / R**2},
    ),
    "power": (
        "y = x**a",
        {
            "dy/dx": A * X ** (A - 1),
            "dy/da": X**A * math.log(X),
            "d2y/dadx": X ** (A - 1) * (1 + A * math.log(X)),
        },
    ),
}


@pytest.mark.parametrize(("name", "make"), covering(MIXED, [tf.Variable, tf.constant, float]))
@pytest.mark.both_doors("make")
def test_mixed_partials(door: Door, name: str, make: Callable[[float], Any]) -> None:
    cell, expected = MIXED[name]
    namespace = {"tf": tf, "x": make(X), "a": make(A), "b": make(B)}
    report = door.grad(Case(cell, ", ".join(expected), namespace))
    assert list(report.to_dict()) == list(expected)
    for key, want in expected.items():
        assert_numbers_close(report[key], want, 1e-4)


W = np.array([2.0, 3.0, 5.0])
M = np.array([[2.0, 1.0], [0.5, 3.0]])
I2 = np.linalg.inv(M)
DATA = np.arange(12.0).reshape(4, 3) / 7
GOAL = np.array([1.0, -1.0, 2.0, 0.0])
ARRAYS = {
    "sum of squares": ("y = tf.reduce_sum(w*w)", "dy/dw", 2 * W),
    "mean": ("y = tf.reduce_mean(w)", "dy/dw", np.full(3, 1 / 3)),
    "norm": ("y = tf.norm(w)", "dy/dw", W / np.linalg.norm(W)),
    "product": ("y = tf.reduce_prod(w)", "dy/dw", W.prod() / W),
    "maximum": ("y = tf.reduce_max(w)", "dy/dw", np.array([0.0, 0.0, 1.0])),
    "log-sum-exp": ("y = tf.reduce_logsumexp(w)", "dy/dw", np.exp(W) / np.exp(W).sum()),
    "quadratic form": (
        "y = tf.einsum('i,ij,j', w, A, w)",
        "dy/dw",
        (DATA[:3] + DATA[:3].T) @ W,
    ),
    "least squares": (
        "y = tf.reduce_mean((tf.linalg.matvec(D, w) - g)**2)",
        "dy/dw",
        2 / 4 * DATA.T @ (DATA @ W - GOAL),
    ),
    "summed outputs": ("y = tf.linalg.matvec(D, w)", "dy/dw", DATA.sum(axis=0)),
    "trace": ("y = tf.linalg.trace(m)", "dy/dm", np.eye(2)),
    "determinant": ("y = tf.linalg.det(m)", "dy/dm", np.linalg.det(M) * I2.T),
    "trace of the inverse": ("y = tf.linalg.trace(tf.linalg.inv(m))", "dy/dm", -(I2 @ I2).T),
    "slices": ("y = w[0]*w[2]**2", "dy/dw", np.array([W[2] ** 2, 0, 2 * W[0] * W[2]])),
    "second derivative, summed rows": ("y = tf.reduce_sum(w**3)", "d2y/dw2", 6 * W),
    "Hessian times ones": ("y = tf.reduce_prod(w)", "d2y/dw2", np.array([8.0, 7.0, 5.0])),
    "two outputs": ("y = (tf.reduce_sum(w), 3*w[1])", "dy/dw", np.array([1.0, 4.0, 1.0])),
}


@pytest.mark.parametrize(("name", "make"), covering(ARRAYS, [tf.Variable, tf.constant, np.array]))
@pytest.mark.both_doors("make")
def test_arrays(door: Door, name: str, make: Callable[[Any], Any]) -> None:
    cell, line, expected = ARRAYS[name]
    namespace = {"tf": tf, "w": make(W), "m": make(M), "A": DATA[:3], "D": DATA, "g": GOAL}
    report = door.grad(Case(cell, line, namespace))
    assert_numbers_close(report[line], expected, 1e-9)
    assert report[line].dtype.name == "float64"


COMPOSITES = {
    "ragged": "y = tf.RaggedTensor.from_row_lengths(w**3, [1, 2])",
    "sparse": "y = tf.sparse.from_dense(w**3)",
    "in a dict": "y = {'a': tf.RaggedTensor.from_row_lengths(w**3, [1, 2])}",
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_outputs_of_several_tensors(door: Door, name: str) -> None:
    report = door.grad(Case(COMPOSITES[name], "dy/dw, d2y/dw2", {"tf": tf, "w": tf.Variable(W)}))
    assert_numbers_close(report["dy/dw"], 3 * W**2, 1e-9)
    assert_numbers_close(report["d2y/dw2"], 6 * W, 1e-9)
    assert report.rows[0].sum_note == "sum of 3 outputs"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("y = None", "y is None, not a tensor"),
        ("y = float(x)", "y is a float, not a tensor: line 2 leaves TensorFlow: float(x)"),
        ("y = x.numpy()", "y is a float32, not a tensor: line 2 leaves TensorFlow: x.numpy()"),
        ("y = tf.cast(x, tf.int32)", "y is int32, which has no derivative"),
        ("y = [x, 'a']", "y is a str, not a tensor"),
    ],
)
@pytest.mark.both_doors("cell")
def test_outputs_that_have_no_derivative(door: Door, cell: str, why: str) -> None:
    report = door.grad(Case(f"{cell}\nz = x*x", "dy/dx, dz/dx", {"tf": tf, "x": tf.Variable(3.0)}))
    assert report["dy/dx"] is None
    assert report.rows[0].why.startswith(why)
    assert float(report["dz/dx"]) == 6.0


Z = 3 - 4j


@pytest.mark.parametrize("make", [tf.Variable, tf.constant, complex])
@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        # TensorFlow's gradient of a holomorphic function is the conjugate of its derivative.
        ("y = z**2", (2 * Z).conjugate()),
        ("y = tf.exp(z)", np.exp(Z).conjugate()),
        ("y = tf.math.real(z*tf.math.conj(z))", 2 * Z),
        ("y = tf.abs(z)", Z / abs(Z)),
    ],
)
def test_complex(door: Door, cell: str, expected: complex, make: Callable[[Any], Any]) -> None:
    report = door.grad(Case(cell, "dy/dz", {"tf": tf, "z": make(Z)}))
    assert_numbers_close(report["dy/dz"], expected, 1e-5)
    assert report["dy/dz"].dtype.is_complex


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_type(door: Door, dtype: str) -> None:
    report = door.grad(Case("y = x*x", "dy/dx, d2y/dx2", {"x": tf.Variable(3.0, dtype=dtype)}))
    assert [float(row.value) for row in report] == [6.0, 2.0]
    assert {row.dtype for row in report} == {dtype}


# -- what a line asks for --------------------------------------------------------------------------


def parabola(**more: Any) -> dict[str, Any]:
    return {"x": tf.Variable(3.0), "a": tf.constant(2.0), **more}


def test_a_target_with_wrt_and_order(door: Door) -> None:
    report = door.grad(Case("y = a*x**3", "y --wrt x,a --order 2", parabola()))
    assert list(report.to_dict()) == ["d2y/dx2", "d2y/da2"]
    assert float(report["d2y/dx2"]) == 36
    assert report["d2y/da2"] is None
    assert list(door.grad(Case("y = a*x**3", "y --wrt x a", parabola())).to_dict()) == ["dy/dx", "dy/da"]


def test_the_last_expression(door: Door) -> None:
    report = door.grad(Case("y = a*x\ny**2 + a", "--wrt x a", parabola()))
    assert [row.target for row in report] == ["_", "_"]
    assert float(report["_", "x"]) == 24
    assert float(report["d_/da"]) == 37


def test_targets_may_be_mixed(door: Door) -> None:
    report = door.grad(Case("y = a*x**2\nz = y*a", "dy/dx, d2z/dx da ∂²y/∂x² ∂z/∂a", parabola()))
    assert list(report.to_dict()) == ["dy/dx", "d2z/dxda", "d2y/dx2", "dz/da"]
    assert [float(row.value) for row in report] == [12, 24, 4, 36]


def test_not_connected(door: Door) -> None:
    case = Case("y = x*x\nz = a + 1.0", "dy/dx, dy/da, dz/dx, d3y/dx3", parabola())
    report = door.grad(case)
    assert [row.connected for row in report] == [True, False, False, False]
    assert [row.value for row in report][1:] == [None, None, None]
    zeros = door.grad(Case(case.cell, f"{case.line} --zero", parabola()))
    assert [row.connected for row in zeros] == [True, False, False, False]
    assert [float(row.value) for row in zeros] == [6, 0, 0, 0]


def test_zeros_have_the_shape_and_type_of_the_source(door: Door) -> None:
    namespace = {"x": tf.Variable(1.0), "w": tf.zeros((2, 3), tf.float64)}
    report = door.grad(Case("y = x*2", "dy/dw --zero", namespace))
    assert report["dy/dw"].shape == (2, 3)
    assert report["dy/dw"].dtype == tf.float64


def test_sums_are_said_in_the_label(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.linspace(-10.0, 10.0, 201), "w": tf.Variable(tf.ones(4))}
    report = door.grad(
        Case("y = tf.sigmoid(x)\nz = tf.reduce_sum(w**2)", "dy/dx, d2y/dx2, d2z/dw2", namespace)
    )
    assert [row.label for row in report] == ["∂Σy/∂x", "∂²Σy/∂x²", "∂Σ(∂z/∂w)/∂w"]
    assert [row.sum_note for row in report] == [
        "sum of 201 outputs",
        "sum of 201 outputs, then of 201 first derivatives",
        "sum of 4 first derivatives",
    ]
    s = SIGMOID(np.linspace(-10, 10, 201))
    assert_numbers_close(report["dy/dx"], s * (1 - s), 1e-5)


def test_seconds_are_measured(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(runs=False)
    monkeypatch.setattr("tape_magic.engine.derivatives.run.time", clock)

    @tf.custom_gradient
    def square(x: Any) -> Any:
        def backward(upstream: Any) -> Any:
            clock.sleep(0.5)
            return 2 * x * upstream

        return x**2, backward

    report = door.grad(
        Case("clock.sleep(0.25)\ny = square(x)", "dy/dx", parabola(clock=clock, square=square))
    )
    assert (report.forward_seconds, report.backward_seconds) == (0.25, 0.5)


def test_an_op_without_a_gradient_keeps_the_other_rows(door: Door) -> None:
    cell = "y = tf.image.adjust_saturation(x, 2.0)\nz = tf.reduce_sum(x**2)"
    report = door.grad(Case(cell, "dy/dx, dz/dx", {"tf": tf, "x": tf.ones((1, 2, 2, 3))}))
    assert report["dy/dx"] is None
    assert "AdjustSaturation" in report.rows[0].why
    assert_numbers_close(report["dz/dx"], np.full((1, 2, 2, 3), 2.0))


# -- the door of functions -------------------------------------------------------------------------


def test_a_function_of_one_source() -> None:
    report = tape_magic.grad(lambda x: x**3, 2.0)
    assert [row.key for row in report] == ["d_/dx"]
    assert float(report["_", "x"]) == 12


def test_sources_are_numbered_or_named() -> None:
    report = tape_magic.grad(lambda u, v: u * v, [2.0, 5.0])
    assert [(row.wrt, float(row.value)) for row in report] == [(("x0",), 5.0), (("x1",), 2.0)]
    report = tape_magic.grad(lambda v, u: u / v, {"u": 2.0, "v": 4.0})
    assert [(row.wrt, float(row.value)) for row in report] == [(("u",), 0.25), (("v",), -0.125)]
    report = tape_magic.grad(lambda first, second: first / second, {"u": 2.0, "v": 4.0})
    assert [(row.wrt, float(row.value)) for row in report] == [(("u",), 0.25), (("v",), -0.125)]
    report = tape_magic.grad(lambda **all: all["u"] / all["v"], {"u": 2.0, "v": 4.0})
    assert float(report["_", "u"]) == 0.25


@pytest.mark.parametrize(
    ("function", "sources", "expected"),
    [
        (tf.function(lambda x: x * x), 3.0, [6.0]),
        (tf.square, 3.0, [6.0]),
        (lambda x, /: x * x, 3.0, [6.0]),
        (lambda x, scale=2.0: x * scale, 3.0, [2.0]),
        (lambda *all: all[0] * all[1], [3.0, 2.0], [2.0, 3.0]),
        (lambda *all, **more: all[0] * all[1], {"a": 3.0, "b": 2.0}, [2.0, 3.0]),
        (lambda *, b, a: a**2 * b, {"a": 3.0, "b": 2.0}, [12.0, 9.0]),
        (operator.mul, [3.0, 2.0], [2.0, 3.0]),
        (functools.partial(operator.mul, 2.0), 3.0, [2.0]),
        (keras.layers.Rescaling(5.0), tf.constant(3.0), [5.0]),
    ],
)
def test_any_callable(function: Callable[..., Any], sources: Any, expected: list[float]) -> None:
    report = tape_magic.grad(function, sources)
    assert [float(row.value) for row in report] == expected


def test_an_output_by_the_name_of_a_source() -> None:
    report = tape_magic.grad(lambda x: {"x": x**2}, {"x": 3.0})
    assert {row.key: float(row.value) for row in report} == {"dx/dx": 6.0}


def test_a_function_that_closes_over_its_variables() -> None:
    x, still = tf.Variable(3.0, name="x"), tf.Variable(2.0, trainable=False)
    report = tape_magic.grad(lambda: still * x**2)
    assert [(row.wrt, float(row.value)) for row in report] == [(("x",), 12.0)]
    report = tape_magic.grad(lambda: still * x**2, {"still": still})
    assert [(row.wrt, float(row.value)) for row in report] == [(("still",), 9.0)]


def test_a_function_of_several_outputs() -> None:
    x = tf.Variable(3.0)
    report = tape_magic.grad(lambda x: {"y": x**2, "z": 5 * x}, {"x": x})
    assert {row.key: float(row.value) for row in report} == {"dy/dx": 6.0, "dz/dx": 5.0}
    report = tape_magic.grad(lambda x: {"y": x**2, "z": 5 * x}, {"x": x}, ["z"])
    assert {row.key: float(row.value) for row in report} == {"dz/dx": 5.0}
    report = tape_magic.grad(lambda x: {"y": x**2, "z": 5 * x}, {"x": x}, "d2y/dx2")
    assert {row.key: float(row.value) for row in report} == {"d2y/dx2": 2.0}


def test_a_function_may_take_the_tape() -> None:
    def loss(x: Any, tape: Any) -> Any:
        with tape.stop_recording():
            scale = x * 10
        return scale * x

    assert float(tape_magic.grad(loss, {"x": 2.0})["_", "x"]) == 20


def test_a_model_by_its_paths() -> None:
    model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(2, name="last")], name="net")
    inputs = tf.ones((4, 3))
    report = tape_magic.grad(lambda: {"loss": tf.reduce_sum(model(inputs))}, {"net": model}, "loss")
    assert [row.wrt for row in report] == [("last/kernel",), ("last/bias",)]
    assert_numbers_close(report["loss", "last/kernel"], np.full((3, 2), 4.0))
    assert_numbers_close(report["loss", "last/bias"], np.full(2, 4.0))
    assert [value.shape for value in report["loss", "net"]] == [(3, 2), (2,)]


def test_what_the_caller_gave_is_as_it_was() -> None:
    inner = [1.0, np.ones(2)]
    given = {"p": inner, "q": (2.0,)}
    first, second = inner
    report = tape_magic.grad(lambda p, q: p[0] * q[0] + tf.reduce_sum(p[1]), given)
    assert given["p"] is inner
    assert inner[0] is first
    assert inner[1] is second
    assert [float(value) if value.shape == () else value.numpy().tolist() for value in report["_", "p"]] == [
        2.0,
        [1.0, 1.0],
    ]

    def fails(p: Any, q: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tape_magic.grad(fails, given)
    assert given["p"] is inner
    assert inner[0] is first


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((3, 2.0), LineError, "the function is an int, which cannot be called."),
        (
            (lambda x: x, {"x": 2}),
            SourceError,
            "x is an integer, and integers have no derivative: write x = 2.0",
        ),
        ((lambda x: x, {"x": "2"}), SourceError, "x is the str '2', which has no derivative."),
        ((lambda x: x, {"1x": 2.0}), LineError, "'1x' is not a name; name each source"),
        ((lambda x: {"y": x}, {"x": 2.0}, "dz/dx"), TargetError, "z is never assigned"),
        (
            (lambda x: {"loss": x}, {"x": 2.0}, "los"),
            TargetError,
            "los is never assigned; did you mean loss?",
        ),
        ((lambda: tf.constant(1.0),), SourceError, "there is nothing to differentiate by"),
        ((lambda x: {3: x}, {"x": 2.0}), LineError, "3 is not a name; name each output"),
        ((lambda x: x, {"x": 2.0}, "y/dx"), LineError, "is not a derivative"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], kind: type[TapeMagicError], message: str) -> None:
    with pytest.raises(kind) as info:
        tape_magic.grad(*arguments)
    assert message in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("order", [0, -1, 21, 2.5, "2"])
def test_orders_that_cannot_be_computed(order: Any) -> None:
    with pytest.raises(LineError, match=r"^the order is .*; orders 1 to 20 can be computed\.$"):
        tape_magic.grad(lambda x: x, 2.0, order=order)


def test_exceptions_of_the_function_pass_untouched() -> None:
    def fails(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tape_magic.grad(fails, 2.0)
