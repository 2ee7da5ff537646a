"""Losses that are the result of a Keras metric: whatever cuts the path, a metric only counts."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import nothing_is_said, the_reason_is_found

X = "x = tf.Variable([0.1, 0.8]); t = tf.constant([0.0, 1.0])\n"
OWN = """class Own(keras.metrics.Metric):
    def __init__(self):
        super().__init__()
        self.total = self.add_variable((), "zeros", name="total")
    def update_state(self, values):
        self.total.assign_add(tf.reduce_sum(values))
    def result(self):
        return self.total * 1.0
m = Own()
"""

COUNTED = {
    "called": (
        "m = keras.metrics.MeanSquaredError()",
        "y = m(t, x**2)",
        "state carries no derivative, line 2",
    ),
    "updated": (
        "m = keras.metrics.MeanSquaredError()",
        "m.update_state(t, x**2)\ny = m.result()",
        "state carries no derivative, line 2",
    ),
    "made in the cell": ("", "m = keras.metrics.Mean()\ny = 2.0*m(x) + 1.0", "no derivative, line 3"),
    "by thresholds": ("m = keras.metrics.AUC()", "y = -m(t, x)", "cut at Ceil, line 2"),
    "by a comparison": ("m = keras.metrics.BinaryAccuracy()", "y = 1.0 - m(t, x)", "cut at Greater, line 2"),
    "the user's own": (OWN, "y = m(x)", r"no derivative, cell \d+, line 7"),
    "in an object": (
        "class Held:\n    pass\nheld = Held()\nheld.m = keras.metrics.Mean()",
        "y = held.m(x)",
        "no derivative, line 2",
    ),
    "in a compiled function": (
        "m = keras.metrics.Mean()\n@tf.function\ndef f(v):\n    return m(v*3.0)",
        "y = f(x)",
        r"no derivative, cell \d+, line 5",
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_metric_only_counts(shell: Notebook, name: str) -> None:
    before, body, why = COUNTED[name]
    the_reason_is_found(
        shell, X + before, f"%%grad dy/dx\n{body}", why, "· a metric only counts: compute", ""
    )


def test_a_metric_beside_is_no_cure(shell: Notebook) -> None:
    """What is rounded reaches the loss by itself, too."""
    cell = "%%grad dy/dx\nnear = tf.round(x)\nm.update_state(near)\ny = tf.reduce_sum(near)"
    never = "a metric only counts"
    the_reason_is_found(shell, X + "m = keras.metrics.Mean()", cell, "cut at Round, line 2", "", never)


def test_a_loss_with_a_metric_beside_it(shell: Notebook) -> None:
    cell = "%%grad dy/dx\ny = tf.reduce_sum(x**2)\nm.update_state(y)"
    nothing_is_said(shell, X + "m = keras.metrics.Mean()", cell)


def test_the_cure_helps(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf, keras\n" + X)
    shell.ok("%%grad dy/dx -q\ny = keras.metrics.mean_squared_error(t, x)")
    assert shell.ns["dy_dx"].numpy().tolist() == pytest.approx([0.1, -0.2])  # (x - t) 2/2
