"""Stop rules, bounds, the best step and tracked scalars, against the same loop in plain Python."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization import log
from tape_magic.errors import LineError, TargetError
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.support.clock import Clock
from tests.support.covering import covering
from tests.support.doors import Case, Door

ENGINES = ("xla", "graph", "eager")

Rule = Callable[[list[float], np.ndarray], bool]


def loss_of(w: Any) -> Any:
    """A curved valley that goes below zero."""
    return (1 - w[0]) ** 2 + 5 * (w[1] - w[0] ** 2) ** 2 - 3.0


CELL = "loss = (1 - w[0])**2 + 5*(w[1] - w[0]**2)**2 - 3.0\nslope = w[0] - w[1]"
START = [-0.5, 1.0]


def plain_loop(optimizer: Any) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """At each step the loss, the variable and the gradient."""
    w = tf.Variable(START, dtype=tf.float64)
    while True:
        with tf.GradientTape() as tape:
            loss = loss_of(w)
        gradient = tape.gradient(loss, w).numpy()
        yield float(loss), w.numpy(), gradient
        optimizer.apply_gradients([(tf.constant(gradient), w)])


def settled(tol: float, patience: int) -> Rule:
    def holds(losses: list[float], gradient: np.ndarray) -> bool:
        last = losses[-patience - 1 :]
        return len(last) > patience and max(last) - min(last) <= tol * max(1.0, abs(losses[-1]))

    return holds


RULES: dict[str, tuple[str, Rule, StopReason]] = {
    "target": ("--target -2.9", lambda losses, _: losses[-1] <= -2.9, StopReason.TARGET),
    "gtol": ("--gtol 0.05", lambda _, gradient: np.linalg.norm(gradient) <= 0.05, StopReason.GRADIENT),
    "tol": ("--tol 1e-4", settled(1e-4, 10), StopReason.TOLERANCE),
    "patience": ("--tol 1e-3 --patience 3", settled(1e-3, 3), StopReason.TOLERANCE),
    "at the start": ("--target 100", lambda losses, _: True, StopReason.TARGET),
}

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd --lr 0.02": lambda: keras.optimizers.SGD(0.02),
    "adam --lr 0.05": lambda: keras.optimizers.Adam(0.05),
}


@functools.cache
def walk(written: str) -> tuple[list[tuple[float, np.ndarray, np.ndarray]], Iterator[Any]]:
    """The steps that the plain loop has taken, and those that are to come."""
    return [], plain_loop(OPTIMIZERS[written]())


def stopped_by_hand(written: str, rule: str) -> tuple[list[float], np.ndarray, float]:
    """The losses, the variable and the norm of the gradient where the rule holds for the first time.

    All rules, engines and doors are held against one plain loop, which takes its hundreds of steps once.
    """
    taken, further = walk(written)
    losses: list[float] = []
    for step in itertools.count():
        if step == len(taken):
            taken.append(next(further))
        loss, values, gradient = taken[step]
        losses.append(loss)
        if step == 3000 or RULES[rule][1](losses, gradient):
            return losses, values, float(np.linalg.norm(gradient))
    raise AssertionError


@pytest.mark.parametrize(
    ("rule", "engine", "written"),
    [
        *((rule, "graph", "sgd --lr 0.02") for rule in RULES),
        *((rule, "xla", "adam --lr 0.05") for rule in RULES),
        (next(iter(RULES)), "eager", "adam --lr 0.05"),
    ],
)
def test_a_rule_stops_at_the_step_of_a_plain_loop(door: Door, rule: str, engine: str, written: str) -> None:
    flags, _, reason = RULES[rule]
    losses, end, norm = stopped_by_hand(written, rule)
    assert len(losses) < 3000, "the case does not stop"
    w = tf.Variable(START, dtype=tf.float64)
    line = f"loss --over w --optimizer {written} --steps 3000 --engine {engine} {flags}"
    result = door.minimize(Case(CELL, line, {"tf": tf, "w": w}))
    assert result.reason is reason
    assert result.converged
    assert result.steps == len(losses) - 1
    np.testing.assert_allclose(result.history, losses, rtol=1e-9)
    np.testing.assert_allclose(w.numpy(), end, rtol=1e-8)
    assert result.variables["w"].gradient_norm == pytest.approx(norm, rel=1e-6)
    assert result.loss == pytest.approx(losses[-1])


def test_a_rule_that_never_holds_leaves_the_limit(door: Door) -> None:
    case = Case(
        CELL, "loss --over w --optimizer adam --steps 20 --target -100 --gtol 0", {"w": tf.Variable(START)}
    )
    result = door.minimize(case)
    assert (result.reason, result.steps, result.converged) == (StopReason.STEPS, 20, False)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rule_that_holds_at_the_last_step_is_the_reason(engine: str) -> None:
    x = tf.Variable(5.0)
    result = tape_magic.minimize(lambda: x, None, "sgd", 3, lr=1.0, target=2.0, engine=engine)
    assert (result.reason, result.steps, result.loss) == (StopReason.TARGET, 3, 2.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_stops_when_its_time_is_up(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day is up within the first chunk that ends beyond 100 steps."""
    clock = Clock()
    monkeypatch.setattr(log, "time", clock)
    x = tf.Variable(1.0, dtype=tf.float64)
    told: list[int] = []

    def tell(step: Step) -> None:
        told.append(step.step)
        clock.sleep(86_400.0 if step.step > 100 else 0.0)

    result = tape_magic.minimize(
        lambda: x**2, None, "sgd", 10**15, lr=1e-12, time=86_400.0, engine=engine, on_progress=tell
    )
    assert result.reason is StopReason.TIME
    assert not result.converged
    late = next(step for step in told if step > 100)
    assert result.steps == late + 1
    rate = float(np.float32(1e-12))
    # Roundings of 10⁻¹⁶ add up.
    assert x.numpy() == pytest.approx((1 - 2 * rate) ** result.steps, rel=1e-7)


@pytest.mark.parametrize(
    ("engine", "steps"), [("xla", 30), ("xla", 12_000), ("graph", 30), ("graph", 12_000), ("eager", 30)]
)
def test_the_best_step_is_kept(engine: str, steps: int) -> None:
    # Down by 1 a step: the slope is 1 everywhere, but the value is |x|.
    turn = steps // 3
    x = tf.Variable(float(turn), dtype=tf.float64)
    result = tape_magic.minimize(
        lambda: x + tf.stop_gradient(tf.abs(x) - x), None, "sgd", steps, lr=1.0, keep="best", engine=engine
    )
    assert result.kept_best
    assert result.best_step == turn
    assert result.loss == result.best_loss == 0.0
    assert result.steps == steps
    assert x.numpy() == 0.0
    assert result.history[-1] == steps - turn


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_step_is_kept_if_it_is_the_best(engine: str) -> None:
    x = tf.Variable(4.0)
    result = tape_magic.minimize(lambda: x**2, None, "sgd", 5, lr=0.25, keep="best", engine=engine)
    assert not result.kept_best
    assert (result.best_step, x.numpy()) == (5, 4.0 / 2**5)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_values_before_a_divergence_can_be_kept(engine: str) -> None:
    x = tf.Variable(2.0)
    result = tape_magic.minimize(
        lambda: tf.where(x > -1.5, (x - 0.5) ** 2, math.nan),
        None,
        "sgd",
        50,
        lr=1.2,
        keep="best",
        engine=engine,
    )
    assert result.reason is StopReason.DIVERGED
    assert result.loss == result.best_loss == min(result.history)
    assert (x.numpy() - 0.5) ** 2 == pytest.approx(result.best_loss)


@pytest.mark.parametrize(("engine", "rule"), covering([*ENGINES, "graph"], ["target", "divergence"]))
def test_the_optimizers_slots_are_those_of_the_step_that_is_reported(engine: str, rule: str) -> None:
    def loss(x: Any) -> Any:
        return tf.where(x > 0.5, x, math.nan) if rule == "divergence" else x

    optimizer, hand = (keras.optimizers.SGD(0.1, momentum=0.5) for _ in range(2))
    x, y = tf.Variable(2.0), tf.Variable(2.0)
    target = 0.55 if rule == "target" else None
    result = tape_magic.minimize(lambda: loss(x), None, optimizer, 100, target=target, engine=engine)
    assert 3 < result.steps < 100
    for _ in range(result.steps):
        hand.apply_gradients([(tf.constant(1.0), y)])
    assert x.numpy() == pytest.approx(y.numpy())
    assert [float(np.asarray(v)) for v in optimizer.variables] == pytest.approx(
        [float(np.asarray(v)) for v in hand.variables]
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_tracked_scalars(door: Door, engine: str) -> None:
    w = tf.Variable(START, dtype=tf.float64)
    line = f"loss --over w --optimizer sgd --lr 0.02 --steps 40 --track slope --engine {engine}"
    result = door.minimize(Case(CELL, line, {"tf": tf, "w": w}))
    hand = tf.Variable(START, dtype=tf.float64)
    optimizer, slopes = keras.optimizers.SGD(0.02), []
    for _ in range(41):
        with tf.GradientTape() as tape:
            loss = loss_of(hand)
        slopes.append(float(hand[0] - hand[1]))
        optimizer.apply_gradients([(tape.gradient(loss, hand), hand)])
    assert list(result.tracked) == ["slope"]
    np.testing.assert_allclose(result.tracked["slope"], slopes, rtol=1e-9)
    np.testing.assert_array_equal(result.tracked_steps["slope"], np.arange(41))
    frame = result.to_frame()
    assert list(frame.columns) == ["loss", "slope"]
    assert len(frame) == 41


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("loss = w[0]**2\ns = w*2", "shape (2,)"),
        ("loss = w[0]**2\ns = 'text'", "str"),
        ("loss = w[0]**2\ns = tf.complex(loss, loss)", "complex"),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.both_doors("cell")
def test_what_cannot_be_tracked(door: Door, engine: str, cell: str, said: str) -> None:
    case = Case(cell, f"loss --over w --track s --engine {engine}", {"tf": tf, "w": tf.Variable(START)})
    refusal = door.refused_minimize(case)
    assert "--track s" in refusal
    assert said in refusal


@pytest.mark.parametrize(("engine", "optimizer"), covering(ENGINES, ["sgd --lr 0.1", "adam --lr 0.1"]))
def test_bounds(door: Door, engine: str, optimizer: str) -> None:
    # (x − 3)² + (v₀ + 2)² + (v₁ − 0.5)² within x ≤ 1 and 0 ≤ v ≤ 1: least at 1 and (0, 0.5).
    cell = "y = (x - 3)**2 + (v[0] + 2)**2 + (v[1] - 0.5)**2"
    line = f'y --over x,v --bounds "x=:1, v=0:top" --optimizer {optimizer} --steps 80 --engine {engine}'
    result = door.minimize(Case(cell, line, {"x": 0.5, "v": np.array([0.7, 0.7]), "top": 1.0}))
    assert result.variables["x"].end == 1.0
    np.testing.assert_allclose(result.variables["v"].end, [0.0, 0.5], atol=0.02)
    assert result.loss == pytest.approx(4 + 4, abs=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_start_outside_of_the_bounds_is_moved_and_said(door: Door, engine: str) -> None:
    line = f'y --over x --bounds "x=2:3" --optimizer sgd --lr 0.1 --steps 10 --engine {engine}'
    result = door.minimize(Case("y = x**2", line, {"x": 7.0}))
    assert result.variables["x"].start == 3.0
    assert result.variables["x"].end == 2.0
    assert any("outside its bounds" in note for note in result.notes)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ("z=0:1", "names z, which is not minimised over"),
        ("x=1:0", "leaves nothing between them"),
        ("x=[1,2]:", "no bound for x of shape ()"),
        ("x='a':", "no bound for x"),
        ("x=float('nan'):", "NaN"),
        ("x=undefined:", "undefined"),
        ("x", "takes"),
        ("x=:", "takes"),
    ],
)
def test_bounds_that_are_refused(shell: Any, bounds: str, said: str) -> None:
    shell.ns["x"] = 1.0
    assert said in shell.refused(f'%%minimize y --over x --bounds "{bounds}"\ny = x**2')


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tol": -1.0}, "tol is -1"),
        ({"gtol": math.nan}, "gtol is nan"),
        ({"target": math.inf}, "finite loss"),
        ({"patience": 3}, "give a tol as well"),
        ({"tol": 1.0, "patience": 0}, "1 or more"),
        ({"keep": "first"}, "is none of last, best"),
        ({"time": -1.0}, "time is -1"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LineError, match=said):
        tape_magic.minimize(lambda x: x**2, {"x": 1.0}, **settings)


def test_a_tracked_name_that_the_cell_never_assigns(shell: Any) -> None:
    shell.ns["x"] = 1.0
    assert "never assigns sloep; did you mean slope?" in shell.refused(
        "%%minimize y --over x --track sloep\ny = x**2\nslope = 2*x"
    )


def test_an_unknown_entry_of_the_functions_dict() -> None:
    with pytest.raises(TargetError, match="never assigns b"):
        tape_magic.minimize(lambda x: {"loss": x**2, "a": x}, {"x": 1.0}, track=["b"], steps=2)


def result_of(**settings: Any) -> MinimizeResult:
    x = tf.Variable(3.0, dtype=tf.float64)
    return tape_magic.minimize(lambda: (x - 1) ** 2, None, "sgd", lr=2**-13, **settings)


@pytest.mark.parametrize("engine", ["xla", "graph"])
def test_a_rule_far_into_a_run(engine: str) -> None:
    """Beyond the steps that are recorded one by one; (x − 1)² falls by (1 − 2⁻¹²)² a step."""
    steps = math.ceil(math.log(1e-3 / 4) / (2 * math.log(1 - 2**-12)))
    assert steps > 12_000
    result = result_of(steps=100_000, target=1e-3, engine=engine)
    assert (result.reason, result.steps) == (StopReason.TARGET, steps)
    assert result.history_steps[-1] == steps
    np.testing.assert_allclose(result.history, 4 * (1 - 2**-12) ** (2.0 * result.history_steps), rtol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_names_of_the_cell_are_those_of_the_best_step(shell: Any, engine: str) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(2.0))
    shell.ok(
        f"%%minimize y --over x --optimizer sgd --lr 1 --steps 9 --keep best --engine {engine} -q\n"
        "y = x + tf.stop_gradient(tf.abs(x) - x)"
    )
    assert float(shell.ns["y"]) == shell.ns["minimum"].loss == 0.0


def test_a_time_alone_is_no_limit_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are the thousand steps that a run takes without one."""
    clock, x = Clock(), tf.Variable(1.0)
    monkeypatch.setattr(log, "time", clock)

    def tell(step: Step) -> None:
        clock.sleep(86_400.0 if step.step > 1000 else 0.0)

    result = tape_magic.minimize(lambda: x * 0, None, "sgd", time=86_400.0, engine="graph", on_progress=tell)
    assert result.reason is StopReason.TIME
    assert result.steps > 1000


@pytest.mark.parametrize(
    ("over", "place"),
    covering(["", "--over model", "--over model.layers"], ["model.layers[0].kernel", "model.layers[0]"]),
)
def test_the_bounds_of_a_part(shell: Any, over: str, place: str) -> None:
    """Of w·v·x = 9 for x = 1 with w ≤ 0.5, which lets v alone go to 18."""
    shell.ok(
        "import keras, tensorflow as tf\nones = lambda: keras.layers.Dense(1, use_bias=False, "
        "kernel_initializer='ones')\nmodel = keras.Sequential([keras.Input((1,)), ones(), ones()])"
    )
    shell.ok(
        f'%%minimize loss {over} --bounds "{place}=:0.5" --optimizer sgd --lr 0.5 --steps 200 -q\n'
        "loss = tf.reduce_sum((model(tf.ones([1, 1])) - 9.0)**2)"
    )
    kernels = [float(variable.numpy().item()) for variable in shell.ns["model"].trainable_variables]
    assert kernels == pytest.approx([0.5, 18.0], rel=1e-4)


def test_spaces_in_bounds(shell: Any) -> None:
    shell.ns["x"] = 1.0
    shell.ok('%%minimize y --over x --bounds "x = 0.5 : 2" --lr 1 --steps 5 -q\ny = x')
    assert shell.ns["x"] == 0.5
