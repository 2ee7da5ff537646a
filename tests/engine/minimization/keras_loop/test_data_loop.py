"""Chunks over data that are looked at as a whole: what has to be exact is exact, nothing is made twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import func_graph

import tape_magic
from tape_magic.engine.minimization.keras_loop import continuation, data_loop
from tape_magic.engine.minimization.keras_loop.chunks import ChunkPlanner
from tape_magic.engine.minimization.keras_loop.data_loop import DataLoop
from tape_magic.engine.minimization.keras_loop.protocol import Chunk
from tape_magic.results.minimum import MinimizeResult, StopReason
from tests.support.covering import covering
from tests.support.notebook import Notebook

ENGINES = ("graph", "xla")
STEPS, BAD = 60, 41

# The loss is that of a line through the rows, and of √(s·|w|), which has no slope where s is 0.
ROWS = np.random.default_rng(5).normal(size=(4 * STEPS, 3)).astype("float32")
SLOPES = np.ones(4 * STEPS, "float32")


def data_of(kind: str, rows: np.ndarray, slopes: np.ndarray) -> Any:
    """The same rows in batches of four, in another order where they are shuffled."""
    if kind == "arrays":
        return {"data": (rows, slopes), "batch": 4}
    if kind == "generator":

        def batches() -> Any:
            for first in range(0, len(rows), 4):
                yield rows[first : first + 4], slopes[first : first + 4]

        return {"data": batches}
    tf.random.set_seed(1)  # which a shuffle mixes into its own, and a run with a seed sets
    whole = tf.data.Dataset.from_tensor_slices((rows, slopes))
    return {"data": whole.shuffle(50, seed=3).batch(4, drop_remainder=kind == "even batches")}


def run(data: Any, engine: str, optimizer: Any = "adam", **options: Any) -> tuple[MinimizeResult, np.ndarray]:
    w = tf.Variable([0.5, -1.0, 2.0])

    def loss(a: Any, s: Any) -> Any:
        root = tf.reduce_mean(tf.sqrt(tf.abs(w[0]) * s))
        return tf.reduce_mean((tf.linalg.matvec(a, w) - a[:, 0]) ** 2) + 1e-3 * root

    options = {"lr": 0.05, "seed": 7, **options}
    result = tape_magic.minimize(loss, None, optimizer, engine=engine, **data, **options)
    return result, w.numpy()


def spoiled(kind: str, what: str) -> Any:
    """Data of which one batch has an infinite loss, or a finite loss and no gradient."""
    rows, slopes = ROWS.copy(), SLOPES.copy()
    place = BAD * 4 + 1
    if what == "loss":
        rows[place, 1] = math.inf
    else:
        slopes[place] = 0.0
    return data_of(kind, rows, slopes)


def careful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the loops look at each step, and carry copies along."""
    monkeypatch.setattr(data_loop, "MOST", -1)


@pytest.fixture(autouse=True)
def _chunks_of_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChunkPlanner, "plan", lambda self, engine, step, limit, **_: min(step + 16, limit))


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(
    ("engine", "kind"), covering(ENGINES, ["arrays", "shuffled", "even batches", "generator"])
)
def test_a_divergence_is_found_at_its_step(
    monkeypatch: pytest.MonkeyPatch, engine: str, kind: str, what: str
) -> None:
    """The step, the values put back and the history are those of a loop that looks at each step."""
    result, w = run(spoiled(kind, what), engine)
    assert result.divergence is not None
    assert result.divergence.what == what
    if kind == "generator":
        assert result.divergence.step == BAD
    careful(monkeypatch)
    wanted, v = run(spoiled(kind, what), engine)
    assert wanted.divergence == replace(result.divergence, loss=wanted.divergence.loss)
    assert result.steps == wanted.steps
    close = np.testing.assert_array_equal if engine == "graph" else np.testing.assert_allclose
    close(w, v)
    close(result.history, wanted.history)


def test_tensorflow_warns_of_nothing_where_runs_diverge_again_and_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow warns where 5 of 8 calls of a function trace it, whose text is that of all such runs."""
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    for _ in range(8):
        result, _ = run(spoiled("arrays", "loss"), "graph")
        assert result.reason is StopReason.DIVERGED
    assert not caplog.records


@pytest.mark.parametrize("engine", ENGINES)
def test_bits_of_a_run_do_not_depend_on_how_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    lean, w = run(data_of("shuffled", ROWS, SLOPES), engine, epochs=2)
    careful(monkeypatch)
    other, v = run(data_of("shuffled", ROWS, SLOPES), engine, epochs=2)
    close = np.testing.assert_array_equal if engine == "graph" else np.testing.assert_allclose
    close(w, v)
    close(lean.history, other.history)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_overflow_in_the_optimizer_is_no_gradient(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """The square of one gradient is infinite in Adam's memory; it makes the weight no number a step later."""
    rows = np.ones((40, 2), "float32")
    rows[17, 1] = 1e25

    def run() -> tuple[MinimizeResult, np.ndarray]:
        w = tf.Variable([1.0, 1.0])
        result = tape_magic.minimize(
            lambda r: tf.reduce_sum(w * r), None, "adam", lr=0.01, data=list(rows), engine=engine
        )
        return result, w.numpy()

    result, w = run()
    assert result.reason is StopReason.DIVERGED
    careful(monkeypatch)
    wanted, v = run()
    assert result.divergence is not None
    assert wanted.divergence is not None
    assert (result.divergence.step, result.divergence.what) == (19, "loss")
    assert (wanted.divergence.step, wanted.divergence.what) == (19, "loss")
    assert result.steps == wanted.steps
    np.testing.assert_allclose(w, v)
    np.testing.assert_allclose(result.history, wanted.history)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["arrays", "shuffled", "generator"])
def test_a_run_goes_on_from_a_step_that_it_went_back_to(
    monkeypatch: pytest.MonkeyPatch, engine: str, kind: str
) -> None:
    """Each chunk of many steps is taken back to its middle, once; the batches come as if it were not."""
    whole, w = run(data_of(kind, ROWS, SLOPES), engine)
    advance, halved = DataLoop.advance, list[int]()

    def half(loop: DataLoop, position: Any, end: int, *more: Any) -> Chunk:
        chunk = advance(loop, position, end, *more)
        count = len(chunk.series[0].steps) // 2
        step = position.step + count
        if count < 2 or step in halved:
            return chunk
        halved.append(step)
        back = loop.return_to(step, chunk)
        series = tuple(
            replace(one, steps=one.steps[:count], values=one.values[:count]) for one in back.series
        )
        return replace(back, series=series, last=step - 1, places=back.places[:count])

    monkeypatch.setattr(DataLoop, "advance", half)
    again, v = run(data_of(kind, ROWS, SLOPES), engine)
    assert halved
    assert again.steps == whole.steps == STEPS
    np.testing.assert_array_equal(again.history, whole.history)
    np.testing.assert_array_equal(v, w)


SET_UP = """
import numpy as np, tensorflow as tf
w = tf.Variable([0.5, -1.0, 2.0])
def fresh():
    rows = np.random.default_rng(0).normal(size=(42, 3)).astype("float32")
    return {source}
"""
CELL = "loss = tf.reduce_mean((tf.linalg.matvec(a, w) - a[:, 0])**2)"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "source", ["rows", "tf.data.Dataset.from_tensor_slices(rows).shuffle(42, seed=1).batch(4)"]
)
def test_a_second_run_over_new_data_of_the_same_kind_traces_nothing(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch, engine: str, source: str
) -> None:
    made: list[Callable[..., Any]] = []
    original = func_graph.FuncGraph.__init__

    def counted(self: Any, *given: Any, **named: Any) -> None:
        made.append(self)
        original(self, *given, **named)

    monkeypatch.setattr(func_graph.FuncGraph, "__init__", counted)
    shell.ok(SET_UP.format(source=source))
    ends = []
    for number in range(3):
        batch = " --batch 4" if source == "rows" else ""
        shell.ok("w.assign([0.5, -1.0, 2.0])\ndata = fresh()")
        made.clear()
        shell.ok(f'%%minimize loss --over w --for "a in data" --epochs 2 --engine {engine} -q{batch}\n{CELL}')
        assert bool(made) == (number == 0)
        ends.append(shell.ns["minimum"].steps)
    assert ends == [22, 22, 22]


@pytest.mark.parametrize("same", [True, False])
def test_a_second_run_makes_an_optimizer_only_for_batches_of_another_kind(
    monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """A part of each optimizer that Keras makes stays in the process."""
    made: list[Any] = []
    make = continuation.optimizer_of
    monkeypatch.setattr(continuation, "optimizer_of", lambda settings: made.append(1) or make(settings))
    w = tf.Variable([0.5, -1.0, 2.0])

    def loss(a: Any) -> Any:
        return tf.reduce_mean((tf.linalg.matvec(tf.cast(a, w.dtype), w) - 1.0) ** 2)

    histories = []
    for rows in (ROWS, ROWS if same else ROWS.astype("int32")):
        w.assign([0.5, -1.0, 2.0])
        found = tape_magic.minimize(
            loss, None, "adam", lr=0.05, data=(rows,), batch=4, engine="graph", seed=7
        )
        histories.append(found.history)
    assert len(made) == (1 if same else 2)
    if same:
        np.testing.assert_array_equal(*histories)
    else:
        w.assign([0.5, -1.0, 2.0])
        alone = tape_magic.minimize(
            lambda a: loss(a), None, "adam", lr=0.05, data=(rows,), batch=4, engine="graph", seed=7
        )
        np.testing.assert_array_equal(histories[1], alone.history)
