"""Cures that can help where they are given: by the values, and by what stands around an operation."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import BASE, the_reason_is_found
from tests.support.tensorflow_2_22 import NORM_IS_SMOOTH

FOUND: dict[str, tuple[str, ...]] = {
    "d3 x**2": (
        "x = tf.Variable(0.0)",
        ("%%grad d3y/dx3\ny = x**2"),
        "Pow.*line 2",
        "square|x \\* x",
        "power below 1",
    ),
    "d4 x**3": (
        "x = tf.Variable(0.0)",
        ("%%grad d4y/dx4\ny = tf.sin(x) + x**3"),
        "Pow.*line 2",
        "x \\* x",
        "power below 1",
    ),
    "morse": (
        "x = tf.Variable(1.0, dtype=tf.float64)",
        ("%%grad d3y/dx3\ne = 1.0 - tf.exp(-(x - 1.0))\ny = e**2"),
        "Pow.*line 3",
        "(?i)square|e \\* e|multipl|integer power|whole power",
        "",
    ),
    "logsumexp": (
        "a = tf.Variable([1.0, 2.0]); bias = tf.constant([-np.inf, -np.inf])",
        ("%%grad dy/da\nt = a + bias\ny = tf.reduce_logsumexp(t)"),
        "Log is −inf for 0, line 3.*exponentials of −inf",
        "",
        "use tf\\.reduce_logsumexp",
    ),
    "lgamma": (
        "x = tf.Variable([0.0, 2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.math.lgamma(x))"),
        "Lgamma.*line 2.*; keep its argument away from 0",
        "",
        "",
    ),
    "erfinv": (
        "x = tf.Variable([1.0, 0.5])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.math.erfinv(x))"),
        "Erfinv.*; keep its argument between −1 and 1",
        "",
        "",
    ),
    "angle": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\nz = tf.complex(x, x)\ny = tf.math.angle(z)"),
        ".*line 3.*; .*angle",
        "",
        "",
    ),
    "igamma": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\ny = tf.math.igamma(0.5, x)"),
        "Igamma.*; keep both",
        "",
        "",
    ),
    "norm var name": (
        "normal = tf.Variable([0.0, 1.0])",
        ("%%grad dy/dnormal\ny = tf.reduce_sum(tf.sqrt(normal))"),
        "slope of a square root",
        "",
        "a norm",
    ),
    "half pow": (
        "x = tf.Variable([300.0], dtype=tf.float16)",
        ("%%grad dy/dx\ny = tf.reduce_sum(x**3)"),
        "Pow.*float16 ends at 65504",
        "",
        "",
    ),
    "half exp": (
        "x = tf.Variable([12.0], dtype=tf.float16)",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.exp(x))"),
        "Exp.*float16 ends at 65504",
        "",
        "",
    ),
    "half scaled loss": (
        "x = tf.Variable([30.0], dtype=tf.float16)",
        ("%%grad dy/dx\nloss = tf.reduce_sum(x * x)\ny = loss * 1024.0"),
        "",
        "y itself is inf.*float16 ends at 65504",
        "",
    ),
    "half log 0": (
        "x = tf.Variable([0.0], dtype=tf.float16)",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.math.log(x))"),
        "1e-4",
        "",
        "",
    ),
    "exp/2": (
        "x = tf.Variable([100.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.exp(x) / 2.0)"),
        "keep its argument below 88",
        "",
        "sigmoid",
    ),
    "log mean exp": (
        "x = tf.Variable([100.0, 1.0])",
        ("%%grad dy/dx\ny = tf.math.log(tf.reduce_mean(tf.exp(x)))"),
        "logsumexp",
        "",
        "softplus",
    ),
    "1/exp": (
        "x = tf.Variable([100.0, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(1.0 / tf.exp(x))"),
        "tf.exp\\(-x\\)",
        "",
        "sigmoid",
    ),
    "x**0 tensor": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\nk = tf.constant([0.0, 1.0, 2.0])\ny = tf.reduce_sum(x**k)"),
        "Pow.*line 3.*; a power of 0",
        "",
        "power below 1",
    ),
    "neg base half": ("x = tf.Variable(-1.0)", ("%%grad dy/dx\ny = x**0.5"), "keep the base above 0", "", ""),
    "neg power": ("x = tf.Variable(0.0)", ("%%grad dy/dx\ny = x**-2"), "keep the base away from 0", "", ""),
    "log1p": ("x = tf.Variable(-1.0)", ("%%grad dy/dx\ny = tf.math.log1p(x)"), "above −1", "", ""),
    "acos where": (
        "x = tf.Variable([1.0, 0.5])",
        ("%%grad dy/dx\nok = x < 1.0\ny = tf.reduce_sum(tf.where(ok, tf.acos(x), 0.0))"),
        "tf.where\\(ok, x, 0.0\\)",
        "",
        "",
    ),
    "polyak": (
        "ws = [tf.Variable(1.0), tf.Variable(2.0)]; avgs = [tf.Variable(0.5), tf.Variable(0.5)]",
        (
            "%%grad y --wrt ws\n"
            "for a, w in zip(avgs, ws):\n"
            "    a.assign(0.9 * a + 0.1 * w)\n"
            "y = avgs[0] + avgs[1]"
        ),
        "state.*line 3.*list",
        "",
        "",
    ),
    "atan2": ("x = tf.Variable(0.0)", ("%%grad dy/dx\ny = tf.atan2(x, x)"), "Atan2.*angle|Atan2", "", ""),
    "logsumexp by hand masked": (
        "a = tf.Variable([1.0, 2.0]); bias = tf.constant([-np.inf, -np.inf])",
        ("%%grad dy/da\nt = a + bias\ny = tf.math.log(tf.reduce_sum(tf.exp(t)))"),
        "Log",
        "",
        "use tf.reduce_logsumexp",
    ),
    "log softmax masked": (
        "a = tf.Variable([1.0, 2.0]); bias = tf.constant([0.0, -np.inf])",
        ("%%grad dy/da\np = tf.nn.softmax(a + bias)\ny = tf.reduce_sum(tf.math.log(p))"),
        "Log",
        "",
        "log_softmax",
    ),
    "rsqrt neg": (
        "x = tf.Variable(-1.0)",
        ("%%grad dy/dx\ny = tf.math.rsqrt(x)"),
        "keep its argument above 0$",
        "",
        "",
    ),
    "sub inf f16": (
        "x = tf.Variable([[1.0, 2.0]], dtype=tf.float16); m = tf.constant([[-np.inf, -np.inf]], tf.float16)",
        ("%%grad dy/dx\np = tf.nn.softmax(x + m)\ny = tf.reduce_sum(p)"),
        "Softmax",
        "−1e4",
        "",
    ),
    "rmse": (
        "x = tf.Variable([1.0, 2.0]); t = tf.constant([1.0, 2.0])",
        ("%%grad dy/dx\ny = tf.sqrt(tf.reduce_mean((x - t)**2))"),
        "Sqrt",
        "slope of a square root",
        "variance",
    ),
    "distance": (
        "x = tf.Variable([1.0, 2.0]); t = tf.constant([1.0, 2.0])",
        ("%%grad dy/dx\ny = tf.sqrt(tf.reduce_sum((x - t)**2))"),
        "Sqrt",
        "a norm has no derivative",
        "",
    ),
    "digamma": (
        "x = tf.Variable([0.0, 2.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.math.digamma(x))"),
        "Digamma.*; .*away from 0",
        "",
        "",
    ),
    "ndtri": (
        "x = tf.Variable([1.0, 0.5])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.math.ndtri(x))"),
        "Ndtri.*; .*between 0 and 1",
        "",
        "",
    ),
    "igammac": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\ny = tf.math.igammac(0.5, x)"),
        "Igammac.*; keep both",
        "",
        "",
    ),
    "xlogy": (
        "x = tf.Variable(0.0)",
        ("%%grad dy/dx\ny = tf.math.xlogy(1.0, x)"),
        "Xlogy.*; keep its second",
        "",
        "",
    ),
    "atanh where": (
        "x = tf.Variable([1.0, 0.5])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.where(x < 1.0, tf.atanh(x), 0.0))"),
        "Atanh",
        "tf.where\\(ok, x, 0.0\\)",
        "",
    ),
    "exp ratio": (
        "x = tf.Variable([100.0, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.exp(x) / tf.exp(2.0 * x))"),
        "Exp",
        "one exponential",
        "sigmoid",
    ),
    "log exp": (
        "x = tf.Variable([100.0, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.math.log(tf.exp(x)))"),
        "Exp",
        "leave out both",
        "softplus",
    ),
    "log exp a + exp b": (
        "x = tf.Variable(100.0); b = tf.Variable(1.0)",
        ("%%grad dy/dx\ny = tf.math.log(tf.exp(x) + tf.exp(b))"),
        "Exp",
        "logsumexp",
        "softplus",
    ),
    "log in f64": (
        "x = tf.Variable(0.0, dtype=tf.float64)",
        ("%%grad dy/dx\ny = tf.math.log(x)"),
        "Log",
        "1e-12",
        "xlogy",
    ),
    "x*log x f": (
        "x = tf.Variable([0.0, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(x * tf.math.log(x))"),
        "Log",
        "xlogy",
        "",
    ),
    "x**3 second": (
        "x = tf.Variable(0.0)",
        ("%%grad d2y/dx2\ny = x**1.5"),
        "",
        "broken power|above 0",
        "whole",
    ),
    "variable power": (
        "x = tf.Variable(2.0); p = tf.Variable(0.5)",
        ("%%grad y --wrt x p\ny = (x - 2.0)**p"),
        "Pow",
        "infinite slope",
        "",
    ),
    "half big sum": (
        "x = tf.Variable(tf.fill([70000], tf.cast(1.0, tf.float16)))",
        ("%%grad dy/dx\ns = tf.reduce_sum(x)\ny = s * s"),
        "",
        "float16 ends",
        "",
    ),
    "assign outside loop": (
        "a = tf.Variable(1.0); x = tf.Variable(2.0)",
        ("%%grad dy/dx\na.assign(x * 2.0)\ny = a * 3.0"),
        "a_new",
        "",
        "",
    ),
    "while loop var not for": (
        "a = tf.Variable(1.0); x = tf.Variable(2.0)",
        ("%%grad dy/dx\nfor i in range(2):\n    a.assign(a * x)\ny = a * 3.0"),
        "a_new",
        "",
        "",
    ),
    "a sum in a loop": (
        "acc = tf.Variable(0.0); x = tf.Variable(2.0)",
        ("%%grad dy/dx\nfor i in range(3):\n    acc.assign_add(x * i)\ny = acc * 3.0"),
        r"acc_new = acc before the loop, acc_new = acc_new \+ … in it, and acc_new wherever acc is read",
        "",
        "",
    ),
    "a product in a loop": (
        "a = tf.Variable(1.0); x = tf.Variable(2.0)",
        ("%%grad dy/dx\nfor i in range(3):\n    a.assign(a * x)\ny = a * 3.0"),
        "a_new = a before the loop, a_new = … in it, and a_new wherever a is read",
        "",
        "",
    ),
    "the last of a loop": (
        "a = tf.Variable(1.0); x = tf.Variable(2.0)",
        ("%%grad dy/dx\nfor i in range(3):\n    a.assign(x * i)\ny = a * 3.0"),
        r"compute a new tensor, a_new = …",
        "",
        "before the loop",
    ),
    "an optimizer's step": (
        "w = tf.Variable(1.0); a = tf.Variable(0.3); opt = keras.optimizers.SGD(0.1)",
        ("%%grad y --wrt a\nopt.apply_gradients([(2.0*a*w, w)])\ny = w**2"),
        r"w_new = w - rate\*gradient",
        "",
        "",
    ),
    "half quotient": (
        "x = tf.Variable([1.0], dtype=tf.float16); d = tf.constant([1e-5], tf.float16)",
        ("%%grad dy/dx\ny = tf.reduce_sum(x / d)"),
        "RealDiv.*float16 ends at 65504",
        "",
        "",
    ),
    "half 1/0": (
        "x = tf.Variable([0.0], dtype=tf.float16)",
        ("%%grad dy/dx\ny = tf.reduce_sum(1.0 / x)"),
        "RealDiv.*divide_no_nan",
        "",
        "",
    ),
    "silu inf": (
        "x = tf.Variable([-np.inf, 1.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.silu(x))"),
        "Mul is nan|itself is not finite",
        "",
        "swish_impl",
    ),
    "gelu far": (
        "x = tf.Variable([-1000.0, -1000.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.gelu(x))"),
        "^$",
        "",
        "swish",
    ),
    "silu far": (
        "x = tf.Variable([-1000.0, -1000.0])",
        ("%%grad dy/dx\ny = tf.reduce_sum(tf.nn.silu(x))"),
        "^$",
        "",
        "swish",
    ),
    "nan in layer norm": (
        "x = tf.Variable([[np.nan, 1.0]]); ln = keras.layers.LayerNormalization()",
        ("%%grad dy/dx\ny = tf.reduce_sum(ln(x)**2)"),
        "x itself is not finite",
        "",
        "",
    ),
}
if not NORM_IS_SMOOTH:
    FOUND["euclid"] = (
        "x = tf.Variable([0.0, 0.0])",
        "%%grad dy/dx\ny = tf.math.reduce_euclidean_norm(x)",
        "EuclideanNorm.*; a norm has no derivative",
        "",
        "",
    )
"""The cell before, the cell, what a reason is like, what else the report shows, and what not."""


@pytest.mark.parametrize("name", FOUND)
def test_the_reason_is_found(shell: Notebook, name: str) -> None:
    the_reason_is_found(shell, *FOUND[name])


TRUE = {"x**2": ("tf.square(x)", "x * x", 0.0, 0.0), "x**3": ("x * x * x", "tf.square(x) * x", 0.0, 6.0)}
"""A whole power, two ways to write it, where it is taken, and its third derivative there."""


@pytest.mark.parametrize("power", TRUE)
def test_the_cure_for_a_whole_power_gives_the_truth(shell: Notebook, power: str) -> None:
    *cured, at, truth = TRUE[power]
    shell.ok(f"{BASE}x = tf.Variable({at})")
    for text in cured:
        shell.ok(f"%%grad d3y/dx3\ny = {text} + x * x * x * x")
        assert float(shell.ns["d3y_dx3"]) == truth


def test_the_cure_for_the_morse_potential_gives_the_truth(shell: Notebook) -> None:
    shell.ok(BASE + "x = tf.Variable(1.0, dtype=tf.float64)")
    for text in ("tf.square(e)", "e * e"):
        shell.ok(f"%%grad d3y/dx3\ne = 1.0 - tf.exp(-(x - 1.0))\ny = {text}")
        assert float(shell.ns["d3y_dx3"]) == pytest.approx(-6.0)
