"""Classical test functions reach their known minima: optimizers, engines and both doors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.minimum import MinimizeResult
from tests.engine.minimization.classics import CLASSICS, Classic
from tests.support.covering import covering
from tests.support.doors import Case, Door

ENGINES = ("xla", "graph", "eager")


def falling(rate: float, steps: int) -> Any:
    """A learning rate that ends at 0, so that no optimizer is left circling."""
    return keras.optimizers.schedules.CosineDecay(rate, steps)


OPTIMIZERS: dict[str, Callable[[Classic], Any]] = {
    "momentum": lambda f: keras.optimizers.SGD(falling(f.rate, f.steps), momentum=0.9, nesterov=True),
    "adam": lambda f: keras.optimizers.Adam(falling(0.1, f.steps)),
    "nadam": lambda f: keras.optimizers.Nadam(falling(0.05, f.steps)),
    "lion": lambda f: keras.optimizers.Lion(falling(0.01, f.steps)),
}


def minimized(
    door: Door, classic: Classic, optimizer: Any, engine: str, steps: int | None = None
) -> MinimizeResult:
    v = tf.Variable(np.array(classic.start))
    line = f"y --over v --optimizer opt --steps {steps or classic.steps} --engine {engine} -q"
    return door.minimize(Case(classic.cell, line, {"tf": tf, "np": np, "v": v, "opt": optimizer}))


def check(result: MinimizeResult, classic: Classic) -> None:
    (change,) = result.variables.values()
    assert change.end.dtype == np.float64
    np.testing.assert_allclose(change.end, classic.end, rtol=0, atol=classic.close)
    # Near a minimum the loss is off by about the square of the distance.
    assert result.loss == pytest.approx(classic.least, rel=1e-7, abs=1e-5)
    assert result.best_loss >= classic.least - 1e-8 * max(1.0, abs(classic.least))
    assert result.history[-1] == result.loss


def by_name(classic: Classic) -> str:
    return classic.name


@pytest.mark.parametrize(("classic", "optimizer"), covering(CLASSICS, OPTIMIZERS), ids=str)
def test_reaches_the_minimum(shell: Any, classic: Classic, optimizer: str) -> None:
    result = minimized(Door("function", shell), classic, OPTIMIZERS[optimizer](classic), "xla")
    check(result, classic)


@pytest.mark.parametrize("classic", CLASSICS[::4], ids=by_name)
def test_reaches_the_minimum_in_a_cell_as_a_graph(shell: Any, classic: Classic) -> None:
    result = minimized(Door("magic", shell), classic, OPTIMIZERS["adam"](classic), "graph")
    check(result, classic)


@pytest.mark.parametrize(("name", "rate"), [("Booth", 0.1), ("Himmelblau", 0.01), ("McCormick", 0.3)])
def test_reaches_the_minimum_step_by_step(door: Door, name: str, rate: float) -> None:
    (classic,) = [classic for classic in CLASSICS if classic.name == name]
    check(minimized(door, classic, keras.optimizers.SGD(rate), "eager", 70), classic)


@pytest.mark.parametrize("classic", CLASSICS[1::3], ids=by_name)
def test_engines_and_doors_agree_to_rounding(shell: Any, classic: Classic) -> None:
    """Step for step, from the start; a difference of rounding grows, but not far in a few steps."""
    steps = 12
    doors = (
        ("function", "magic", "function") if CLASSICS.index(classic) % 2 else ("magic", "function", "magic")
    )
    found = [
        minimized(Door(name, shell), classic, keras.optimizers.Adam(0.01), engine, steps)
        for name, engine in zip(doors, ENGINES, strict=True)
    ]
    assert [result.engine for result in found] == list(ENGINES)
    first = found[0]
    assert len(first.history) == steps + 1
    scale = np.abs(first.history).max()
    for other in found[1:]:
        np.testing.assert_allclose(other.history, first.history, rtol=1e-9, atol=1e-12 * scale)
        np.testing.assert_allclose(
            next(iter(other.variables.values())).end,
            next(iter(first.variables.values())).end,
            rtol=1e-9,
            atol=1e-12,
        )


@pytest.mark.parametrize("classic", CLASSICS, ids=by_name)
def test_the_minimum_that_is_stated_is_one(classic: Classic) -> None:
    """The value there, a gradient of 0, and no direction downhill: the table itself is checked."""
    v = tf.Variable(np.array(classic.end))
    home = {"tf": tf, "np": np, "v": v}
    with tf.GradientTape() as tape:
        exec(classic.cell, home)
    assert float(home["y"]) == pytest.approx(classic.least, rel=1e-8, abs=1e-8)
    if classic.name != "Ackley":  # it has a point there
        assert np.abs(tape.gradient(home["y"], v).numpy()).max() < 1e-5
    generator = np.random.default_rng(0)
    for _ in range(20):
        v.assign(np.array(classic.end) + 1e-2 * generator.normal(size=len(classic.end)))
        exec(classic.cell, home)
        assert float(home["y"]) > classic.least


# -- losses below zero, and complex variables -------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_without_a_lower_bound_goes_on_falling(door: Door, engine: str) -> None:
    """x ← x − 0.5·1 at each step of a loss that is x itself."""
    names = {"tf": tf, "x": tf.Variable(1.0, dtype=tf.float64)}
    result = door.minimize(
        Case("y = 1.0 * x", f"y --over x --optimizer sgd --lr 0.5 --steps 10 --engine {engine}", names)
    )
    np.testing.assert_allclose(result.history, 1.0 - 0.5 * np.arange(11))
    assert (result.loss, result.best_loss, result.best_step) == (-4.0, -4.0, 10)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_that_is_always_negative(door: Door, engine: str) -> None:
    names = {"tf": tf, "x": tf.Variable(0.5, dtype=tf.float64)}
    cell = "y = -1e3 + (x - 0.25)**2"
    line = f"y --over x --optimizer sgd --lr 0.25 --steps 40 --engine {engine}"
    result = door.minimize(Case(cell, line, names))
    expected = -1e3 + (0.25 * 0.5 ** np.arange(41)) ** 2
    np.testing.assert_allclose(result.history, expected, rtol=1e-15)
    assert result.loss == -1e3
    assert math.isfinite(result.start_loss)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [tf.complex64, tf.complex128], ids=["complex64", "complex128"])
def test_complex_variables_are_refused_with_the_cure(door: Door, engine: str, dtype: Any) -> None:
    names = {"tf": tf, "z": tf.Variable(1 + 1j, dtype=dtype)}
    said = door.refused_minimize(Case("y = tf.abs(z)**2", f"y --over z --engine {engine}", names))
    assert said == (
        f"z is {dtype.name}, and optimizers step along real numbers: "
        "minimise over its real and imaginary parts."
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_real_and_imaginary_parts_instead(door: Door, engine: str) -> None:
    """|z² + 1|² is least at z = i, where it is 0."""
    names = {"tf": tf, "a": tf.Variable(0.3, dtype=tf.float64), "b": tf.Variable(0.8, dtype=tf.float64)}
    cell = "z = tf.complex(a, b)\ny = tf.math.real((z**2 + 1.0) * tf.math.conj(z**2 + 1.0))"
    line = f"y --over a b --optimizer sgd --lr 0.05 --steps 120 --engine {engine}"
    result = door.minimize(Case(cell, line, names))
    assert result.variables["a"].end == pytest.approx(0.0, abs=1e-6)
    assert result.variables["b"].end == pytest.approx(1.0, abs=1e-6)
