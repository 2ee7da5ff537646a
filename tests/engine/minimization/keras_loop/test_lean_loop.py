"""XLA's loop that looks at a chunk when it is through: what it tells is what a loop step by step tells."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.minimization.keras_loop.lean_loop import FOREVER, lean_loop_applies, unroll_factor
from tape_magic.engine.minimization.keras_loop.protocol import LoopOptions
from tape_magic.engine.minimization.stop_rules import Rules
from tape_magic.engine.values.leaves import Leaf
from tape_magic.results.minimum import StopReason
from tests.support.doors import Case, Door

PLAIN = LoopOptions(Rules())
OPTIMIZERS = keras.optimizers


class NonNegativeGradient(keras.optimizers.SGD):
    """A user's own, of which nothing is known."""


def leaf(value: Any) -> Leaf:
    return Leaf("w", value, value)


@pytest.mark.parametrize("name", sorted(FOREVER))
def test_what_is_not_finite_stays(name: str) -> None:
    """One gradient that is not finite, then 20 that are: a variable or a slot still shows it."""
    for lost in (np.inf, -np.inf, np.nan):
        variable = tf.Variable([1.0, 2.0])
        optimizer = getattr(OPTIMIZERS, name)()
        optimizer.build([variable])
        optimizer.apply([tf.constant([lost, 1.0])], [variable])
        for step in range(20):
            optimizer.apply([tf.constant([(-1.0) ** step, 0.0])], [variable])
        values = [np.asarray(value) for value in (variable, *optimizer.variables)]
        assert not all(np.isfinite(value).all() for value in values)


def test_when_it_fits() -> None:
    variable = tf.Variable(1.0)
    assert lean_loop_applies(PLAIN, [leaf(variable)], OPTIMIZERS.Adam())
    assert lean_loop_applies(LoopOptions(Rules(patience=3)), [leaf(variable)], OPTIMIZERS.SGD(momentum=0.9))


@pytest.mark.parametrize(
    ("plan", "optimizer"),
    [
        (LoopOptions(Rules(target=1.0)), OPTIMIZERS.SGD()),
        (LoopOptions(Rules(gtol=1.0)), OPTIMIZERS.SGD()),
        (LoopOptions(Rules(tol=1.0)), OPTIMIZERS.SGD()),
        (LoopOptions(Rules(), keeps_best=True), OPTIMIZERS.SGD()),
        (LoopOptions(Rules(), careful=True), OPTIMIZERS.SGD()),
        (LoopOptions(Rules(), lower=(0.0,), upper=(None,)), OPTIMIZERS.SGD()),
        (PLAIN, OPTIMIZERS.SGD(clipvalue=1.0)),
        (PLAIN, OPTIMIZERS.SGD(clipnorm=1.0)),
        (PLAIN, OPTIMIZERS.SGD(global_clipnorm=1.0)),
        (PLAIN, OPTIMIZERS.SGD(use_ema=True)),
        (PLAIN, OPTIMIZERS.SGD(gradient_accumulation_steps=2)),
        (PLAIN, OPTIMIZERS.Ftrl()),
        (PLAIN, NonNegativeGradient()),
    ],
)
def test_when_each_step_has_to_be_looked_at(plan: LoopOptions, optimizer: Any) -> None:
    assert not lean_loop_applies(plan, [leaf(tf.Variable(1.0))], optimizer)


def test_a_constraint_may_make_it_finite_again() -> None:
    layer = keras.layers.Dense(1, kernel_constraint="non_neg")
    layer.build((None, 2))
    leaves = [Leaf(variable.path, variable.value, variable) for variable in layer.trainable_variables]
    assert not lean_loop_applies(PLAIN, leaves, OPTIMIZERS.SGD())
    assert lean_loop_applies(PLAIN, leaves[1:], OPTIMIZERS.SGD())


def test_blocks_are_for_small_steps_and_many_of_them() -> None:
    assert (unroll_factor(10, 9, 1_000_000), unroll_factor(5_000, 9, 1_000_000)) == (8, 4)
    others = [(10, 9, 1_000), (1_000_000, 9, 1_000_000), (None, 9, 1_000_000)]
    assert [unroll_factor(*sizes) for sizes in others] == [1, 1, 1]


# Each step takes exactly 1 from w, and float32 has all whole numbers up to 2²⁴.
COUNTDOWN = "y = w\ns = tf.abs(w % 1001.0 - 500.0)"
LINE = "y --over w --optimizer sgd --lr 1 --engine xla --steps"


@pytest.mark.parametrize("steps", [1, 3, 9_999, 10_001, 10_002, 100_003])
def test_each_value_belongs_to_its_step(door: Door, steps: int) -> None:
    case = Case(COUNTDOWN, f"{LINE} {steps} --track s", {"tf": tf, "w": tf.Variable(0.0)})
    found = door.minimize(case)
    assert (found.steps, found.engine, found.reason) == (steps, "xla", StopReason.STEPS)
    exact = min(steps, 10_000)
    np.testing.assert_array_equal(found.history_steps[: exact + 1], np.arange(exact + 1))
    np.testing.assert_array_equal(found.history, -found.history_steps.astype(float))
    at = found.tracked_steps["s"]
    np.testing.assert_array_equal(found.tracked["s"], np.abs(-at % 1001.0 - 500.0))
    assert found.history_steps[-1] == steps
    if steps > 20_000:  # the extremes of all steps that are not kept one by one
        later = found.tracked["s"][at > 10_000]
        assert (later.min(), later.max()) == (0.0, 500.0)


LOSS_LOST = "y = w + tf.stop_gradient(tf.where(w <= -{0}.0, float('inf'), 0.0))"
# The derivative is 1 to rounding, until the root's is infinite and that of the absolute value is 0.
GRADIENT_LOST = "y = w + 1e-30*tf.sqrt(tf.abs(w + {0}.0))"


@pytest.mark.parametrize(
    ("cell", "what", "lost"),
    [
        *((LOSS_LOST, "loss", lost) for lost in (1, 7, 23_459)),
        *((GRADIENT_LOST, "gradient", lost) for lost in (2, 4_096)),
    ],
)
def test_it_ends_at_the_step_that_is_not_finite(shell: Any, cell: str, what: str, lost: int) -> None:
    variable = tf.Variable(0.0)
    found = Door("magic", shell).minimize(
        Case(cell.format(lost), f"{LINE} 100_001", {"tf": tf, "w": variable})
    )
    last = lost - (what == "loss")  # the gradient of a step is lost before it is applied
    assert (found.reason, found.divergence.step, found.divergence.what) == (StopReason.DIVERGED, lost, what)
    assert (found.steps, variable.numpy()) == (last, -last)
    assert np.isfinite(found.history).all()
    assert found.history_steps[-1] == last


def test_a_slot_that_overflows_is_no_divergence(door: Door) -> None:
    """Adagrad's sum of squares overflows to infinity, and its steps are nothing from then on."""
    found = {}
    for engine in ("xla", "graph"):
        variable = tf.Variable(1.0)
        line = f"y --over w --optimizer adagrad --lr 1 --steps 300 --engine {engine}"
        found[engine] = door.minimize(Case("y = 1e20*w", line, {"w": variable}))
        assert (found[engine].steps, found[engine].reason) == (300, StopReason.STEPS)
    np.testing.assert_allclose(found["xla"].history, found["graph"].history, rtol=1e-6)


def test_a_cell_that_assigns_what_it_minimises_over_is_looked_at_at_each_step(door: Door) -> None:
    """Clipping makes a NaN finite again: only the step itself tells."""
    cell = (
        "k.assign_add(1)\nx.assign(tf.clip_by_value(x, 0.0, 1.0))\n"
        "z = x - tf.where(tf.equal(k, 50), tf.stop_gradient(x), 0.0)\n"
        "loss = (x - 0.5)**2 - 1e-3*tf.sqrt(z)"
    )
    names = {"tf": tf, "x": tf.Variable(0.9), "k": tf.Variable(0)}
    found = door.minimize(
        Case(cell, "loss --over x --optimizer sgd --lr 0.1 --steps 1000 --engine xla", names)
    )
    assert (found.reason, found.divergence.what, found.steps) == (StopReason.DIVERGED, "gradient", 49)


def test_a_tracked_value_that_is_not_a_number_is_kept(door: Door) -> None:
    cell = "y = w\nt = tf.where(tf.equal(w, -30_004.0), float('nan'), 1.0)"
    case = Case(cell, f"{LINE} 60_000 --track t", {"tf": tf, "w": tf.Variable(0.0)})
    found = door.minimize(case)
    (place,) = np.unique(found.tracked_steps["t"][np.isnan(found.tracked["t"])])
    assert place == 30_004
    assert (found.reason, found.steps) == (StopReason.STEPS, 60_000)
