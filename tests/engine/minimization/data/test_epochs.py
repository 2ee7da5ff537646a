"""The numbers of a run over data are those of an epoch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.display.describe import describe
from tape_magic.display.text.render import to_text
from tape_magic.engine.values.rows import rows_of
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.support.covering import covering

ENGINES = ("xla", "graph", "eager")

X = np.arange(11.0, dtype="float32")
"""In batches of four, the last of which has three."""

ROWS = [4, 4, 3]


def dataset() -> Any:
    return tf.data.Dataset.from_tensor_slices(X).batch(4)


KINDS: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (X,),
    "dataset": dataset,
    "of unknown length": lambda: dataset().filter(lambda _: True),
    "list": lambda: [X[k : k + 4] for k in range(0, 11, 4)],
    "generator function": lambda: functools.partial(iter, [X[k : k + 4] for k in range(0, 11, 4)]),
}


def loss_of(w: Any, rows: Any) -> Any:
    loss = tf.reduce_mean((w - rows) ** 2)
    return {"loss": loss, "distance": tf.reduce_mean(tf.abs(w - rows))}


def run(data: Any, engine: str = "graph", **more: Any) -> MinimizeResult:
    settings: dict[str, Any] = {"lr": 0.05, "track": ["distance"], "engine": engine, "seed": 3, **more}
    if isinstance(data, tuple):
        settings |= {"batch": 4}
    return tape_magic.minimize(loss_of, {"w": 0.0}, "sgd", data=data, **settings)


def by_rows(batches: np.ndarray[Any, Any], rows: list[int]) -> np.ndarray[Any, Any]:
    """The means of epochs, from the values of their batches."""
    return np.average(batches.reshape(-1, len(rows)), axis=1, weights=rows)


@pytest.mark.parametrize(("engine", "kind"), covering(ENGINES, KINDS))
def test_the_means_weigh_each_batch_by_its_rows(engine: str, kind: str) -> None:
    result = run(KINDS[kind](), engine, epochs=4)
    epochs = result.epochs
    assert epochs is not None
    assert (epochs.whole, result.stretches, result.reason) == (True, None, StopReason.EPOCHS)
    assert epochs.epoch.tolist() == [1, 2, 3, 4]
    assert epochs.steps.tolist() == [3, 6, 9, 12]
    np.testing.assert_allclose(epochs.loss, by_rows(result.history[:-1], ROWS), rtol=1e-14)
    distances = by_rows(result.tracked["distance"][:-1], ROWS)
    np.testing.assert_allclose(epochs.tracked["distance"], distances, rtol=1e-14)
    assert (result.loss, result.best_loss) == (epochs.loss[-1], epochs.loss.min())
    assert result.best_step == epochs.steps[epochs.loss.argmin()]
    assert len(result.history) == 13  # still the loss of each step


def test_they_are_those_of_fit() -> None:
    x, y = X[:, None] / 10, (3 * X[:, None] + 1) / 10
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)

    def model() -> Any:
        made = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, kernel_initializer="ones")])
        made.compile(keras.optimizers.SGD(0.05), "mse")
        return made

    fitted, own = model(), model()
    losses = fitted.fit(data, epochs=3, shuffle=False, verbose=0).history["loss"]
    result = tape_magic.minimize(
        lambda xb, yb: tf.reduce_mean((own(xb) - yb) ** 2), None, "sgd", lr=0.05, data=data, epochs=3
    )
    np.testing.assert_allclose(result.epochs.loss, losses, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_is_cut_within_an_epoch_has_the_same_means(tmp_path: Path, engine: str) -> None:
    whole = run(KINDS["arrays"](), engine, epochs=3)
    run(KINDS["arrays"](), engine, steps=4, checkpoint=str(tmp_path / "run"))
    resumed = run(KINDS["arrays"](), engine, epochs=3, checkpoint=str(tmp_path / "run"), resume=True)
    for one in (whole, resumed):
        assert one.epochs is not None
    assert resumed.epochs.to_dict() == whole.epochs.to_dict()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_that_is_taken_back_is_of_no_epoch(engine: str) -> None:
    """The sixth batch, the last of the second epoch, finds w at -1/8, where the loss is not finite."""
    rows = [np.float32(row) for row in (1, 2, 3)]
    result = tape_magic.minimize(
        lambda w, r: tf.where(w < 0, math.nan, w) * r,
        {"w": 1.0},
        "sgd",
        lr=0.125,
        data=rows,
        epochs=3,
        engine=engine,
        keep="last",
    )
    assert result.reason is StopReason.DIVERGED
    assert result.epochs is not None
    assert result.epochs.steps.tolist() == [3]
    assert result.epochs.loss.tolist() == [(1.0 + 0.875 * 2 + 0.625 * 3) / 3]


def test_a_run_that_ends_within_an_epoch_shows_the_last_one_that_was_finished() -> None:
    result = run(KINDS["arrays"](), steps=8)
    assert result.epochs is not None
    assert result.epochs.steps.tolist() == [3, 6]
    assert result.loss == result.epochs.loss[-1]
    assert "(mean of epoch 2) at step 8" in to_text(describe(result))


@pytest.mark.parametrize("data", [dataset().repeat(), (np.tile(X, 30),)], ids=["endless", "under one epoch"])
def test_where_no_epoch_is_finished_the_means_are_those_of_equal_stretches(data: Any) -> None:
    result = run(data, steps=40)
    epochs = result.epochs
    assert epochs is not None
    assert (epochs.whole, len(epochs), epochs.lengths.tolist()) == (False, 10, [4] * 10)
    assert epochs.epoch.tolist() == [1] * 10
    if not isinstance(data, tuple):
        assert epochs.loss[-1] == pytest.approx(np.average(result.history[36:40], weights=[4, 4, 3, 4]))
    assert result.loss == epochs.loss[-1]
    text = to_text(describe(result))
    assert "(mean of the last 4 batches) at step 40" in text
    assert "tracked   first 4 batches  last 4 batches" in text


def test_where_an_epoch_is_one_batch_its_numbers_are_those_of_the_step() -> None:
    """All rows are in each loss, so that the loss at the end is that at the final values."""
    result = run(list(X[None]), epochs=20, keep="best")
    assert result.epochs is not None
    np.testing.assert_array_equal(result.epochs.loss, result.history[:-1])
    assert result.means is None
    assert result.loss == result.history[-1] < result.epochs.loss[-1]
    assert "mean" not in to_text(describe(result))


RISES = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.05, 9.0])
"""A rate that is too large in the third epoch."""


@pytest.mark.parametrize(("engine", "steps"), covering(ENGINES, [12, 14]))
def test_the_best_is_the_end_of_the_best_epoch(engine: str, steps: int) -> None:
    """The lowest loss of a batch is not there, and neither is the end of the run."""
    result = run(dataset(), engine, lr=RISES, steps=steps, keep="best")
    assert result.epochs is not None
    best = result.epochs.best
    assert best == 1
    assert result.history.argmin() not in (5, 6)
    end = run(dataset(), engine, lr=RISES, steps=6).variables["w"].end
    assert result.variables["w"].end == end
    assert (result.kept_best, result.loss, result.best_step) == (True, result.epochs.loss[best], 6)
    text = " ".join(to_text(describe(result)).split())
    assert "(mean of epoch 2) at step 6 · the values after it were kept, the best of 4 epochs" in text


def test_the_last_epoch_may_be_the_best() -> None:
    result = run(dataset(), epochs=4, keep="best")
    assert (result.kept_best, result.loss) == (False, result.best_loss)


def test_keep_best_without_an_epoch_says_so() -> None:
    result = run(dataset().repeat(), steps=5, keep="best")
    assert not result.kept_best
    assert any("by whole epochs, and none was finished" in note for note in result.notes)


def test_a_run_goes_on_with_the_best_epoch_before_its_cut(tmp_path: Path) -> None:
    """The second epoch is the best, and the run is cut in the third."""
    folder = str(tmp_path / "run")
    whole = run(dataset(), lr=RISES, steps=12, keep="best")
    run(dataset(), lr=RISES, steps=8, keep="best", checkpoint=folder)
    resumed = run(dataset(), lr=RISES, steps=12, keep="best", checkpoint=folder, resume=True)
    assert resumed.variables["w"].end == whole.variables["w"].end
    assert (resumed.kept_best, resumed.loss) == (True, whole.loss)


def test_what_a_display_is_told_while_it_runs() -> None:
    seen: list[Step] = []
    result = run(KINDS["arrays"](), epochs=40, on_progress=seen.append)
    assert result.epochs is not None
    for step in seen:
        finished = (step.step + 1) // 3
        if 2 <= finished < 40:
            assert step.loss == result.epochs.loss[finished - 1]
            assert step.best_loss == result.epochs.loss[:finished].min()
            assert step.tracked == {"distance": result.epochs.tracked["distance"][finished - 1]}
            assert step.means is not None
            assert step.means.steps.tolist() == result.epochs.steps[:finished].tolist()
    assert (seen[-1].loss, seen[-1].best_loss) == (result.loss, result.best_loss)


def test_above_the_start_is_said_only_beyond_the_scatter_of_batches() -> None:
    """At the minimum each batch's loss is another, and the last is above the first by luck."""
    rows = [np.float32(row) for row in (0.9, 1.2, 0.8, 1.4, 1.1, 0.7)]

    def shown(rate: float) -> str:
        result = tape_magic.minimize(
            lambda w, r: r + 1e-3 * w**2, {"w": 0.1}, "sgd", lr=rate, data=rows, epochs=3, engine="graph"
        )
        return to_text(describe(result))

    assert "above the start" not in shown(1e-3)
    assert "above the start" in shown(4000.0)


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ((np.zeros([3, 2]), np.zeros([5])), 3),
        ((np.float32(1),), 1),
        (({"b": tf.zeros([4]), "a": tf.zeros([2, 9])},), 2),
        ((tf.constant(1.0),), 1),
        ((tf.ragged.constant([[1], [1, 2], []]),), 3),
        ((tf.sparse.from_dense(tf.eye(6)),), 6),
        (({},), 1),
    ],
)
def test_the_rows_of_a_batch_are_those_of_its_first_part(batch: Any, rows: int) -> None:
    assert int(rows_of(batch)) == rows
