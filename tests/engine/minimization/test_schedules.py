"""Schedules and clipping, beside Keras's own on the same steps."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.api.minimize import MinimizeInterrupted
from tape_magic.engine.minimization.composite import Composite, Part, note
from tape_magic.engine.minimization.schedules import Cosine, OneCycle, Plateau
from tape_magic.errors import LineError
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step
from tests.support.covering import covering
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")
START, TARGET = np.array([3.0, -2.0, 0.5], "float32"), np.array([1.0, 0.0, -1.0], "float32")

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(60, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * _RNG.normal(size=(60, 1))).astype("float32")
ROWS = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


def valley(w: Any) -> Any:
    d = w - TARGET
    return tf.reduce_sum(d**2 * (1 + 0.5 * tf.sin(3 * d)))


def run_down(optimizer: Any = "sgd", start: Any = START, **settings: Any) -> tuple[MinimizeResult, Any]:
    w = tf.Variable(start)
    return tape_magic.minimize(valley, [w], optimizer, **settings), w.numpy()


def by_hand(optimizer: Any, rate_of: Callable[[int], Any], steps: int) -> Any:
    w = tf.Variable(START)
    for step in range(steps):
        with tf.GradientTape() as tape:
            loss = valley(w)
        optimizer.learning_rate = rate_of(step)
        optimizer.apply(tape.gradient(loss, [w]), [w])
    return w.numpy()


def test_a_cosine_equals_that_of_keras_to_the_bit() -> None:
    theirs, ours = keras.optimizers.schedules.CosineDecay(0.3, 1000), Cosine()
    base, length = tf.constant(0.3), tf.constant(1000, tf.int64)
    for step in range(1001):
        assert float(ours.rate(base, tf.constant(step, tf.int64), length)) == float(theirs(step))


def test_one_cycle_goes_up_back_and_far_below() -> None:
    def rate(step: int) -> float:
        return float(
            OneCycle().rate(tf.constant(2.0), tf.constant(step, tf.int64), tf.constant(100, tf.int64))
        )

    found = [rate(step) for step in (0, 15, 45, 75, 90, 100)]
    np.testing.assert_allclose(found, [0.2, 0.8, 2.0, 0.8, 0.2, 0.002], rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_steps_at_the_rates_of_its_schedule(engine: str) -> None:
    optimizer = keras.optimizers.Adam(0.05)
    result, end = run_down(optimizer, steps=60, schedule="cosine", engine=engine)
    rates = keras.optimizers.schedules.CosineDecay(0.05, 60)
    np.testing.assert_allclose(end, by_hand(keras.optimizers.Adam(), rates, 60), rtol=2e-6)
    assert float(optimizer.learning_rate) == np.float32(0.05)
    assert result.optimizer == "Adam(0.05), cosine"
    assert result.learning_rate is None
    last = f"{float(rates(59)):.4g}".replace("e-0", "e−")
    assert (
        f"the rate followed a cosine from 0.05 to 0 over 60 steps; at the last step it was {last}"
        in result.notes
    )


@pytest.mark.parametrize("function", [lambda step: 0.1 * 0.9**step, lambda step: 0.1 * math.exp(-step / 9.0)])
def test_a_function_of_the_step_gives_the_rate(function: Callable[[Any], Any]) -> None:
    _, end = run_down(steps=30, schedule=function)
    np.testing.assert_allclose(end, by_hand(keras.optimizers.SGD(), function, 30), rtol=2e-6)
    _, longer = run_down(steps=40, schedule=function)
    np.testing.assert_allclose(longer, by_hand(keras.optimizers.SGD(), function, 40), rtol=2e-6)


def test_a_second_run_of_another_length_compiles_nothing() -> None:
    w = tf.Variable(START)
    optimizer = keras.optimizers.SGD(0.1)

    def loss() -> Any:
        return valley(w)

    first = tape_magic.minimize(loss, [w], optimizer, steps=20, schedule="cosine")
    w.assign(START)
    second = tape_magic.minimize(loss, [w], optimizer, steps=40, schedule="cosine")
    assert second.compile_seconds < first.compile_seconds / 10
    rates = keras.optimizers.schedules.CosineDecay(0.1, 40)
    np.testing.assert_allclose(w.numpy(), by_hand(keras.optimizers.SGD(), rates, 40), rtol=2e-6)


# -- over data, beside fit ---------------------------------------------------------------------------------


def network() -> Any:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")], name="model")


def averaging(kind: str) -> Any:
    if kind == "plain":
        return keras.optimizers.SGD(0.1)
    every = {"ema": None, "ema that overwrites": 7}[kind]
    return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=every)


@pytest.fixture(scope="module", params=["plain", "ema that overwrites"])
def fitted(request: pytest.FixtureRequest) -> tuple[str, Any, Any, float]:
    """What ``fit`` leaves with a plateau: the kind of optimizer, weights, losses of epochs, the last rate."""
    model = network()
    model.compile(averaging(request.param), "mse")
    lower = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5)
    history = model.fit(ROWS, epochs=30, verbose=0, callbacks=[lower]).history
    return request.param, model.get_weights(), history["loss"], history["learning_rate"][-1]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_plateau_and_averages_are_those_of_fit(fitted: Any, engine: str) -> None:
    kind, weights, losses, rate = fitted
    model = network()

    def loss(xb: Any, yb: Any) -> Any:
        return tf.reduce_mean((model(xb) - yb) ** 2)

    result = tape_magic.minimize(
        loss, None, averaging(kind), data=ROWS, epochs=30, schedule="plateau:0.5", engine=engine
    )
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert result.epochs is not None
    np.testing.assert_allclose(result.epochs.loss, losses, rtol=1e-5)
    assert rate < 0.1
    assert any(note.endswith(f"from 0.1 to {rate:.4g}") for note in result.notes)
    assert any("use_ema" in note for note in result.notes) is (kind != "plain")
    assert any("after 10 epochs without a lower loss" in note for note in result.notes)


def test_a_metric_that_is_told_decides_in_place_of_the_loss() -> None:
    optimizer = Composite([Part(keras.optimizers.SGD(0.1))], Plateau(0.5))
    theirs = keras.callbacks.ReduceLROnPlateau(factor=0.5)
    model = network()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    theirs.set_model(model)
    theirs.on_train_begin()
    schedule = optimizer.schedule
    assert schedule is not None
    for epoch, metric in enumerate([3.0, 2.0, *[2.00001] * 11, 1.5, *[1.7] * 24]):
        note(optimizer, metric)
        theirs.on_epoch_end(epoch, {"val_loss": metric})
        for step in range(3):  # the losses of steps fall, and do not count
            schedule.observe(tf.constant(1.0 / (epoch + 1)), tf.constant(step), tf.constant([epoch, step, 8]))
        ours = float(schedule.rate(tf.constant(0.1), 0, 0))
        assert ours == pytest.approx(float(model.optimizer.learning_rate), rel=1e-6)
    assert ours == pytest.approx(0.1 / 8)
    note(keras.optimizers.SGD(), 1.0)  # has no schedule


# -- clipping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "name"), covering(ENGINES, ["SGD", "Adam"]))
def test_clipping_is_that_of_keras(engine: str, name: str) -> None:
    kind = getattr(keras.optimizers, name)
    u, v, theirs = tf.Variable(START), tf.Variable(2.0), [tf.Variable(START), tf.Variable(2.0)]

    def loss(u: Any, v: Any) -> Any:
        return valley(u) * (1 + v**2)

    result = tape_magic.minimize(loss, {"u": u, "v": v}, kind(0.1), steps=25, clip=0.7, engine=engine)
    tape_magic.minimize(loss, {"u": theirs[0], "v": theirs[1]}, kind(0.1, global_clipnorm=0.7), steps=25)
    np.testing.assert_allclose(u.numpy(), theirs[0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(v.numpy(), theirs[1].numpy(), rtol=1e-5)
    # What is recorded is the gradient before it is clipped.
    with tf.GradientTape() as tape:
        value = loss(u, v)
    (norm,) = [tf.norm(one) for one in tape.gradient(value, [u])]
    assert result.variables["u"].gradient_norm == pytest.approx(float(norm), rel=1e-4)


def test_clipped_loops_are_not_those_of_other_runs() -> None:
    w = tf.Variable(START)
    ends = []
    for clip in (None, 0.5, 5e9, 0.5):
        w.assign(START)
        tape_magic.minimize(lambda: valley(w), [w], "sgd", 10, lr=0.1, clip=clip)
        ends.append(w.numpy())
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-6)
    np.testing.assert_array_equal(ends[3], ends[1])
    assert np.abs(ends[1] - ends[0]).max() > 0.1


# -- cut and resumed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "schedule"), covering(ENGINES, ["plateau:0.5", "cosine"]))
def test_a_run_that_was_cut_ends_with_the_same_bits(tmp_path: Path, engine: str, schedule: str) -> None:
    def run(folder: str, *, cut: bool = False, resume: bool = False) -> tuple[MinimizeResult, list[Any]]:
        model, optimizer = network(), averaging("ema")

        def loss(xb: Any, yb: Any) -> Any:
            return tf.reduce_mean((model(xb) - yb) ** 2)

        pressed: list[int] = []

        def press(step: Step) -> None:
            if cut and not pressed:  # after the first chunk, which is short
                pressed.append(step.step)
                signal.raise_signal(signal.SIGINT)

        result = tape_magic.minimize(
            loss,
            None,
            optimizer,
            data=(X, Y),
            batch=8,
            epochs=30,
            seed=4,
            schedule=schedule,
            clip=2.0,
            keep="best",
            engine=engine,
            checkpoint=str(tmp_path / folder),
            resume=resume,
            on_progress=press,
        )
        return result, model.get_weights()

    whole, weights = run("whole")
    with pytest.raises(MinimizeInterrupted) as cut:
        run("cut", cut=True)
    assert 0 < cut.value.result.steps < 240
    resumed, again = run("cut", resume=True)
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert resumed.notes == whole.notes


def test_a_cell_goes_on_with_its_schedule_and_with_another(shell: Notebook) -> None:
    shell.ns.update(tf=tf, w=tf.Variable(START), target=TARGET)
    line, cell = "loss --over w --optimizer adam --lr 0.05 -q", "loss = tf.reduce_sum((w - target)**4)"
    shell.ok(f"%%minimize {line} --steps 300 --schedule plateau\n{cell}")
    whole = shell.ns["w"].numpy()
    shell.ns["w"] = tf.Variable(START)
    shell.ok(f"%%minimize {line} --steps 170 --schedule plateau\n{cell}")
    shell.ok(f"%%minimize {line} --steps 300 --schedule plateau --resume\n{cell}")
    np.testing.assert_array_equal(shell.ns["w"].numpy(), whole)
    shell.ok(f"%%minimize {line} --steps 310 --resume --clip 1\n{cell}")
    assert shell.ns["minimum"].steps == 310


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path)
    run_down(steps=5, schedule="cosine", checkpoint=folder)
    with pytest.raises(
        LineError, match="is of a run with SGD with --schedule cosine, and this one is with SGD;"
    ):
        run_down(steps=9, checkpoint=folder, resume=True)


# -- refusals ----------------------------------------------------------------------------------------------

SCHEDULED = "o = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--clip 0", "--clip is 0; give a number above 0."),
        ("--clip nan", "--clip is nan; give a number above 0."),
        ("--schedule cosin", "did you mean cosine?"),
        ("--schedule plateau:2", "--schedule is plateau:2; give a factor between 0 and 1"),
        ("--schedule 3", "--schedule is 3; give cosine, one-cycle, plateau"),
        ("--schedule cosine", "--schedule cosine depends on the length of the run"),
        ("--schedule cosine --time 5s", "--schedule cosine depends on the length of the run"),
        ("--schedule cosine --steps 5 --optimizer o", "SGD has a schedule already"),
        ("--schedule cosine --steps 5 --optimizer lbfgs", "--schedule goes with Keras optimizers; L-BFGS"),
        ("--clip 1 --optimizer bfgs", "--clip goes with Keras optimizers; bfgs"),
        ('--schedule "lambda s: 0.1" --lr 1 --steps 5', "itself gives the rate: leave --lr out"),
        ('--schedule "lambda s: -1.0" --steps 5', "gives -1 at step 0; give rates of 0 or more"),
        ('--schedule "lambda s: 1/0" --steps 5', "fails at step 0: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_done_is_one_line(shell: Notebook, line: str, said: str) -> None:
    shell.ns.update(tf=tf, keras=keras, w=tf.Variable(START))
    shell.ok(SCHEDULED)
    names = set(shell.names)
    line = line if "--optimizer" in line else f"--optimizer sgd {line}"
    assert said in shell.refused(f"%%minimize loss {line}\nloss = tf.reduce_sum(w**2)")
    assert set(shell.names) == names
    np.testing.assert_array_equal(shell.ns["w"].numpy(), START)
