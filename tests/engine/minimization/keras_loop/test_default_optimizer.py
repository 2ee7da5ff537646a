"""A line without an optimizer and without an end: which optimizer is taken, why, and where it ends."""

from __future__ import annotations

import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Step
from tests.support.notebook import Notebook

SET_UP = (
    "import tensorflow as tf, numpy as np, keras\n"
    "x, a = tf.Variable(0.0), 0.0\n"
    "model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])\n"
    "rows = np.arange(8, dtype='float32').reshape(8, 1)\n"
    "noise = np.random.default_rng(0)"
)

SAME = "L-BFGS, since one number is minimised over and the loss is the same each time"

CELLS = {
    "a variable": ("\n(x - 3)**2", SAME),
    "a float": (" --over a\n(a - 3)**2", SAME),
    "a variable, in Python": (" --engine eager\n(x - 3)**2", SAME),
    "a limit of steps": (" --steps 20\n(x - 3)**2", SAME),
    "a rate": (" --lr 0.1 --steps 5\n(x - 3)**2", "Adam, since --lr is given"),
    "a model": (
        " --steps 5\ntf.reduce_mean((model(rows) - rows)**2)",
        "Adam, since dense/kernel belongs to a model",
    ),
    "data": (
        ' --for "r in rows" --batch 2\ntf.reduce_mean((r - x)**2)',
        "Adam, since each step takes another batch",
    ),
    "random numbers": (
        " --steps 5\n(x - 3)**2 + tf.random.normal([])",
        "Adam, since the loss is not the same each time",
    ),
    "NumPy's random numbers": (
        " --steps 5 --engine eager\n(x - noise.normal())**2",
        "Adam, since the loss is not the same each time",
    ),
    "a counter": (
        " --steps 5\ncount.assign_add(1.0)\n(x - count)**2",
        "Adam, since the loss is not the same each time",
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_what_is_taken_and_why(shell: Notebook, name: str) -> None:
    shell.ok(f"{SET_UP}\ncount = tf.Variable(0.0, trainable=False)\nkeras.backend.clear_session()")
    line, why = CELLS[name]
    for _ in range(2):  # the second run has the first one's loop
        run = shell.ok(f"%%minimize{line}")
        result = shell.ns["minimum"]
        assert result.optimizer_reason.replace("dense_1", "dense") == why
        assert result.optimizer.startswith(why.partition(",")[0])
        assert why.partition(",")[0] in run.displayed[-1].text


def test_a_bare_line_ends_at_the_minimum(shell: Notebook) -> None:
    shell.ok(SET_UP)
    shell.ok("%%minimize\n(x - 3)**2")
    assert shell.ns["x"].numpy() == 3.0
    result = shell.ns["minimum"]
    assert (result.reason, result.converged) == (StopReason.METHOD_CONVERGED, True)


def test_an_optimizer_that_is_named_has_no_reason(shell: Notebook) -> None:
    shell.ok(SET_UP)
    shell.ok("%%minimize --optimizer sgd --steps 2\n(x - 3)**2")
    assert shell.ns["minimum"].optimizer_reason == ""


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_a_run_that_nothing_bounds_goes_on_until_the_loss_has_settled(engine: str) -> None:
    """(3·0.8ᵏ)² changes by at most 10⁻⁶ over the 100 steps from k = 36 on."""
    x, shown = tf.Variable(0.0, dtype=tf.float64), list[Step]()
    result = tape_magic.minimize(
        lambda: (x - 3) ** 2, None, "sgd", lr=0.1, engine=engine, on_progress=shown.append
    )
    assert result.reason is StopReason.SETTLED
    assert result.reason.sentence == "the loss has settled"
    assert result.converged
    assert result.steps == 136
    assert {step.steps for step in shown} == {0}  # a bar of unknown length


def test_a_bound_is_a_bound() -> None:
    for options in ({"target": -1.0}, {"gtol": 0.0}, {"tol": 0.0, "patience": 10_000}):
        x = tf.Variable(0.0)
        result = tape_magic.minimize(lambda x=x: tf.sin(x), None, "sgd", lr=1e-3, engine="graph", **options)
        assert (result.reason, result.steps) == (StopReason.STEPS, 1000)
