"""Derivatives that people asked about in public, None, zero or NaN, rebuilt: each has its true reason.

From TensorFlow's and Keras's issues (their numbers stand beside the cases) and from questions and answers.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause
from tests.support.cells import elsewhere
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


def model(units: int = 2, **options: Any) -> keras.Sequential:
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, **options)])


def rows(door: Door, cell: str, line: str, **names: Any) -> list[Derivative]:
    return list(door.grad(Case(cell, line, {**elsewhere(""), **names})))


# -- what leaves TensorFlow --------------------------------------------------------------------------

OF_A_MODEL = {
    "predict, 20630": ("p = m.predict(s, verbose=0)\nloss = tf.reduce_mean(p**2)", 2, "call m(…) itself"),
    "a converted prediction": (
        "p = tf.constant(m.predict_on_batch(s))\nloss = tf.reduce_mean(p**2)",
        2,
        "call m(…) itself",
    ),
    "an array of probabilities": ("p = m(s).numpy()\nloss = -tf.math.log(p[0, 1])", 2, "leave out .numpy()"),
    "an action that NumPy chose": (
        "p = m(s)\nq = np.exp(p[0])\na = np.argmax(q)\nloss = tf.constant(float(a)) * 1.0",
        3,
        "use tf.exp",
    ),
    "an array of weights": (
        "w = m.get_weights()[0]\nloss = tf.reduce_sum(w**2)",
        2,
        "use m.trainable_variables",
    ),
    "a loss that is a float": ("loss = np.linalg.norm(m(s))", 2, "use tf.norm"),
}


@pytest.mark.parametrize("name", OF_A_MODEL)
def test_what_leaves_tensorflow_from_a_model(door: Door, name: str) -> None:
    cell, line, cure = OF_A_MODEL[name]
    found = rows(door, cell, "loss --wrt m", m=model(), s=tf.ones([1, 2]))
    assert [row.value for row in found] == [None, None]
    for row in found:
        assert row.reason is not None
        assert row.reason.cause is Cause.LEFT
        assert row.reason.where is not None
        assert row.reason.where.line == line
        assert row.reason.cure == cure


def test_what_leaves_tensorflow_from_one_variable_of_a_layer(door: Door) -> None:
    layer = keras.layers.Dense(2)
    layer.build((1, 2))
    kernel, bias = rows(door, "loss = tf.reduce_sum(layer.kernel.numpy())", "loss --wrt layer", layer=layer)
    assert kernel.why == "line 2 leaves TensorFlow: layer.kernel.numpy(); leave out .numpy()"
    assert bias.why == "loss does not read bias"


def test_what_leaves_tensorflow_by_a_map(door: Door) -> None:
    (row,) = rows(door, "y = tf.constant([*map(float, [x, x])])", "dy/dx", x=tf.Variable(1.0))
    assert row.why.startswith("line 2 leaves TensorFlow: map(float, [x, x])")


def test_what_leaves_tensorflow_in_a_method(shell: Notebook) -> None:
    shell.ok(
        "import tensorflow as tf, numpy as np, keras\n"
        "class Agent:\n"
        "    def __init__(self):\n"
        "        self.net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])\n"
        "    def act(self, s):\n"
        "        return self.net(s).numpy()\n"
        "def mean(values, of):\n"
        "    np.unique(values)\n"
        "    return tf.reduce_mean(tf.round(of))\n"
        "agent, s, x = Agent(), tf.ones([1, 2]), tf.Variable([1.0, 2.0])\n"
        "net = agent.net"
    )
    for line in ("--wrt net", "--wrt s"):
        shell.ok(f"%%grad loss {line}\nloss = tf.reduce_sum(tf.constant(agent.act(s)))")
        why = shell.ns["grads"].rows[0].why
        assert "line 6 leaves TensorFlow: self.net(s).numpy()" in why
    shell.ok("%%grad loss --wrt x\nloss = mean(np.array([1.0]), x) * tf.constant(2.0)")
    assert "cut at Round" in shell.ns["grads"].rows[0].why


def test_an_array_that_is_filled_leaves_tensorflow(door: Door) -> None:
    (row,) = rows(
        door,
        "b = np.zeros(2)\nfor i in range(2):\n    b[i] = x[i] ** 2\ny = tf.reduce_sum(b)",
        "dy/dx",
        x=tf.Variable([1.0, 2.0]),
    )
    assert row.why == (
        "line 4 leaves TensorFlow: b[i] = x[i] ** 2; keep the values in a list, and tf.stack them"
    )


BESIDE = {
    "printed": ("h = x**2\nprint(float(h[0]))\ny = a * 2.0", "y does not read x"),
    "checked": ("assert float(x[0]) > 0\ny = tf.constant(2.0) * a", "y does not read x"),
    "printed at the end": ("y = tf.constant(2.0) * a\nprint(float(x[0]))", "y does not read x"),
    "printed before": (
        "print(float(x[0]))\ny = tf.constant(np.sin(x))",
        "line 3 leaves TensorFlow: np.sin(x)",
    ),
    "a shape": ("n = float(tf.shape(x)[0])\ny = a / n", "y does not read x"),
    "a place": ("i = int(x[0])\ny = tf.gather([1.0, 2.0], i)", "line 2 leaves TensorFlow: int(x[0])"),
    "how often": ("for _ in range(int(x[0])):\n    b = a * 2.0\ny = b + 0.0", "y does not read x"),
    "kept in a list": (
        "kept = []\nkept.append(x.numpy())\ny = tf.constant(np.sin(x))",
        "line 4 leaves TensorFlow: np.sin(x)",
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_only_looked_at_is_not_the_reason(door: Door, name: str) -> None:
    cell, why = BESIDE[name]
    (row,) = rows(door, cell, "dy/dx", x=tf.Variable([1.0, 2.0]), a=tf.Variable(2.0))
    assert row.why.startswith(why)


def test_a_constant_of_a_variable(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.Variable([1.0, 2.0]))
    shell.ok("%%grad dy/dx\ny = tf.reduce_sum(tf.constant(x))")
    assert shell.ns["grads"].rows[0].why == (
        "line 2 leaves TensorFlow: tf.constant(x); use tf.convert_to_tensor"
    )
    shell.ok("%%grad dy/dx\ny = tf.reduce_sum(tf.convert_to_tensor(x))")
    assert shell.ns["dy_dx"] is not None


# -- state -------------------------------------------------------------------------------------------

CHANGED = {
    "a slice": ("v[0].assign(x[0] * 2)", "tf.tensor_scatter_nd_update(v, indices, values)"),
    "scattered": (
        "v.scatter_nd_update([[0]], x[:1])",
        "tf.tensor_scatter_nd_update(v, indices, values)",
    ),
    "scattered and added": (
        "v.scatter_nd_add([[0]], x[:1])",
        "tf.tensor_scatter_nd_add(v, indices, values)",
    ),
    "assigned, 30234": ("v.assign_add(x)", "v_new = v + …"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_variable_that_is_changed_in_part(door: Door, name: str) -> None:
    text, cure = CHANGED[name]
    names = {"x": tf.Variable([1.0, 2.0]), "v": tf.Variable([0.0, 0.0])}
    (row,) = rows(door, f"{text}\ny = tf.reduce_sum(v * 3)", "dy/dx", **names)
    assert row.why == (
        f"a variable's state carries no derivative, line 2: {text}; compute a new tensor, {cure}"
    )


def test_a_variable_that_is_changed_in_part_in_a_compiled_function(door: Door) -> None:
    names = elsewhere(
        "@tf.function\ndef f(x):\n    v[0].assign(x[0])\n    return tf.reduce_sum(v)\n",
        v=tf.Variable([0.0, 0.0]),
    )
    (row,) = door.grad(Case("y = f(x)", "dy/dx", {**names, "x": tf.Variable([1.0, 2.0])}))
    assert row.why.startswith("a variable's state carries no derivative")
    assert "line 3: v[0].assign(x[0])" in row.why


def test_a_variable_that_the_cell_makes(door: Door) -> None:
    for value in ("x - 0.5", "x"):
        cell = f"v = tf.Variable({value})\ny = (v - 3.0)**2"
        (row,) = rows(door, cell, "dy/dx", x=tf.Variable(1.0))
        assert row.why == (
            "a variable's state carries no derivative, "
            f"line 2: v = tf.Variable({value}); leave out tf.Variable()"
        )


DATA = {
    "MapDataset": "y = 0.0\nfor b in tf.data.Dataset.range(2).map(lambda i: x[i]):\n    y += b",
    "TensorSliceDataset": "y = 0.0\nfor b in tf.data.Dataset.from_tensor_slices(x):\n    y += b",
}


@pytest.mark.parametrize("name", DATA)
def test_a_pipeline_of_data_carries_no_derivative(door: Door, name: str) -> None:
    (row,) = rows(door, DATA[name], "dy/dx", x=tf.Variable([1.0, 2.0]))
    assert row.why.startswith(f"no gradient is registered for {name}, line 3: ")


# -- intermediates and higher orders -----------------------------------------------------------------


def test_an_intermediate_that_comes_with_the_output_59652(door: Door) -> None:
    """Grad-CAM: one model gives the features and what is computed from them."""
    whole = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1, use_bias=False)]
    )
    both = keras.Model(whole.inputs, [whole.layers[0].output, whole.layers[1].output])
    names = {"both": both, "s": tf.ones([1, 2])}
    for cell in ("h, p = both(s)\ny = p[0, 0]", "found = both(s)\nh = found[0]\ny = found[1][0, 0]"):
        (row,) = rows(door, cell, "dy/dh", **names)
        np.testing.assert_allclose(row.value, np.transpose(whole.layers[1].kernel), rtol=1e-6)
        assert row.reason is None


def test_an_intermediate_is_not_spoiled_by_what_lies_before_it(door: Door) -> None:
    cell = "image = tf.image.adjust_saturation(w * s, 2.0)\nh = image * 1.0\ny = tf.reduce_sum(h**2 + image)"
    names = {"w": tf.Variable(1.0), "s": tf.ones([1, 2, 2, 3])}
    (row,) = rows(door, cell, "dy/dh", **names)
    np.testing.assert_allclose(row.value, 2 * np.ones([1, 2, 2, 3]), rtol=1e-6)


def test_an_intermediate_that_comes_with_the_output_of_constants(door: Door) -> None:
    names = elsewhere("def f(s):\n    h = s * 2.0\n    return h, h**2\n")
    (row,) = rows(door, "h, y = f(s)", "dy/dh", **names, s=tf.ones([2]))
    assert row.reason is not None
    assert row.reason.cause is Cause.UNKNOWN
    assert "perhaps y was computed before h was assigned" in row.why


@pytest.mark.parametrize(("activation", "curved"), [("tanh", True), ("linear", False), ("relu", False)])
def test_the_second_derivative_of_a_network_31519(door: Door, activation: str, curved: bool) -> None:
    names = {"m": model(4, activation=activation), "x": tf.ones([3, 1]), "t": tf.ones([3, 1])}
    (row,) = rows(door, "u = m(tf.concat([x, t], 1))", "d2u/dx2", **names)
    if activation == "linear":
        assert row.why == "∂u/∂x does not depend on x"
    else:
        assert np.any(row.value) is np.bool_(curved)
        linear = "0 wherever it exists: Relu is linear in pieces, line 2: u = m(tf.concat([x, t], 1))"
        assert row.why == ("" if curved else linear)


FAILING = {
    "Svd": "s, u, v = tf.linalg.svd(x, full_matrices=True)\ny = tf.reduce_sum(u) + tf.reduce_sum(v)",
    "MatrixSolveLs": "z = tf.linalg.lstsq(x, tf.ones([2, 1]), fast=False)\ny = tf.reduce_sum(z)",
}


@pytest.mark.parametrize("name", FAILING)
def test_a_gradient_that_tensorflow_did_not_write(door: Door, name: str) -> None:
    x = tf.Variable(np.random.default_rng(0).normal(size=(2, 5)).astype("float32"))
    first, second = rows(door, f"{FAILING[name]}\nz = tf.reduce_sum(x**2)", "dy/dx dz/dx", x=x)
    assert first.value is None
    assert first.reason is not None
    assert first.reason.operation == name
    assert first.why.startswith(f"the gradient of {name} fails (")
    assert "line 2: " in first.why
    np.testing.assert_allclose(second.value, 2 * x, rtol=1e-6)


# -- not finite: a cure that works -------------------------------------------------------------------

CURES: dict[str, tuple[str, str, str]] = {
    "a sigmoid": ("1 / (1 + tf.exp(-x))", "use tf.sigmoid", "tf.sigmoid(x)"),
    "its other form": ("tf.exp(x) / (1 + tf.exp(x))", "use tf.sigmoid", "tf.sigmoid(x)"),
    "its logarithm": (
        "tf.math.log(1 / (1 + tf.exp(-x)))",
        "use tf.math.log_sigmoid",
        "tf.math.log_sigmoid(x)",
    ),
    "a softplus": ("tf.math.log(1 + tf.exp(x))", "use tf.math.softplus", "tf.math.softplus(x)"),
    "the same by log1p": ("tf.math.log1p(tf.exp(x))", "use tf.math.softplus", "tf.math.softplus(x)"),
    "a tangent": ("(tf.exp(x) - tf.exp(-x)) / (tf.exp(x) + tf.exp(-x))", "use tf.tanh", "tf.tanh(x)"),
    "a softmax": ("tf.exp(x) / tf.reduce_sum(tf.exp(x))", "use tf.nn.softmax", "tf.nn.softmax(x)"),
    "the sum of exponentials": (
        "tf.math.log(tf.reduce_sum(tf.exp(x)))",
        "use tf.reduce_logsumexp",
        "tf.reduce_logsumexp(x)",
    ),
    "the cross-entropy of a softmax": (
        "tf.math.log(tf.exp(x) / tf.reduce_sum(tf.exp(x)))",
        "use tf.nn.log_softmax",
        "tf.nn.log_softmax(x)",
    ),
    "the sum of vanishing exponentials": (
        "tf.math.log(tf.reduce_sum(tf.exp((x - 500.0) / 1.0)))",
        "it underflows: use tf.reduce_logsumexp",
        "tf.reduce_logsumexp((x - 500.0) / 1.0)",
    ),
    "an attention before a relu": (
        "tf.math.log(tf.nn.relu(tf.linalg.matvec([[1.0, 1.0, -2.0]], tf.nn.softmax(x * 0.0))))",
        "for example tf.math.log(x + 1e-12)",
        "tf.math.log(tf.nn.relu(tf.linalg.matvec([[1.0, 1.0, -2.0]], tf.nn.softmax(x * 0.0))) + 1e-12)",
    ),
    "a vector by its norm": (
        "x * 0.0 / tf.sqrt(tf.reduce_sum((x * 0.0)**2))",
        "tf.sqrt(… + 1e-12)",
        "x * 0.0 / tf.sqrt(tf.reduce_sum((x * 0.0)**2) + 1e-12)",
    ),
    "a deviation": (
        "tf.math.reduce_std(x * 0.0)",
        "use tf.sqrt(tf.math.reduce_variance(x) + 1e-12)",
        "tf.sqrt(tf.math.reduce_variance(x * 0.0) + 1e-12)",
    ),
    "half precision": (
        "tf.cast(tf.sqrt(tf.cast(x * 0.0, tf.float16)), tf.float32)",
        "tf.sqrt(x + 1e-4)",
        "tf.cast(tf.sqrt(tf.cast(x * 0.0, tf.float16) + 1e-4), tf.float32)",
    ),
    "a small denominator": ("x / 1e-38", "keep the denominator away from 0", "x / 1e-3"),
    "a large power": ("(x * 1e20)**3", "it overflows: keep the base or the power smaller", "(x * 1e2)**3"),
}


@pytest.mark.parametrize("name", CURES)
def test_a_cure_is_the_right_one_and_works(door: Door, name: str) -> None:
    text, cure, cured = CURES[name]
    point = tf.Variable([200.0, -200.0, 0.0])
    (row,) = rows(door, f"y = tf.reduce_sum({text})", "dy/dx", x=point)
    assert not np.isfinite(row.value).all()
    assert row.reason is not None
    assert row.reason.cause is Cause.NOT_FINITE
    assert cure in row.reason.cure
    (row,) = rows(door, f"y = tf.reduce_sum({cured})", "dy/dx", x=point)
    assert np.isfinite(row.value).all()
    assert row.reason is None


WITHIN = {
    "Log": ("tf.math.log(x)", "Reciprocal", "for example tf.math.log(x + 1e-12)"),
    "Sqrt": ("tf.sqrt(x)", "SqrtGrad", "add a little, tf.sqrt(x + 1e-12)"),
    "Acos": ("tf.acos(x + 1.0)", "Reciprocal", "keep its argument between −1 and 1, ends excluded"),
    "Rsqrt": ("tf.math.rsqrt(x)", "Rsqrt", "for example tf.math.rsqrt(x + 1e-12)"),
}


@pytest.mark.parametrize("name", WITHIN)
def test_not_finite_within_the_gradient_of_another_operation(door: Door, name: str) -> None:
    text, operation, cure = WITHIN[name]
    cell = f"with tf.GradientTape() as inner:\n    z = {text}\ny = inner.gradient(z, x)**2"
    (row,) = rows(door, cell, "dy/dx", x=tf.Variable(0.0))
    assert row.reason is not None
    assert row.reason.operation == operation
    assert row.reason.where is not None
    assert row.reason.where.line == 3
    assert cure in row.reason.cure
    if operation != name:
        assert row.why.startswith(f"{operation}, in the gradient of {name}, is ")


@pytest.mark.parametrize("line", ["d2y/dh2", "y --wrt h --hvp h=one"])
def test_higher_derivatives_by_an_intermediate_ask_nothing_of_what_lies_before_it(
    shell: Notebook, line: str
) -> None:
    """The saturation has no gradient; the second derivative of h² times a pixel is two pixels."""
    pixels = tf.reshape(tf.linspace(0.1, 0.9, 12), [1, 2, 2, 3])
    cell = "image = tf.image.adjust_saturation(w*s, 2.0)\nh = image*1.0\ny = tf.reduce_sum(h**2*image)"
    shell.ns.update(tf=tf, w=tf.Variable(1.0), s=pixels, one=tf.ones_like(pixels))
    shell.ok(f"%%grad {line}\n{cell}")
    (row,) = shell.ns["grads"].rows
    np.testing.assert_allclose(row.value, 2 * tf.image.adjust_saturation(pixels, 2.0), rtol=1e-5)
