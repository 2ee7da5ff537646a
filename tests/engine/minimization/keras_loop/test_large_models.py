"""Large variables: few copies of them are kept, and all that a run can go back to is there all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.minimization.engine_choice import XLA_MOST_BYTES, refuse_large_model
from tape_magic.engine.minimization.keras_loop.way_back import Position, WayBack
from tape_magic.engine.tracing.failures import EngineRefused
from tape_magic.engine.values.copies import LARGE, kept_copy, lasting_array
from tests.support.notebook import Notebook

SIZE = LARGE // 4 + 1

# The loss falls by SIZE a step, and w by 1, until the loss is no number at w = −73.
SET_UP = f"""
import numpy as np, tensorflow as tf
w = tf.Variable(tf.zeros({SIZE}))
drawn = tf.Variable(0.0, trainable=False)
ones = tf.data.Dataset.from_tensors(1.0).repeat(200)
ends = tf.data.Dataset.range(200).map(lambda k: tf.where(k < 73, 1.0, float("nan")))
"""
FALLS = "loss = tf.where(w[0] > -72.5, tf.reduce_sum(w), float('nan'))"
RANDOM = (
    "drawn.assign(tf.random.uniform([]))\nloss = tf.where(w[0] > -72.5, tf.reduce_sum(w) + 0.0*drawn, {})"
)
RUNS = {
    "repeated from a mark": ("", FALLS, 72),
    "XLA": ("--engine xla", FALLS, 72),
    "with random numbers": ("", RANDOM.format("float('nan')"), 72),
    "over data": ('--for "x in ones"', FALLS.replace("sum(w)", "sum(w)*x"), 72),
    "data that are not finite": ('--for "x in ends"', "loss = tf.reduce_sum(w)*x", 72),
    "a target": (f"--target {-60 * SIZE}", "loss = tf.reduce_sum(w)", 60),
    "a target over data": (f'--for "x in ones" --target {-60 * SIZE}', "loss = tf.reduce_sum(w)*x", 60),
    "the best": ("--keep best", FALLS, 72),
    "the best over data": ('--for "x in ones" --keep best', FALLS.replace("sum(w)", "sum(w)*x"), 72),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_goes_back(shell: Notebook, run: str) -> None:
    options, cell, steps = RUNS[run]
    line = "--over w --optimizer sgd --lr 1 --steps 90" + ("" if "xla" in options else " --engine graph")
    shell.ok(SET_UP)
    shell.ok(f"%%minimize loss {line} {options} -q\n{cell}")
    found = shell.ns["minimum"]
    assert found.steps == steps
    np.testing.assert_array_equal(shell.ns["w"], np.full(SIZE, -steps, np.float32))
    assert found.history_steps.tolist() == list(range(steps + 1))
    np.testing.assert_allclose(found.history, -SIZE * np.arange(steps + 1.0), rtol=1e-6)
    assert found.variables["w"].start.max() == 0.0
    assert (found.variables["w"].end == -steps).all()


@pytest.mark.parametrize("engine", ["graph", "xla", "eager"])
def test_the_lowest_loss_before_a_divergence(shell: Notebook, engine: str) -> None:
    """The loss falls to step 60, and rises until it is no number; with marks at the steps 0 and 50."""
    shell.ok(SET_UP)
    cell = "loss = tf.where(w[0] > -72.5, tf.reduce_sum(w) - 2*tf.stop_gradient({}), float('nan'))"
    rises = f"{SIZE}*tf.minimum(w[0] + 60, 0.0)"
    line = f"%%minimize loss --over w --optimizer sgd --lr 1 --steps 90 --engine {engine} -q"
    shell.ok(f"{line}\n{cell.format(rises)}")
    found = shell.ns["minimum"]
    assert (found.steps, found.best_step, found.divergence.values_of) == (72, 60, 60)
    np.testing.assert_array_equal(shell.ns["w"], np.full(SIZE, -60, np.float32))


@pytest.mark.parametrize("data", ["", '--for "x in ones"'])
def test_a_run_goes_on_bit_for_bit(shell: Notebook, data: str) -> None:
    shell.ok(SET_UP + f"c = tf.constant(np.random.default_rng(0).normal(size={SIZE}).astype('float32'))")
    line = f"%%minimize loss --over w --lr 0.1 -q {data}"
    cell = f"loss = tf.reduce_sum((w - c)**2){'*x' if data else ''}"
    shell.ok(f"{line} --steps 60 --seed 1\n{cell}")
    whole = shell.ns["w"].numpy()
    shell.ok(f"w.assign(tf.zeros({SIZE}))")
    shell.ok(f"{line} --steps 55 --seed 1\n{cell}")
    half = shell.ns["minimum"].variables["w"]
    kept = half.end.copy()
    shell.ok(f"{line} --steps 60 --seed 1 --resume\n{cell}")
    np.testing.assert_array_equal(shell.ns["w"], whole)
    # The report of the first part has what it had, although the variable went on.
    np.testing.assert_array_equal(half.end, kept)
    assert not half.end.flags.writeable


def test_a_second_run_begins_anew(shell: Notebook) -> None:
    """A second run begins from fresh slots, which are no copies."""
    shell.ok(SET_UP)
    shell.ok("c = tf.ones_like(w)")
    losses = []
    for _ in range(2):
        shell.ok(f"w.assign(tf.zeros({SIZE}))")
        shell.ok(
            "%%minimize loss --over w --lr 0.1 --steps 3 --engine graph -q\nloss = tf.reduce_sum((w - c)**2)"
        )
        losses.append(shell.ns["minimum"].history)
    np.testing.assert_array_equal(*losses)
    np.testing.assert_array_equal(shell.ns["minimum"].variables["w"].start, np.zeros(SIZE))


def test_a_copy_of_equal_numbers_is_one_number() -> None:
    for value in (tf.zeros([SIZE]), tf.fill([3, SIZE], tf.constant(2.5, tf.bfloat16))):
        copy = kept_copy(value)
        assert copy.strides == (0,) * copy.ndim
        np.testing.assert_array_equal(copy, value)
    signed = np.zeros(SIZE, np.float32)
    signed[-1] = -0.0
    copy = kept_copy(tf.constant(signed))
    assert np.signbit(copy[-1])
    assert not np.signbit(copy[0])
    small = tf.zeros([3])
    assert kept_copy(small) is small


def test_an_array_lasts() -> None:
    for shape in ([2], [SIZE]):
        variable = tf.Variable(tf.ones(shape))
        array = lasting_array(variable)
        variable.assign_add(tf.ones(shape))
        assert (array == 1.0).all()
        del variable
        assert (array == 1.0).all()


def test_marks_of_large_variables_are_rare() -> None:
    way = WayBack()
    assert way.due(0)
    way.mark_alone(Position(0, (), (tf.constant(np.inf), tf.zeros([SIZE]))), [tf.zeros([SIZE])])
    assert not way.due(way.EVERY - 1)
    assert way.due(way.EVERY)
    position, (values,) = way.before(7)
    assert position.step == 0
    assert all(isinstance(one, tf.Tensor) for one in position.best)
    np.testing.assert_array_equal(values, np.zeros(SIZE))


def test_xla_leaves_large_models_alone() -> None:
    class Sized:
        device = "/job:localhost/replica:0/task:0/device:CPU:0"
        dtype = tf.float32

        def __init__(self, elements: int) -> None:
            self.shape = tf.TensorShape([elements])

    refuse_large_model([Sized(XLA_MOST_BYTES // 4)])
    with pytest.raises(EngineRefused, match="the 42 MB of the variables once more"):
        refuse_large_model([Sized(XLA_MOST_BYTES // 4), Sized(2_000_000)])
    held: Any = Sized(XLA_MOST_BYTES)
    held.device = held.device.replace("CPU", "GPU")
    refuse_large_model([held])
