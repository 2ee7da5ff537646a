"""Jacobians of residuals by forward mode, beside those that TensorFlow's tape finds row by row."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.internals.graphs import operation_count
from tape_magic.engine.minimization.scipy_solver.columns import jacobian_by_columns, surely_connected
from tape_magic.engine.minimization.scipy_solver.vector import Flat
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.tracing.loss import require_residuals
from tape_magic.engine.tracing.traced import Traced

P = tf.Variable(np.array([1.1, 0.45, 0.75]))
S = tf.Variable(np.float32(0.6))
T = np.linspace(0.1, 2.0, 12)


def velocity(s: Any) -> Any:
    return tf.stack([P[0] * s[0] - P[1] * s[0] * s[1], P[2] * s[0] * s[1] - 0.4 * s[1]])


def runge_kutta(s: Any, h: float = 0.1) -> Any:
    k1 = velocity(s)
    k2 = velocity(s + h / 2 * k1)
    k3 = velocity(s + h / 2 * k2)
    k4 = velocity(s + h * k3)
    return s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def unrolled() -> Any:
    s, rows = tf.constant([1.0, 0.5], tf.float64), []
    for _ in range(3):
        s = runge_kutta(s)
        rows.append(s)
    return tf.stack(rows)


def looped() -> Any:
    s = tf.constant([1.0, 0.5], tf.float64)
    rows = tf.TensorArray(tf.float64, 3)
    for index in tf.range(3):
        s = runge_kutta(s)
        rows = rows.write(index, s)
    return rows.stack()


def looped_from_the_parameters() -> Any:
    s = P[:2]
    total = tf.zeros([12], tf.float64)
    index = 0
    while tf.reduce_sum(s) < 4.0:
        inner = s
        for _ in tf.range(2):
            inner = tf.sin(inner) + 0.1 * inner
        s = s * 1.2 + 0.01 * inner
        total = total + s[0] * T
        index += 1
    return total * P[2] + tf.cast(index, tf.float64)


def scanned() -> Any:
    return tf.scan(lambda s, t: s * P[1] + t * P[0], tf.constant(T), tf.constant(1.0, tf.float64))


def branched() -> Any:
    rows = []
    for limit in (0.0, 2.0):
        value = P[0] * T
        rows.append(tf.exp(value) * P[1] if P[0] > limit else tf.sin(P[2] * value))
    return tf.concat(rows, 0)


@tf.function
def compiled(a: Any, b: Any) -> Any:
    return a * tf.exp(-b * T)


PROGRAMS: dict[str, Callable[[], Any]] = {
    "a loop that Python unrolls": unrolled,
    "a loop": looped,
    "loops within each other": looped_from_the_parameters,
    "a scan": scanned,
    "a map": lambda: tf.map_fn(lambda t: P[0] * tf.exp(-P[1] * t), tf.constant(T)),
    "branches": branched,
    "a compiled function": lambda: compiled(P[0], P[1]) + compiled(P[2], 1.0) - 1.0,
    "two dtypes": lambda: tf.cast(S, tf.float64) * P[0] * T - tf.cast(tf.sin(S), tf.float64),
    "quotients and powers": lambda: P[0] / (1.0 + T * P[1]) ** P[2] + tf.maximum(P[0], T),
    "functions": lambda: (
        tf.exp(P[0] * T)
        + tf.math.log(P[1] + T)
        - tf.sqrt(P[2] * T) * tf.tanh(T - P[0])
        + tf.math.erf(P[1] * T)
    ),
    "products of matrices": lambda: tf.linalg.matvec(tf.constant(np.vander(T, 3)), P * P[0]),
    "shapes": lambda: tf.reshape(
        tf.transpose(tf.stack([tf.tile(P[:, None], [1, 4]), tf.broadcast_to(P[0], [3, 4])])), [-1]
    ),
    "cut": lambda: tf.stop_gradient(P[0]) * T * P[1] + tf.round(P[2]) + tf.where(T > 1.0, P[2] * T, T),
    "an index that is computed": lambda: tf.gather(P * T[0], tf.argmin(P)) * tf.constant(T),
    "sums": lambda: tf.cumsum(P[0] * T) + tf.reduce_mean(P) + tf.reduce_sum(P * P) * T,
    "a sum of Gaussians": lambda: tf.reduce_sum(tf.exp(-((T[:, None] - P) ** 2)), 1),
}


def traced(read: Callable[[], Any]) -> Traced:
    program = FunctionProgram(lambda: tf.reshape(read(), [-1]), {})
    return Traced(program, {}, None, for_xla=True, require=require_residuals)


def flat_of(*variables: Any) -> Flat:
    leaves = [SimpleNamespace(value=one, shape=tuple(one.shape), name="v") for one in variables]
    return Flat(leaves)  # type: ignore[arg-type]


def columns(read: Callable[[], Any], flat: Flat, jit: bool = False) -> Any:
    found = traced(read)
    compiled = tf.function(lambda: jacobian_by_columns(found, flat), autograph=False, jit_compile=jit)
    return compiled.get_concrete_function()


def by_rows(read: Callable[[], Any], flat: Flat) -> Any:
    with tf.GradientTape(persistent=True) as tape:
        residuals = tf.reshape(tf.function(read)(), [-1])
    zero = tf.UnconnectedGradients.ZERO
    found = tape.jacobian(residuals, flat.variables, unconnected_gradients=zero, experimental_use_pfor=False)
    return np.concatenate([np.reshape(part, [len(residuals), -1]) for part in found], 1)


@pytest.mark.parametrize("program", PROGRAMS)
def test_jacobians(program: str) -> None:
    read = PROGRAMS[program]
    flat = flat_of(P, S) if program == "two dtypes" else flat_of(P)
    found = columns(read, flat)
    if program == "two dtypes":
        s = float(S.numpy())
        expected = np.stack([s * T, 0 * T, 0 * T, P.numpy()[0] * T - np.cos(s)], 1)
        np.testing.assert_allclose(found(), expected, rtol=1e-6)
        return
    np.testing.assert_allclose(found(), by_rows(read, flat), rtol=1e-10, atol=1e-12)


def test_one_parameter_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many operations, those of one parameter are laid out, in a loop over all of them."""
    monkeypatch.setattr("tape_magic.engine.minimization.scipy_solver.columns.FEW_OPERATIONS", 0)
    for program in ("a loop that Python unrolls", "branches", "a loop"):
        read = PROGRAMS[program]
        np.testing.assert_allclose(
            columns(read, flat_of(P))(), by_rows(read, flat_of(P)), rtol=1e-10, atol=1e-12
        )
    graph = columns(unrolled, flat_of(P)).graph
    assert operation_count(graph) < 4 * traced(unrolled).size
    assert columns(lambda: doubled(P[0] * T), flat_of(P)).structured_outputs is None
    # With a caching device, no strategy's scope could be entered any more.
    assert tf.compat.v1.get_variable_scope().caching_device is None


def test_what_is_surely_connected() -> None:
    leaves = flat_of(P, S).leaves
    for read in (unrolled, lambda: tf.exp(P[0] * T) - T, lambda: tf.stop_gradient(P) + P):
        assert surely_connected(traced(read), leaves[:1])
    for read in (
        lambda: tf.stop_gradient(P) * T[:3],
        lambda: tf.round(P) * T[:3],
        lambda: doubled(P[0] * T),
        lambda: tf.numpy_function(np.exp, [P], tf.float64) + P,
        lambda: tf.cast(tf.cast(P, tf.int32), tf.float64),
        lambda: tf.constant(T) * tf.cast(S, tf.float64),
        looped,
    ):
        assert not surely_connected(traced(read), leaves[:1])
    assert not surely_connected(traced(unrolled), leaves)


@pytest.mark.parametrize("program", ["a loop", "branches"])
def test_under_xla(program: str) -> None:
    flat = flat_of(P)
    expected = columns(PROGRAMS[program], flat)()
    np.testing.assert_allclose(columns(PROGRAMS[program], flat, jit=True)(), expected, rtol=1e-10)


def test_the_graph_is_not_nested_and_grows_with_the_parameters_only() -> None:
    size = traced(unrolled).size
    graph = columns(unrolled, flat_of(P)).graph
    work = [one for one in graph.get_operations() if one.type not in ("Const", "NoOp", "Identity")]
    assert not [one for one in work if "Call" in one.type or "While" in one.type]
    assert len(work) < (1 + 2 * 3) * size


@tf.custom_gradient
def doubled(x: Any) -> Any:
    return x * 1.0, lambda d: 2.0 * d


@pytest.mark.parametrize(
    "read",
    [
        lambda: tf.linalg.det(tf.reshape(P[0] * T, [3, 2, 2])),
        lambda: doubled(P[0] * T),
        lambda: P[0] * T + tf.random.normal([12], dtype=tf.float64),
        lambda: tf.concat([P[:1], P[1:2]], 0),
    ],
)
def test_what_is_left_to_reverse_mode(read: Callable[[], Any]) -> None:
    assert columns(read, flat_of(P)).structured_outputs is None


FITS: dict[str, Callable[[Any, Any], Any]] = {
    "a decay": lambda a, b: a * tf.exp(-b * T) - 2.0 * np.exp(-0.7 * T),
    "one without a rule": lambda a, b: doubled(a) * tf.exp(-b * T) - 2.0 * np.exp(-0.7 * T),
    "a determinant": lambda a, b: (
        tf.linalg.det(a * tf.exp(-b * T)[:, None, None] * tf.ones([12, 1, 1], tf.float64))
        - 2.0 * np.exp(-0.7 * T)
    ),
}


@pytest.mark.parametrize(("fit", "method"), [*((fit, "lm") for fit in FITS), ("a decay", "trf")])
def test_fits(fit: str, method: str) -> None:
    a, b = tf.Variable(1.0, dtype=tf.float64), tf.Variable(0.3, dtype=tf.float64)
    result = tape_magic.minimize(lambda: FITS[fit](a, b), [a, b], method)
    assert result.converged or fit == "one without a rule"
    np.testing.assert_allclose([float(a), float(b)], [2.0, 0.7], rtol=1e-4)


def test_a_loop_that_fills_an_array_of_tensors_as_it_is_minimised() -> None:
    """TensorFlow makes the lists for the gradient of a loop after the loop that fills them."""
    times = np.linspace(0.0, 1.0, 6)
    rate = tf.Variable(0.2, dtype=tf.float64)

    def residuals() -> Any:
        level, levels = tf.constant(1.0, tf.float64), tf.TensorArray(tf.float64, 6)
        for step in tf.range(6):
            levels = levels.write(step, level)
            level *= tf.exp(-0.2 * rate)
        return levels.stack() - np.exp(-0.7 * times)

    tape_magic.minimize(residuals, rate, "lm", engine="graph")
    assert rate.numpy() == pytest.approx(0.7, abs=1e-9)
