"""Stop and pause as the engine hears of them: between chunks, with whole steps and the clock stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.api.minimize import MinimizeInterrupted, minimize_program
from tape_magic.engine.minimization import control, log
from tape_magic.engine.minimization.norms import norm_of
from tape_magic.engine.minimization.scipy_solver import iterations
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step, Wish
from tests.support.clock import Clock


def wishing(*wishes: Wish) -> Any:
    """What the buttons say each time that they are asked; the last one from then on."""
    said: Iterator[Wish] = iter(wishes)
    return lambda: next(said, wishes[-1])


def minimized(
    wish: Any, optimizer: str = "sgd", told: list[Step] | None = None, **settings: Any
) -> MinimizeResult:
    w = tf.Variable([-1.2, 1.0, 0.5], dtype=tf.float64)

    def loss() -> Any:
        return tf.reduce_sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)

    asked = Settings(optimizer=optimizer, steps=10**8, lr=1e-5 if optimizer == "sgd" else None, **settings)
    tell = [].append if told is None else told.append
    result = minimize_program(FunctionProgram(loss, {}), {}, None, None, asked, tell, wish=wish).result
    (change,) = result.variables.values()
    np.testing.assert_array_equal(change.end, w.numpy())
    assert float(loss()) == pytest.approx(result.loss, rel=1e-12)
    assert result.history_steps[-1] == result.steps
    return result


@pytest.mark.parametrize(
    ("optimizer", "engine"),
    [("sgd", "xla"), ("sgd", "graph"), ("sgd", "eager"), ("nelder-mead", "graph")],
)
def test_a_stop_ends_the_run_after_a_whole_step(
    optimizer: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SciPy's runs are told of each evaluation, so that few of them are enough.
    monkeypatch.setattr(iterations, "PROGRESS_SECONDS", 0.0)
    more = {} if optimizer == "sgd" else {"tol": 0.0}
    told: list[Step] = []

    def wish() -> Wish:
        return Wish.STOP if len(told) >= 10 and told[-1].step > 0 else Wish.GO_ON

    result = minimized(wish, optimizer, told, engine=engine, **more)
    assert result.reason is StopReason.STOPPED
    assert not result.converged
    assert result.steps > 0


def test_a_stop_before_the_first_chunk_applies_no_step() -> None:
    assert minimized(wishing(Wish.STOP)).steps == 0


@pytest.mark.parametrize("optimizer", ["sgd", "nelder-mead"])
def test_a_pause_takes_no_time_and_no_steps(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has an hour, and is paused for ten: it does not end because its time is up."""
    clock = Clock()
    for part in (control, log, iterations):
        monkeypatch.setattr(part, "time", clock)
    monkeypatch.setattr(control, "PAUSE_SECONDS", 1800.0)
    more = {} if optimizer == "sgd" else {"tol": 0.0}
    began = clock.perf_counter()
    wishes = *[Wish.GO_ON] * 2, *[Wish.PAUSE] * 20, Wish.GO_ON, Wish.STOP
    result = minimized(wishing(*wishes), optimizer, engine="graph", time=3600.0, **more)
    assert result.reason is StopReason.STOPPED
    assert 0 < result.seconds < 3600
    assert clock.perf_counter() - began > 36_000


def test_a_paused_run_hears_an_interrupt() -> None:
    asked = []

    def wish() -> Wish:
        asked.append(1)
        if len(asked) == 5:
            signal.raise_signal(signal.SIGINT)
        return Wish.PAUSE

    with pytest.raises(MinimizeInterrupted) as caught:
        minimized(wish)
    assert caught.value.result.reason is StopReason.INTERRUPTED
    assert len(asked) == 5


def test_a_step_knows_the_history_the_small_variables_and_what_is_tracked() -> None:
    seen: list[Step] = []
    x, big = tf.Variable(2.0), tf.Variable(tf.ones(100))

    def loss() -> dict[str, Any]:
        return {"loss": x**2 + tf.reduce_sum(big**2), "half": x / 2}

    import tape_magic

    def told(step: Step) -> None:
        # Read now, since all of it is as it is when it is asked for.
        assert set(step.variables) == {"Variable"}
        assert step.more_variables == 1  # the large one
        steps, losses = step.history
        assert steps.tolist() == list(range(len(losses)))
        assert len(losses) > step.step
        assert losses[step.step] == pytest.approx(step.loss)
        seen.append(step)

    result = tape_magic.minimize(loss, None, "sgd", 3000, lr=0.001, track=["half"], on_progress=told)
    assert seen
    last = seen[-1]
    assert (last.step, last.loss_name, last.first_step) == (3000, "loss", 0)
    np.testing.assert_array_equal(last.history[1], result.history)
    assert last.tracked["half"] == pytest.approx(float(x) / 2)
    assert last.variables["Variable"] == x.numpy()
    assert Step(1, 2, 0.5, 0.5, 1.0, "xla").history[0].size == 0
    assert Step(1, 2, 0.5, 0.5, 1.0, "xla").variables == {}


def test_norms_of_any_size() -> None:
    for scale in (1e300, 1.0, 1e-300):
        assert norm_of(tf.constant([3.0, 4.0], tf.float64) * scale) == pytest.approx(5 * scale)
    assert norm_of(tf.zeros(3)) == 0.0
    assert np.isnan(norm_of(tf.constant([np.nan, 1.0])))
    assert norm_of(tf.zeros(0)) == 0.0


def test_a_step_shows_the_norms_of_a_models_layers() -> None:
    import tape_magic

    seen: list[Step] = []
    layers = [tf.keras.layers.Dense(3, name="hidden"), tf.keras.layers.Dense(1, name="out")]
    model = tf.keras.Sequential([tf.keras.Input((2,)), *layers])
    tape_magic.minimize(
        lambda: tf.reduce_mean(model(tf.ones((1, 2))) ** 2), model, "sgd", 5, on_progress=seen.append
    )
    last = seen[-1]
    assert (last.variables, last.more_variables) == ({}, 0)
    expected = {
        layer.name: np.linalg.norm(np.concatenate([w.ravel() for w in layer.get_weights()]))
        for layer in layers
    }
    assert last.layers == pytest.approx(expected)
    assert Step(1, 2, 0.5, 0.5, 1.0, "xla").layers == {}


def test_a_step_shows_eight_variables_and_counts_the_others() -> None:
    import tape_magic

    seen: list[Step] = []
    many = [tf.Variable(float(i)) for i in range(20)]
    tape_magic.minimize(
        lambda _: tf.add_n([one**2 for one in many]), {"many": many}, "sgd", 5, on_progress=seen.append
    )
    assert (len(seen[-1].variables), seen[-1].more_variables) == (8, 12)
