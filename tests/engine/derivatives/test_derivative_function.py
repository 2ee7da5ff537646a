"""Compiled functions of derivatives: their parameters, what they return, and what they refuse."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.derivatives.arguments import distinct, parameter_name, put
from tape_magic.errors import CompileError, LineError, SourceError, TapeMagicError, TargetError


def parabola(x: Any, a: Any = 1.0, b: Any = -2.0, c: Any = 1.0) -> dict[str, Any]:
    return {"y": a * x**2 + b * x + c}


@pytest.fixture(scope="module")
def f() -> Any:
    return tape_magic.derivative(parabola, targets="dy/dx")


@pytest.mark.parametrize(
    ("x", "dy_dx", "y"), [(0.0, -2.0, 1.0), (1.0, 0.0, 0.0), (1, 0.0, 0.0), (-1.5, -5.0, 6.25)]
)
def test_the_tutorial(f: Any, x: Any, dy_dx: float, y: float) -> None:
    found = f(x)
    assert found == (dy_dx, y)
    assert found._fields == ("dy_dx", "y")
    assert found.y.dtype == tf.float32


def test_another_number_is_no_other_trace() -> None:
    traces = []

    def square(x: Any, a: Any = 1.0) -> Any:
        traces.append(1)
        return a * x**2

    function = tape_magic.derivative(square, "x")
    assert traces == []
    assert [float(function(x).d_dx) for x in (0.0, 1.0, 2.0, 5)] == [0, 2, 4, 10]
    assert len(traces) == 1
    assert [float(function(1.0, a=a).value) for a in (3.0, 4.0, -1)] == [3, 4, -1]
    assert len(traces) == 2
    function(tf.constant(1.0, tf.float64))
    assert len(traces) == 3


@pytest.mark.parametrize(
    ("argument", "dtype", "shape"),
    [
        (2.0, "float32", ()),
        (np.float32(2), "float32", ()),
        (np.linspace(0, 1, 3), "float64", (3,)),
        (np.ones(2, np.float32), "float32", (2,)),
        ([1.0, 2.0, 3.0], "float32", (3,)),
        (tf.constant(2.0, tf.float64), "float64", ()),
        (tf.constant([2.0]), "float32", (1,)),
        (1 + 2j, "complex64", ()),
    ],
)
def test_arguments(f: Any, argument: Any, dtype: str, shape: tuple[int, ...]) -> None:
    found = f(argument)
    assert (found.dy_dx.dtype.name, tuple(found.dy_dx.shape)) == (dtype, shape)
    x = np.asarray(argument)
    np.testing.assert_allclose(found.y, x**2 - 2 * x + 1, rtol=1e-6)
    np.testing.assert_allclose(found.dy_dx, np.conj(2 * x - 2), rtol=1e-6)


def test_a_variable_stands_for_its_value(f: Any) -> None:
    x = tf.Variable(3.0)
    assert f(x) == (4.0, 4.0)
    x.assign(0.0)
    assert f(x) == (-2.0, 1.0)


def test_it_composes(f: Any) -> None:
    x = tf.Variable(3.0)  # y = (x − 1)²
    with tf.GradientTape(persistent=True) as tape:
        through_y = f(x).y ** 2
        through_derivative = f(x).dy_dx ** 3
    assert tape.gradient(through_y, x) == 4 * 2**3
    assert tape.gradient(through_derivative, x) == 3 * 4**2 * 2
    assert tape_magic.grad(lambda x: {"z": f(x).y}, {"x": 3.0}, "d2z/dx2")["d2z/dx2"] == 2
    assert tape_magic.grad(lambda a: {"z": f(3.0, a=a).dy_dx}, {"a": 1.0}, "dz/da")["dz/da"] == 6
    inside = tf.function(lambda t: f(t).dy_dx + f(t, c=5.0).y)
    assert inside(tf.constant(2.0)) == 2 + 5


def test_a_function_of_a_function(f: Any) -> None:
    g = tape_magic.derivative(lambda x: {"z": tf.exp(f(x).y)}, targets="dz/dx, d2z/dx2")
    dz_dx, d2z_dx2, z = g(1.5)
    e = math.exp(0.25)
    np.testing.assert_allclose([z, dz_dx, d2z_dx2], [e, e, 3 * e], rtol=1e-6)


def test_orders_mixed_and_several_outputs() -> None:
    def both(x: Any, a: Any) -> dict[str, Any]:
        return {"u": a * x**3, "v": tf.sin(x)}

    function = tape_magic.derivative(both, targets="d2u/dxda, dv/dx, d3u/dx3")
    found = function(2.0, 5.0)
    assert found._fields == ("d2u_dxda", "dv_dx", "d3u_dx3", "u", "v")
    np.testing.assert_allclose(found, [12, math.cos(2), 30, 40, math.sin(2)], rtol=1e-6)


def test_order_of_the_sources() -> None:
    product = tape_magic.derivative(lambda x, a: x / a, ["a", "x"])
    assert list(inspect.signature(product).parameters) == ["a", "x"]
    assert product(2.0, 8.0) == (-2.0, 0.5, 4.0)
    assert product._definition.sources == {"a": "a", "x": "x"}


def test_jacobians() -> None:
    jacobian = tape_magic.derivative(lambda x: x**2, "x", jacobian=True)
    np.testing.assert_array_equal(jacobian([1.0, 3.0]).d_dx, [[2, 0], [0, 6]])
    hessian = tape_magic.derivative(lambda x: x[0] * x[1] ** 2, "x", order=2, jacobian=True)
    np.testing.assert_array_equal(hessian([2.0, 3.0]).d2_dx2, [[0, 6], [6, 4]])
    rows = tape_magic.derivative(lambda x: x * x[:, ::-1], "x", batch_jacobian=True)
    np.testing.assert_array_equal(rows([[2.0, 3.0], [0.0, 1.0]]).d_dx[0], [[3, 2], [3, 2]])


def test_structures() -> None:
    def loss(p: Any) -> Any:
        return p["w"] * p["b"][0] ** 2

    found = tape_magic.derivative(loss, "p")({"w": 2.0, "b": [3.0]})
    assert found.d_dp == {"w": 9.0, "b": [12.0]}


def test_not_connected() -> None:
    def constant(x: Any, a: Any = 2.0) -> Any:
        return tf.constant(1.0) * a

    assert tape_magic.derivative(constant, "x")(3.0) == (None, 2.0)
    assert tape_magic.derivative(constant, "x", zero=True)(3.0) == (0.0, 2.0)


def test_control_flow() -> None:
    def piecewise(x: Any) -> dict[str, Any]:
        y = tf.constant(0.0)
        if x > 0:  # noqa: SIM108 - AutoGraph is to see a statement
            y = x**2
        else:
            y = -x
        while y < 10:
            y = 2 * y
        return {"y": y}

    f = tape_magic.derivative(piecewise, targets="dy/dx")
    assert f(2.0) == (16.0, 16.0)
    assert f(-3.0) == (-4.0, 12.0)


def test_it_shows_itself(f: Any) -> None:
    assert repr(f) == "<parabola(x, *, a=1.0, b=-2.0, c=1.0) → (dy_dx, y)>"
    assert str(inspect.signature(f)) == "(x, *, a=1.0, b=-2.0, c=1.0)"
    assert f.__name__ == "parabola"
    documentation = inspect.getdoc(f)
    assert documentation is not None
    for words in ("parabola(x, *, a=1.0, b=-2.0, c=1.0)", "By default -2.0", "dy_dx\n    dy/dx"):
        assert words in documentation


@pytest.mark.parametrize("arguments", [((), {}), ((1.0, 2.0), {}), ((1.0,), {"q": 1.0}), ((), {"a": 1.0})])
def test_arguments_that_do_not_fit(f: Any, arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"^parabola\(\): "):
        f(*arguments[0], **arguments[1])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (True, "is the bool True"),
        ("1", "is the str '1'"),
        (None, "x is None, which has no derivative"),
        (tf.constant(1), "is int32"),
        ([[1.0], 2.0], "list"),
    ],
)
def test_arguments_without_a_derivative(f: Any, argument: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        f(argument)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: tape_magic.derivative(parabola, "q"), SourceError, "does not read q"),
        (lambda: tape_magic.derivative(lambda tape, x: x, "x"), LineError, "no tape"),
        (
            lambda: tape_magic.derivative(parabola, "x", jacobian=True, batch_jacobian=True),
            LineError,
            "different",
        ),
        (lambda: tape_magic.derivative(lambda n=3: n, "n"), SourceError, "n is an integer"),
        (lambda: tape_magic.derivative(3, "n"), LineError, "cannot be called"),  # type: ignore[arg-type]
        (lambda: tape_magic.derivative(lambda n=3: n), SourceError, "nothing to differentiate by"),
        (lambda: tape_magic.derivative(parabola, "x", order=0), LineError, "order is 0"),
    ],
)
def test_refused_at_once(make: Any, kind: type[TapeMagicError], words: str) -> None:
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (lambda x: np.sin(x), CompileError, "calls NumPy on a tensor"),
        (lambda x: float(x) * x, CompileError, "cannot be compiled"),
        (lambda x: tf.Variable(x) * x, CompileError, "cannot be compiled"),
        (lambda x: {"y": x}, TargetError, "returns y: name one"),
        (lambda x: 3.0, TargetError, "is a float, not a tensor"),
        (lambda x: tf.argmax(x), TargetError, "int64, which has no derivative"),
    ],
)
def test_refused_when_called(function: Any, kind: type[TapeMagicError], words: str) -> None:
    f = tape_magic.derivative(function, "x")
    with pytest.raises(kind, match=words) as caught:
        f([1.0, 2.0])
    assert "\n" not in str(caught.value)


def test_the_users_own_error() -> None:
    class MineError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fails(x: Any) -> Any:
        raise MineError(1, 2)

    with pytest.raises(Exception, match="1 and 2"):
        tape_magic.derivative(fails, "x")(1.0)


def test_tapes_are_closed_after_an_error(f: Any) -> None:
    with pytest.raises(CompileError):
        tape_magic.derivative(lambda x: np.sin(x), "x", order=2)(1.0)
    x = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        y = x * x
    assert tape.gradient(y, x) == 2


def test_names() -> None:
    assert parameter_name("p['w']") == "p_w"
    assert parameter_name("out.loss") == "out_loss"
    assert distinct(["x", "x_1", "x", "x"]) == ("x", "x_1", "x_2", "x_3")


def test_put_leaves_containers_alone() -> None:
    inner = [1.0, 2.0]
    namespace: dict[str, Any] = {"p": {"w": (inner, 3.0)}}
    before = namespace["p"]
    put("p['w'][0][1]", 9.0, namespace)
    assert namespace["p"] == {"w": ([1.0, 9.0], 3.0)}
    assert before == {"w": ([1.0, 2.0], 3.0)}
    assert inner == [1.0, 2.0]
