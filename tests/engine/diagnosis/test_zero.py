"""Derivatives that are 0 by construction or by their data, and those that happen to be 0."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import nothing_is_said, the_reason_is_found

FOUND: dict[str, tuple[str, ...]] = {
    "recompute round": (
        (
            "x = tf.Variable([1.2, 2.7])\n"
            "@tf.recompute_grad\n"
            "def coarse(v):\n"
            "    near = tf.round(v)\n"
            "    return near * 3.0"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(coarse(x))"),
        "0 wherever it exists: Round, cell \\d+, line 4: near = tf.round\\(v\\)",
        "",
        "",
    ),
    "recompute floor": (
        ("x = tf.Variable([0.3, 1.2])\nf = tf.recompute_grad(lambda v: tf.floor(v) * 2.0)"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "0 wherever it exists: Floor, cell \\d+, line 2: f = tf.recompute_grad",
        "",
        "",
    ),
    "recompute sign": (
        ("x = tf.Variable([1.0, 2.0])\nf = tf.recompute_grad(lambda v: tf.sign(v) * 2.0)"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "Sign",
        "",
        "",
    ),
    "recompute cast": (
        (
            "x = tf.Variable([1.0, 2.0])\n"
            "@tf.recompute_grad\n"
            "def f(v):\n"
            "    k = tf.cast(v, tf.int32)\n"
            "    return tf.cast(k, tf.float32)"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "Cast|cast",
        "",
        "",
    ),
    "recompute argmax": (
        (
            "x = tf.Variable([1.0, 2.0])\n"
            "@tf.recompute_grad\n"
            "def f(v):\n"
            "    return tf.cast(tf.argmax(v), tf.float32)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "ArgMax",
        "",
        "",
    ),
    "recompute stop": (
        ("x = tf.Variable([1.0, 2.0])\n@tf.recompute_grad\ndef f(v):\n    return tf.stop_gradient(v) * 2.0"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "stop_gradient|StopGradient",
        "",
        "",
    ),
    "custom zero": (
        (
            "x = tf.Variable([1.0, 2.0])\n"
            "@tf.custom_gradient\n"
            "def f(v):\n"
            "    return v * 2.0, lambda up: tf.zeros_like(up)"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "custom gradient of f returns 0, line 2",
        "",
        "",
    ),
    "custom times 0": (
        (
            "x = tf.Variable([1.0, 2.0])\n"
            "@tf.custom_gradient\n"
            "def gate(v):\n"
            "    return tf.sin(v), lambda up: 0.0 * up"
        ),
        ("%%grad dy/dx\nz = gate(x)\ny = tf.reduce_sum(z)"),
        "custom gradient of gate returns 0, line 2",
        "",
        "",
    ),
    "tensor source recompute": (
        ("x = tf.constant([1.2, 2.7])\nf = tf.recompute_grad(lambda v: tf.round(v))"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "Round",
        "",
        "",
    ),
    "recompute model floor": (
        (
            "layer = keras.layers.Dense(2); data = tf.ones((1, 2)); layer(data)\n"
            "f = tf.recompute_grad(lambda v: tf.floor(layer(v)))\n"
            "x = tf.Variable([[0.3, 0.4]])"
        ),
        ("%%grad y --wrt x layer\ny = tf.reduce_sum(f(x))"),
        "Floor",
        "",
        "",
    ),
    "recompute in function": (
        (
            "x = tf.Variable([1.0, 2.0])\n"
            "f = tf.recompute_grad(lambda v: tf.floor(v) * 2.0)\n"
            "@tf.function\n"
            "def g(v):\n"
            "    return tf.reduce_sum(f(v))"
        ),
        ("%%grad dy/dx\ny = g(x)"),
        "Floor|not known|custom",
        "",
        "",
    ),
    "recompute sqrt": (
        ("x = tf.Variable([0.0, 2.0])\nf = tf.recompute_grad(lambda v: tf.sqrt(v))"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
        "the gradient of Sqrt is inf for 0 at \\[0\\]",
        "",
        "inner",
    ),
    "custom nan": (
        ("x = tf.Variable([0.0, 2.0])\n@tf.custom_gradient\ndef sq(v):\n    return v * v, lambda up: up / v"),
        ("%%grad dy/dx\ny = tf.reduce_sum(sq(x))"),
        "the custom gradient of sq is inf at \\[0\\], line 2",
        "",
        "",
    ),
    "recompute sqrt in function": (
        (
            "x = tf.Variable([0.0, 2.0])\n"
            "f = tf.recompute_grad(lambda v: tf.sqrt(v))\n"
            "@tf.function\n"
            "def g(v):\n"
            "    return tf.reduce_sum(f(v))"
        ),
        ("%%grad dy/dx\ny = g(x)"),
        "the gradient of Sqrt is inf for 0 at \\[0\\]",
        "",
        "inner|Custom",
    ),
    "recompute in compiled xla": (
        (
            "x = tf.Variable([1.5, 2.0])\n"
            "f = tf.recompute_grad(lambda v: tf.round(v))\n"
            "@tf.function\n"
            "def g(v):\n"
            "    h = f(v)\n"
            "    return tf.reduce_sum(h)"
        ),
        ("%%grad dy/dx\ny = g(x)"),
        "Round",
        "",
        "inner|Custom",
    ),
    "net off": (
        (
            "tf.keras.utils.set_random_seed(1)\n"
            'net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, activation="relu", '
            "bias_initializer=keras.initializers.Constant(-50.0)), keras.layers.Dense(1, "
            "use_bias=False)]); data = tf.ones((3, 2))"
        ),
        ("%%grad loss --wrt net\nloss = tf.reduce_sum(net(data))"),
        "",
        "Relu is off in all 4 units of every row, line 2",
        "",
    ),
    "sigmoid sat": (
        "x = tf.Variable([-200.0, 200.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.sigmoid(x))"),
        "^$",
        "Sigmoid is saturated in all 2 units, line 2",
        "",
    ),
    "tanh sat": (
        "x = tf.Variable([-200.0, 200.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.tanh(x))"),
        "^$",
        "Tanh is saturated",
        "",
    ),
    "relu partly": (
        "x = tf.Variable([-1.0, 2.0]); m = tf.constant([1.0, 0.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.relu(x) * m)"),
        "^$",
        "Relu is off in the 1 of 2 units that count",
        "",
    ),
    "two relus": (
        "x = tf.Variable([-1.0, -2.0])",
        ("%%grad dy/dx\na = tf.nn.relu(x)\nb = tf.nn.relu(x * 2.0)\ny = tf.reduce_sum(a + b)"),
        "^$",
        "line 2.*line 3",
        "",
    ),
    "in compiled": (
        (
            "x = tf.Variable([-1.0, -2.0])\n"
            "@tf.function\n"
            "def f(v):\n"
            "    h = tf.nn.relu(v)\n"
            "    return tf.reduce_sum(h)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "^$",
        "Relu is off in all 2 units, cell \\d+, line 4",
        "",
    ),
    "relu6 above": (
        "x = tf.Variable([7.0, 8.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.relu6(x))"),
        "^$",
        "Relu6 is off",
        "",
    ),
    "softmax sat": (
        "x = tf.Variable([500.0, 0.0])",
        ("%%grad dy/dx\nz = tf.nn.softmax(x)\ny = z[0]**2"),
        "^$",
        "Softmax is saturated in",
        "",
    ),
    "clip": (
        "x = tf.Variable([5.0, 6.0])",
        ("%%grad dy/dx\nz = tf.clip_by_value(x, 0.0, 1.0)\ny = tf.reduce_sum(z)"),
        "^$",
        "Minimum takes the other value in all 2 units, line 2",
        "",
    ),
    "times 0": (
        "x = tf.Variable([-1.0, -2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(x * 0.0)"),
        "^$",
        "Mul multiplies by 0 in all 2 units, line 2",
        "",
    ),
    "off, and times 0": (
        "x = tf.Variable([-1.0, -2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.relu(x)) + tf.reduce_sum(x * 0.0)"),
        "^$",
        "Relu is off in all 2 units, line 2.*Mul multiplies by 0 in all 2 units, line 2",
        "",
    ),
    "some of it times 0": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.gather(x * x, [0]) * 0.0\ny = tf.reduce_sum(z)"),
        "^$",
        "Mul multiplies by 0, line 2",
        "",
    ),
    "abs at 0": (
        "x = tf.Variable([0.0, 0.0])",
        ("%%grad dy/dx\nz = tf.abs(x)\ny = tf.reduce_sum(z)"),
        "^$",
        "Abs is at its kink in all 2 units, line 2",
        "",
    ),
    "relu times 0": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.relu(x) * 0.0)"),
        "^$",
        "Mul multiplies by 0",
        "Relu",
    ),
    "a matrix of zeros": (
        "a, b = tf.Variable(tf.ones((4, 2))), tf.Variable(tf.zeros((2, 3)))",
        ("%%grad y --wrt a\nh = tf.ones((5, 4)) @ a @ b\ny = tf.reduce_sum((h - 1.0)**2)"),
        "^$",
        "MatMul multiplies by 0 in all 3 units of every row, line 2: h =",
        "",
    ),
    "hinge by maximum": (
        "x = tf.Variable([2.0, 3.0])",
        ("%%grad dy/dx\ny = tf.reduce_mean(tf.maximum(0.0, 1.0 - x))"),
        "^$",
        "Maximum takes the other value in all 2 units, line 2",
        "",
    ),
    "where": (
        "x = tf.Variable([-1.0, -2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.where(x > 0.0, x**2, tf.zeros_like(x)))"),
        "^$",
        "tf.where takes the other value in all 2 units, line 2",
        "",
    ),
    "abs of silence": (
        "x = tf.Variable(tf.zeros(8))",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.abs(tf.signal.rfft(x)))"),
        "^$",
        "ComplexAbs is at its kink in all 5 units, line 2",
        "",
    ),
    "eigenvectors of equal eigenvalues": (
        "a, c = tf.Variable(tf.eye(2)), tf.constant([[1.0, 2.0], [3.0, 5.0]])",
        ("%%grad dy/da\ne, v = tf.linalg.eigh(a)\ny = tf.reduce_sum(c * v)"),
        "^$",
        "SelfAdjointEigV2 has equal eigenvalues, and TensorFlow gives 0 for the derivative of their "
        "eigenvectors, line 2: e, v = tf.linalg.eigh",
        "",
    ),
    "a rotation of equal singular values": (
        "a, c = tf.Variable(3.0 * tf.eye(2)), tf.constant([[1.0, 2.0], [3.0, 5.0]])",
        # The orthogonal factor of a: its derivative here is the antisymmetric part of c, divided by 3.
        ("%%grad dy/da\ns, u, v = tf.linalg.svd(a)\ny = tf.reduce_sum(c * (u @ tf.transpose(v)))"),
        "^$",
        "Svd has equal singular values, .* derivative of their singular vectors, line 2: s, u, v",
        "",
    ),
    "the other branch": (
        (
            "a, b = tf.Variable(1.0), tf.Variable(2.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    if v > 0.0:\n"
            "        return v * a\n"
            "    return v * b"
        ),
        ("%%grad y --wrt a b\ny = f(tf.constant(3.0))"),
        "^$",
        "∂y/∂b: 0 at this point, since the branch that was taken does not read it, cell \\d+, line 4: if v",
        "∂y/∂a: 0",
    ),
    "the second derivative of a relu, by the user's own tapes": (
        (
            "net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, activation='relu', "
            "bias_initializer='ones', kernel_initializer='ones'), keras.layers.Dense(1)])\n"
            "x = tf.ones((3, 1))"
        ),
        (
            "%%grad loss --wrt net.layers[0]\n"
            "with tf.GradientTape() as second:\n"
            "    second.watch(x)\n"
            "    with tf.GradientTape() as first:\n"
            "        first.watch(x)\n"
            "        u = net(x)\n"
            "    slope = first.gradient(u, x)\n"
            "bend = second.gradient(slope, x)\n"
            "loss = tf.reduce_mean((bend - 1.0)**2)"
        ),
        "0 wherever it exists: Relu is linear in pieces, line 6",
        "",
        "ZerosLike|ReluGrad",
    ),
}
"""The cell before, the cell, what a reason is like, what else the report shows, and what not."""


@pytest.mark.parametrize("name", FOUND)
def test_the_reason_is_found(shell: Notebook, name: str) -> None:
    the_reason_is_found(shell, *FOUND[name])


HEALTHY: dict[str, tuple[str, ...]] = {
    "recompute square at 0": (
        ("x = tf.Variable([0.0, 0.0])\nf = tf.recompute_grad(lambda v: v**2)"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
    ),
    "recompute relu": (
        ("x = tf.Variable([-1.0, -2.0])\nf = tf.recompute_grad(lambda v: tf.nn.relu(v))"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
    ),
    "custom own square at 0": (
        (
            "x = tf.Variable([0.0, 0.0])\n"
            "@tf.custom_gradient\n"
            "def sq(v):\n"
            "    return v * v, lambda up: 2.0 * v * up"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(sq(x))"),
    ),
    "straight through custom": (
        (
            "x = tf.Variable([1.2, 2.3])\n"
            "@tf.custom_gradient\n"
            "def st(v):\n"
            "    return tf.round(v), lambda up: up"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(st(x))"),
    ),
    "custom then accident": (
        (
            "x = tf.Variable([0.0, 0.0])\n"
            "@tf.custom_gradient\n"
            "def st(v):\n"
            "    return tf.round(v), lambda up: up"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(st(x)**2)"),
    ),
    "recompute healthy": (
        ("x = tf.Variable([1.0, 2.0])\nf = tf.recompute_grad(lambda v: tf.round(v) * v)"),
        ("%%grad dy/dx\ny = tf.reduce_sum(f(x))"),
    ),
    "recompute square in function": (
        (
            "x = tf.Variable([0.0, 0.0])\n"
            "f = tf.recompute_grad(lambda v: v**2)\n"
            "@tf.function\n"
            "def g(v):\n"
            "    return tf.reduce_sum(f(v))"
        ),
        ("%%grad dy/dx\ny = g(x)"),
    ),
    "custom in function straight": (
        (
            "x = tf.Variable([0.0, 0.0])\n"
            "@tf.custom_gradient\n"
            "def st(v):\n"
            "    return tf.round(v), lambda up: up\n"
            "@tf.function\n"
            "def g(v):\n"
            "    return tf.reduce_sum(st(v)**2)"
        ),
        ("%%grad dy/dx\ny = g(x)"),
    ),
    "square at 0": ("x = tf.Variable([0.0, 0.0])", ("%%grad dy/dx\ny = tf.reduce_sum(x**2)")),
    "factors too small": (
        "x = tf.Variable(0.3); small = tf.constant(1e-30)",
        ("%%grad dy/dx\ny = x * small * small"),
    ),
    "a branch that reads it, too": (
        (
            "a = tf.Variable(1.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    if v > 0.0:\n"
            "        return (v * a - 3.0)**2\n"
            "    return v * a"
        ),
        ("%%grad y --wrt a\ny = f(tf.constant(3.0))"),
    ),
    "a maximum that takes it": (
        "x = tf.Variable([2.0, -2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.maximum(x, -5.0)**2) - 4.0 * x[0] + 4.0 * x[1]"),
    ),
    "equal eigenvalues at a minimum": (
        "a = tf.Variable(tf.eye(2))",
        ("%%grad dy/da\ne, v = tf.linalg.eigh(a)\ny = tf.reduce_sum((e - 1.0)**2)"),
    ),
    "whatever the basis of equal eigenvalues": (
        "a, c = tf.Variable(tf.eye(2)), tf.constant([[1.0, 2.0], [3.0, 5.0]])",
        ("%%grad dy/da\ne, v = tf.linalg.eigh(a)\ny = tf.reduce_sum(c * (v @ tf.transpose(v)))"),
    ),
    "eigenvalues that differ": (
        "a = tf.Variable(tf.linalg.diag([1.0, 2.0, 4.0]))",
        ("%%grad dy/da\ne, v = tf.linalg.eigh(a)\ny = tf.reduce_sum(v * v)"),
    ),
    "the length of singular vectors": (
        "a = tf.Variable(tf.eye(3)[:, :2])",
        ("%%grad dy/da\ns, u, v = tf.linalg.svd(a)\ny = tf.reduce_sum(u * u) + tf.reduce_sum(v * v)"),
    ),
    "a symmetric where": (
        "x = tf.Variable([2.0, 2.0])",
        ("%%grad dy/dx\nh = tf.where(x > 0.0, x, -x)\ny = tf.reduce_sum(h - x)"),
    ),
    "cancel": ("x = tf.Variable([-1.0, -2.0])", ("%%grad dy/dx\ny = tf.reduce_sum(x - x)")),
    "loop square at 0": (
        (
            "x = tf.Variable(0.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = 0.0\n"
            "    for i in tf.range(30):\n"
            "        s += v**2\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "x-x": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.relu(x) - tf.nn.relu(x))"),
    ),
    "square": (
        "x = tf.Variable([0.0, 0.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.relu(x + 1.0)**2 - 2.0 * x)"),
    ),
    "x**2 at 0": ("x = tf.Variable([0.0, 0.0])", ("%%grad dy/dx\nz = x**2\ny = tf.reduce_sum(z)")),
    "1-cos": ("x = tf.Variable([0.0, 0.0])", ("%%grad dy/dx\nz = 1.0 - tf.cos(x)\ny = tf.reduce_sum(z)")),
    "cancel, too": ("x = tf.Variable([1.0, 2.0])", ("%%grad dy/dx\nz = x - x\ny = tf.reduce_sum(z)")),
    "x**3": ("x = tf.Variable([0.0, 0.0])", ("%%grad dy/dx\nz = x**3\ny = tf.reduce_sum(z)")),
    "underflow": ("x = tf.Variable([-200.0, -300.0])", ("%%grad dy/dx\nz = tf.exp(x)\ny = tf.reduce_sum(z)")),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_where_nothing_is_wrong(shell: Notebook, name: str) -> None:
    nothing_is_said(shell, *HEALTHY[name])
