"""What a run that diverges puts back: the values of its lowest loss, as near as steps lead there again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.keras_loop.way_back import Position, Stretches
from tape_magic.results.minimum import MinimizeResult, StopReason
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")

# The slope is 1 everywhere, so that a step of rate 1 leads one down; the value falls to 0, jumps to 19, 38
# and 57, and is no number from −4 on.
CELL = "y = tf.where(x > -0.5, x, tf.where(x > -3.5, x - 20*tf.stop_gradient(x), float('nan')))"


def valley(x: Any) -> Any:
    return tf.where(x > -0.5, x, tf.where(x > -3.5, x - 20 * tf.stop_gradient(x), math.nan))


def run(x: Any, engine: str, optimizer: Any = "sgd", steps: int = 50, **options: Any) -> MinimizeResult:
    if optimizer == "sgd":
        options["lr"] = 1.0
    return tape_magic.minimize(lambda: valley(x), None, optimizer, steps, engine=engine, **options)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_values_of_the_lowest_loss_are_put_back(engine: str) -> None:
    x = tf.Variable(12.0)
    result = run(x, engine)
    assert result.divergence is not None
    assert (result.reason, result.divergence.step) == (StopReason.DIVERGED, 16)
    assert (result.divergence.values_of, result.best_step, result.kept_best) == (12, 12, True)
    assert x.numpy() == result.loss == result.best_loss == 0.0
    (change,) = result.variables.values()
    assert (change.end, change.gradient_norm) == (0.0, 1.0)
    # The history goes on to where the run diverged.
    assert result.steps == 15
    assert result.history.tolist() == [*range(12, -1, -1), 19, 38, 57]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_finite_values_can_be_asked_for(engine: str) -> None:
    x = tf.Variable(12.0)
    result = run(x, engine, keep="last")
    assert result.divergence is not None
    assert (result.divergence.values_of, result.kept_best) == (15, False)
    assert (x.numpy(), result.loss, result.best_loss) == (-3.0, 57.0, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_best_that_was_asked_for_is_the_same(engine: str) -> None:
    x = tf.Variable(12.0)
    result = run(x, engine, keep="best")
    assert result.divergence is not None
    assert (result.divergence.values_of, x.numpy(), result.loss) == (12, 0.0, 0.0)


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_the_lowest_loss_is_many_chunks_ago(engine: str) -> None:
    """The losses of 12,000 steps rise before it diverges, and chunks grow to 4,096 steps at most."""
    x = tf.Variable(15_000.0, dtype=tf.float64)
    result = tape_magic.minimize(
        lambda: tf.where(x > -12_000.5, x - 2 * tf.stop_gradient(tf.minimum(x, 0.0)), math.nan),
        None,
        "sgd",
        100_000,
        lr=1.0,
        engine=engine,
    )
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.values_of) == (27_001, 15_000)
    assert (x.numpy(), result.loss, result.steps) == (0.0, 0.0, 27_000)
    assert result.history_steps[-1] == 27_000
    assert result.history[-1] == 12_000


@pytest.mark.parametrize("engine", ENGINES)
def test_the_optimizers_slots_go_back_too(engine: str) -> None:
    optimizer, hand = (keras.optimizers.SGD(0.25, momentum=0.5) for _ in range(2))
    x, y = tf.Variable(12.0), tf.Variable(12.0)
    result = run(x, engine, optimizer)
    for _ in range(result.best_step):
        hand.apply_gradients([(tf.constant(1.0), y)])
    assert 12 < result.best_step < result.steps
    assert x.numpy() == pytest.approx(y.numpy())
    assert [float(np.asarray(v)) for v in optimizer.variables] == pytest.approx(
        [float(np.asarray(v)) for v in hand.variables]
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_last_evaluation_is_not_finite(engine: str) -> None:
    x = tf.Variable(12.0)
    result = run(x, engine, steps=16)
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.values_of, x.numpy()) == (16, 12, 0.0)
    assert result.history.tolist() == [*range(12, -1, -1), 19, 38, 57]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gradient_that_is_not_finite_where_the_loss_is_lowest(engine: str) -> None:
    """√x falls by a step of exactly 1 to 0, where its slope is infinite."""
    x = tf.Variable(1.0)
    result = tape_magic.minimize(lambda: tf.sqrt(x), None, "sgd", 9, lr=2.0, engine=engine)
    assert result.divergence is not None
    assert (result.divergence.what, result.divergence.step, result.divergence.values_of) == ("gradient", 1, 1)
    assert (x.numpy(), result.loss) == (0.0, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_goes_on_from_where_the_variables_stand(shell: Notebook, engine: str) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(12.0))
    line = f"%%minimize y --over x --optimizer sgd --lr 1 --engine {engine} -q"
    shell.ok(f"{line} --steps 50\n{CELL}")
    shell.ok(f"{line} --steps 14 --resume\n{CELL}")
    again = shell.ns["minimum"]
    assert (again.first_step, again.steps) == (12, 14)
    assert again.history.tolist() == [*range(12, -1, -1), 19, 38]


def test_a_checkpoint_is_where_the_variables_stand(tmp_path: Path) -> None:
    x = tf.Variable(12.0)
    run(x, "graph", checkpoint=str(tmp_path / "run"))
    x.assign(99.0)
    result = run(x, "graph", steps=14, checkpoint=str(tmp_path / "run"), resume=True)
    assert result.first_step == 12
    assert result.history.tolist() == [*range(12, -1, -1), 19, 38]


# -- over data ------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(0).normal(size=(640, 3)).astype("float32")


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_over_data_that_run_away_go_back_to_the_start(engine: str) -> None:
    w = tf.Variable(np.zeros((3, 1), "float32"))
    result = tape_magic.minimize(
        lambda a: tf.reduce_mean((a @ w - tf.reduce_sum(a, 1, keepdims=True)) ** 2),
        None,
        "sgd",
        lr=10.0,
        data=(ROWS,),
        epochs=50,
        engine=engine,
        seed=1,
    )
    assert result.divergence is not None
    assert result.divergence.values_of == 0
    assert result.loss < 10.0
    np.testing.assert_array_equal(w, np.zeros((3, 1)))


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_over_data_that_fall_until_one_is_not_finite_stay(engine: str) -> None:
    """The second pass meets a row of infinity after 19 batches that lowered the loss."""
    rows = ROWS.copy()
    rows[-1] = np.inf
    w = tf.Variable(np.zeros((3, 1), "float32"))
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(32)
    result = tape_magic.minimize(
        lambda a: tf.reduce_mean((a @ w - tf.reduce_sum(a, 1, keepdims=True)) ** 2),
        None,
        "sgd",
        lr=0.05,
        data=batches,
        engine=engine,
    )
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.values_of) == (19, 18)
    assert result.loss < 0.2 * result.start_loss


def test_the_best_stretch() -> None:
    """Means are compared: 50 steps about 2, 50 about 1 with one of 9, and then what rises or does not."""
    here = [tf.Variable(0.0)]

    def after(*losses: list[float]) -> Stretches:
        stretches, step = Stretches(), 0
        for part in losses:
            stretches.begin(Position(step, ()), here, [tf.constant(float(step))])
            stretches.add(np.array(part))
            step += len(part)
        return stretches

    low, high = [9.0] + [1.0] * 49, [2.0] * 50
    for losses, step in (
        ((high, low, [3.0, 40.0, 500.0]), 50),
        ((low, high, [3.0, 400.0]), 0),
        ((high, low, [0.5, 0.4, 0.3]), None),
        (([5.0, 70.0, 900.0, math.inf],), 0),
        (([5.0, 4.0, math.nan],), None),
        (([1.0, 1.8],), None),  # one batch is no other
        (([],), None),
    ):
        mark = after(*losses).best()
        assert (None if mark is None else mark[0].step) == step, losses
