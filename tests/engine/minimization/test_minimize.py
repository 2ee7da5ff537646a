"""Minimisation against hand-written loops and closed forms, on every engine."""

from __future__ import annotations

import functools
import linecache
import math
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tape_magic
from tape_magic.engine.api.minimize import MinimizeInterrupted
from tape_magic.engine.minimization import engine_choice
from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.keras_loop import chunks, eager_loop, engines
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.eager_loop import EagerLoop
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.protocol import Chunk
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.program.lifting import Lifting
from tape_magic.errors import LineError, TapeMagicError, TargetError
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.support.clock import Clock
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

COMPILED = ("xla", "graph")
ENGINES = (*COMPILED, "eager")

TUTORIAL = "y = a*tf.pow(x, 2) + b*x + c"
TUTORIAL_LINE = "y --over x --optimizer sgd --lr 0.01 --steps 1000"


def steps_by_hand(
    loss_of: Callable[[], Any], variables: Sequence[Any], optimizer: Any, steps: int
) -> tuple[list[float], list[list[np.ndarray]], int | None]:
    """A plain Python loop: the losses, the variables at each, and the step where one was not finite.

    Stops there: the last entries are then those of that step.
    """
    losses, values, gradients = [], [], []
    for step in range(steps + 1):
        if step:
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        with tf.GradientTape() as tape:
            loss = loss_of()
        gradients = tape.gradient(loss, variables)
        losses.append(float(loss))
        values.append([variable.numpy() for variable in variables])
        if not all(np.isfinite(tensor).all() for tensor in [loss, *gradients]):
            return losses, values, step
    return losses, values, None


# -- the tutorial -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "lifted"), covering([*ENGINES, "auto"], [False, True, True, False]))
@pytest.mark.both_doors("engine")
def test_tutorial(door: Door, engine: str, lifted: bool) -> None:
    values = {"a": 1.0, "b": -2.0, "c": 1.0} if lifted else {
        "a": tf.constant(1.0), "b": tf.constant(-2.0), "c": tf.constant(1.0)
    }  # fmt: skip
    x = 0.0 if lifted else tf.Variable(0.0)
    result = door.minimize(Case(TUTORIAL, f"{TUTORIAL_LINE} --engine {engine}", {"tf": tf, "x": x, **values}))
    assert result.variables["x"].end == pytest.approx(0.9999985, abs=1e-6)
    assert result.variables["x"].start == 0
    assert result.loss == 0
    assert (result.steps, result.steps_asked, len(result.history)) == (1000, 1000, 1001)
    # By itself it takes a graph, unless the machine is so busy that XLA seems to pay.
    assert result.engine in (COMPILED if engine == "auto" else [engine])
    assert ("before XLA" in result.engine_reason) == (engine == "auto" and result.engine == "graph")
    assert result.reason is StopReason.STEPS
    assert not result.converged
    assert result.optimizer == "SGD(0.01)"
    assert result.learning_rate == pytest.approx(0.01)
    assert result.divergence is None
    assert result.notes == ()
    if not lifted:
        assert x.numpy() == result.variables["x"].end


@pytest.mark.parametrize("engine", ENGINES)
def test_gradient_norm_is_that_at_the_end(engine: str) -> None:
    w = tf.Variable([3.0, -4.0])
    result = tape_magic.minimize(lambda: tf.reduce_sum(w**2), None, "sgd", 3, lr=0.1, engine=engine)
    (change,) = result.variables.values()
    assert change.gradient_norm == pytest.approx(np.linalg.norm(2 * w.numpy()))
    assert change.end.tolist() == w.numpy().tolist()


# -- the history ----------------------------------------------------------------------------------------


def rosenbrock(w: Any) -> Any:
    return tf.reduce_sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


VALLEY = [-1.2, 1.0, -0.5]


@functools.cache
def valley_by_hand(optimizer: Callable[[], Any]) -> tuple[list[float], np.ndarray]:
    """Sixty steps from there, once for all engines."""
    hand = tf.Variable(VALLEY)
    losses, values, _ = steps_by_hand(lambda: rosenbrock(hand), [hand], optimizer(), 60)
    return losses, values[-1][0]


@pytest.mark.parametrize(
    ("optimizer", "engine"),
    covering(
        [
            lambda: keras.optimizers.SGD(1e-4),
            lambda: keras.optimizers.SGD(1e-4, momentum=0.9, nesterov=True),
            lambda: keras.optimizers.Adam(0.05, amsgrad=True),
            lambda: keras.optimizers.RMSprop(0.01, centered=True, momentum=0.5),
            lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)),
            lambda: keras.optimizers.SGD(1e-2, clipnorm=1.0),
        ],
        ENGINES,
    ),
)
def test_history_is_that_of_a_loop_by_hand(engine: str, optimizer: Callable[[], Any]) -> None:
    losses, end = valley_by_hand(optimizer)
    w = tf.Variable(VALLEY)
    result = tape_magic.minimize(lambda: rosenbrock(w), None, optimizer(), len(losses) - 1, engine=engine)
    assert result.history.dtype == np.float64
    np.testing.assert_allclose(result.history, losses, rtol=2e-4)
    np.testing.assert_allclose(w.numpy(), end, rtol=1e-3)
    assert result.loss == result.history[-1]
    assert result.start_loss == result.history[0]
    assert result.best_loss == result.history.min()
    assert result.best_step == result.history.argmin()


@given(
    eigenvalues=st.lists(st.floats(0.1, 2.0), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
    steps=st.integers(0, 40),
)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_quadratics_follow_their_closed_form_on_every_engine(
    eigenvalues: list[float], seed: int, steps: int
) -> None:
    """With gradient descent, x_k = x* + (I − ηA)^k (x_0 − x*)."""
    generator = np.random.default_rng(seed)
    size, rate = len(eigenvalues), 0.375  # a rate that float32 holds exactly
    basis = np.linalg.qr(generator.normal(size=(size, size)))[0]
    matrix = basis @ np.diag(eigenvalues) @ basis.T
    least, start = generator.normal(size=(2, size))
    away = [
        basis @ ((1 - rate * np.array(eigenvalues)) ** k * (basis.T @ (start - least)))
        for k in range(steps + 1)
    ]
    expected = [0.5 * d @ matrix @ d for d in away]
    a, m = tf.constant(matrix), tf.constant(least)

    def loss(x: Any) -> Any:
        d = x - m
        return 0.5 * tf.tensordot(d, tf.linalg.matvec(a, d), 1)

    for engine in ENGINES:
        result = tape_magic.minimize(loss, {"x": start}, "sgd", steps, lr=rate, engine=engine)
        np.testing.assert_allclose(result.history, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result.variables["x"].end, least + away[-1], rtol=1e-9, atol=1e-12)
        assert result.steps == steps
        assert result.variables["x"].end.dtype == np.float64


@pytest.mark.parametrize("engine", ENGINES)
def test_no_steps(door: Door, engine: str) -> None:
    x = tf.Variable(3.0)
    result = door.minimize(Case("y = x**2", f"y --over x --steps 0 --engine {engine}", {"tf": tf, "x": x}))
    assert result.history.tolist() == [9.0]
    assert (result.steps, result.best_step) == (0, 0)
    assert result.loss == result.start_loss == result.best_loss == 9.0
    assert x.numpy() == 3.0
    assert result.variables["x"].gradient_norm == 6.0
    assert result.steps_per_second == 0.0


@pytest.mark.parametrize("engine", ENGINES)
def test_best_is_not_last(engine: str) -> None:
    x = tf.Variable(1.0)  # from 1 over −0.1 to 0.6 and so on
    result = tape_magic.minimize(
        lambda: x**2, None, keras.optimizers.SGD(0.55, momentum=0.9), 3, engine=engine
    )
    losses, _, _ = steps_by_hand(
        lambda: hand**2, [hand := tf.Variable(1.0)], keras.optimizers.SGD(0.55, momentum=0.9), 3
    )
    np.testing.assert_allclose(result.history, losses, rtol=1e-5)
    assert 0 < result.best_step < 3
    assert result.best_loss < result.loss == pytest.approx(losses[-1], rel=1e-5)
    assert x.numpy() ** 2 == pytest.approx(result.loss)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("steps", [1, 2, 17, 18, 4321])
def test_steps_are_exact(engine: str, steps: int) -> None:
    x = tf.Variable(0.0, dtype=tf.float64)
    result = tape_magic.minimize(lambda: -x, None, "sgd", steps, lr=1.0, engine=engine)
    assert result.steps == steps
    assert x.numpy() == steps
    np.testing.assert_array_equal(result.history, -np.arange(steps + 1.0))


def test_chunks_of_a_long_run_join_without_a_seam() -> None:
    x = tf.Variable(0.0, dtype=tf.float64)
    seen: list[Step] = []
    result = tape_magic.minimize(
        lambda: -x, None, "sgd", 2_500_000, lr=1.0, engine="xla", on_progress=seen.append
    )
    assert result.steps == x.numpy() == 2_500_000
    np.testing.assert_array_equal(result.history, -result.history_steps.astype(float))
    np.testing.assert_array_equal(result.history_steps[:10_001], np.arange(10_001))
    assert result.history_steps[-1] == 2_500_000
    assert (np.diff(result.history_steps) > 0).all()
    assert 1_000 < len(result.history) - 10_001 <= 10_000
    assert [step.step for step in seen] == sorted({step.step for step in seen})
    assert (seen[0].step, seen[-1].step) == (0, 2_500_000)
    for step in seen:
        assert step.loss == -step.step
        assert step.best_loss == step.loss
        assert (step.steps, step.engine) == (2_500_000, "xla")
    assert sorted(step.seconds for step in seen) == [step.seconds for step in seen]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_chunk_is_a_twentieth_of_a_second(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clock on which each step takes a millisecond, a chunk has fifty steps."""
    clock = Clock(runs=False)
    for module in (engines, eager_loop):
        monkeypatch.setattr(module, "time", clock)
    advance, step = CompiledLoop.advance, EagerLoop._step

    def advanced(
        self: CompiledLoop, position: Position, end: int, stretch: int, waiter: CompileWaiter
    ) -> Chunk:
        chunk = advance(self, position, end, stretch, waiter)
        clock.sleep(1e-3 * (chunk.position.step - position.step))
        return chunk

    def stepped(self: EagerLoop, position: Position) -> Any:
        clock.sleep(1e-3)
        return step(self, position)

    monkeypatch.setattr(CompiledLoop, "advance", advanced)
    monkeypatch.setattr(EagerLoop, "_step", stepped)
    seen: list[int] = []
    x = tf.Variable(1.0)
    tape_magic.minimize(
        lambda: x**2, None, "sgd", 1000, lr=1e-3, engine=engine, on_progress=lambda now: seen.append(now.step)
    )
    chunks = np.diff(seen)[2:-2]
    assert len(chunks) > 12
    assert 49 <= chunks.min() <= chunks.max() <= 51


# -- divergence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "lost_at"),
    [
        ("xla", 1),
        ("xla", 65),
        ("xla", 66),
        ("graph", 2),
        ("graph", 65),
        ("graph", 100),
        ("eager", 3),
        ("eager", 66),
    ],
)
def test_stops_at_the_very_step_and_puts_the_last_finite_values_back(engine: str, lost_at: int) -> None:
    """x falls by 1 a step, and the loss is NaN from 0 on; chunks end at 1 and 65."""
    x = tf.Variable(float(lost_at))
    result = tape_magic.minimize(
        lambda: tf.where(x > 0.5, x, math.nan), None, "sgd", 1000, lr=1.0, engine=engine
    )
    assert result.reason is StopReason.DIVERGED
    assert not result.converged
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.what) == (lost_at, "loss")
    assert math.isnan(result.divergence.loss)
    assert result.steps == lost_at - 1
    assert x.numpy() == 1.0
    (change,) = result.variables.values()
    assert change.end == 1.0
    assert change.gradient_norm == 1.0
    np.testing.assert_array_equal(result.history, np.arange(lost_at, 0, -1))
    assert result.loss == result.best_loss == 1.0


@pytest.mark.parametrize(
    ("engine", "loss_of", "start", "rate"),
    [
        ("xla", lambda x: x**4, 1.0, 10.0),
        ("graph", lambda x: -tf.exp(x), 1.0, 0.1),
        ("eager", lambda x: x + tf.math.log(x), 1.0, 0.3),
        ("graph", lambda x: -(x**2), 1.0, 5.0),
        ("xla", lambda x: tf.sqrt(x), 1.0, 2.0),
    ],
    ids=["quartic", "exponential", "logarithm", "concave", "root"],
)
def test_diverges_where_a_loop_by_hand_does(
    engine: str, loss_of: Callable[[Any], Any], start: float, rate: float
) -> None:
    hand, x = tf.Variable(start), tf.Variable(start)
    losses, values, lost_at = steps_by_hand(lambda: loss_of(hand), [hand], keras.optimizers.SGD(rate), 500)
    assert lost_at, "the case does not diverge"
    result = tape_magic.minimize(lambda: loss_of(x), None, "sgd", 500, lr=rate, engine=engine, keep="last")
    what = "gradient" if math.isfinite(losses[-1]) else "loss"
    last = lost_at if what == "gradient" else lost_at - 1
    assert result.reason is StopReason.DIVERGED
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.what) == (lost_at, what)
    assert result.steps == last
    np.testing.assert_allclose(result.history, losses[: last + 1], rtol=1e-4)
    np.testing.assert_allclose(x.numpy(), values[last][0], rtol=1e-4)
    assert np.isfinite(x.numpy())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("loss_of", "start", "what"), [
    (lambda x: x * math.nan, 2.0, "loss"),
    (lambda x: x * math.inf, 2.0, "loss"),
    (lambda x: tf.sqrt(x), 0.0, "gradient"),
])  # fmt: skip
def test_not_finite_at_the_start_changes_nothing(
    engine: str, loss_of: Callable[[Any], Any], start: float, what: str
) -> None:
    x = tf.Variable(start)
    result = tape_magic.minimize(lambda: loss_of(x), None, "sgd", 10, lr=0.1, engine=engine)
    assert result.reason is StopReason.DIVERGED
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.what) == (0, what)
    assert x.numpy() == start
    assert (result.steps, result.best_step, len(result.history)) == (0, 0, 1)
    np.testing.assert_equal([result.loss, result.best_loss, result.start_loss], 3 * [float(loss_of(start))])


@pytest.mark.parametrize("engine", ENGINES)
def test_divergence_in_one_of_several_variables_puts_all_back(engine: str) -> None:
    calm, wild = tf.Variable([1.0, 2.0]), tf.Variable(1.0)
    result = tape_magic.minimize(
        lambda: tf.reduce_sum(calm**2) + wild**4, None, "sgd", 50, lr=1.0, engine=engine
    )
    # (1 − 2)·calm each step: only its sign changes.
    assert result.divergence is not None
    sign = (-1) ** result.divergence.values_of
    assert calm.numpy().tolist() == [1.0 * sign, 2.0 * sign]
    assert np.isfinite(wild.numpy())
    assert result.loss == pytest.approx(5 + wild.numpy() ** 4)


# -- what can be minimised over -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["xla", "graph"])
def test_histories_of_several_chunks_follow_the_closed_form(engine: str) -> None:
    # x_k - 1 = (1 - 2 rate)^k (x_0 - 1), and more steps than a graph's buffer holds.
    rate, steps = 1e-4, 10_000
    result = tape_magic.minimize(
        lambda x: (x - 1) ** 2, {"x": np.array(3.0)}, "sgd", steps, lr=rate, engine=engine
    )
    expected = 4 * (1 - 2 * rate) ** (2.0 * np.arange(steps + 1))
    assert result.steps == steps
    np.testing.assert_allclose(result.history, expected, rtol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_structures(engine: str) -> None:
    class Affine(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable([2.0])
            self.fixed = tf.Variable(5.0, trainable=False)

    module, layer = Affine(), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    layer.build((None, 1))
    own, keras_own = tf.Variable(3.0), keras.Variable(4.0)
    sources = {
        "m": module,
        "k": layer,
        "p": {"list": [own, keras_own], "float": 5.0},
        "t": (6.0, np.array([7.0, 8.0])),
    }

    def loss(m: Any, k: Any, p: Any, t: Any) -> Any:
        total = tf.reduce_sum(m.w**2) + m.fixed + tf.reduce_sum(k(tf.ones([1, 1])) ** 2)
        total += p["list"][0] ** 2 + tf.convert_to_tensor(p["list"][1]) ** 2 + p["float"] ** 2
        return total + t[0] ** 2 + tf.reduce_sum(t[1] ** 2)

    result = tape_magic.minimize(loss, sources, "sgd", 1, lr=0.25, engine=engine)
    ends = {name: change.end.tolist() for name, change in result.variables.items()}
    assert ends == {
        "w": [1.0],
        "kernel": [[0.5]],
        "p['list'][0]": 1.5,
        "p['list'][1]": 2.0,
        "p['float']": 2.5,
        "t[0]": 3.0,
        "t[1]": [3.5, 4.0],
    }
    assert module.w.numpy().tolist() == [1.0]
    assert module.fixed.numpy() == 5.0
    assert own.numpy() == 1.5
    assert np.asarray(keras_own.value) == 2.0
    assert type(sources["p"]["float"]) is float
    assert result.loss == pytest.approx(1 + 5 + 0.25 + 1.5**2 + 4 + 6.25 + 9 + 3.5**2 + 16)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variable_that_the_loss_does_not_reach_is_left_alone(engine: str) -> None:
    """Weight decay would move it: an optimizer gets only what has a gradient."""
    x, idle = tf.Variable(1.0), tf.Variable(7.0)
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    result = tape_magic.minimize(lambda x, idle: x**2, {"x": x, "idle": idle}, optimizer, 5, engine=engine)
    assert idle.numpy() == 7.0
    assert x.numpy() < 1.0
    assert result.variables["idle"].gradient_norm is None
    assert result.variables["x"].gradient_norm is not None
    assert any("does not depend on idle" in note for note in result.notes)


@pytest.mark.parametrize("engine", ENGINES)
def test_variables_are_those_that_the_function_reads(engine: str) -> None:
    read, other = tf.Variable(1.0, name="read"), tf.Variable(1.0)
    fixed = tf.Variable(3.0, trainable=False)
    result = tape_magic.minimize(lambda: read**2 * fixed, None, "sgd", 1, lr=0.1, engine=engine)
    assert list(result.variables) == ["read"]
    assert (read.numpy(), other.numpy(), fixed.numpy()) == (pytest.approx(0.4), 1.0, 3.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variable_that_is_not_trainable_can_be_named(engine: str) -> None:
    x = tf.Variable(1.0, trainable=False)
    tape_magic.minimize(lambda x: x**2, {"x": x}, "sgd", 1, lr=0.25, engine=engine)
    assert x.numpy() == 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_of_lookups(engine: str) -> None:
    table = tf.Variable(tf.ones([4, 2]))
    tape_magic.minimize(
        lambda: tf.reduce_sum(tf.gather(table, [1, 1, 3]) ** 2), None, "sgd", 1, lr=0.125, engine=engine
    )
    assert table.numpy().tolist() == [[1, 1], [0.5, 0.5], [1, 1], [0.75, 0.75]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(engine: str, dtype: str) -> None:
    x = tf.Variable(tf.cast([1.0, -2.0], dtype))
    result = tape_magic.minimize(lambda: tf.reduce_sum(x * x), None, "sgd", 4, lr=0.25, engine=engine)
    assert tf.cast(x, tf.float32).numpy().tolist() == [1 / 16, -1 / 8]
    assert result.history.tolist() == [5.0, 1.25, 0.3125, 0.078125, 0.01953125]
    (change,) = result.variables.values()
    assert change.end.dtype == x.numpy().dtype


@pytest.mark.parametrize("engine", ENGINES)
def test_a_keras_model(engine: str) -> None:
    inputs = tf.constant(np.random.default_rng(0).normal(size=(64, 3)), tf.float32)
    targets = inputs @ tf.constant([[1.0], [-2.0], [0.5]]) + 3.0
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    result = tape_magic.minimize(
        lambda model: tf.reduce_mean((model(inputs) - targets) ** 2),
        {"model": model},
        "adam",
        400,
        lr=0.1,
        engine=engine,
    ) if engine != "eager" else tape_magic.minimize(
        lambda: tf.reduce_mean((model(inputs) - targets) ** 2), None, "sgd", 60, lr=0.3, engine=engine
    )  # fmt: skip
    kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    np.testing.assert_allclose(kernel.ravel(), [1.0, -2.0, 0.5], atol=0.02)
    np.testing.assert_allclose(bias, [3.0], atol=0.02)
    assert len(result.variables) == 2


# -- engines --------------------------------------------------------------------------------------------


@pytest.fixture
def xla_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA is tried after the first steps, however few are left."""
    monkeypatch.setattr(LoopBuilder, "begin", LoopBuilder.compiled)  # and waited for
    for name in ("XLA_LEAST", "XLA_SHARE"):
        monkeypatch.setattr(engine_choice, name, 0.0)
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)


@pytest.mark.usefixtures("xla_at_once")
@pytest.mark.parametrize("door", ["function"], indirect=True)
def test_auto_steps_down_to_a_graph_and_says_why(door: Door) -> None:
    cell = "z = 1.0\ny = tf.strings.to_number(tf.strings.as_string(x)) + (x - z)**2"
    result = door.minimize(
        Case(cell, "y --over x --optimizer sgd --lr 0.1 --steps 5", {"tf": tf, "x": tf.Variable(0.0)})
    )
    assert result.engine == "graph"
    assert "XLA" in result.engine_reason
    assert "AsString" in result.engine_reason
    assert "line 3" in result.engine_reason
    assert result.steps == 5


def test_auto_steps_down_to_eager_and_names_the_line(shell: Any) -> None:
    shell.ns.update(tf=tf, np=np, x=tf.Variable(2.0))
    shell.ok("%%minimize y --over x --optimizer sgd --lr 0.1 --steps 5\ny = (x - 1)**2\ns = np.sin(y)")
    result = shell.ns["minimum"]
    assert result.engine == "eager"
    assert "line 3" in result.engine_reason
    assert "np.sin" in result.engine_reason
    assert shell.ns["s"] == pytest.approx(np.sin(result.loss))
    assert result.steps == 5


@pytest.mark.parametrize("engine", COMPILED)
def test_an_engine_that_was_asked_for_and_cannot_is_refused_with_the_line(shell: Any, engine: str) -> None:
    x = tf.Variable(2.0)
    shell.ns.update(tf=tf, np=np, x=x)
    said = shell.refused(f"%%minimize y --over x --engine {engine}\nz = x\ny = np.square(z) + np.sin(x)")
    assert f"--engine {engine}" in said
    assert "line 3" in said
    assert x.numpy() == 2.0


@pytest.mark.parametrize("door", ["function"], indirect=True)
def test_xla_that_was_asked_for_and_lacks_a_kernel_is_refused_with_operation_and_line(door: Door) -> None:
    x = tf.Variable(2.0)
    cell = "z = 1.0\ny = tf.strings.to_number(tf.strings.as_string(x)) + (x - z)**2"
    said = door.refused_minimize(Case(cell, "y --over x --engine xla", {"tf": tf, "x": x}))
    assert "AsString" in said
    assert "line 3" in said
    assert x.numpy() == 2.0


def test_the_line_of_a_function_converted_from_another_file_is_not_told() -> None:
    """AutoGraph converts equal functions once, and its lines are those of the first one's file."""
    text = "def f(x):\n    return tf.strings.to_number(tf.strings.as_string(x)) + x**2\n"
    functions = []
    for filename in ("<one file of a test>", "<another file of a test>"):
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        home: dict[str, Any] = {"tf": tf}
        exec(compile(text, filename, "exec"), home)
        functions.append(home["f"])
    said = []
    for function in functions:
        with pytest.raises(TapeMagicError) as caught:
            tape_magic.minimize(function, tf.Variable(2.0), "sgd", 5, engine="xla")
        said.append(str(caught.value))
    assert all("AsString" in each for each in said)
    assert "line 2" in said[0]
    assert "line" not in said[1]


@pytest.mark.usefixtures("xla_at_once")
@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_branches_and_loops_on_tensors(door: Door, engine: str) -> None:
    cell = (
        "if x > 2:\n    y = x**2\nelse:\n    y = 3*x\n"
        "total = 0.0\nfor i in tf.range(3):\n    total += tf.cast(i, tf.float32)*x\n"
        "n = 0\nwhile tf.cast(n, tf.float32) < x:\n    n += 1\n"
        "loss = y + total + 0.0*tf.cast(n, tf.float32)"
    )
    x = tf.Variable(3.0)
    result = door.minimize(
        Case(
            cell, f"loss --over x --optimizer sgd --lr 0.125 --steps 3 --engine {engine}", {"tf": tf, "x": x}
        )
    )
    # The slope is 2x + 3 above 2, and 6 below.
    assert result.history.tolist() == [18.0, 9.375 + 1.875, 6.75, 2.25]
    assert x.numpy() == 3.0 - 9 / 8 - 6 / 8 - 6 / 8
    assert result.engine == ("xla" if engine == "auto" else engine), result.engine_reason


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("cell", [
    "y = tf.reduce_sum(tf.map_fn(lambda v: v*x, tf.constant([1., 2.])))",
    "y = tf.reduce_sum(tf.scan(lambda s, v: s*x + v, tf.constant([1., 2.])))",
    "y = tf.cond(x > 0, lambda: x**2, lambda: x)",
    "y = lstm(x*tf.ones([1, 3, 1]))[0, 0]",
    "y = 0.\nfor row in tf.constant([[1., 2.], [3., 4.]]):\n    y += tf.reduce_sum(row)*x",
])  # fmt: skip
def test_gradients_through_loops_compile(engine: str, cell: str, shell: Any) -> None:
    lstm = keras.layers.LSTM(1)
    lstm(tf.ones([1, 3, 1]))
    x = tf.Variable(0.5)
    shell.ns.update(tf=tf, x=x, lstm=lstm)
    home = {"tf": tf, "x": x, "lstm": lstm}

    def loss() -> Any:
        exec(cell, home)
        return home["y"]

    losses, _, _ = steps_by_hand(loss, [x], keras.optimizers.SGD(0.01), 3)
    x.assign(0.5)
    shell.ok(f"%%minimize y --over x --optimizer sgd --lr 0.01 --steps 3 --engine {engine}\n{cell}")
    np.testing.assert_allclose(shell.ns["minimum"].history, losses, rtol=1e-5)


def test_a_function_of_python_runs_as_a_graph(door: Door) -> None:
    """What `tf.py_function` returns has a shape that only running it tells."""
    cell = "y = tf.py_function(lambda v: (v - 1)**2, [x], tf.float32)"
    x = tf.Variable(0.0)
    result = door.minimize(Case(cell, "y --over x --optimizer sgd --lr 0.25 --steps 2", {"tf": tf, "x": x}))
    assert result.engine == "graph"
    assert result.history.tolist() == [1.0, 0.25, 0.0625]


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_what_has_no_gradient_is_refused_by_name(door: Door, engine: str) -> None:
    cell = "y = x**2 + tf.image.adjust_saturation(x * tf.ones([1, 1, 3]), 2.)[0, 0, 0]"
    said = door.refused_minimize(
        Case(cell, f"y --over x --engine {engine}", {"tf": tf, "x": tf.Variable(1.0)})
    )
    assert "AdjustSaturation" in said
    assert "gradient" in said


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("trainable", [True, False])
def test_state_that_the_cell_keeps_in_a_variable_counts_each_evaluation_once(
    engine: str, trainable: bool
) -> None:
    x, count = tf.Variable(1.0, trainable=trainable), tf.Variable(0, trainable=False)

    def loss() -> Any:
        count.assign_add(1)
        return x**2

    tape_magic.minimize(loss, None if trainable else {"x": x}, "sgd", 7, lr=0.1, engine=engine)
    assert count.numpy() == 8


@pytest.mark.parametrize(("engine", "start"), covering(ENGINES, [1.0, 1e5, math.inf]))
def test_divergence_leaves_finite_statistics(engine: str, start: float) -> None:
    """A batch normalisation keeps moving averages beside the variables that are minimised over."""
    x, mean = tf.Variable(start), tf.Variable(0.0, trainable=False)

    def loss() -> Any:
        mean.assign(0.5 * mean + 0.5 * x**4)
        return x**4

    result = tape_magic.minimize(loss, None, "sgd", 50, lr=10.0, engine=engine)
    assert result.divergence is not None
    expected = 0.0
    last = result.divergence.values_of
    for value in result.history[: last + 1] if math.isfinite(start) else []:
        expected = 0.5 * expected + 0.5 * value
    assert mean.numpy() == pytest.approx(expected)


def test_an_evaluation_that_fails_leaves_the_variables_of_the_cell_as_before(shell: Any) -> None:
    class Counter(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.count = tf.Variable(0, trainable=False)

    x, counter = tf.Variable(1.0), Counter()
    shell.ns.update(tf=tf, x=x, counter=counter)
    run = shell.run(
        "%%minimize y --over x --optimizer sgd --lr 0.1 --steps 9 --engine eager\n"
        "counter.count.assign_add(1)\n"
        "if int(counter.count) == 4:\n    1/0\n"
        "y = x**2"
    )
    assert isinstance(run.error, ZeroDivisionError)
    assert counter.count.numpy() == 3
    assert x.numpy() == pytest.approx(0.8**3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variable_of_the_functions_own_is_refused_where_it_would_be_new_at_each_step(engine: str) -> None:
    x = tf.Variable(1.0)

    def loss() -> Any:
        return (x * tf.Variable(2.0)) ** 2

    with pytest.raises(TargetError, match=r"creates a variable.*cell above"):
        tape_magic.minimize(loss, [x], "sgd", 2, lr=0.01, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_that_are_built_by_their_first_call(engine: str) -> None:
    # From a constant start: from a random one, a step may land beyond a minimum that is near.
    dense = functools.partial(keras.layers.Dense, kernel_initializer="zeros")
    model = keras.Sequential([dense(2, bias_initializer="ones"), dense(1)])
    result = tape_magic.minimize(
        lambda: tf.reduce_mean((model(tf.ones([4, 3])) - 1) ** 2), None, "sgd", 3, lr=0.01, engine=engine
    )
    assert len(result.variables) == 4
    assert result.start_loss == 1.0
    assert result.loss < result.start_loss


def test_what_the_cell_leaves_belongs_to_the_last_evaluation(shell: Any) -> None:
    for engine in ENGINES:
        generator = tf.random.Generator.from_seed(3)
        shell.ns.update(tf=tf, x=tf.Variable(1.0), generator=generator)
        shell.ok(
            f"%%minimize y --over x --lr 1e-3 --steps 3 --engine {engine}\ny = x**2 + generator.normal([])"
        )
        if engine != "xla":  # which draws other normal numbers from the same state
            assert shell.ns["y"].numpy() == pytest.approx(shell.ns["minimum"].loss)
        same = tf.random.Generator.from_seed(3)
        for _ in range(4):
            same.normal([])
        assert generator.state.numpy().tolist() == same.state.numpy().tolist()


# -- seeds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["graph", "eager", "auto"])
def test_a_seed_makes_two_runs_the_same_to_the_bit(engine: str) -> None:
    def run(seed: int) -> tuple[list[float], Any]:
        x = tf.Variable([1.0, 2.0])
        result = tape_magic.minimize(
            lambda: tf.reduce_sum((x + tf.random.normal([2]) * random.random()) ** 2),
            None,
            "adam",
            20,
            lr=0.1,
            engine=engine,
            seed=seed,
        )
        assert result.engine == ("graph" if engine == "auto" else engine)
        assert ("RandomStandardNormal" in result.engine_reason) == (engine == "auto")
        return result.history.tolist(), x.numpy().tolist()

    first, second, other = run(1), run(1), run(2)
    assert first == second
    assert first != other
    assert len(set(first[0])) == 21


def test_random_numbers_are_drawn_anew_at_each_step() -> None:
    # With a seed, TensorFlow begins the numbers of an operation anew in each function that it is called from.
    tf.random.set_seed(None)
    for engine in ENGINES:
        x = tf.Variable(1.0)
        result = tape_magic.minimize(
            lambda x=x: x * 0 + tf.random.normal([]), None, "sgd", 20, lr=0.1, engine=engine
        )
        assert len(set(result.history)) == 21, engine


@pytest.mark.parametrize("engine", ENGINES)
def test_two_runs_without_random_numbers_agree_to_the_bit(engine: str) -> None:
    def run() -> list[float]:
        w = tf.Variable([-1.2, 1.0, 0.3])
        return tape_magic.minimize(
            lambda: rosenbrock(w), None, "adam", 50, lr=0.1, engine=engine, seed=3
        ).history.tolist()

    assert run() == run()


@pytest.mark.parametrize(
    ("cell", "engine"),
    covering(
        [
            "loss = mean(model(X, training=True))",
            "loss = mean(dropped(X))",
            "loss = mean(listed[0](model(X), training=True))",
            "loss = mean(net.drop(model(X), training=True))",
            "loss = mean(logged(X))",
            "loss = mean(model(X) + generator.normal([]))",
        ],
        ["xla", "graph", "eager"],
    ),
)
def test_a_seed_sets_random_layers_back(shell: Notebook, engine: str, cell: str) -> None:
    """Random layers and generators count the numbers that they gave, from run to run."""
    shell.ok(
        "import functools, keras, tensorflow as tf\n"
        "model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)])\n"
        "X, start = tf.ones((16, 8)), model.get_weights()\n"
        "generator, listed = tf.random.Generator.from_seed(1), [keras.layers.Dropout(0.5)]\n"
        "class Net:\n    drop = keras.layers.Dropout(0.5)\n"
        "net = Net()\n"
        "def mean(x):\n    return tf.reduce_mean((x - 1.0)**2)\n"
        "def dropped(x):\n    return model(x, training=True)\n"
        "@functools.wraps(model)\ndef logged(x):\n    return model(x, training=True)"
    )
    histories = []
    for seed in (3, 3, 4):
        shell.ok("model.set_weights(start)")
        shell.ok(
            f"%%minimize loss --over model --lr 0.01 --steps 5 --seed {seed} --engine {engine} -q\n{cell}"
        )
        histories.append(shell.ns["minimum"].history.tolist())
    assert histories[0] == histories[1] != histories[2]


def test_xla_with_random_numbers_and_a_seed_is_refused(door: Door) -> None:
    said = door.refused_minimize(
        Case(
            "y = x**2 + tf.random.normal([])",
            "y --over x --engine xla --seed 1",
            {"tf": tf, "x": tf.Variable(1.0)},
        )
    )
    assert "seed" in said
    assert "RandomStandardNormal" in said


# -- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("y = x*tf.constant([1., 2.])", r"y has shape \(2,\); reduce it .*tf\.reduce_mean\(y\)"),
        ("y = tf.constant(2.)", r"y does not depend on x"),
        ("y = z**2", r"y does not depend on x"),
        ("y = 3.0", r"y is a float, not a tensor"),
        ("y = tf.cast(x, tf.complex64)", r"y is complex64, and a loss must be a real number"),
        ("y = tf.cast(x, tf.int32)", r"y is int32, and a loss must be a real number"),
    ],
)
@pytest.mark.both_doors("cell")
def test_losses_that_cannot_be_minimised(door: Door, engine: str, cell: str, said: str) -> None:
    x, z = tf.Variable(1.0), tf.Variable(2.0)
    line = f"y --over x --steps 3 --engine {engine}"
    sentence = door.refused_minimize(Case(cell, line, {"tf": tf, "x": x, "z": z}))
    if door.name == "function":  # it returns the loss without a name
        said = said.replace("y ", "(the last expression|the loss) ").replace(r"\(y\)", r"\(loss\)")
    import re

    assert re.search(said, sentence), sentence
    assert (x.numpy(), z.numpy()) == (1.0, 2.0)


@pytest.mark.parametrize(("value", "said"), [
    (3, "x is an integer, and integers have no derivative: write x = 3.0"),
    (True, "x is the bool True"),
    ("text", "x is the str 'text'"),
    (None, "x is None, which has no derivative"),
    (np.array([1, 2]), "x is an array of int64"),
    (tf.constant(2), "x is int32"),
    (tf.Variable(1 + 2j), "complex128"),
    (1 + 2j, "complex64"),
    (object(), "x is an object"),
])  # fmt: skip
@pytest.mark.both_doors("value")
def test_sources_that_cannot_be_minimised_over(door: Door, value: Any, said: str) -> None:
    sentence = door.refused_minimize(Case("y = tf.abs(x)**2", "y --over x --steps 3", {"tf": tf, "x": value}))
    assert said in sentence


def test_nothing_to_minimise_over(door: Door) -> None:
    said = door.refused_minimize(Case("y = tf.constant(1.0)", "y", {"tf": tf}))
    assert "no trainable variable" in said
    assert "--over" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "xl"}, "the engine 'xl' is none of auto, xla, graph, eager; did you mean xla?"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"steps": True}, "steps is True"),
        ({"lr": -0.1}, "learning rate is -0.1"),
        ({"lr": math.nan}, "learning rate is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
    ],
)
def test_arguments_of_the_function_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LineError) as caught:
        tape_magic.minimize(lambda x: x**2, {"x": 1.0}, **settings)
    assert said in str(caught.value)


def test_a_function_that_cannot_be_called() -> None:
    with pytest.raises(LineError, match="cannot be called"):
        tape_magic.minimize(3.0, {"x": 1.0})  # type: ignore[arg-type]


# -- errors of the user's -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_the_users_exception_passes_as_it_is(engine: str) -> None:
    mine = ValueError("mine")

    def loss(x: Any) -> Any:
        raise mine

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match=r"^mine$") as caught:
        tape_magic.minimize(loss, {"x": 1.0}, engine=engine)
    assert caught.value is mine
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_an_error_at_a_later_step_is_the_programs_own(engine: str) -> None:
    x = tf.Variable(0.0)

    def loss() -> Any:
        tf.debugging.assert_less(x, 0.5)
        return (x - 1) ** 2

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tape_magic.minimize(loss, None, "sgd", 100, lr=0.1, engine=engine)
    assert "Graph execution error" not in str(caught.value)
    assert any(entry.name == "loss" for entry in caught.traceback)


def test_an_error_of_the_listener_ends_the_run_and_gives_everything_back() -> None:
    sources = {"p": {"x": 1.0}}

    def listener(step: Step) -> None:
        raise RuntimeError("listener")

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="listener"):
        tape_magic.minimize(lambda p: p["x"] ** 2, sources, "adam", on_progress=listener)
    # After a whole step: the first one of Adam is as long as its rate.
    assert sources == {"p": {"x": pytest.approx(0.999)}}
    assert type(sources["p"]["x"]) is float
    assert signal.getsignal(signal.SIGINT) is handler


# -- interrupts -----------------------------------------------------------------------------------------


def interrupting(at: int, times: int = 1) -> Callable[[Step], None]:
    """A listener that presses Ctrl-C when a step is reached."""

    def listen(step: Step) -> None:
        if step.step >= at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return listen


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_gives_the_result_so_far(engine: str) -> None:
    def rosenbrock_from_afar() -> tuple[Any, Callable[[], Any]]:
        w = tf.Variable([-1.2, 1.0, 0.3])
        return w, lambda: rosenbrock(w)

    handler = signal.getsignal(signal.SIGINT)
    w, loss = rosenbrock_from_afar()
    with pytest.raises(MinimizeInterrupted) as caught:
        tape_magic.minimize(loss, None, "adam", 10**8, lr=0.01, engine=engine, on_progress=interrupting(20))
    result: MinimizeResult = caught.value.result
    assert signal.getsignal(signal.SIGINT) is handler
    assert isinstance(caught.value, KeyboardInterrupt)
    assert result.reason is StopReason.INTERRUPTED
    assert not result.converged
    assert 20 <= result.steps < 10**8
    assert result.steps_asked == 10**8
    assert len(result.history) == result.steps + 1
    (change,) = result.variables.values()
    assert change.end.tolist() == w.numpy().tolist()
    again, loss = rosenbrock_from_afar()
    fresh = tape_magic.minimize(loss, None, "adam", result.steps, lr=0.01, engine=engine)
    assert fresh.history.tolist() == result.history.tolist()
    assert again.numpy().tolist() == w.numpy().tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_interrupt_gets_out_at_once(engine: str) -> None:
    handler = signal.getsignal(signal.SIGINT)
    sources = {"p": [1.0]}
    with pytest.raises(KeyboardInterrupt) as caught:
        tape_magic.minimize(
            lambda p: p[0] ** 2, sources, "sgd", 10**8, engine=engine, on_progress=interrupting(1, times=2)
        )
    assert not isinstance(caught.value, MinimizeInterrupted)
    assert signal.getsignal(signal.SIGINT) is handler
    assert type(sources["p"][0]) is float


def test_interrupts_while_the_sources_are_given_back_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's floats are floats again, and the interrupts still stop what comes after the cell."""
    give_back = Lifting.give_back

    def pressed_twice(*arguments: Any, **keywords: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        give_back(*arguments, **keywords)

    monkeypatch.setattr(Lifting, "give_back", pressed_twice)
    sources = {"p": [1.0]}
    with pytest.raises(MinimizeInterrupted) as caught:
        tape_magic.minimize(lambda p: p[0] ** 2, sources, "sgd", 5)
    assert caught.value.result.steps == 5
    assert type(sources["p"][0]) is float


def test_an_interrupt_in_the_last_chunk_is_not_lost() -> None:
    with pytest.raises(MinimizeInterrupted) as caught:
        tape_magic.minimize(lambda x: x**2, {"x": 1.0}, "sgd", 5, on_progress=interrupting(5))
    assert caught.value.result.steps == 5


def test_an_interrupt_while_the_program_is_traced_stops_before_the_first_step() -> None:
    x = tf.Variable(3.0)

    def loss() -> Any:
        signal.raise_signal(signal.SIGINT)
        return x**2

    with pytest.raises(KeyboardInterrupt):
        tape_magic.minimize(loss, None, "sgd", 5, engine="graph")
    assert x.numpy() == 3.0


def test_off_the_main_thread_it_runs_without_signals() -> None:
    found: list[MinimizeResult] = []
    thread = threading.Thread(
        target=lambda: found.append(tape_magic.minimize(lambda x: x**2, {"x": 1.0}, "adam", steps=3))
    )
    thread.start()
    thread.join(300)
    assert found[0].steps == 3


def test_a_signal_from_outside() -> None:
    """It comes at any moment of a compiled run, and finds a whole step."""
    x, y = (tf.Variable(1.0, dtype=tf.float64) for _ in range(2))
    running = threading.Event()

    def send() -> None:
        assert running.wait(300)
        os.kill(os.getpid(), signal.SIGINT)

    def tell(step: Step) -> None:
        if step.step:
            running.set()

    sender = threading.Thread(target=send)
    sender.start()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(MinimizeInterrupted) as caught:
        # Weeks on any machine: the signal finds it running.
        tape_magic.minimize(lambda: x**2, None, "sgd", 10**15, lr=1e-9, engine="xla", on_progress=tell)
    sender.join()
    result = caught.value.result
    assert signal.getsignal(signal.SIGINT) is handler
    assert result.reason is StopReason.INTERRUPTED
    assert result.steps > 0
    tape_magic.minimize(lambda: y**2, None, "sgd", result.steps, lr=1e-9, engine="xla")
    assert x.numpy() == y.numpy()


# -- the result -----------------------------------------------------------------------------------------


def test_the_result_as_plain_values_and_as_a_frame() -> None:
    result = tape_magic.minimize(lambda x: x**2, {"x": 1.0}, "sgd", 3, lr=0.25)
    plain = result.to_dict()
    assert plain["history"] == [1.0, 0.25, 0.0625, 0.015625]
    assert plain["variables"] == {"x": {"start": 1.0, "end": 0.125, "gradient_norm": 0.25}}
    assert (plain["steps"], plain["reason"], plain["converged"]) == (3, "steps", False)
    frame = result.to_frame()
    assert frame.index.name == "step"
    assert frame["loss"].tolist() == plain["history"]
    assert repr(result) == "<MinimizeResult: _ = 0.015625 after 3 steps, step limit>"
    with pytest.raises(AttributeError):
        result.loss = 0.0  # type: ignore[misc]
    assert result.seconds >= result.compile_seconds > 0
    assert result.steps_per_second > 0


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_a_model_that_the_run_builds_begins_at_its_first_values_and_within_its_bounds(engine: str) -> None:
    model = keras.Sequential([keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")])
    rows = tf.ones([4, 3])
    result = tape_magic.minimize(
        lambda model: tf.reduce_sum(model(rows) ** 2),
        {"model": model},
        "sgd",
        lr=1e-6,
        steps=2,
        engine=engine,
        bounds={"model": (None, 0.5)},
    )
    kernel, bias = result.variables.values()
    np.testing.assert_array_equal(kernel.start, np.full((3, 2), 0.5))
    np.testing.assert_array_equal(bias.start, [0.5, 0.5])
    assert result.start_loss == result.history[0] == 4 * 2 * 2.0**2
    assert any("began outside its bounds" in note for note in result.notes)


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_the_first_loss_is_that_within_the_bounds(engine: str) -> None:
    x, seen = tf.Variable(3.0), tf.Variable(0)

    def loss(x: Any) -> Any:
        seen.assign_add(1)
        return x**2

    options: dict[str, Any] = {"lr": 0.25, "steps": 2, "engine": engine, "bounds": {"x": (0.0, 1.0)}}
    result = tape_magic.minimize(loss, {"x": x}, "sgd", **options)
    assert result.history.tolist() == [1.0, 0.25, 0.0625]
    assert int(seen) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_whole_numbers_may_be_numpys(engine: str) -> None:
    """NumPy's integers overflow, and have dtypes of their own in TensorFlow."""
    found = tape_magic.minimize(
        lambda x: (x - 1) ** 2, {"x": 0.0}, "sgd", np.uint8(200), engine=engine, seed=np.int32(3)
    )
    assert found.steps == 200
    over = tape_magic.minimize(
        lambda x, batch: tf.reduce_mean((x - batch) ** 2),
        {"x": 0.0},
        "sgd",
        np.int64(20),
        data=np.ones((6, 2), np.float32),
        batch=np.int32(2),
        epochs=np.uint8(9),
        engine=engine,
    )
    assert (over.steps, over.steps_asked) == (20, 20)
