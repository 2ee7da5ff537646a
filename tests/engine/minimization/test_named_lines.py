"""The lines that refusals and notes of the engines name."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook

SET_UP = """
import numpy as np, tensorflow as tf
v = tf.Variable([1.0, 2.0, 3.0])
other = tf.Variable(0.0)
optimizer = tf.keras.optimizers.SGD(0.1)
def penalty(v):
    return tf.numpy_function(np.sum, [v], tf.float32)
@tf.function
def step():
    v.assign_sub(0.1*v)
"""
KERNELS = {
    "a Python function": ("z = tf.numpy_function(np.sum, [v], tf.float32)", "PyFunc (line 4)"),
    "in a function of another cell": ("z = penalty(v)", "PyFunc (line 4)"),
    "in a loop": (
        "z = 0.0\nfor _ in tf.range(3):\n    z += tf.ensure_shape(penalty(v), [])",
        "PyFunc (line 6)",
    ),
    "strings": (
        "z = tf.cast(tf.strings.length(tf.strings.as_string(v)[0]), tf.float32)",
        "AsString (line 4)",
    ),
}
GRADIENTS = {
    "unique values": ("z = tf.reduce_sum(tf.unique(v)[0])", "Unique (line 4)"),
    "a saturation": (
        "z = tf.reduce_sum(tf.image.adjust_saturation(v[None, None], 2.0))",
        "AdjustSaturation (line 4)",
    ),
    # Which of the two it was is not known.
    "one of two": ("z = tf.reduce_sum(tf.unique(v)[0])\nz += tf.reduce_sum(tf.unique(2.0*v)[0])", "Unique"),
}


def refused(shell: Notebook, cell: str, more: str = "") -> str:
    shell.ok(SET_UP)
    return shell.refused(
        f"%%minimize loss --over v --engine xla --steps 2{more}\n"
        f"y = tf.reduce_sum(v**2)\n\n{cell}\nloss = y + tf.ensure_shape(z, [])"
    )


def test_a_demanded_xla_names_the_line(shell: Notebook) -> None:
    for cell, told in KERNELS.values():
        said = refused(shell, cell)
        assert said == f"--engine xla cannot run this: XLA has no kernel for {told}"
    for cell, told in GRADIENTS.values():
        assert refused(shell, cell) == f"--engine xla cannot run this: TensorFlow has no gradient of {told}"
    cell, told = KERNELS["a Python function"]
    assert refused(shell, f"{cell}\nz = tf.stop_gradient(z)", " --optimizer bfgs").endswith(told)


STEPS = {
    "v.assign_sub(0.1*v)": 4,
    "v.assign(v - 0.1*v)": 4,
    "g = 2*v\noptimizer.apply([g], [v])": 5,
    "step()": 4,
    "if loss > 0.5:\n    v.assign_add(-0.1*v)": 5,
    "v.assign(tf.maximum(v, 0.0))": None,
    "other.assign_add(1.0)": None,
    "v.assign(v/tf.norm(v))": None,
    "other.assign(other + tf.reduce_sum(v))": None,
    "z = v + 1.0": None,
}


@pytest.mark.parametrize("optimizer", ["sgd", "bfgs"])
def test_an_eager_step_of_the_cells_own_is_noted(shell: Notebook, optimizer: str) -> None:
    shell.ok(SET_UP)
    for cell, line in STEPS.items():
        shell.ok("v.assign([1.0, 2.0, 3.0])")
        line_of_magic = f"%%minimize loss --over v --optimizer {optimizer} --steps 2 --engine eager -q"
        shell.ok(f"{line_of_magic}\nloss = tf.reduce_sum(v**2)\n\n{cell}")
        said = [note for note in shell.ns["minimum"].notes if "itself" in note]
        note = f"line {line} steps v itself, and so does the optimizer: two steps in one"
        assert said == ([] if line is None else [note]), cell
