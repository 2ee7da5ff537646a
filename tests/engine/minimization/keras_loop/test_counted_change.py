"""XLA takes over at a counted step where a run has to give the same bits as another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.engine_choice import counted_change
from tape_magic.engine.minimization.keras_loop import engines
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.way_back import WayBack
from tape_magic.results.minimum import EARLY, MinimizeResult, StopReason

CHANGE, STEPS = 20, 40
ROWS = np.random.default_rng(5).normal(size=(37, 3)).astype("float32")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "counted_change", lambda *_, **__: CHANGE)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that are compiled, whether the run waits for them or not."""
    found: list[str] = []
    begin = LoopBuilder._begin

    def noting(self: LoopBuilder, engine: str, *arguments: Any, **named: Any) -> Any:
        found.append(engine)
        return begin(self, engine, *arguments, **named)

    monkeypatch.setattr(LoopBuilder, "_begin", noting)
    return found


def fitted(steps: int, *, data: bool = False, **more: Any) -> tuple[np.ndarray[Any, Any], MinimizeResult]:
    w = tf.Variable([0.5, -0.5, 0.25])

    def loss(w: Any, rows: Any) -> Any:
        return tf.reduce_mean(tf.exp(tf.sin(tf.linalg.matvec(rows, w)) - 1.0))

    function: Any = loss if data else lambda w: loss(w, tf.constant(ROWS))
    batches = {"data": (ROWS,), "batch": 8} if data else {}
    result = tape_magic.minimize(function, {"w": w}, "adam", steps, lr=0.05, seed=3, **batches, **more)
    return w.numpy(), result


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("cut", [7, CHANGE, CHANGE + 1])
def test_the_same_bits_wherever_it_is_cut(soon: None, tmp_path: Path, cut: int, data: bool) -> None:
    end, whole = fitted(STEPS, data=data)
    _, begun = fitted(cut, data=data, checkpoint=str(tmp_path))
    assert (begun.engine, whole.engine) == ("xla" if cut > CHANGE else "graph", "xla")
    resumed_end, resumed = fitted(STEPS, data=data, checkpoint=str(tmp_path), resume=True)
    np.testing.assert_array_equal(resumed_end, end)
    np.testing.assert_array_equal(resumed.history, whole.history)


def test_the_steps_before_it_are_those_of_the_graph(soon: None) -> None:
    end, _ = fitted(CHANGE)
    expected, _ = fitted(CHANGE, engine="graph")
    np.testing.assert_array_equal(end, expected)


@pytest.mark.parametrize("data", [False, True])
def test_a_short_run_compiles_nothing_for_xla(asked: list[str], data: bool) -> None:
    _, result = fitted(5, data=data)
    assert set(asked) == {"graph"}
    assert (result.engine, result.engine_reason) == ("graph", EARLY)


def test_a_run_that_ends_before_the_change_begins_no_compiler(soon: None, asked: list[str]) -> None:
    fitted(CHANGE - 1)
    assert set(asked) == {"graph"}


def test_convolutions_stay_with_the_graph_on_a_cpu(soon: None, asked: list[str]) -> None:
    kernel = tf.Variable(tf.ones([3, 3, 1, 1]))
    image = tf.ones([1, 6, 6, 1])
    result = tape_magic.minimize(
        lambda: tf.reduce_mean((tf.nn.conv2d(image, kernel, 1, "VALID") - 1.0) ** 2),
        kernel,
        "sgd",
        CHANGE + 2,
        seed=1,
    )
    assert result.engine == "graph"
    assert "convolutions" in result.engine_reason
    assert set(asked) == {"graph"}


def test_a_divergence_leads_back_across_the_change(soon: None) -> None:
    """Each step adds 1/8: the loss is least at w = 1, after 8 steps, and NaN from w = 3.5 on, step 28."""
    w = tf.Variable(0.0)
    result = tape_magic.minimize(
        lambda w: tf.stop_gradient((w - 1.0) ** 2 + tf.sqrt(3.4 - w) * 0.0) - (w - tf.stop_gradient(w)),
        {"w": w},
        "sgd",
        STEPS,
        lr=0.125,
        seed=1,
    )
    assert result.reason is StopReason.DIVERGED
    assert result.engine == "xla"
    assert result.divergence is not None
    assert result.divergence.step == 28
    assert w.numpy() == 1.0


def test_steps_are_repeated_by_the_loop_that_took_them() -> None:
    way = WayBack()
    assert way.taker(5) == (None, None)
    way.taken_until(20, "graph")
    way.taken_until(30, "xla")
    assert [way.taker(step) for step in (0, 19, 20, 29, 30)] == [
        ("graph", 20),
        ("graph", 20),
        ("xla", 30),
        ("xla", 30),
        (None, None),
    ]


@pytest.mark.parametrize("over_data", [False, True])
def test_more_work_in_a_step_makes_compiling_pay_sooner(over_data: bool) -> None:
    few, many = (counted_change(30, elements, over_data=over_data) for elements in (100, 10_000_000))
    assert 1 <= many < few
    assert counted_change(30, None, over_data=over_data) >= few
