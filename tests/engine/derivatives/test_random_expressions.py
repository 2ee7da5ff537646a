"""Random expressions: the report against SymPy, and against nested tapes written by hand."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

import pytest
import sympy
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tape_magic.results.reasons import Cause
from tests.support.doors import Case, Door

K = tf.constant(1.5, tf.float64)
X, A = sympy.symbols("x a", real=True)


@dataclass(frozen=True)
class Expression:
    """The same expression as a TensorFlow cell reads it, and as SymPy does."""

    text: str
    symbolic: Any


LEAVES = st.sampled_from(
    [Expression("x", X), Expression("a", A), Expression("k", sympy.Rational(3, 2)), Expression("x", X)]
)
UNARY = [
    ("tf.sin({})", sympy.sin),
    ("tf.cos({})", sympy.cos),
    ("tf.tanh({})", sympy.tanh),
    ("tf.exp(tf.tanh({}))", lambda u: sympy.exp(sympy.tanh(u))),
    ("tf.sqrt(1.0 + ({})**2)", lambda u: sympy.sqrt(1 + u**2)),
    ("tf.math.log(2.0 + ({})**2)", lambda u: sympy.log(2 + u**2)),
    ("tf.square({})", lambda u: u**2),
    ("tf.sigmoid({})", lambda u: 1 / (1 + sympy.exp(-u))),
    ("tf.atan({})", sympy.atan),
    ("-({})", lambda u: -u),
]
BINARY = [
    ("({} + {})", lambda u, v: u + v),
    ("({} - {})", lambda u, v: u - v),
    ("({} * {})", lambda u, v: u * v),
    ("({} / (1.0 + tf.square({})))", lambda u, v: u / (1 + v**2)),
    ("tf.sin({}) * tf.cos({})", lambda u, v: sympy.sin(u) * sympy.cos(v)),
]


def _grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    unary = st.tuples(st.sampled_from(UNARY), inner).map(
        lambda drawn: Expression(drawn[0][0].format(drawn[1].text), drawn[0][1](drawn[1].symbolic))
    )
    binary = st.tuples(st.sampled_from(BINARY), inner, inner).map(
        lambda drawn: Expression(
            drawn[0][0].format(drawn[1].text, drawn[2].text),
            drawn[0][1](drawn[1].symbolic, drawn[2].symbolic),
        )
    )
    return unary | binary


EXPRESSIONS = st.recursive(LEAVES, _grown, max_leaves=5)
POINTS = st.sampled_from([-1.75, -0.5, 0.25, 0.8, 1.3])
KEYS = {"dy/dx": (X,), "dy/da": (A,), "d2y/dx2": (X, X), "d2y/dxda": (X, A)}


def derivatives_by_tapes(text: str, at: dict[str, tf.Tensor]) -> list[Any]:
    """The derivatives of orders 1 and 2, with tapes as a user would write them."""
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(at)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(at)
            y = tf.convert_to_tensor(eval(text, {"tf": tf, "k": K, **at}), tf.float64)
        first = inner.gradient(y, at["x"])
    second = [None if first is None else outer.gradient(first, at[name]) for name in ("x", "a")]
    return [first, inner.gradient(y, at["a"]), *second]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(expression=EXPRESSIONS, x=POINTS, a=POINTS)
def test_as_sympy_and_as_by_hand(door: Door, expression: Expression, x: float, a: float) -> None:
    at = {"x": tf.constant(x, tf.float64), "a": tf.constant(a, tf.float64)}
    cell = f"y = tf.convert_to_tensor({expression.text}, tf.float64)"
    report = door.grad(Case(cell, ", ".join(KEYS), {"tf": tf, "k": K, **at}))
    reads = {node.id for node in ast.walk(ast.parse(expression.text)) if isinstance(node, ast.Name)}
    for (key, wrt), expected in zip(KEYS.items(), derivatives_by_tapes(expression.text, at), strict=True):
        found = report[key]
        assert (found is None) == (expected is None), key
        symbolic = float(sympy.diff(expression.symbolic, *wrt).evalf(30, subs={X: x, A: a}))
        assert (0.0 if found is None else float(found)) == pytest.approx(symbolic, rel=1e-9, abs=1e-12)
        if found is None:
            assert symbolic == 0
            (row,) = [row for row in report if row.key == key]
            assert row.reason is not None
            assert row.reason.cause in (Cause.NOT_READ, Cause.UNKNOWN)
            assert row.order > 1 or str(wrt[0]) not in reads
        else:
            assert math.isfinite(float(found))
            assert float(found) == float(expected)
