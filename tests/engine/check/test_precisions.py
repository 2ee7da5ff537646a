"""`--check` of cells with less than float64 inside: judged by the least precise dtype on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.check import CheckOutcome
from tests.support.doors import Case, Door


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, everything is compared and explained."""
    monkeypatch.setattr("tape_magic.engine.check.sampling.SECONDS", 600.0)
    monkeypatch.setattr("tape_magic.engine.check.explanation.SECONDS", 600.0)


HALVES = ["bfloat16", "float16"]


def names(**more: Any) -> dict[str, Any]:
    return {"tf": tf, "np": np, "keras": keras, **more}


def mixed(kind: str) -> Any:
    layers = [
        keras.layers.Dense(4, activation="tanh", dtype=f"mixed_{kind}"),
        keras.layers.Dense(1, dtype="float32"),
    ]
    return keras.Sequential([keras.Input((3,)), *layers])


def pure(kind: str) -> Any:
    layers = [keras.layers.Dense(4, activation="tanh", dtype=kind), keras.layers.Dense(1, dtype=kind)]
    return keras.Sequential([keras.Input((3,), dtype=kind), *layers])


def functional(kind: str) -> Any:
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", dtype=f"mixed_{kind}")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, dtype="float32")(hidden))


@pytest.mark.parametrize("make", [mixed, pure, functional])
@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("line", ["loss --wrt m", "loss --wrt data"])
def test_models_of_half_precision_are_compared_in_float64(
    door: Door, make: Callable[[str], Any], kind: str, line: str
) -> None:
    keras.utils.set_random_seed(1)
    own = names(m=make(kind), data=tf.ones((2, 3)) * 0.3)
    cell = "loss = tf.reduce_mean(tf.cast(m(data), data.dtype)**2)"
    report = door.grad(Case(cell, f"{line} --check", own))
    for check in report.checks:
        assert check.agrees, check
        assert check.dtype == "float64"
        assert check.compared == check.elements
        assert check.note == f"the cell itself computes in {kind}"


@pytest.mark.parametrize("door", ["function"], indirect=True)
def test_a_wrong_gradient_in_a_model_of_half_precision_is_found(door: Door) -> None:
    factor = 1.1

    @tf.custom_gradient
    def wrong(v: Any) -> Any:
        return tf.sin(v), lambda upstream: upstream * tf.cos(v) * factor

    keras.utils.set_random_seed(1)
    own = names(m=mixed("bfloat16"), data=tf.ones((2, 3)), wrong=wrong)
    report = door.grad(Case("loss = tf.reduce_mean(wrong(m(data)))", "loss --wrt m --check", own))
    assert not any(check.agrees for check in report.checks)
    wrong = [check for check in report.checks if check.outcome is CheckOutcome.DIFFERS]
    assert wrong  # of some, a slow machine has not compared a single element when the time is over
    for check in wrong:
        np.testing.assert_allclose(check.derivative, check.difference * factor, rtol=1e-3)


INSIDE = [
    ("h = tf.cast(tf.cast(x, tf.{}), tf.float32)\ny = tf.reduce_sum(tf.sin(h))", tf.Variable([0.3, 1.7])),
    ("h = tf.sin(tf.cast(x, tf.{}))\ny = tf.reduce_sum(tf.cast(h, tf.float64))", np.array([0.3, 1.7])),
    (
        "y = tf.cast(tf.tanh(tf.cast(x @ tf.ones((3, 2)), tf.{})), tf.float32)",
        tf.constant(np.linspace(-1, 1, 6).reshape(2, 3), tf.float32),
    ),
    ("y = tf.reduce_sum(halved(x)**2)", tf.Variable([0.3, 1.7])),
    ("y = around(x)**2*tf.constant(1.0)", tf.Variable([0.3, 1.7])),
    ("y = tf.sin(x)*tf.constant(2.0, tf.{})", "source"),
    (
        "q = x + tf.stop_gradient(tf.cast(tf.cast(x, tf.{}), tf.float32) - x)\ny = q**2",
        tf.Variable([0.3, 1.7]),
    ),
]


@pytest.mark.parametrize(("cell", "x"), INSIDE, ids=range(len(INSIDE)))
@pytest.mark.parametrize("kind", HALVES)
def test_a_half_precision_inside_is_told_and_no_right_gradient_is_called_wrong(
    door: Door, cell: str, x: Any, kind: str
) -> None:
    @tf.function
    def halved(v: Any) -> Any:
        return tf.cast(tf.sin(tf.cast(v, kind)), tf.float32)

    @tf.function
    def around(v: Any) -> Any:
        return halved(v) * 2.0

    x = tf.constant([0.3, 1.7], kind) if isinstance(x, str) else x
    (check,) = door.grad(
        Case(cell.format(kind), "y --wrt x --check", names(x=x, halved=halved, around=around))
    ).checks
    assert check.outcome is not CheckOutcome.DIFFERS, check
    assert check.dtype == kind
    assert f"it computes in {kind} inside" in check.note
    assert "kink" not in check.note
    assert "jump" not in check.note


@pytest.mark.parametrize("kind", HALVES)
def test_a_gross_error_in_half_precision_is_found(door: Door, kind: str) -> None:
    @tf.custom_gradient
    def wrong(v: Any) -> Any:
        return tf.sin(v), lambda upstream: -upstream * tf.cos(v)

    cell = f"y = tf.reduce_sum(tf.cast(wrong(tf.cast(x, tf.{kind})), tf.float32))"
    (check,) = door.grad(
        Case(cell, "y --wrt x --check", names(x=tf.Variable([0.3, 0.9]), wrong=wrong))
    ).checks
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.dtype == kind


SOURCES = [
    ("y = tf.reduce_sum(x**2)", "y --wrt x", lambda kind: tf.Variable([0.5, 1.5], dtype=kind)),
    ("y = tf.sin(x)", "dy/dx", lambda kind: tf.constant(0.5, kind)),
    ("y = tf.sin(x)", "y --wrt x", lambda kind: tf.constant([0.5, 1.5], kind)),
    ("y = x**3", "d2y/dx2", lambda kind: tf.Variable(1.5, dtype=kind)),
    ("y = tf.sin(x)", "y --wrt x --jacobian", lambda kind: tf.constant([0.5, 1.5], kind)),
    ("y = tf.sin(x)", "y --jvp x=tf.ones_like(x)", lambda kind: tf.constant([0.5, 1.5], kind)),
    ("y = tf.reduce_sum(x**3)", "y --wrt x --hessian", lambda kind: tf.constant([0.5, 1.5], kind)),
    (
        "y = tf.reduce_sum(x['a']**3)*x['b']",
        "y --wrt x",
        lambda kind: {"a": tf.Variable([0.5], dtype=kind), "b": tf.constant(2.0, kind)},
    ),
]


@pytest.mark.parametrize(("cell", "line", "make"), SOURCES, ids=range(len(SOURCES)))
@pytest.mark.parametrize("kind", HALVES)
def test_sources_of_half_precision(
    door: Door, cell: str, line: str, make: Callable[[str], Any], kind: str
) -> None:
    own = names(x=make(kind))
    report = door.grad(Case(cell, f"{line} --check", own))
    assert all(check.agrees for check in report.checks), report.checks
    assert {check.dtype for check in report.checks} == {"float64"}
    assert {check.note for check in report.checks} == {f"the cell itself computes in {kind}"}


def test_a_double_source_that_passes_through_float32(door: Door) -> None:
    cell = "y = tf.reduce_sum(tf.cast(tf.sin(tf.cast(x, tf.float32)), tf.float64))"
    (check,) = door.grad(
        Case(cell, "y --wrt x --check", names(x=tf.Variable([0.3, 1.7], dtype=tf.float64)))
    ).checks
    assert check.agrees
    assert check.dtype == "float32"
    assert check.compared == 2
    keras.utils.set_random_seed(1)
    layer, x = keras.layers.Dense(2, activation="tanh"), tf.constant([[0.3, 1.7]], tf.float64)
    layer(x)
    cell = "y = tf.reduce_sum(tf.cast(d(x), tf.float64))"  # the layer itself can compute in float64
    (check,) = door.grad(Case(cell, "y --wrt x --check", names(d=layer, x=x))).checks
    assert check.agrees
    assert check.dtype == "float64"


def test_each_row_is_judged_by_its_own_way(door: Door) -> None:
    cell = "y = tf.reduce_sum(tf.sin(a)) + tf.reduce_sum(tf.cast(tf.cast(b, tf.float16), b.dtype)**2)"
    own = names(a=tf.Variable([0.3, 0.8]), b=tf.Variable([0.5, 1.25]))
    checks = {check.key: check for check in door.grad(Case(cell, "y --wrt a,b --check", own)).checks}
    assert {key: check.dtype for key, check in checks.items()} == {"dy/da": "float64", "dy/db": "float16"}
    assert checks["dy/da"].agrees
    assert checks["dy/db"].outcome is not CheckOutcome.DIFFERS


@pytest.mark.parametrize(
    "cell",
    [
        "y = x**2*tf.cast(tf.cast(x > 0, tf.float16), x.dtype)",
        "keep = tf.cast(x > 0, tf.bfloat16)\ny = x**2*tf.cast(keep*keep, x.dtype)",
        "y = x**2*tf.cast(tf.cast(tf.argmax(x), tf.float16), x.dtype)",
        "y = masked(x)",
    ],
)
def test_what_carries_no_small_change_does_not_count(door: Door, cell: str) -> None:
    @tf.function
    def masked(v: Any) -> Any:
        return v**2 * tf.cast(tf.cast(v > 0.5, tf.float16), v.dtype)

    own = names(x=tf.constant([0.3, 0.7]), masked=masked)
    (check,) = door.grad(Case(cell, "y --wrt x --check", own)).checks
    assert check.agrees
    assert check.dtype == "float64"
    assert check.compared == 2


KINKS = [
    ("tf.nn.relu(x)", "0 from below and 1 from above"),
    ("tf.abs(x)", "−1 from below and 1 from above"),
    ("tf.clip_by_value(x, 0.0, 0.9)", "0 from below and 1 from above"),
    ("tf.nn.leaky_relu(x)", "0.2 from below and 1 from above"),
    ("tf.maximum(x, 2*x)", "1 from below and 2 from above"),
    ("tf.abs(x) + tf.exp(x)", "0 from below and 2 from above"),
    ("tf.abs(x)*tf.exp(x)", "−1 from below and 1 from above"),
]


@pytest.mark.parametrize(("cell", "sides"), KINKS)
@pytest.mark.parametrize("constant", ["1.0", "tf.constant(1.0)"])  # the latter allows float32 alone
def test_kinks_are_kinks(door: Door, cell: str, sides: str, constant: str) -> None:
    own = names(x=tf.constant([0.0, 0.7]))
    (check,) = door.grad(Case(f"y = ({cell})*{constant}", "y --wrt x --check", own)).checks
    assert check.agrees
    assert (check.compared, check.elements) == (1, 2)
    assert f"not compared at [0]: a kink, {sides}" in check.note


@pytest.mark.parametrize(
    "cell", ["tf.round(x + 0.5) + x", "tf.floor(x)*0.01 + x", "tf.where(x > 0, x + 0.1, x)"]
)
def test_jumps_are_jumps(door: Door, cell: str) -> None:
    (check,) = door.grad(Case(f"y = {cell}", "y --wrt x --check", names(x=tf.constant([0.0, 0.7])))).checks
    assert check.agrees
    assert check.note == "not compared at [0]: a jump"


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_what_is_0_by_symmetry_agrees(door: Door, scale: float) -> None:
    """The reported derivative is what rounding leaves of it."""
    x = tf.constant(np.linspace(-1, 1, 7), tf.float32)
    own = names(b=tf.Variable(0.0), x=x, scale=scale)
    cell = "y = scale*tf.reduce_sum(1/(1 + (3*x + b)**2))"
    (check,) = door.grad(Case(cell, "y --wrt b --check", own)).checks
    assert check.agrees, check
    assert check.compared == 1
