"""Why a derivative is None, zero or not finite: the operation and the user's line, wherever it stands.

Each pattern is written in straight code, in a function of another cell, in a Keras layer, in a
``tf.cond``, in a ``tf.while_loop`` and in a ``tf.function``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause
from tests.support.cells import elsewhere
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.tensorflow_2_22 import NORM_IS_SMOOTH


@dataclass(frozen=True)
class Written:
    """A computation of `y` from `x` in a cell, and the line on which `body` stands in it or elsewhere."""

    cell: str
    namespace: dict[str, Any]
    line: int
    elsewhere: bool


def straight(body: str) -> Written:
    """``v`` is an intermediate of the cell, and so is what the body computes of it."""
    cell = f"v = x * 1.0\nw = {body}\ny = tf.reduce_sum(w * 2.0)"
    return Written(cell, elsewhere(""), 3, False)


def function(body: str) -> Written:
    text = f"def f(v):\n    v = v * 1.0\n    return {body}\n"
    return Written("w = f(x)\ny = tf.reduce_sum(w * 2.0)", elsewhere(text), 3, True)


def compiled(body: str) -> Written:
    text = f"@tf.function\ndef f(v):\n    v = v * 1.0\n    return {body}\n"
    return Written("w = f(x)\ny = tf.reduce_sum(w * 2.0)", elsewhere(text), 4, True)


def layer(body: str) -> Written:
    text = (
        "class Mine(keras.layers.Layer):\n"
        "    def call(self, inputs):\n"
        "        v = inputs * 1.0\n"
        f"        return {body}\n"
        "f = Mine()\n"
    )
    return Written("w = f(tf.convert_to_tensor(x))\ny = tf.reduce_sum(w * 2.0)", elsewhere(text), 4, True)


def cond(body: str) -> Written:
    choice = f"tf.cond(tf.constant(True), lambda: {body}, lambda: v * 1.0)"
    cell = f"v = x * 1.0\nw = {choice}\ny = tf.reduce_sum(w * 2.0)"
    return Written(cell, elsewhere(""), 3, False)


def loop(body: str) -> Written:
    cell = (
        "w = tf.while_loop(\n"
        "    lambda i, v: i < 2,\n"
        f"    lambda i, v: (i + 1, tf.reshape({body}, x.shape) if i == 0 else v * 1.0),\n"
        "    [0, x * 1.0],\n"
        ")[1]\n"
        "y = tf.reduce_sum(w * 2.0)"
    )
    return Written(cell, elsewhere(""), 4, False)


def compiled_loop(body: str) -> Written:
    text = (
        "@tf.function\n"
        "def f(v):\n"
        "    for _ in tf.range(1):\n"
        f"        v = tf.reshape({body}, v.shape)\n"
        "    return v\n"
    )
    return Written("w = f(x)\ny = tf.reduce_sum(w * 2.0)", elsewhere(text), 4, True)


def compiled_cond(body: str) -> Written:
    text = (
        "@tf.function\n"
        "def f(v):\n"
        "    if tf.reduce_sum(v) < 1e30:\n"
        f"        w = tf.reshape({body}, v.shape)\n"
        "    else:\n"
        "        w = v * 2.0\n"
        "    return w\n"
    )
    return Written("w = f(x)\ny = tf.reduce_sum(w * 2.0)", elsewhere(text), 4, True)


SETTINGS: list[Callable[[str], Written]] = [
    straight,
    function,
    compiled,
    layer,
    cond,
    loop,
    compiled_loop,
    compiled_cond,
]
EAGER = [straight, function, layer, cond, loop]


def named(value: Any) -> str:
    return getattr(value, "__name__", str(value))


def derivative(door: Door, written: Written, x: Any, line: str = "dy/dx") -> Derivative:
    (row,) = door.grad(Case(written.cell, line, {**written.namespace, "x": x}))
    return row


def check_place(row: Derivative, written: Written) -> None:
    assert row.reason is not None
    assert row.reason.where is not None
    assert row.reason.where.line == written.line
    assert bool(row.reason.where.file) == written.elsewhere
    assert f"line {written.line}" in row.why


# -- None, or zero by construction -------------------------------------------------------------------

CUTS = {
    "round": ("tf.round(v)", "Round", Cause.CUT),
    "floor": ("tf.floor(v)", "Floor", Cause.CUT),
    "ceil": ("tf.math.ceil(v)", "Ceil", Cause.CUT),
    "greater": ("tf.where(v > 0.5, 1.0, 2.0)", "Greater", Cause.CUT),
    "argmax": ("tf.gather(tf.constant([1.0, 2.0, 3.0]), tf.stack([tf.argmax(v)] * 3))", "ArgMax", Cause.CUT),
    "cast": ("tf.cast(tf.cast(v, tf.int32), tf.float32)", "Cast", Cause.INTEGER),
    "string": ("tf.strings.to_number(tf.strings.as_string(v))", "AsString", Cause.INTEGER),
    "stop_gradient": ("tf.stop_gradient(v)", "StopGradient", Cause.STOPPED),
    "sign": ("tf.sign(v)", "Sign", Cause.ZERO),
}


@pytest.mark.parametrize(("name", "setting"), covering(CUTS, SETTINGS, times=3), ids=named)
@pytest.mark.both_doors("setting")
def test_where_a_derivative_is_cut(door: Door, name: str, setting: Callable[[str], Written]) -> None:
    body, operation, cause = CUTS[name]
    written = setting(body)
    row = derivative(door, written, tf.Variable([1.5, 2.5, 3.25]))
    if row.value is not None:  # a loop, a condition, and some operations give zeros in place of None
        assert not np.any(row.value)
        cause = Cause.ZERO
    assert row.reason is not None, row
    assert (row.reason.cause, row.reason.operation) == (cause, operation)
    check_place(row, written)


@pytest.mark.parametrize("setting", EAGER, ids=lambda setting: setting.__name__)
@pytest.mark.parametrize(
    ("body", "text", "cure"),
    [
        ("tf.constant(np.sin(v))", "np.sin(v)", "use tf.sin"),
        ("v.numpy() * tf.ones(3)", "v.numpy()", "leave out .numpy()"),
        ("tf.ones(3) * np.mean(v)", "np.mean(v)", "use tf.reduce_mean"),
        ("tf.ones(3) * float(v[0])", "float(v[0])", "leave out float()"),
        ("tf.ones(3) * math.sin(v[0])", "math.sin(v[0])", "use tf.sin"),
        ("tf.numpy_function(np.sin, [v], tf.float32)", "tf.numpy_function(np.sin, [v], tf.float32)", "use"),
    ],
)
@pytest.mark.both_doors("setting")
def test_where_the_computation_leaves_tensorflow(
    door: Door, body: str, text: str, cure: str, setting: Callable[[str], Written]
) -> None:
    written = setting(body)
    row = derivative(door, written, tf.Variable([1.5, 2.5, 3.25]))
    assert row.value is None
    assert row.reason is not None
    assert row.reason.cause is Cause.LEFT
    assert f"line {written.line} leaves TensorFlow: {text}" in row.reason.text
    assert row.reason.cure.startswith(cure)
    check_place(row, written)


OTHERS = {
    "custom gradient": ("clipped(v)", "the custom gradient of clipped returns None", Cause.CUSTOM),
    "no gradient": (
        "tf.image.adjust_saturation(tf.reshape(v, [1, 1, 3]), 2.0)[0, 0]",
        "no gradient is registered for AdjustSaturation",
        Cause.UNREGISTERED,
    ),
    "state": ("total.assign_add(v) * 1.0", "a variable's state carries no derivative", Cause.STATE),
}


@pytest.mark.parametrize("setting", EAGER, ids=lambda setting: setting.__name__)
@pytest.mark.parametrize("name", OTHERS)
def test_other_ways_to_none(door: Door, name: str, setting: Callable[[str], Written]) -> None:
    body, text, cause = OTHERS[name]
    written = setting(body)
    row = derivative(door, written, tf.Variable([1.5, 2.5, 3.25]))
    assert row.value is None
    assert row.reason is not None
    assert row.reason.cause is cause
    assert text in row.why
    check_place(row, written)


@pytest.mark.parametrize("setting", [compiled, compiled_loop, compiled_cond], ids=lambda one: one.__name__)
def test_state_in_a_compiled_function(door: Door, setting: Callable[[str], Written]) -> None:
    written = setting("total.assign_add(v) * 1.0")
    row = derivative(door, written, tf.Variable([1.5, 2.5, 3.25]))
    assert row.value is None or not np.any(row.value)
    assert row.reason is not None
    assert "a variable's state carries no derivative" in row.why
    check_place(row, written)


def test_a_custom_gradient_in_a_compiled_function_cannot_be_told(door: Door) -> None:
    written = compiled("clipped(v)")
    row = derivative(door, written, tf.Variable([1.5, 2.5, 3.25]))
    assert row.value is None
    assert row.reason is not None
    assert row.reason.cause is Cause.UNKNOWN
    assert "it may be a custom gradient" in row.why
    check_place(row, written)


def test_a_value_is_not_taken_from_a_variable_that_was_assigned_since(door: Door) -> None:
    names = elsewhere(
        "@tf.function\ndef f(v):\n    w = tf.sqrt(v * total)\n    total.assign(total + 1.0)\n    return w\n",
        total=tf.Variable([0.0, 1.0]),
    )
    (row,) = door.grad(Case("y = tf.reduce_sum(f(x))", "dy/dx", {**names, "x": tf.Variable([4.0, 9.0])}))
    assert not np.isfinite(row.value).all()
    assert row.reason is not None
    assert row.reason.cause in (Cause.UNKNOWN, Cause.NOT_FINITE)
    assert row.reason.cause is Cause.UNKNOWN or row.reason.operation == "Sqrt"


def test_state(door: Door) -> None:
    state = tf.Variable(1.0)
    cell = "total.assign_add(x)\ny = total * 2.0"
    (row,) = door.grad(Case(cell, "dy/dx", {**elsewhere(""), "x": tf.constant(3.0), "total": state}))
    assert row.value is None
    assert row.reason is not None
    assert row.reason.cause is Cause.STATE
    assert "line 2: total.assign_add(x)" in row.why
    assert "total_new = total + …" in row.reason.cure


def test_not_read_at_all(door: Door) -> None:
    (row,) = door.grad(Case("y = a * 2.0", "dy/dx", {"x": tf.Variable(1.0), "a": tf.Variable(2.0)}))
    assert row.value is None
    assert row.why == "y does not read x"
    assert row.reason is not None
    assert row.reason.cause is Cause.NOT_READ


def test_an_older_object_of_that_name(door: Door) -> None:
    old, new = tf.Variable(1.0, name="x"), tf.Variable(1.0, name="x")
    (row,) = door.grad(Case("y = params[0] * 2.0", "dy/dx", {"x": new, "params": [old]}))
    if door.name == "magic":
        assert row.why.startswith(
            "y does not read x: it reads params[0], which was called that before x was bound anew"
        )
    else:  # a function does not say what stands around it
        assert row.why.startswith("y does not read x")


def test_only_the_shape_is_read(door: Door) -> None:
    names = {**elsewhere(""), "x": tf.Variable([1.0, 2.0])}
    (row,) = door.grad(Case("y = tf.cast(tf.shape(x)[0], tf.float32)", "dy/dx", names))
    assert row.why == "only the shape of x is read, line 2: y = tf.cast(tf.shape(x)[0], tf.float32)"


def test_stop_recording(door: Door) -> None:
    cell = "with tape.stop_recording():\n    z = x * x\ny = z + 1.0"
    (row,) = door.grad(Case(cell, "dy/dx", {"x": tf.Variable(3.0)}))
    assert row.reason is not None
    assert row.reason.cause is Cause.STOPPED
    assert row.why == "not recorded, line 3: z = x * x"


def test_reset(door: Door) -> None:
    cell = "z = x * x\ntape.reset()\ny = z + 1.0"
    (row,) = door.grad(Case(cell, "dy/dx", {"x": tf.Variable(3.0)}))
    assert row.reason is not None
    assert row.reason.cause is Cause.STOPPED
    assert "line 2: z = x * x" in row.why


def test_a_straight_line_has_no_second_derivative(door: Door) -> None:
    (row,) = door.grad(Case("y = 3.0 * x + 1.0", "d2y/dx2", {"x": tf.Variable(2.0)}))
    assert row.value is None
    assert row.why == "∂y/∂x does not depend on x"


def test_several_cuts_are_all_named(door: Door) -> None:
    cell = "a = tf.round(x)\nb = tf.floor(x)\ny = a + b"
    (row,) = door.grad(Case(cell, "dy/dx", {**elsewhere(""), "x": tf.Variable(1.5)}))
    assert "cut at Round, line 2: a = tf.round(x)" in row.why
    assert "cut at Floor, line 3: b = tf.floor(x)" in row.why


def test_no_gradient_registered_is_that_rows_own_matter(door: Door) -> None:
    cell = "image = tf.image.adjust_saturation(x, 2.0)\ny = tf.reduce_sum(w * image)"
    names = {**elsewhere(""), "x": tf.ones([2, 2, 3]), "w": tf.Variable(3.0)}
    by_x, by_w = door.grad(Case(cell, "dy/dx, dy/dw", names))
    assert by_x.value is None
    assert by_x.reason is not None
    assert (by_x.reason.cause, by_x.reason.operation) == (Cause.UNREGISTERED, "AdjustSaturation")
    assert by_x.reason.where is not None
    assert by_x.reason.where.line == 2
    assert float(by_w.value) == pytest.approx(12.0)
    assert by_w.reason is None


# -- not finite --------------------------------------------------------------------------------------

ROOT_AT_0 = "tf.sqrt(tf.reduce_sum(v**2))" if NORM_IS_SMOOTH else "tf.norm(v)"

NOT_FINITE = {
    "sqrt": ("tf.sqrt(v)", [4.0, 0.0, 1.0], "Sqrt", "tf.sqrt(x + 1e-12)"),
    "norm": (f"{ROOT_AT_0} * tf.ones(3)", [0.0, 0.0, 0.0], "Sqrt", "a norm has no derivative at 0"),
    "log": ("tf.math.log(v)", [1.0, 0.0, 2.0], "Log", "tf.math.log(x + 1e-12)"),
    "x log x": ("v * tf.math.log(v)", [1.0, 0.0, 2.0], "Log", "tf.math.xlogy"),
    "power": ("v**0.5", [1.0, 0.0, 2.0], "Pow", "infinite slope at 0"),
    "where and log": ("tf.where(v > 0, tf.math.log(v), 0.0)", [1.0, 0.0, 2.0], "Log", "differentiates both"),
    "where and division": ("tf.where(v > 0, 1 / v, 0.0)", [1.0, 0.0, 2.0], "RealDiv", "differentiates both"),
    "where and power": ("tf.where(v > 0, v**0.5, 0.0)", [1.0, 0.0, 2.0], "Pow", "differentiates both"),
    "softmax by hand": ("tf.exp(v) / tf.reduce_sum(tf.exp(v))", [100.0, 0.0, 1.0], "Exp", "tf.nn.softmax"),
    "log of softmax": ("-tf.math.log(tf.nn.softmax(v))", [200.0, 0.0, 1.0], "Log", "tf.nn.log_softmax"),
    "log of sum of exp": (
        "tf.math.log(tf.reduce_sum(tf.exp(v))) * tf.ones(3)",
        [100.0, 0.0, 1.0],
        "Exp",
        "tf.reduce_logsumexp",
    ),
    "log of sigmoid": ("-tf.math.log(tf.sigmoid(v))", [-200.0, 0.0, 1.0], "Log", "tf.math.log_sigmoid"),
    "division": ("1.0 / v", [1.0, 0.0, 2.0], "RealDiv", "divide_no_nan"),
    "arc cosine": ("tf.acos(v)", [1.0, 0.0, 0.5], "Acos", "ends excluded"),
}


@pytest.mark.parametrize(("name", "setting"), covering(NOT_FINITE, SETTINGS, times=3), ids=named)
@pytest.mark.both_doors("setting")
def test_what_made_a_derivative_infinite(door: Door, name: str, setting: Callable[[str], Written]) -> None:
    body, point, operation, cure = NOT_FINITE[name]
    written = setting(body)
    row = derivative(door, written, tf.Variable(point))
    assert not np.isfinite(row.value).all()
    assert row.reason is not None
    assert row.reason.cause is Cause.NOT_FINITE
    assert row.reason.operation == operation
    assert cure in row.reason.cure
    check_place(row, written)


def test_the_values_that_went_in(door: Door) -> None:
    names = {**elsewhere(""), "x": tf.Variable([4.0, 0.0, 1.0])}
    (row,) = door.grad(Case("y = tf.reduce_sum(tf.sqrt(x))", "dy/dx", names))
    assert row.reason is not None
    assert row.reason.text == (
        "the gradient of Sqrt is inf for 0 at [1], line 2: y = tf.reduce_sum(tf.sqrt(x))"
    )


def test_the_branch_of_tf_where_is_named(door: Door) -> None:
    cell = "z = tf.math.log(x)\nok = x > 0\ny = tf.reduce_sum(tf.where(ok, z, 0.0))"
    (row,) = door.grad(Case(cell, "dy/dx", {**elsewhere(""), "x": tf.Variable([1.0, 0.0])}))
    assert row.why == (
        "Log is −inf for 0 at [1], line 2: z = tf.math.log(x); tf.where (line 4) takes the other branch "
        "there, but differentiates both: choose a safe argument first, tf.math.log(tf.where(ok, x, 1.0))"
    )


def test_a_source_that_is_not_finite_itself(door: Door) -> None:
    for value in (tf.Variable(np.nan), tf.constant(np.nan)):
        (row,) = door.grad(Case("y = tf.exp(x)", "dy/dx", {**elsewhere(""), "x": value}))
        assert row.why == "x itself is not finite"


def test_the_second_derivative_goes_back_to_the_users_line(door: Door) -> None:
    cell = "z = x * 1.0\ny = z**1.5"
    (row,) = door.grad(Case(cell, "d2y/dx2", {**elsewhere(""), "x": tf.Variable(0.0)}))
    assert not np.isfinite(row.value)
    assert row.reason is not None
    assert row.reason.where is not None
    assert row.reason.where.line == 3


# -- where nothing is wrong, nothing is said ---------------------------------------------------------

LOOK_ALIKES = {
    "relu below 0": ("tf.nn.relu(v)", [-1.0, -2.0, -3.0]),
    "minimum of a square": ("v**2", [0.0, 0.0, 0.0]),
    "times 0": ("v * 0.0", [1.0, 2.0, 3.0]),
    "abs at 0": ("tf.abs(v)", [0.0, 0.0, 0.0]),
    "underflow": ("tf.exp(v)", [-200.0, -200.0, -200.0]),
    "saturated": ("tf.sigmoid(v)", [-200.0, 200.0, 200.0]),
    "clipped": ("tf.clip_by_value(v, 0.0, 1.0)", [2.0, 3.0, 4.0]),
    "sqrt above 0": ("tf.sqrt(v)", [1.0, 2.0, 3.0]),
    "norm off 0": ("tf.norm(v) * tf.ones(3)", [1.0, 0.0, 0.0]),
    **({"norm at 0": ("tf.norm(v) * tf.ones(3)", [0.0, 0.0, 0.0])} if NORM_IS_SMOOTH else {}),
    "double where": ("tf.where(v > 0, tf.math.log(tf.where(v > 0, v, 1.0)), 0.0)", [1.0, 0.0, 2.0]),
    "safe softmax": ("tf.nn.softmax(v)", [100.0, 0.0, 1.0]),
    "safe logarithm": ("tf.nn.log_softmax(v)", [200.0, 0.0, 1.0]),
    "no nan division": ("tf.math.divide_no_nan(tf.ones(3), v)", [1.0, 0.0, 2.0]),
    "straight through": ("v + tf.stop_gradient(tf.round(v) - v)", [1.5, 2.5, 3.25]),
    "infinite in an unused branch": ("tf.where(v > 0, v, -np.inf * tf.ones(3))", [1.0, 2.0, 3.0]),
    "masked logits": (
        "tf.nn.softmax(tf.where(tf.constant([True, True, False]), v, -np.inf))",
        [1.0, 2.0, 3.0],
    ),
    "round beside a live way": ("v * tf.round(v)", [1.5, 2.5, 3.25]),
    "gather": ("tf.gather(v, [0, 1, 2])", [1.0, 2.0, 3.0]),
    "sorted": ("tf.sort(v)", [3.0, 1.0, 2.0]),
    "top k": ("tf.nn.top_k(v, 3).values", [3.0, 1.0, 2.0]),
    "sum that cancels": ("v - v", [1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize(("name", "setting"), covering(LOOK_ALIKES, SETTINGS, times=3), ids=named)
@pytest.mark.both_doors("setting")
def test_nothing_is_said_where_nothing_is_wrong(
    door: Door, name: str, setting: Callable[[str], Written]
) -> None:
    body, point = LOOK_ALIKES[name]
    row = derivative(door, setting(body), tf.Variable(point))
    assert np.isfinite(tf.convert_to_tensor(row.value)).all()
    assert row.reason is None


# -- the run happens once ----------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["tf.round(v)", "tf.math.log(v)", "tf.sign(v)", "tf.constant(np.sin(v))"])
def test_side_effects_happen_once(door: Door, body: str) -> None:
    kept: list[Any] = []
    said = io.StringIO()
    counter = tf.Variable(0)
    names = elsewhere(
        "@tf.function\n"
        "def f(v):\n"
        "    counter.assign_add(1)\n"
        "    print('traced', file=said)\n"
        "    return v * 1.0\n",
        counter=counter,
        said=said,
    )
    cell = f"log.append(1)\nprint('ran', file=said)\nv = f(x)\nw = {body}\ny = tf.reduce_sum(w)"
    (row,) = door.grad(Case(cell, "dy/dx", {**names, "log": kept, "x": tf.Variable([1.5, 0.0])}))
    assert row.reason is not None
    assert kept == [1]
    assert int(counter) == 1
    assert said.getvalue().splitlines() == ["ran", "traced"]


# -- chains of operations with one cut at a random place ---------------------------------------------

LINKS = ["tf.sin(v)", "v * 2.0", "v + 1.0", "tf.exp(-v * v)", "tf.reshape(v, [3])", "v[::-1]"]
CUTTING = {
    "tf.round(v)": "Round",
    "tf.floor(v)": "Floor",
    "tf.stop_gradient(v)": "StopGradient",
    "tf.cast(tf.cast(v, tf.int64), tf.float32)": "Cast",
    "tf.cast(v > 0.1, tf.float32)": "Greater",
}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=st.lists(st.sampled_from(LINKS), max_size=4),
    cut=st.sampled_from(sorted(CUTTING)),
    after=st.lists(st.sampled_from(LINKS), max_size=4),
    alive=st.booleans(),
)
def test_one_cut_in_a_random_chain(
    door: Door, before: list[str], cut: str, after: list[str], alive: bool
) -> None:
    lines = [f"v = {link}" for link in ["x * 1.0", *before, cut, *after]]
    way_around = " + tf.reduce_sum(x)" if alive else ""
    cell = "\n".join([*lines, f"y = tf.reduce_sum(v){way_around}"])
    (row,) = door.grad(Case(cell, "dy/dx", {"tf": tf, "x": tf.Variable([0.4, 1.6, -2.3])}))
    if alive:
        assert row.value is not None
        assert row.reason is None
        return
    assert row.value is None
    assert row.reason is not None
    assert row.reason.operation == CUTTING[cut]
    assert row.reason.where is not None
    assert row.reason.where.line == 3 + len(before)
