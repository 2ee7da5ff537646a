"""Products with Jacobians and Hessians, beside these by hand and beside calculus, through both doors."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import LineError, SourceError
from tests.support.arrays import assert_close
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

X = np.array([0.5, -1.0, 2.0])
V = np.array([1.0, 3.0, -2.0])


def keras_variable(values: Any) -> keras.Variable:
    return keras.Variable(values, dtype="float64")


MAKERS = [tf.Variable, tf.constant, np.array, keras_variable]
CELLS = {
    "elementwise": "y = tf.sin(x)*x",
    "softmax": "y = tf.nn.softmax(x)",
    "product": "y = tf.reduce_prod(x)",
    "lookup": "y = tf.gather(x, [0, 2, 2])**3",
    "in a graph": "y = tf.function(lambda t: tf.cumsum(t**3))(x + 0)",
    "loop": "y = x\nfor _ in range(3):\n    y = tf.tanh(y)*x",
    "straight line": "y = 3*x",
}


@functools.cache
def jacobian_by_hand(name: str) -> np.ndarray:
    """Row by row with TensorFlow's own tape, once for all doors and makers."""
    home: dict[str, Any] = {"tf": tf, "x": tf.constant(X)}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(home["x"])
        exec(CELLS[name], home)
    return np.asarray(tape.jacobian(home["y"], home["x"], experimental_use_pfor=False))


@functools.cache
def hessian_by_hand(name: str) -> np.ndarray:
    """Of the sum of the cell's squares."""
    home: dict[str, Any] = {"tf": tf, "x": tf.constant(X)}
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(home["x"])
        with tf.GradientTape() as inner:
            inner.watch(home["x"])
            exec(f"{CELLS[name]}\ny = tf.reduce_sum(y**2)", home)
        gradient = inner.gradient(home["y"], home["x"])
    return np.asarray(outer.jacobian(gradient, home["x"], experimental_use_pfor=False))


@pytest.mark.parametrize(("name", "make"), covering(CELLS, MAKERS))
@pytest.mark.both_doors("make")
def test_the_jacobian_times_a_vector(door: Door, name: str, make: Callable[[Any], Any]) -> None:
    case = Case(CELLS[name], "dy/dx --jvp x=v", {"tf": tf, "x": make(X), "v": V})
    report = door.grad(case)
    assert_close(report["dy/dx"], jacobian_by_hand(name) @ V)
    (row,) = report
    assert (row.key, row.label, row.order) == ("dy/dx", "∂y/∂x·v", 1)
    assert row.shape == tuple(row.value.shape)
    assert row.dtype == "float64"
    assert report.notes == ()


@pytest.mark.parametrize(
    ("name", "make"), covering([name for name in CELLS if name != "straight line"], MAKERS[::-1])
)
@pytest.mark.both_doors("make")
def test_the_hessian_times_a_vector(door: Door, name: str, make: Callable[[Any], Any]) -> None:
    case = Case(
        f"{CELLS[name]}\ny = tf.reduce_sum(y**2)", "d2y/dx2 --hvp x=v", {"tf": tf, "x": make(X), "v": V}
    )
    report = door.grad(case)
    assert_close(report["d2y/dx2"], hessian_by_hand(name) @ V)
    (row,) = report
    assert (row.key, row.label, row.order, row.shape) == ("d2y/dx2", "∂²y/∂x²·v", 2, (3,))


def test_a_directional_derivative(door: Door) -> None:
    # d/dt |x + t v|² = 2 x·v
    case = Case("y = tf.reduce_sum(x**2)", "y --jvp x=v", {"tf": tf, "x": tf.constant(X), "v": V})
    report = door.grad(case)
    assert float(report["y"]) == pytest.approx(2 * X @ V)
    assert report["y"] is report["y", "x"] is report["dy/dx"]


def test_along_several_vectors_at_once(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(X), "a": tf.constant(2.0, tf.float64), "v": V}
    case = Case("y = a*tf.reduce_sum(x**3)\nz = 2*a", "y z --jvp x=v a=0.5", namespace)
    report = door.grad(case)
    assert float(report["y"]) == pytest.approx(2 * 3 * X**2 @ V + 0.5 * (X**3).sum())
    assert float(report["z"]) == 1.0
    assert [row.wrt for row in report] == [("x", "a")] * 2
    row = report.rows[0]
    assert row.key == "dy/d(x, a)"
    assert report[row.key] is report["y", "x", "a"] is row.value
    assert re.fullmatch(r"∂y/∂x·\S+ \+ ∂y/∂a·\S+", row.label)


def test_the_label_names_the_vectors(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.ones(2), a=tf.constant(2.0), v=[1.0, 2.0])
    for vector, shown in [
        ("v", "v"),
        ("tf.ones(2)", "tf.ones(2)"),
        ("[1,2]", "[1,2]"),
        ("'2*tf.ones(2)'", "(2*tf.ones(2))"),
        ("-tf.ones(2)", "(-tf.ones(2))"),
    ]:
        shell.ok(
            f"%%grad dy/dx --jvp x={vector}\ny = x*a"
            if "'" not in vector
            else f"%%grad dy/dx --jvp 'x={vector[1:-1]}'\ny = x*a"
        )
        assert shell.ns["grads"].rows[0].label == f"∂y/∂x·{shown}"
    shell.ok("%%grad y --jvp x=v a=1.0\ny = x*a")
    assert shell.ns["grads"].rows[0].label == "∂y/∂x·v + ∂y/∂a·1.0"
    shell.ok("%%grad y --wrt x --hvp x=v a=1.0\ny = tf.reduce_sum(x*a)")
    assert shell.ns["grads"].rows[0].label == "∂²y/∂x²·v + ∂²y/∂x∂a·1.0"


def test_rows_of_other_sources(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(X), "a": tf.constant(2.0, tf.float64), "v": V}
    case = Case("y = a**2*tf.reduce_sum(x**3)", "y --wrt x,a --hvp x=v", namespace)
    report = door.grad(case)
    assert [(row.key, row.shape) for row in report] == [("d2y/dx2", (3,)), ("d2y/dadx", ())]
    assert_close(report["y", "x"], 4 * 6 * X * V)
    assert_close(report["y", "a"], 4 * 3 * X**2 @ V)
    assert report["d2y/dadx"] is report["y", "a"] is report["y", "a", "x"]
    mixed = door.grad(Case(case.cell, "d2y/dx da --hvp x=v", namespace))
    assert_close(mixed["d2y/dxda"], 4 * 3 * X**2 @ V)


def test_the_hessian_along_several_vectors(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(X), "a": tf.constant(2.0, tf.float64), "v": V}
    report = door.grad(Case("y = a**2*tf.reduce_sum(x**3)", "y --hvp x=v a=0.5", namespace))
    assert_close(report["y", "x"], 4 * 6 * X * V + 0.5 * 4 * 3 * X**2)
    assert_close(report["y", "a"], 4 * 3 * X**2 @ V + 0.5 * 2 * (X**3).sum())
    assert [row.key for row in report] == ["d2y/dx d(x, a)", "d2y/da d(x, a)"]
    assert all(report[row.key] is row.value for row in report)


def test_the_hessian_of_a_sum(door: Door) -> None:
    report = door.grad(Case("y = x**3", "y --hvp x=v", {"x": tf.constant(X), "v": V}))
    assert_close(report["y", "x"], 6 * X * V)
    assert report.rows[0].label == "∂²Σy/∂x²·v"
    assert report.notes == ("the Hessian of y is that of the sum of its 3 elements",)


def test_structures_and_models(door: Door) -> None:
    dense = tf.keras.layers.Dense(2, name="d")
    dense.build((None, 3))
    kernel = np.arange(6.0).reshape(3, 2)
    namespace = {"tf": tf, "d": dense, "p": {"w": [1.0, tf.constant(2.0)]}, "k": kernel}
    cell = "y = d(tf.ones((1, 3)))\nz = p['w'][0]*p['w'][1]"
    for vector in ("[k,None]", "{'kernel':k,'bias':[0,0]}"):
        report = door.grad(Case(cell, f"dy/dd --jvp d={vector}", namespace))
        assert_close(report["dy/dd"], kernel.sum(axis=0)[np.newaxis], 1e-5)
    report = door.grad(Case(cell, "z --jvp p={'w':(3,10)}", namespace))
    assert float(report["z"]) == 16
    report = door.grad(Case(cell, "z --hvp p={'w':[3,10]}", namespace))
    assert [float(value) for value in report["z", "p"]["w"]] == [10.0, 3.0]
    report = door.grad(Case(f"{cell}\nz = tf.reduce_sum(y**2)", "z --hvp d=[k,None]", namespace))
    assert_close(report["z", "d"][0], np.broadcast_to(2 * kernel.sum(axis=0), (3, 2)), 1e-5)
    assert_close(report["z", "bias"], 2 * kernel.sum(axis=0), 1e-5)


def test_a_source_within_another(door: Door) -> None:
    x = tf.constant(3.0)
    report = door.grad(Case("y = x*p[1]*p[0]", "y --jvp x=1 p=[1,0]", {"x": x, "p": [x, 2.0]}))
    assert float(report["y"]) == 24.0  # of 2 x², with x moved twice


def test_complex_numbers(door: Door) -> None:
    z, v = 3 - 4j, 1 + 2j
    namespace = {"tf": tf, "z": tf.constant(z), "v": v}
    report = door.grad(Case("y = z**2\nn = tf.abs(z)**2", "y n --jvp z=v", namespace))
    assert_close(report["y"], 2 * z * v)
    assert_close(report["n"], 2 * (z.conjugate() * v).real)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("vector", ["[1.0,2.0]", "[1,2]", "np.array([1.0,2.0])", "tf.constant([1,2])", "w"])
def test_vectors_take_the_type_of_the_source(door: Door, dtype: str, vector: str) -> None:
    namespace = {"tf": tf, "np": np, "x": tf.Variable([1.0, 3.0], dtype=dtype), "w": tf.Variable([1.0, 2.0])}
    report = door.grad(Case("y = x*x", f"dy/dx --jvp x={vector}", namespace))
    assert report["dy/dx"].dtype == dtype
    assert [float(value) for value in report["dy/dx"]] == [2.0, 12.0]


def test_vectors_are_as_they_were_before_the_cell(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.constant([1.0, 2.0]), v=tf.Variable([1.0, 1.0]), n=np.ones(2))
    shell.ok("%%grad dy/dx --jvp x=v\nv.assign([5.0, 5.0])\ny = x*x")
    assert_close(shell.ns["dy_dx"], [2.0, 4.0])
    shell.ok("%%grad dy/dh --jvp h=n\nn[:] = 7\nh = x*1\ny = h*h")
    assert_close(shell.ns["dy_dh"], [2.0, 4.0])


def test_a_list_of_floats_keeps_its_precision(door: Door) -> None:
    report = door.grad(Case("y = x*1", "dy/dx --jvp x=[0.1]", {"x": tf.constant([1.0], tf.float64)}))
    assert float(report["dy/dx"][0]) == 0.1


# -- what is not there -----------------------------------------------------------------------------


def test_not_connected(door: Door) -> None:
    namespace = {"x": tf.constant([1.0, 2.0]), "a": tf.constant(3.0)}
    report = door.grad(Case("y = a*2", "y --jvp x=[1,1]", namespace))
    assert report["y"] is None
    assert not report.rows[0].connected
    zeros = door.grad(Case("y = a*2", "y --jvp x=[1,1] --zero", namespace))
    assert_close(zeros["y"], 0.0)
    report = door.grad(Case("y = a*2", "y --wrt x,a --hvp x=[1,1]", namespace))
    assert [row.value for row in report] == [None, None]
    zeros = door.grad(Case("y = a*2", "y --wrt x,a --hvp x=[1,1] --zero", namespace))
    assert_close(zeros["y", "x"], [0.0, 0.0])
    assert_close(zeros["y", "a"], 0.0)
    assert not any(row.connected for row in zeros)


def test_a_straight_line_bends_nowhere(door: Door) -> None:
    report = door.grad(Case("y = 3*x", "d2y/dx2 --hvp x=[1,1]", {"x": tf.constant([1.0, 2.0])}))
    assert_close(report["d2y/dx2"], [0.0, 0.0])
    assert report.rows[0].connected
    assert report.rows[0].why == ""


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("y = 2*a", "y does not read x"),
        ("y = a*float(x)", "leaves TensorFlow: float(x)"),
        ("y = a*tf.cast(tf.argmax([x, a]), tf.float32)", "cut at ArgMax"),
        ("y = a*tf.stop_gradient(x)", "stop_gradient"),
        ("with tape.stop_recording():\n    s = x*2\ny = a*s", "not recorded"),
    ],
)
@pytest.mark.parametrize(
    "line", ["y --jvp x=1", "y --hvp x=1", "y --wrt a --hvp x=1", "y --wrt x --jacobian"]
)
def test_the_way_that_is_missing(door: Door, cell: str, why: str, line: str) -> None:
    report = door.grad(Case(cell, line, {"tf": tf, "x": tf.constant(2.0), "a": tf.constant(3.0)}))
    # The function takes a as a source, and x to move it: it then differentiates by both.
    assert len(report) == (2 if door.name == "function" and "--wrt a" in line else 1)
    for row in report:
        assert row.value is None
        assert not row.connected
        assert why in row.why


@pytest.mark.parametrize(
    ("cell", "line", "why"),
    [
        ("y = tf.sqrt(x)", "y --jvp x=1", "the gradient of Sqrt is inf for 0"),
        ("y = tf.sqrt(x)", "y --hvp x=1", "the gradient of Sqrt is inf for 0"),
        ("y = tf.pow(x, 1.5)", "y --hvp x=1", "the gradient of Pow is inf for 0 and 0.5"),
        ("y = x*tf.sqrt(x)", "y --hvp x=1", "the gradient of SqrtGrad is nan for 0 and 0"),
        ("y = x*tf.sqrt(x)", "y --jvp x=1", "the reason is not known"),  # 0·∞ is met going forward only
        ("y = tf.sign(x + 0.3)", "y --hvp x=1", "0 wherever it exists: Sign"),
    ],
)
def test_not_finite_and_zero(door: Door, cell: str, line: str, why: str) -> None:
    (row,) = door.grad(Case(cell, line, {"tf": tf, "x": tf.constant(0.0)}))
    assert row.connected
    assert np.isfinite(row.value) == ("Sign" in why)
    assert row.why.startswith(why)


def test_a_slope_that_is_zero_by_construction_going_forward(door: Door) -> None:
    (row,) = door.grad(Case("y = tf.sign(x)", "y --jvp x=1", {"tf": tf, "x": tf.constant(3.0)}))
    assert row.value is None  # as forward mode gives it
    assert row.why.startswith("0 wherever it exists: Sign")


def test_a_sum_that_happens_to_be_zero_is_not_explained(door: Door) -> None:
    namespace = {"tf": tf, "x": tf.constant(0.3), "a": tf.constant(0.0)}
    (row,) = door.grad(Case("y = tf.sign(x) + a**2", "y --jvp x=1 a=1", namespace))
    assert float(row.value) == 0.0
    assert row.why == ""


@pytest.mark.parametrize("kind", ["--jvp x=2", "--hvp x=2"])
@pytest.mark.parametrize(
    ("cell", "why"),
    [("y = tf.cast(x, tf.int32)", "y is int32"), ("y = float(x)", "not a tensor")],
)
def test_reasons(door: Door, cell: str, why: str, kind: str) -> None:
    namespace = {"tf": tf, "x": tf.constant(3.0)}
    report = door.grad(Case(f"{cell}\nz = x**2", f"y z {kind} --zero", namespace))
    assert report.rows[0].value is None
    assert why in report.rows[0].why
    assert float(report.rows[1].value) == (12 if "jvp" in kind else 4)


@pytest.mark.parametrize("kind", ["--jvp", "--hvp"])
def test_an_operation_without_a_gradient(shell: Notebook, kind: str) -> None:
    shell.ns.update(tf=tf, x=tf.ones((1, 2, 2, 3)))
    line = f"%%grad y {kind} x=tf.ones_like(x)"
    refused = shell.refused(f"{line}\nz = x*2\ny = tf.image.adjust_saturation(z, 2.0)")
    assert refused.startswith(
        "line 3: AdjustSaturation has no gradient registered, and forward mode needs one"
    )
    cell = "with tape.stop_recording():\n    s = tf.image.adjust_saturation(x, 2.0)\ny = tf.reduce_sum(s*x*x)"
    shell.ok(f"{line}\n{cell}")
    assert float(tf.reduce_max(shell.ns["grads"].rows[0].value)) == (24.0 if kind == "--jvp" else 2.0)


def test_what_forward_mode_cannot_follow(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.Variable([1.0, 2.0]), f=tf.function(lambda t: t**2))
    refused = shell.refused("%%grad y --jvp x=[1,1]\ny = f(x)")
    assert refused.startswith(
        "line 2: TensorFlow's forward mode cannot follow a variable into this tf.function"
    )
    shell.ok("%%grad y --jvp x=[1,1]\ny = f(x + 0)")
    assert_close(shell.ns["grads"]["y"], [2.0, 4.0])
    shell.ns["t"] = tf.constant([1.0, 2.0])
    refused = shell.refused("%%grad y --jvp t=[1,1]\n\ny = tf.gather_nd(t, [[0]])")
    assert refused.startswith("line 3: TensorFlow's forward mode fails here with AttributeError")


def test_errors_of_the_cell_stay_its_own(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=2.0, image=tf.ones((1, 2, 2, 3)))
    for body, kind in [
        ("1/0", ZeroDivisionError),
        ("{}['k']", KeyError),
        ("tf.reshape(tf.ones(3), (2, 2))", tf.errors.InvalidArgumentError),
        ("with tf.GradientTape() as t:\n    t.watch(image)\n    i = image*1\nt.gradient(i, 3)", Exception),
    ]:
        run = shell.run(f"%%grad y --jvp x=1\ny = x**2\n{body}")
        assert isinstance(run.error, kind)
        assert type(run.error).__name__ != "UsageError"
        assert isinstance(shell.ns["x"], float)
    # No accumulator is left at work.
    with tf.autodiff.ForwardAccumulator(image := tf.ones(()), tf.ones(())) as outer:
        _ = image * 2
    assert outer.jvp(image) is not None


@pytest.mark.parametrize("make", [tf.constant, tf.Variable])
def test_loops_in_a_graph_under_forward_over_reverse(door: Door, make: Callable[[Any], Any]) -> None:
    cell = "@tf.function\ndef f(t):\n    for _ in tf.range(3):\n        t = t*t\n    return t\ny = f(x)"
    case = Case(cell, "y --hvp x=1", {"tf": tf, "x": make(2.0)})
    assert "TensorFlow's forward mode cannot follow a " in door.refused_grad(case)
    report = door.grad(Case(cell, "d2y/dx2 --hessian", case.namespace))
    assert_close(report["d2y/dx2"], 56 * 2.0**6)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ("x=1.0", "of shape (), and x of shape (3,): give a vector of the same shape."),
        ("x=tf.ones((3,1))", "of shape (3, 1), and x of shape (3,)"),
        ("x='abc'", "is a str, not numbers."),
        ("x=[1,[2,3]]", "is a list, not numbers."),
        ("x=tf.constant('a')", "not numbers."),
        ("x=tf.ones(3,tf.complex64)", "is complex, and x is float32: give a real vector."),
        ("p=[1.0]", "does not fit p, a list that holds 0, 1: give a list of as many."),
        ("p=3.0", "does not fit p, a list that holds 0, 1"),
        ("q={'a':1.0}", "does not fit q, a dict that holds w: give a dict of as many."),
        ("q={'w':[1.0,2.0]}", "of shape (2,), and q['w'] of shape ()"),
        ("q=[1.0]", "does not fit q, a dict that holds w"),
        ("layer=[1.0]", "makes its variables in the cell: build it in a cell above."),
    ],
)
@pytest.mark.parametrize("kind", ["--jvp", "--hvp"])
def test_vectors_that_do_not_fit(shell: Notebook, vector: str, message: str, kind: str) -> None:
    namespace = {"tf": tf, "x": tf.ones(3), "p": [1.0, 2.0], "q": {"w": 3.0}}
    shell.ns.update(**namespace, layer=tf.keras.layers.Dense(1), ran=[])
    written = f'"{vector}"' if "'" in vector else vector
    assert message in shell.refused(f"%%grad y {kind} {written}\nran.append(1)\ny = x*1")
    assert shell.ns["ran"] == []
    assert isinstance(shell.ns["p"][0], float)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "d2y/dx2 --jvp x=1",
            "d2y/dx2 is no first derivative, which --jvp is: --hvp x=v is the product with",
        ),
        ("dy/da --jvp x=1", "dy/da is by a, and --jvp gives a vector for x: name the same, or write y"),
        ("dy/dx --jvp x=1 a=1", "dy/dx is by x, and --jvp gives a vector for x and a"),
        ("y --order 2 --jvp x=1", "the order is 2, but a product with a Jacobian is of order 1; --hvp x=v"),
        ("y --wrt a --jvp x=1", "--jvp says what to differentiate by; leave out --wrt."),
        ("dy/dx --hvp x=1", "dy/dx is no second derivative, which --hvp is: write d2y/dx2, or y --wrt x."),
        ("d2y/da2 --hvp x=1", "d2y/da2 is one part of a Hessian, and --hvp gives a vector for x"),
        ("d2y/dx2 --hvp x=1 a=1", "d2y/dx2 is one part of a Hessian, and --hvp gives a vector for x and a"),
        ("y --order 3 --hvp x=1", "the order is 3, but a product with a Hessian is of order 2."),
        ("y --jvp x=1 x=2", "--jvp gives two vectors for x; give their sum."),
        ("y --jvp x", "--jvp takes NAME=V, such as --jvp x=v, not 'x'."),
        ("y --jvp x=", "--jvp takes NAME=V"),
        ("y --jvp f(x)=1", "'f(x)' is not a name"),
        ("y --jvp x=1 --hvp x=1", "--jvp and --hvp are different things"),
        ("y --jvp x=nothing", "--jvp x=nothing: NameError: name 'nothing' is not defined"),
        ("y --hvp x=1/0", "--hvp x=1/0: ZeroDivisionError"),
        ("y --hvp 'x=1 +'", "--hvp x=1 +: SyntaxError"),
        ("y --jvp z=1", "z is not defined"),
        ("y --jvp n=1", "n is an integer"),
    ],
)
def test_lines_that_are_refused(shell: Notebook, line: str, message: str) -> None:
    shell.ns.update(x=2.0, a=3.0, n=3)
    assert shell.refused(f"%%grad {line}\ny = a*x**3").startswith(message)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(LineError, match="jvp and hvp are different things; call grad twice"):
        tape_magic.grad(lambda x: x, 2.0, jvp={"x": 1.0}, hvp={"x": 1.0})
    with pytest.raises(SourceError, match="a is not defined"):
        tape_magic.grad(lambda x: x, {"x": 2.0}, jvp={"a": 1.0})


def test_a_source_without_a_vector_stands_still() -> None:
    report = tape_magic.grad(lambda x, a: x * a, {"x": 2.0, "a": 3.0}, jvp={"x": 1.0})
    assert [(row.wrt, float(row.value)) for row in report] == [(("x",), 3.0)]


# -- in the notebook -------------------------------------------------------------------------------


def test_bindings(shell: Notebook) -> None:
    shell.ns.update(x=2.0, a=3.0, v=10.0)
    shell.ok("%%grad dy/dx --jvp x=v -q\ny = a*x**3")
    assert float(shell.ns["dy_dx"]) == 360
    shell.ok("%%grad d2y/dx2 --hvp x=v -q -o h\ny = a*x**3")
    assert float(shell.ns["d2y_dx2"]) == float(shell.ns["h"]["d2y/dx2"]) == 360
    shell.ok("%%grad d2y/da dx --hvp x=v -q\ny = a*x**3")
    assert float(shell.ns["d2y_dadx"]) == 120
    assert isinstance(shell.ns["x"], float)


def test_sources_that_the_cell_assigns(shell: Notebook) -> None:
    shell.ns.update(tf=tf, v=[1.0, 2.0])
    shell.ok("%%grad y --jvp x=1.0\nx = 3.0\ny = x**2")
    assert float(shell.ns["grads"]["y"]) == 6.0
    assert isinstance(shell.ns["x"], float)
    shell.ok("%%grad y --hvp x=1.0\nx = 3.0\ny = x**3")
    assert float(shell.ns["grads"]["y", "x"]) == 18.0
    shell.ok("%%grad y --jvp h=v\nx = 3.0\nh = tf.stack([x, 2*x])\ny = h**2")
    assert_close(shell.ns["grads"]["y"], [6.0, 24.0])
    shell.ok("%%grad y --jvp p=v\np = [3.0, tf.constant(4.0)]\ny = p[0]*p[1]")
    assert float(shell.ns["grads"]["y"]) == 4 + 2 * 3
    shell.ok("%%grad y --jvp w=v\nw = tf.Variable([1.0, 2.0])\ny = w*w")
    assert_close(shell.ns["grads"]["y"], [2.0, 8.0])


def test_an_input_and_what_is_made_of_it(shell: Notebook) -> None:
    shell.ns.update(x=tf.constant(3.0))
    cell = "h = x**2\ny = h*x"
    shell.ok(f"%%grad y --jvp x=1.0 h=10.0\n{cell}")
    # The total by x, 3 x², and the partial by h, x, as tapes that watch both have it.
    shell.ok(f"%%grad dy/dx dy/dh -o tapes\n{cell}")
    both = float(shell.ns["dy_dx"]) + 10 * float(shell.ns["dy_dh"])
    assert float(shell.ns["grads"]["y"]) == both == 27 + 30
    shell.ok(f"%%grad y --wrt x --hvp x=1.0 h=10.0\n{cell}")
    assert float(shell.ns["grads"]["y", "x"]) == 6 * 3 + 10 * 1


def test_the_last_assignment_counts(shell: Notebook) -> None:
    shell.ns["tf"] = tf
    shell.ok(
        "%%grad y --jvp x=1.0\nx = 1.0\nz = x*5\nfor n in range(3):\n    x = tf.constant(2.0)\ny = x**2 + z"
    )
    assert float(shell.ns["grads"]["y"]) == 4.0
    shell.ok("%%grad y --jvp x=[1,1]\nx = 0.0\nx = tf.constant([1.0, 2.0])\ny = x**2")
    assert_close(shell.ns["grads"]["y"], [2.0, 4.0])
    refused = shell.refused("%%grad y --jvp w=[1,1]\nw = tf.constant([1.0, 2.0])\nw = 0.0\nz = w**2\ny = z")
    assert refused.startswith("[1,1] is of shape (2,), and w of shape ()")


def test_the_tape_within_the_cell(shell: Notebook) -> None:
    shell.ns["x"] = tf.constant(3.0)
    cell = "with tape.stop_recording():\n    s = x*10\n    t = 2*x\n"
    shell.ok(f"%%grad y --jvp x=1.0\n{cell}y = s*x + t")
    assert float(shell.ns["grads"]["y"]) == 30.0
    shell.ok(f"%%grad y --hvp x=1.0\n{cell}y = s*x**2 + t")
    assert float(shell.ns["grads"]["y", "x"]) == 60.0
    for line, expected in [("--jvp x=1.0", 9.0), ("--hvp x=1.0", 0.0)]:
        shell.ok(f"%%grad y {line}\nu = x*x\ntape.reset()\ntape.watch(u)\ny = u*x")
        assert float(shell.ns["grads"].rows[0].value) == expected
    shell.ok("%%grad y --jvp h=1.0\nwith tape.stop_recording():\n    h = x*2\ny = h**2")
    assert float(shell.ns["grads"]["y"]) == 12.0


def test_the_cell_runs_once(shell: Notebook) -> None:
    shell.ns.update(x=2.0, seen=[])
    for line in ("dy/dx --jvp x=1", "y --hvp x=1", "dy/dx --jacobian", "y --wrt x --hessian"):
        shell.ns["seen"].clear()
        shell.ok(f"%%grad {line}\nseen.append(1)\ny = x**2")
        assert shell.ns["seen"] == [1]
