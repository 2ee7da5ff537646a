"""Batches of arrays inside XLA: the steps of the other engines, in the same order, and the same ways back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.keras_loop.array_loop import ArrayLoop
from tape_magic.results.minimum import MinimizeResult, StopReason

RNG = np.random.default_rng(3)
SIZES = {"even": 96, "with a rest": 101}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where the chunks of this loop began and ended, so that a test can tell that it ran at all."""
    found: list[tuple[int, int]] = []
    through = ArrayLoop._from_data

    def noted(loop: ArrayLoop, position: Any, end: int, until: float) -> Any:
        chunk, finite = through(loop, position, end, until)
        found.append((position.step, chunk.position.step))
        return chunk, finite

    monkeypatch.setattr(ArrayLoop, "_from_data", noted)
    return found


def rows_of(count: int) -> tuple[Any, Any]:
    x = RNG.normal(size=(count, 3)).astype("float32")
    return x, x @ np.float32([1, -2, 0.5]) + RNG.normal(scale=0.1, size=count).astype("float32")


def squares(w: Any, x: Any, y: Any) -> Any:
    return tf.reduce_mean((tf.linalg.matvec(x, w) - y) ** 2)


def fitted(data: Any, engine: str, loss: Any = squares, **options: Any) -> tuple[MinimizeResult, Any]:
    w = tf.Variable(tf.zeros([3]))
    options = {"batch": 8, "epochs": 3, "lr": 0.05, "seed": 5, **options}
    result = tape_magic.minimize(loss, {"w": w}, "adam", data=data, engine=engine, **options)
    return result, w.numpy()


@pytest.mark.parametrize("rows", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("epochs", [3, 400], ids=["few", "more epochs than are drawn at once"])
def test_the_steps_are_those_of_a_graph(rows: int, epochs: int, calls: list[tuple[int, int]]) -> None:
    data = rows_of(rows)
    (ours, w), (graph, expected) = (fitted(data, engine, epochs=epochs) for engine in ("xla", "graph"))
    assert max(end for _, end in calls) == ours.steps == graph.steps == epochs * -(-rows // 8)
    np.testing.assert_allclose(ours.history, graph.history, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(w, expected, rtol=1e-4)
    np.testing.assert_allclose(ours.epochs.loss, graph.epochs.loss, rtol=1e-4)


def test_each_row_comes_once_an_epoch(calls: list[tuple[int, int]]) -> None:
    """By plain descent with the loss x·w, w becomes minus the rate times the sum of all rows."""
    x, w = np.float64(1 << np.arange(27)), tf.Variable(0.0, dtype=tf.float64)
    tape_magic.minimize(
        lambda w, x: tf.reduce_sum(w * x), {"w": w}, "sgd", data=x, batch=3, epochs=4, lr=1.0, engine="xla"
    )
    assert calls
    assert float(w) == -4.0 * ((1 << 27) - 1)


@pytest.mark.parametrize("rows", SIZES.values(), ids=SIZES)
def test_a_run_that_goes_on_gives_the_same_bits(
    rows: int, tmp_path: Path, calls: list[tuple[int, int]]
) -> None:
    data, ends = rows_of(rows), []
    for number, cuts in enumerate([(40,), (7, 25, 40)]):
        for steps in cuts:
            folder = str(tmp_path / str(number))
            result, w = fitted(data, "xla", epochs=4, steps=steps, checkpoint=folder, resume=True)
        ends.append((w.tobytes(), result.history.tobytes()))
    assert ends[0] == ends[1]
    assert {7, 25} <= {start for start, _ in calls}


@pytest.mark.parametrize("rows", SIZES.values(), ids=SIZES)
def test_a_row_that_is_not_finite_ends_it_at_its_batch(rows: int, calls: list[tuple[int, int]]) -> None:
    x, y = rows_of(rows)
    x[37, 1] = np.nan
    found = [fitted((x, y), engine) for engine in ("xla", "graph")]
    assert calls
    for result, w in found:
        assert result.reason is StopReason.DIVERGED
        assert result.divergence.cause == "row 37 of the data holds nan (x): drop or replace it"
        assert np.isfinite(w).all()
    assert found[0][0].divergence.step == found[1][0].divergence.step
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4)


def test_a_gradient_that_is_not_finite_is_told_from_a_loss() -> None:
    """√(x·w) has the derivative 0·∞ by w where x is 0."""
    x = np.ones(80, "float32")
    x[11] = 0.0

    def loss(w: Any, x: Any) -> Any:
        return tf.reduce_mean(tf.sqrt(x * (w + 2.0)))

    for engine in ("xla", "graph"):
        w = tf.Variable(0.0)
        result = tape_magic.minimize(
            loss, {"w": w}, "sgd", data=x, batch=4, epochs=2, lr=0.01, seed=1, engine=engine
        )
        assert (result.reason, result.divergence.what) == (StopReason.DIVERGED, "gradient")
        assert np.isfinite(float(w))


def test_other_rows_in_a_later_run(calls: list[tuple[int, int]]) -> None:
    loss, w = squares, tf.Variable(tf.zeros([3]))
    for rows, batch in ((96, 8), (101, 8), (96, 8), (96, 12)):
        result = tape_magic.minimize(
            loss, {"w": w}, "adam", data=rows_of(rows), batch=batch, epochs=2, lr=0.05, engine="xla"
        )
        assert result.steps == 2 * -(-rows // batch)
    assert len([start for start, _ in calls if start == 0]) == 4


def test_what_looks_at_each_step_or_has_few_batches_is_left_to_a_pipeline(
    calls: list[tuple[int, int]],
) -> None:
    data = rows_of(96)
    for options in ({"target": 1e-9}, {"batch": 32}, {"bounds": {"w": (-1, 1)}}):
        fitted(data, "xla", **options)
    assert calls == []


def test_two_structures_and_the_places_of_batches(calls: list[tuple[int, int]]) -> None:
    x, y = rows_of(96)

    def loss(w: Any, both: Any) -> Any:
        return squares(w, both["x"], both["y"])

    (ours, w), (graph, expected) = (
        fitted({"x": x, "y": y}, engine, loss, epochs=2) for engine in ("xla", "graph")
    )
    assert calls
    np.testing.assert_allclose(ours.history, graph.history, rtol=1e-4)
    np.testing.assert_allclose(w, expected, rtol=1e-4)
