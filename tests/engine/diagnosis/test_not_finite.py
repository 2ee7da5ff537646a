"""Values and derivatives that are infinite or NaN: which operation is to blame, and which is not."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import nothing_is_said, the_reason_is_found

FOUND: dict[str, tuple[str, ...]] = {
    "attention by hand": (
        "q = tf.Variable([[1.0, 0.5], [0.2, -0.3]]); keep = tf.constant([[True, False], [False, False]])",
        (
            "%%grad dy/dq\n"
            "scores = q @ tf.transpose(q)\n"
            "masked = tf.where(keep, scores, -np.inf)\n"
            "p = tf.nn.softmax(masked, axis=-1)\n"
            "y = tf.reduce_sum(p @ q)"
        ),
        "Softmax is nan for −inf at \\[1, 0\\], line 4",
        "",
        "",
    ),
    "additive where": (
        "s = tf.Variable([[1.0, 2.0], [0.5, 0.3]]); keep = tf.constant([[1.0, 1.0], [0.0, 0.0]])",
        (
            "%%grad dy/ds\n"
            "scaled = s * 2.0\n"
            "masked = scaled + tf.where(keep > 0, 0.0, -np.inf)\n"
            "p = tf.nn.softmax(masked)\n"
            "y = tf.reduce_sum(p**2)"
        ),
        "Softmax is nan for −inf at \\[1, 0\\], line 4",
        "",
        "",
    ),
    "0*-inf": (
        "x = tf.Variable([0.0, 2.0]); m = tf.constant([-np.inf, 1.0])",
        ("%%grad dy/dx\nz = x * m\ny = tf.reduce_sum(z**2)"),
        "Mul is nan.*line 2",
        "1e9",
        "",
    ),
    "inf-inf": (
        "x = tf.Variable([1.0, 2.0]); m = tf.constant([np.inf, 1.0])",
        ("%%grad dy/dx\na = x + m\nb = a - m\ny = tf.reduce_sum(b * x)"),
        "Sub is nan.*line 3",
        "",
        "",
    ),
    "log_softmax row": (
        "x = tf.Variable([[1.0, 2.0]]); m = tf.constant([[-np.inf, -np.inf]])",
        ("%%grad dy/dx\nz = x + m\np = tf.nn.log_softmax(z)\ny = tf.reduce_sum(p)"),
        "LogSoftmax.*line 3",
        "",
        "",
    ),
    "masked log prob 0*-inf": (
        (
            "x = tf.Variable([1.0, 2.0, 0.5]); m = tf.constant([0.0, 0.0, -np.inf]); t = "
            "tf.constant([0.5, 0.5, 0.0])"
        ),
        ("%%grad dy/dx\np = tf.nn.log_softmax(x + m)\ny = -tf.reduce_sum(t * p)"),
        "",
        "y itself is nan: Mul is nan for 0 and −inf at \\[2\\], line 3",
        "",
    ),
    "tf.fill": (
        "x = tf.Variable([[1.0, 2.0], [3.0, 4.0]]); keep = tf.constant([[True, False],[False, False]])",
        (
            "%%grad dy/dx\n"
            "neg = tf.fill([2, 2], -np.inf)\n"
            "z = tf.where(keep, x, neg)\n"
            "p = tf.nn.softmax(z)\n"
            "y = tf.reduce_sum(p * x)"
        ),
        "Softmax.*line 4",
        "",
        "",
    ),
    "in compiled": (
        (
            "x = tf.Variable([[1.0, 2.0], [3.0, 4.0]]); keep = tf.constant([[True, False],[False, False]])\n"
            "@tf.function\n"
            "def att(v):\n"
            "    z = tf.where(keep, v, -np.inf)\n"
            "    return tf.reduce_sum(tf.nn.softmax(z) * v)"
        ),
        ("%%grad dy/dx\ny = att(x)"),
        "Softmax.*line 5",
        "",
        "",
    ),
    "backward nan of inf": (
        "x = tf.Variable([1.0, 2.0]); m = tf.constant([0.0, -np.inf]); ok = tf.constant([True, False])",
        ("%%grad dy/dx\nz = x + m\ny = tf.reduce_sum(tf.where(ok, z**2, 0.0))"),
        "gradient of Pow.*line 3",
        "",
        "",
    ),
    "max minus": (
        "x = tf.Variable([[1.0, 2.0]]); m = tf.constant([[-np.inf, -np.inf]])",
        (
            "%%grad dy/dx\n"
            "z = x + m\n"
            "s = z - tf.reduce_max(z, axis=-1, keepdims=True)\n"
            "p = tf.exp(s) / tf.reduce_sum(tf.exp(s), axis=-1, keepdims=True)\n"
            "y = tf.reduce_sum(p * x)"
        ),
        "Sub is nan.*line 3",
        "",
        "",
    ),
    "keras softmax mask": (
        "x = tf.Variable([[1.0, 2.0]]); m = tf.constant([[-np.inf, -np.inf]])",
        ("%%grad dy/dx\np = keras.activations.softmax(x + m)\ny = tf.reduce_sum(p * x)"),
        "Softmax.*line 2",
        "",
        "",
    ),
    "inf source": (
        "x = tf.Variable([np.inf, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.exp(x))"),
        "x itself is not finite",
        "",
        "",
    ),
    "nan data": (
        "x = tf.Variable([1.0, 2.0]); d = tf.constant([np.nan, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(x * d)"),
        "a value that is not finite is read, line 2",
        "",
        "",
    ),
    "inf data no nan": (
        "x = tf.Variable([1.0, 2.0]); d = tf.constant([np.inf, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(x * d)"),
        "a value that is not finite is read, line 2",
        "",
        "",
    ),
    "log mask made": (
        "x = tf.Variable([[1.0, 2.0],[1.0, 2.0]]); keep = tf.constant([[1.0, 1.0],[0.0, 0.0]])",
        ("%%grad dy/dx\nbias = tf.math.log(keep)\np = tf.nn.softmax(x + bias)\ny = tf.reduce_sum(p * x)"),
        "Log is −inf.*line 2|Softmax is nan.*line 3",
        "",
        "",
    ),
    "keras attention mask": (
        (
            "tf.keras.utils.set_random_seed(0); att = keras.layers.MultiHeadAttention(1, 2); x = "
            "tf.Variable(tf.ones([1,3,2])); m = "
            "tf.constant([[[True,False,False],[False,False,False],[True,True,True]]])"
        ),
        ("%%grad dy/dx\ny = tf.reduce_sum(att(x, x, attention_mask=m)**2)"),
        "^$",
        "",
        "",
    ),
    "xla": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def rooted(v):\n"
            "    r = tf.sqrt(v)\n"
            "    return tf.reduce_sum(tf.where(v > 0.0, r, 0.0))"
        ),
        ("%%grad dy/dx\ny = rooted(x)"),
        "the gradient of Sqrt is nan for 0 at \\[0\\], cell \\d+, line 4.*tf.where",
        "",
        "",
    ),
    "xla log where": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    safe = tf.math.log(v)\n"
            "    return tf.reduce_sum(tf.where(v > 0.0, safe, 0.0))"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Log.*line 4",
        "",
        "",
    ),
    "xla div": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    q = 1.0 / v\n"
            "    return tf.reduce_sum(tf.where(v > 0.0, q, 0.0))"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "RealDiv.*line 4",
        "",
        "",
    ),
    "xla norm": (
        (
            "x = tf.Variable([0.0, 0.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    n = tf.sqrt(tf.reduce_sum(v**2))\n"
            "    return n * 2.0"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 4",
        "",
        "",
    ),
    "xla sqrt times 0": (
        (
            "x = tf.Variable([0.0, 0.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    n = tf.sqrt(v) * 0.0\n"
            "    return tf.reduce_sum(n)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 4",
        "",
        "",
    ),
    "xla nested": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def g(v):\n"
            "    r = tf.sqrt(v)\n"
            "    return tf.reduce_sum(tf.where(v > 0.0, r, 0.0))\n"
            "@tf.function\n"
            "def f(v):\n"
            "    return g(v) * 2.0"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 4",
        "",
        "",
    ),
    "xla not where": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    s = tf.sqrt(v)\n"
            "    return tf.reduce_sum(s)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt is inf for 0 at \\[0\\].*line 4",
        "",
        "",
    ),
    "xla 0 times inf": (
        (
            "x = tf.Variable([0.0, 4.0]); m = tf.constant([0.0, 1.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    s = tf.sqrt(v)\n"
            "    return tf.reduce_sum(s * m)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt is nan for 0 at \\[0\\].*line 4",
        "",
        "",
    ),
    "xla rsqrt where": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    s = tf.math.rsqrt(v)\n"
            "    return tf.reduce_sum(tf.where(v > 0.0, s, 0.0))"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Rsqrt.*line 4",
        "",
        "",
    ),
}
"""The cell before, the cell, what a reason is like, what else the report shows, and what not."""


@pytest.mark.parametrize("name", FOUND)
def test_the_reason_is_found(shell: Notebook, name: str) -> None:
    the_reason_is_found(shell, *FOUND[name])


HEALTHY: dict[str, tuple[str, ...]] = {
    "masked ok": (
        "s = tf.Variable([[1.0, 2.0], [0.5, 0.3]]); keep = tf.constant([[True, False], [False, True]])",
        ("%%grad dy/ds\nm = tf.where(keep, s, -np.inf)\np = tf.nn.softmax(m)\ny = tf.reduce_sum(p * s)"),
    ),
    "masked add ok": (
        "s = tf.Variable([[1.0, 2.0], [0.5, 0.3]]); keep = tf.constant([[0.0, -np.inf], [-np.inf, 0.0]])",
        ("%%grad dy/ds\np = tf.nn.softmax(s + keep)\ny = tf.reduce_sum(p * s)"),
    ),
    "logsumexp partly": (
        "s = tf.Variable([1.0, 2.0]); b = tf.constant([0.0, -np.inf])",
        ("%%grad dy/ds\ny = tf.reduce_logsumexp(s + b)"),
    ),
    "max over -inf init": (
        "s = tf.Variable([1.0, 2.0])",
        (
            "%%grad dy/ds\n"
            "best = tf.constant(-np.inf)\n"
            "for i in range(2):\n"
            "    best = tf.maximum(best, s[i])\n"
            "y = best * 1.0"
        ),
    ),
    "min inf": (
        "s = tf.Variable([1.0, 2.0])",
        ("%%grad dy/ds\ny = tf.reduce_min(tf.where(s > 1.5, s, np.inf))"),
    ),
    "big neg": (
        "s = tf.Variable([[1.0, 2.0]]); m = tf.constant([[-1e9, -1e9]])",
        ("%%grad dy/ds\np = tf.nn.softmax(s + m)\ny = tf.reduce_sum(p * s)"),
    ),
    "xla fine": (
        (
            "x = tf.Variable([1.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    return tf.reduce_sum(tf.where(v > 0.0, tf.sqrt(v), 0.0))"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "nonxla sqrt where": (
        "x = tf.Variable([0.0, 4.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.where(x > 0.0, tf.sqrt(x), 0.0))"),
    ),
    "xla relu": (
        (
            "x = tf.Variable([0.0, 4.0])\n"
            "@tf.function(jit_compile=True)\n"
            "def f(v):\n"
            "    return tf.reduce_sum(tf.nn.relu(v)**2)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "tf.sqrt(x)": ("x = tf.Variable([1.0, 2.0])", ("%%grad dy/dx\nz = tf.sqrt(x)\ny = tf.reduce_sum(z)")),
    "tf.math.log(x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.log(x)\ny = tf.reduce_sum(z)"),
    ),
    "x**0.5": ("x = tf.Variable([1.0, 2.0])", ("%%grad dy/dx\nz = x**0.5\ny = tf.reduce_sum(z)")),
    "1.0 / x": ("x = tf.Variable([1.0, 2.0])", ("%%grad dy/dx\nz = 1.0 / x\ny = tf.reduce_sum(z)")),
    "tf.exp(x) / tf.reduce_sum(tf.exp(x))": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.exp(x) / tf.reduce_sum(tf.exp(x))\ny = tf.reduce_sum(z)"),
    ),
    "tf.math.xlogy(x, x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.xlogy(x, x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.math.lgamma(x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.lgamma(x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.math.erfinv(x / 10.0)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.erfinv(x / 10.0)\ny = tf.reduce_sum(z)"),
    ),
    "tf.norm(x)": ("x = tf.Variable([1.0, 2.0])", ("%%grad dy/dx\nz = tf.norm(x)\ny = tf.reduce_sum(z)")),
    "tf.math.reduce_euclidean_norm(x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.reduce_euclidean_norm(x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.math.igamma(x, x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.igamma(x, x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.acos(x / 10.0)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.acos(x / 10.0)\ny = tf.reduce_sum(z)"),
    ),
    "tf.math.angle(tf.complex(x, x))": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.math.angle(tf.complex(x, x))\ny = tf.reduce_sum(z)"),
    ),
    "tf.recompute_grad(lambda v: tf.sqrt(v))(x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.recompute_grad(lambda v: tf.sqrt(v))(x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.vectorized_map(lambda r: tf.sqrt(r), x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.vectorized_map(lambda r: tf.sqrt(r), x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.map_fn(lambda r: tf.math.log(r), x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.map_fn(lambda r: tf.math.log(r), x)\ny = tf.reduce_sum(z)"),
    ),
    "tf.where(x > 1.5, tf.sqrt(tf.where(x > 1.5, x, 1.0)), 0.0)": (
        "x = tf.Variable([1.0, 2.0])",
        (
            "%%grad dy/dx\n"
            "z = tf.where(x > 1.5, tf.sqrt(tf.where(x > 1.5, x, 1.0)), 0.0)\n"
            "y = tf.reduce_sum(z)"
        ),
    ),
    "tf.nn.leaky_relu(x)": (
        "x = tf.Variable([1.0, 2.0])",
        ("%%grad dy/dx\nz = tf.nn.leaky_relu(x)\ny = tf.reduce_sum(z)"),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_where_nothing_is_wrong(shell: Notebook, name: str) -> None:
    nothing_is_said(shell, *HEALTHY[name])
