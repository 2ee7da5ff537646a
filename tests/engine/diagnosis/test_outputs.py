"""Outputs that are infinite or NaN themselves; lines within mapped functions; pieces that are linear."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import nothing_is_said, the_reason_is_found

FOUND: dict[str, tuple[str, ...]] = {
    "vectorized log": (
        "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])",
        (
            "%%grad dy/dx\n"
            "def of(row):\n"
            "    logs = tf.math.log(row)\n"
            "    return tf.reduce_sum(row * logs)\n"
            "y = tf.reduce_sum(tf.vectorized_map(of, x))"
        ),
        "Log.*line 3",
        "xlogy",
        "",
    ),
    "vectorized round": (
        "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])",
        (
            "%%grad dy/dx\n"
            "def of(row):\n"
            "    near = tf.round(row)\n"
            "    return tf.reduce_sum(near)\n"
            "y = tf.reduce_sum(tf.vectorized_map(of, x))"
        ),
        "Round.*line 3",
        "",
        "",
    ),
    "silence": (
        "wave = tf.Variable(tf.zeros(64))",
        (
            "%%grad dloss/dwave\n"
            "s = tf.signal.stft(wave, frame_length=16, frame_step=8)\n"
            "logs = tf.math.log(tf.abs(s))\n"
            "loss = tf.reduce_mean(logs)"
        ),
        "loss itself is −inf: Log is −inf for 0 at \\[0, 0\\], line 3",
        "",
        "",
    ),
    "masked row": (
        "s = tf.Variable([[1.0, 2.0], [0.5, 0.3]]); keep = tf.constant([[True, True], [False, False]])",
        (
            "%%grad dy/ds\n"
            "scaled = s * 2.0\n"
            "masked = tf.where(keep, scaled, -np.inf)\n"
            "p = tf.nn.softmax(masked)\n"
            "y = tf.reduce_sum(p**2)"
        ),
        "",
        "y itself is nan: Softmax is nan for −inf at \\[1, 0\\], line 4",
        "",
    ),
    "leaky": (
        "x = tf.Variable(0.7)",
        ("%%grad d2y/dx2\ny = tf.nn.leaky_relu(x) * 2.0"),
        "0 wherever it exists: LeakyRelu is linear in pieces, line 2",
        "",
        "",
    ),
    "y log inf": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\ny = tf.math.log(x)"),
        "Log is −inf",
        "y itself is −inf",
        "",
    ),
    "y inf finite derivative": (
        "x = tf.Variable([1.0, 2.0]); c = tf.constant(np.inf)",
        ("%%grad dy/dx\ny = tf.reduce_sum(x**2) + c"),
        "",
        "y itself is inf: a value that is not finite is read, line 2",
        "",
    ),
    "y nan jvp": (
        "x = tf.constant([1.0, 0.0]); v = tf.ones(2)",
        ("%%grad y --jvp x=v\ny = tf.math.log(x)"),
        "Log",
        "y itself is −inf",
        "",
    ),
    "relu d2": (
        "x = tf.Variable(0.7)",
        ("%%grad d2y/dx2\ny = tf.nn.relu(x) * 2.0"),
        "Relu is linear in pieces",
        "",
        "",
    ),
    "relu6 d2": (
        "x = tf.Variable(0.7)",
        ("%%grad d2y/dx2\ny = tf.nn.relu6(x) * 2.0"),
        "Relu6 is linear in pieces",
        "",
        "",
    ),
    "abs d2": ("x = tf.Variable(0.7)", ("%%grad d2y/dx2\ny = tf.abs(x) * 2.0"), "Abs", "", ""),
    "maxpool d2": (
        "x = tf.Variable(np.random.default_rng(0).normal(size=(1,4,4,1)).astype('float32'))",
        ("%%grad d2y/dx2\ny = tf.reduce_sum(tf.nn.max_pool2d(x, 2, 2, 'VALID'))"),
        "MaxPool|depend",
        "",
        "",
    ),
    "silence ones": (
        "wave = tf.Variable(tf.zeros(32))",
        (
            "%%grad dy/dwave\n"
            "p = tf.abs(tf.signal.rfft(wave))**2\n"
            "db = 10.0 * tf.math.log(p)\n"
            "y = tf.reduce_sum(db)"
        ),
        "",
        "y itself is −inf|y itself is nan",
        "",
    ),
    "y nan from data": (
        "x = tf.Variable([1.0, 2.0]); d = tf.constant([np.nan, 0.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(x**2) + tf.reduce_sum(d)"),
        "",
        "y itself is nan: a value that is not finite is read, line 2",
        "",
    ),
    "vector y": (
        "x = tf.Variable([0.0, 2.0])",
        ("%%grad dy/dx\ny = tf.math.log(x)"),
        "Log is −inf",
        "y itself is −inf at \\[0\\]",
        "",
    ),
    "last expression": (
        "x = tf.Variable([0.0, 2.0])",
        ("%%grad\ntf.reduce_sum(tf.math.log(x))"),
        "Log is −inf",
        "the output itself is −inf",
        "",
    ),
    "dict loss": (
        "x = tf.Variable([0.0, 2.0])",
        ("%%grad y --wrt x\ny = [tf.math.log(x[0]), x[1]]"),
        "",
        "y itself is −inf",
        "",
    ),
    "vectorized sqrt": (
        "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])",
        (
            "%%grad dy/dx\n"
            "def of(row):\n"
            "    r = tf.sqrt(row)\n"
            "    return tf.reduce_sum(r)\n"
            "y = tf.reduce_sum(tf.vectorized_map(of, x))"
        ),
        "Sqrt.*line 3",
        "",
        "",
    ),
    "vectorized argmax": (
        "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])",
        (
            "%%grad dy/dx\n"
            "def of(row):\n"
            "    k = tf.argmax(row)\n"
            "    return tf.cast(k, tf.float32)\n"
            "y = tf.reduce_sum(tf.vectorized_map(of, x))"
        ),
        "ArgMax.*line 3",
        "",
        "",
    ),
    "vectorized other cell": (
        (
            "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])\n"
            "def of(row):\n"
            "    q = 1.0 / row\n"
            "    return tf.reduce_sum(q)"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.vectorized_map(of, x))"),
        "RealDiv.*line 3",
        "",
        "",
    ),
    "vectorized in function": (
        (
            "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])\n"
            "def of(row):\n"
            "    q = tf.sqrt(row)\n"
            "    return tf.reduce_sum(q)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    return tf.reduce_sum(tf.vectorized_map(of, v))"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 3",
        "",
        "",
    ),
    "mapped sqrt": (
        "x = tf.Variable([[1.0, 2.0], [0.0, 3.0]])",
        (
            "%%grad dy/dx\n"
            "def of(row):\n"
            "    total = 0.0\n"
            "    if row[0] >= 0.0:\n"
            "        total += tf.reduce_sum(tf.sqrt(row))\n"
            "    return total\n"
            "y = tf.reduce_sum(tf.map_fn(of, x))"
        ),
        "Sqrt.*line 5",
        "",
        "line 7",
    ),
    "mapped in another cell": (
        (
            "x = tf.Variable([1.6, 2.0])\n"
            "def inner(v):\n"
            "    return tf.round(v)\n"
            "def of(v):\n"
            "    return inner(v) * 2.0"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.map_fn(of, x))"),
        "Round.*line 3: return tf.round",
        "",
        "",
    ),
    "prelu d2": (
        "x = tf.Variable(0.7)",
        ("%%grad d2y/dx2\ny = keras.activations.leaky_relu(x) * 3.0"),
        "LeakyRelu|Relu|linear|depend",
        "",
        "",
    ),
    "net leaky d2": (
        (
            "tf.keras.utils.set_random_seed(1)\n"
            "net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4), "
            "keras.layers.LeakyReLU(), keras.layers.Dense(1)]); x = tf.constant([[0.3], [0.6]])"
        ),
        ("%%grad d2u/dx2\nu = net(x)"),
        "LeakyRelu is linear in pieces|linear",
        "",
        "",
    ),
    "hvp relu": (
        "x = tf.Variable([0.7, 0.2]); v = tf.ones(2)",
        ("%%grad y --hvp x=v\ny = tf.reduce_sum(tf.nn.relu(x)**2)"),
        "^$",
        "",
        "",
    ),
    "f32 jvp": (
        "x = tf.constant([1.0, 0.0]); v = tf.ones(2)",
        ("%%grad y --jvp x=v\ny = tf.math.log(x)"),
        "Log",
        "y itself is −inf",
        "",
    ),
    "jacobian out": (
        "x = tf.Variable([1.0, 0.0])",
        ("%%grad y --jacobian --wrt x\ny = tf.math.log(x)"),
        "",
        "y itself is −inf",
        "",
    ),
    "two outputs": (
        "x = tf.Variable([1.0, 0.0])",
        ("%%grad dy/dx dz/dx\ny = tf.math.log(x)\nz = tf.reduce_sum(x)"),
        "Log",
        "y itself is −inf",
        "z itself",
    ),
    "int output": ("x = tf.Variable([1.0, 0.0])", ("%%grad dy/dx\ny = tf.argmax(x)"), "", "", "itself is"),
    "float output": ("x = tf.Variable([1.0, 0.0])", ("%%grad dy/dx\ny = float(x[0])"), "", "", "itself is"),
    "complex out": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\ny = tf.complex(x, x) / tf.complex(x, x)"),
        "",
        "y itself is nan",
        "",
    ),
    "ragged": (
        "x = tf.Variable([1.0, 0.0])",
        ("%%grad dy/dx\ny = tf.RaggedTensor.from_row_lengths(tf.math.log(x), [1, 1])"),
        "",
        "y itself is −inf",
        "",
    ),
    "bf16": (
        "x = tf.Variable([1.0, 0.0], dtype=tf.bfloat16)",
        ("%%grad dy/dx\ny = tf.math.log(x)"),
        "Log",
        "y itself is −inf",
        "",
    ),
}
"""The cell before, the cell, what a reason is like, what else the report shows, and what not."""


@pytest.mark.parametrize("name", FOUND)
def test_the_reason_is_found(shell: Notebook, name: str) -> None:
    the_reason_is_found(shell, *FOUND[name])


HEALTHY: dict[str, tuple[str, ...]] = {
    "relu**2 d2": ("x = tf.Variable(0.7)", ("%%grad d2y/dx2\ny = tf.nn.relu(x)**2")),
    "elu d2": ("x = tf.Variable(0.7)", ("%%grad d2y/dx2\ny = tf.nn.elu(x)")),
    "softplus d2": ("x = tf.Variable(0.7)", ("%%grad d2y/dx2\ny = tf.nn.softplus(x)")),
    "leaky d1": ("x = tf.Variable(0.7)", ("%%grad dy/dx\ny = tf.nn.leaky_relu(x)")),
    "vectorized ok": (
        "x = tf.Variable([[1.0, 2.0],[1.0, 3.0]])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.vectorized_map(lambda r: tf.math.log(r) * r, x))"),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_where_nothing_is_wrong(shell: Notebook, name: str) -> None:
    nothing_is_said(shell, *HEALTHY[name])
