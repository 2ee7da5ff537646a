"""Programs that assign variables themselves: what they leave is left as it was, and further steps count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.keras_loop import run as keras_run
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.tracing.apart import is_apart
from tape_magic.engine.tracing.traced import Traced
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import MinimizeResult

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(256, 8)).astype("float32")
Y = (X.sum(1, keepdims=True) + RANDOM.normal(size=(256, 1))).astype("float32")


def network(*layers: Any) -> keras.Sequential:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1)])


def trained(model: keras.Sequential, rate: float, batch: int, epochs: int, **more: Any) -> MinimizeResult:
    return tape_magic.minimize(
        lambda a, b: tf.reduce_mean((model(a, training=True) - b) ** 2),
        None,
        more.pop("optimizer", "sgd"),
        lr=rate,
        data=(X, Y),
        batch=batch,
        epochs=epochs,
        seed=1,
        **more,
    )


LAYERS: dict[str, tuple[Callable[[], Any], str]] = {
    "statistics": (keras.layers.BatchNormalization, "the noise of batches of 4"),
    "a dropout": (
        lambda: keras.layers.Dropout(0.3, seed=2),
        "of batches of 4 and of the numbers that are drawn",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_noise_of_batches(name: str) -> None:
    layer, words = LAYERS[name]
    (finding,) = trained(network(layer()), 0.1, 4, 20).findings
    assert finding.kind is FindingKind.NOISE_FLOOR
    assert finding.sentence.endswith(words)


@pytest.mark.parametrize("name", LAYERS)
def test_further_steps_leave_all_variables_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _ = LAYERS[name]
    looked, silent = network(layer()), network(layer())
    assert trained(looked, 0.1, 4, 20).findings
    monkeypatch.setattr(keras_run, "findings_of", lambda *facts: ())
    assert not trained(silent, 0.1, 4, 20).findings
    for one, other in zip(looked.variables, silent.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_is_said_of_a_low_rate(name: str) -> None:
    layer, _ = LAYERS[name]
    assert trained(network(layer()), 0.003, 32, 80).findings == ()


def counted(loss: Callable[[Any], Any], start: float, **options: Any) -> tuple[MinimizeResult, int]:
    """Minimise a loss that counts its evaluations."""
    count, x = tf.Variable(0, trainable=False), tf.Variable(start)

    def counting() -> Any:
        count.assign_add(1)
        return loss(x)

    result = tape_magic.minimize(counting, x, engine="graph", **options)
    return result, int(count)


def test_a_rate_at_its_limit_beside_a_counter() -> None:
    result, count = counted(lambda x: (x - 1) ** 2 + 1, 5.0, optimizer="sgd", lr=0.9975, steps=60)
    (finding,) = result.findings
    assert finding.kind is FindingKind.TOO_FAST
    assert finding.evidence["curvature"] == pytest.approx(2.0, rel=0.01)
    assert count == 61


def test_steps_that_are_too_short_beside_a_counter() -> None:
    result, _ = counted(lambda x: (x - 3) ** 2, 5.0, optimizer="sgd", lr=1e-5, steps=1000)
    assert [one.kind for one in result.findings] == [FindingKind.TOO_SLOW]


def test_a_good_run_beside_a_counter() -> None:
    result, _ = counted(lambda x: (x - 3) ** 2, 5.0, optimizer="sgd", lr=0.1, steps=200)
    assert result.findings == ()


def test_what_is_assigned_may_decide_the_loss() -> None:
    x, seed, mean = (tf.Variable(one) for one in (2.0, 3.0, 4.0))

    def apart() -> Any:
        mean.assign(0.9 * mean + x)
        return x**2

    def within() -> Any:
        seed.assign(0.9 * seed)
        return x**2 * seed

    traced = [is_apart(Traced(FunctionProgram(one, {}), {}, None, for_xla=False)) for one in (apart, within)]
    assert traced == [True, False]


ENDS: dict[str, tuple[Callable[[Any], Any], Any, FindingKind]] = {
    "a flat point": (lambda x: 1 - tf.exp(-tf.reduce_sum(x**2) / 4), [9.0, 9.0], FindingKind.FLAT_POINT),
    "a saddle": (lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4, [3.0, 0.0], FindingKind.SADDLE),
}
MINIMA: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "a narrow valley": (lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, [-1.2, 1.0]),
    "a flat minimum": (lambda x: tf.reduce_sum(x**4), [3.0, 1.0]),
    "a valley of minima": (lambda x: (x[0] * x[1] - 1.0) ** 2, [3.0, 1.0]),
}


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "cg", "slsqp"])
@pytest.mark.parametrize("name", ENDS)
def test_where_a_method_of_scipy_ends(name: str, method: str) -> None:
    loss, start, kind = ENDS[name]
    result = tape_magic.minimize(loss, {"x": np.array(start)}, method, engine="graph")
    assert [one.kind for one in result.findings] == [kind]
    assert not result.converged


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "nelder-mead", "trust-exact"])
@pytest.mark.parametrize("name", MINIMA)
def test_minima_that_scipy_finds(name: str, method: str) -> None:
    loss, start = MINIMA[name]
    result = tape_magic.minimize(loss, {"x": np.array(start)}, method, engine="graph")
    assert result.findings == ()
    assert result.converged


def test_least_squares_that_end_at_a_flat_point() -> None:
    result = tape_magic.minimize(lambda x: tf.tanh(x - 20.0) + 1.0, {"x": np.array([0.0, 1.0])}, "lm")
    assert result.findings == ()  # the residuals are 0 there but for rounding
