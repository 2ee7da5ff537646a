"""The dtype that floats are lifted to: as NumPy computes without the magic, not against TensorFlow's own."""

from __future__ import annotations

import types
from typing import Any

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

A64, A32, A16 = (np.ones(3, dtype) for dtype in ("float64", "float32", "float16"))
BIG, SMALL = np.arange(3) + 2**30, np.arange(3)
K64, K32 = np.float64(0.5), np.float32(0.5)


class Drawing:
    def plot(self, *data: Any) -> None:
        """Draw nothing."""


def base(**more: Any) -> dict[str, Any]:
    return {"tf": tf, "np": np, "keras": keras, "plt": Drawing(), "x": 2.0, **more}


def frozen() -> Any:
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    net.trainable = False
    return net


WIDE: list[tuple[str, dict[str, Any]]] = [
    ("y = x*a", {"a": A64}),
    ("y = a*x", {"a": A64}),
    ("y = tf.exp(-(a - x)**2)", {"a": A64}),
    ("y = x*k", {"k": K64}),
    ("y = x*k", {"k": np.array(0.5)}),
    ("y = x*a*k", {"a": A32, "k": K64}),
    ("y = x*a*b", {"a": A32, "b": A64}),
    ("y = x*a[0]", {"a": A64}),
    ("y = x*a[1:]", {"a": A64}),
    ("y = x*d['t']", {"d": {"t": A64}}),
    ("y = x*d[0]", {"d": [A64, A32]}),
    ("y = x*d.t", {"d": types.SimpleNamespace(t=A64)}),
    ("y = x*d.t.values", {"d": pandas.DataFrame({"t": A64, "n": SMALL})}),
    ("y = x*d.values", {"d": pandas.Series(A64)}),
    ("y = x*big", {"big": BIG}),
    ("y = x*big", {"big": -BIG}),
    ("y = sum(x*v for v in a)", {"a": A64}),
    ("for v in a:\n    y = x*v", {"a": A64}),
    ("y = x*a\nplt.plot(a)", {"a": A64}),
    ("y = x*a\nassert len(a) == 3", {"a": A64}),
    ("h = x*a\ny = h**2\nh", {"a": A64}),
    ("y = x*tf.constant(a)", {"a": A64}),
    ("y = x*tf.constant(a, tf.float64)", {"a": A64}),
    ("y = x*a*tf.zeros(3, dtype=tf.float64)", {"a": A64}),
    ("y = x*tf.ones_like(a)", {"a": A64}),
    ("y = x*a*np.zeros(3)", {"a": A64}),
    ("y = x*a*np.linspace(0.0, 1.0, 3)", {"a": A64}),
    # Arrays that the cell makes.
    ("t = np.linspace(0, 1, 3)\ny = tf.reduce_sum(x*t)", {}),
    ("t = np.linspace(0, 1, 3)\ny = tf.reduce_sum(tf.sin(x)*tf.cos(t))", {}),
    ("t = np.ones((3, 1))[:, 0]*2\ny = x*tf.constant(t)", {}),
    ("y = x*tf.constant(np.array([1.0, 2.0]))", {}),
    ("y = x*np.ones(3)", {}),
    ("import numpy as np\nt = np.arange(0.0, 1.0, 0.5)\ny = tf.exp(x)*tf.exp(t)", {}),
    ("noise = rng.normal(size=3)\ny = tf.exp(x) + tf.exp(noise)", {"rng": np.random.default_rng(0)}),
    ("t = np.random.rand(3)\nu = t - 0.5\ny = tf.exp(x*u)", {"a": A32}),
]


@pytest.mark.parametrize(("cell", "names"), WIDE, ids=[cell for cell, _ in WIDE])
def test_float64_that_is_computed_with_decides(shell: Notebook, cell: str, names: dict[str, Any]) -> None:
    shell.ns.update(base(**names))
    shell.ok(f"%%grad y --wrt x\n{cell}")
    assert shell.ns["grads"].rows[0].dtype == "float64"
    assert type(shell.ns["x"]) is float


NARROW: list[tuple[str, dict[str, Any]]] = [
    ("y = x**2", {}),
    ("y = x*a", {"a": A32}),
    ("y = x*k", {"k": K32}),
    ("y = x*a*k", {"a": A32, "k": K32}),
    ("y = x*a*0.5", {"a": A32}),
    ("y = x*small", {"small": SMALL}),
    ("y = x*tf.one_hot(small, 4)[0]", {"small": SMALL}),
    ("y = x*n", {"n": np.int64(3)}),
    ("y = x*d.t.values", {"d": pandas.DataFrame({"t": A32, "n": SMALL})}),
    ("y = x**2*len(d)", {"d": pandas.DataFrame({"t": A64})}),
    ("y = tf.reduce_sum(net(x*a[:, None])*x)", {"a": A64, "net": frozen()}),
    ("y = tf.reduce_sum(act(x*a)*x)", {"a": A64, "act": keras.layers.ReLU()}),
    # Read, and not computed with.
    ("y = x**2\nplt.plot(a, a)", {"a": A64}),
    ("y = x**2\nplt.plot(a, x)", {"a": A64}),
    ("plt.plot(a)\ny = x**2\nprint(a.sum(), k)", {"a": A64, "k": K64}),
    ("y = x**2*len(a)", {"a": A64}),
    ("y = x**2*a.shape[0]/a.size", {"a": A64}),
    ("y = x*float(a[0])", {"a": A64}),
    ("assert a.all()\ny = x**2", {"a": A64}),
    ("for i in range(len(a)):\n    y = x*i", {"a": A64}),
    # Beside tensors of float32, which TensorFlow does not mix with float64.
    ("y = x*v*a", {"a": A64, "v": tf.constant(1.0)}),
    ("y = x*v*a", {"a": A64, "v": tf.Variable(1.0)}),
    ("y = x*v[0]*a", {"a": A64, "v": [tf.Variable(1.0)]}),
    ("y = x*tf.cast(a, tf.float32)", {"a": A64}),
    ("y = x*tf.constant(a, 'float32')", {"a": A64}),
    ("y = x*tf.constant(a.astype(np.float32))", {"a": A64}),
    ("y = x*tf.zeros(3) + a", {"a": A64}),
    ("y = x*tf.constant(1.0)\nz = a*2", {"a": A64}),
    ("y = x*tf.linspace(0.0, 1.0, 3)\nz = a*2", {"a": A64}),
    ("y = tf.reduce_sum(x*keras.random.normal((3,)))\nz = a*2", {"a": A64}),
    # Arrays that the cell makes: not of float64, not computed with, or not NumPy's.
    ("t = np.linspace(0, 1, 3)\nplt.plot(t, t)\ny = x**2", {}),
    ("plt.plot(np.linspace(0, 1, 3))\ny = x**2", {}),
    ("t = 2*np.linspace(0, 1, 3).reshape(3, 1)[:, 0] - 1\nplt.plot(t)\ny = x**2", {}),
    ("t = np.linspace(0, 1, 3).astype('float32')\ny = x*tf.constant(t)", {}),
    ("t = np.ones(3, dtype=np.float32)\ny = x*tf.constant(t)", {}),
    ("t = np.zeros(3, np.float32)\ny = x*tf.constant(t)", {}),
    ("t = np.arange(3)\ny = x*t", {}),
    ("t = np.array([1, 2, 3])\ny = x*t", {}),
    ("n = len(np.ones(3))\ny = x*n", {}),
    ("t = np.linspace(0, 1, 3)\ny = x*tf.cast(t, tf.float32)", {}),
    ("t = np.linspace(0, 1, 3)\ny = x*tf.ones(3)*t", {}),
    ("t = np.linspace(0, 1, 3)\ny = x*v*t", {"v": tf.Variable(1.0)}),
    ("t = np.linspace(0, 1, 3)\ny = tf.reduce_sum(net(x*t[:, None])*x)", {"net": frozen()}),
    ("t = own.linspace(0, 1, 3)\ny = x*t[0]", {"own": types.SimpleNamespace(linspace=lambda *n: [0.5])}),
    ("t = tf.linspace(0.0, 1.0, 3)\ny = x*t", {}),
]


@pytest.mark.parametrize(("cell", "names"), NARROW, ids=[cell for cell, _ in NARROW])
def test_all_else_leaves_float32(shell: Notebook, cell: str, names: dict[str, Any]) -> None:
    shell.ns.update(base(**names))
    shell.ok(f"%%grad y --wrt x\n{cell}")
    assert shell.ns["grads"].rows[0].dtype == "float32"


@pytest.mark.parametrize(
    ("definition", "dtype"),
    [
        ("def f(v):\n    return v*a", "float64"),
        ("f = lambda v: v*a", "float64"),
        ("def inner(v):\n    return v*a\ndef f(v):\n    return inner(v)", "float64"),
        ("def make(c):\n    return lambda v: v*c\nf = make(a)", "float64"),
        ("def f(v):\n    return v*np.zeros(3)*a", "float64"),
        ("def f(v):\n    return v*tf.zeros(3) + a", "float32"),
        ("def f(v):\n    return tf.constant(1.0)*v + a", "float32"),
        ("def f(v):\n    return v*tf.cast(a, tf.float32)", "float32"),
        ("def f(v):\n    return v*tf.cast(a, 'float32')", "float32"),
        ("def f(v):\n    return tf.constant([1.0, 2.0, 3.0])*v + a", "float32"),
        ("def f(v):\n    return tf.constant(a)*v", "float64"),
        ("def f(v):\n    return v*tf.zeros(3, tf.float64)*a", "float64"),
        ("def f(v):\n    return tf.random.normal((3,))*v + a", "float32"),
        ("def f(v):\n    g = lambda u: u*tf.ones(3)\n    return g(v) + a", "float32"),
        ("def f(v):\n    return v*t64", "float64"),
        ("def f(v):\n    return v*t32*a", "float32"),
        ("def f(v):\n    return v*v", "float32"),
    ],
)
def test_what_a_function_of_the_notebook_reads_counts(shell: Notebook, definition: str, dtype: str) -> None:
    shell.ns.update(base(a=A64, t64=tf.constant(1.0, tf.float64), t32=tf.constant(1.0)))
    shell.ok(definition)
    shell.ok("%%grad y --wrt x\ny = tf.reduce_sum(f(x))")
    assert shell.ns["grads"].rows[0].dtype == dtype


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.float64(2), "float64"), (np.float32(2), "float32"), (2.0, "float32"), (np.array(2.0), "float64")],
    ids=["float64", "float32", "float", "array"],
)
def test_a_source_of_numpy_keeps_its_type(door: Door, value: Any, dtype: str) -> None:
    report = door.grad(Case("y = x*x", "dy/dx", {"x": value}))
    assert report.rows[0].dtype == dtype
    assert float(report["dy/dx"]) == 4.0


def test_a_scalar_of_numpy_beside_tensors_of_float32(shell: Notebook) -> None:
    shell.ns.update(base(x=np.float64(2.0)))
    shell.ok("%%grad dy/dx\ny = x*tf.constant(3.0)")
    assert (shell.ns["grads"].rows[0].dtype, float(shell.ns["dy_dx"])) == ("float32", 3.0)


def test_a_derivative_in_double_precision(door: Door) -> None:
    t = 1.7e9 + np.arange(90) * 60.0
    names = {"tf": tf, "t": t, "mu": 1.7000055e9, "s": 700.0}
    cell = "u = (t - mu)/s\ny = tf.reduce_sum(tf.exp(-0.5*u**2))"
    report = door.grad(Case(cell, "dy/dmu, dy/ds", names))
    u = (t - names["mu"]) / names["s"]
    bell = np.exp(-0.5 * u**2)
    np.testing.assert_allclose(float(report["dy/dmu"]), np.sum(bell * u) / names["s"], rtol=1e-10)
    np.testing.assert_allclose(float(report["dy/ds"]), np.sum(bell * u**2) / names["s"], rtol=1e-10)


FIT = "r = A*tf.exp(-0.5*((t - mu)/s)**2) + 0.1 - y"


@pytest.mark.parametrize("whole", [False, True], ids=["floats", "whole numbers"])
def test_a_fit_of_floats_to_data_in_double_precision(door: Door, whole: bool) -> None:
    t = 1_700_000_000 + np.arange(200) * 60
    t = t if whole else t * 1.0
    y = 3.0 * np.exp(-0.5 * ((t - 1.700006e9) / 900.0) ** 2) + 0.1
    names = {"tf": tf, "t": t, "y": y, "A": 2.0, "mu": 1.7000055e9, "s": 700.0}
    result = door.minimize(Case(FIT, "r --over A mu s --optimizer lm", names))
    found = {name: float(change.end) for name, change in result.variables.items()}
    np.testing.assert_allclose(found["A"], 3.0, rtol=1e-5)
    np.testing.assert_allclose(found["mu"], 1.700006e9, rtol=1e-12)
    np.testing.assert_allclose(found["s"], 900.0, rtol=1e-5)


def test_a_compiled_derivative_in_double_precision(shell: Notebook) -> None:
    shell.ns.update(base(a=A64))
    shell.ok("%%grad dy/dx --def f\ny = tf.reduce_sum(a*x**2)")
    assert shell.ns["f"](3.0).dy_dx.dtype == tf.float64
    assert float(shell.ns["f"](3.0).dy_dx) == 18.0
