"""Why the loss does not depend on something: the operation and the user's line, on every engine."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")
WAYS = ("graph", "eager")
"""For what XLA, which compiles the same graph, cannot make different."""

# `x` has a gradient, `w` has none. Line 1 is the magic's.
CUTS = {
    "argmax": (
        "i = tf.argmax(w)\nloss = x**2 + tf.gather([1.0, 2.0, 3.0], i)",
        "cut at ArgMax, line 2: i = tf.argmax(w)",
    ),
    "round": ("z = x**2\nloss = z + tf.reduce_sum(tf.round(w))", "cut at Round, line 3"),
    "stop_gradient": (
        "s = tf.stop_gradient(w)\nloss = x**2 + s[0]",
        "tf.stop_gradient, line 2: s = tf.stop_gradient(w)",
    ),
    "cast": (
        "k = tf.cast(w, tf.int32)\nloss = x**2 + tf.cast(k[0], tf.float32)",
        "cast to int32, line 2: k = tf.cast(w, tf.int32)",
    ),
    "compare": (
        "big = w > 1.5\nloss = x**2 + tf.reduce_sum(tf.where(big, 1.0, 2.0))",
        "cut at Greater, line 2: big = w > 1.5",
    ),
    "shape": ("n = tf.cast(tf.shape(w)[0], tf.float32)\nloss = n * x**2", "only the shape of w is read"),
    "not read": ("z = 1.0\nloss = z * x**2", "never read"),
}


def namespace(**more: Any) -> dict[str, Any]:
    return {"tf": tf, "np": np, "x": tf.Variable(2.0), "w": tf.Variable([1.0, 3.0, 2.0]), **more}


def case(cell: str, names: dict[str, Any], over: str, engine: str) -> Case:
    line = f"loss --over {over} --optimizer sgd --lr 0.1 --steps 1 --engine {engine}"
    return Case(cell, line, names)


def opening(door: Door) -> str:
    """How the sentence begins: a function's loss has no name."""
    return f"{'loss' if door.name == 'magic' else 'the loss'} does not depend on "


@pytest.mark.parametrize(("name", "engine"), covering(CUTS, ["graph", "eager"]))
def test_a_note_says_why(door: Door, name: str, engine: str) -> None:
    cell, why = CUTS[name]
    if name == "shape" and engine != "eager":
        why = "never read"  # the shape is known as the graph is made
    names = namespace()
    result = door.minimize(case(cell, names, "x w", engine))
    assert result.engine == engine
    (note,) = [note for note in result.notes if "depend" in note]
    assert note.startswith(f"{opening(door)}w: {why}")
    assert names["w"].numpy().tolist() == [1.0, 3.0, 2.0]
    assert names["x"].numpy() == pytest.approx(2.0 - 0.1 * 4.0 * (3.0 if name == "shape" else 1.0))


@pytest.mark.parametrize(
    ("name", "engine"), covering(["argmax", "stop_gradient", "cast", "not read"], ENGINES)
)
def test_a_refusal_says_why(door: Door, name: str, engine: str) -> None:
    cell, why = CUTS[name]
    said = door.refused_minimize(case(cell, namespace(x=tf.constant(2.0)), "w", engine))
    assert said == f"{opening(door)}w: {why}; so there is nothing to minimise."


def test_what_leaves_tensorflow_on_the_way(door: Door) -> None:
    cell = "m = np.mean(w)\nloss = x**2 + m"
    result = door.minimize(case(cell, namespace(), "x w", "auto"))
    assert result.engine == "eager"
    (note,) = [note for note in result.notes if "depend" in note]
    assert note == f"{opening(door)}w: line 2 leaves TensorFlow: np.mean(w); use tf.reduce_mean"
    said = door.refused_minimize(case(cell, namespace(x=tf.constant(2.0)), "w", "eager"))
    assert "line 2 leaves TensorFlow: np.mean(w); use tf.reduce_mean; so there is nothing" in said


@pytest.mark.parametrize("engine", WAYS)
def test_within_a_function_that_the_cell_calls(shell: Notebook, engine: str) -> None:
    shell.ok("import tensorflow as tf\nx, w = tf.Variable(2.0), tf.Variable([1.0, 3.0])")
    number = shell.shell.execution_count
    shell.ok("def pick(v):\n    return tf.argmax(v)")
    shell.ok(
        f"%%minimize loss --over x w --steps 1 --engine {engine} -q\n"
        "loss = x**2 + tf.gather([1.0, 2.0], pick(w))"
    )
    (note,) = shell.ns["minimum"].notes
    assert note == f"loss does not depend on w: cut at ArgMax, cell {number}, line 2: return tf.argmax(v)"


@pytest.mark.parametrize("engine", WAYS)
def test_within_branches_and_compiled_functions(shell: Notebook, engine: str) -> None:
    shell.ok("import tensorflow as tf\nx, w = tf.Variable(2.0), tf.Variable([1.0, 3.0])")
    shell.ok("@tf.function\ndef pick(v):\n    if x > 1e9:\n        return v[0]\n    return tf.round(v[0])")
    shell.ok(
        f"%%minimize loss --over x w --steps 1 --engine {engine} -q\nloss = x**2 + tf.stop_gradient(pick(w))"
    )
    (note,) = shell.ns["minimum"].notes
    assert "tf.stop_gradient, line 2" in note or "cut at Round" in note


@pytest.mark.parametrize("engine", WAYS)
def test_the_weights_of_a_model_have_one_note_together(engine: str) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    x = tf.Variable(1.0)

    def loss(x: Any, model: Any) -> Any:
        label = tf.argmax(model(tf.ones([1, 3])), axis=1)
        return x**2 + tf.reduce_sum(tf.cast(label, tf.float32))

    result = tape_magic.minimize(loss, {"x": x, "model": model}, "sgd", 1, engine=engine)
    (note,) = [note for note in result.notes if "depend" in note]
    for leaf in ("dense", "kernel", "bias"):
        assert leaf in note
    assert note.count("cut at ArgMax") == 1


@pytest.mark.parametrize("engine", WAYS)
def test_each_reason_has_its_own_note(door: Door, engine: str) -> None:
    cell = "i = tf.argmax(w)\nloss = x**2 + tf.gather([1.0, 2.0, 3.0], i)"
    names = namespace(u=tf.Variable(1.0), v=tf.Variable(1.0))
    result = door.minimize(case(cell, names, "x u w v", engine))
    assert [note for note in result.notes if "depend" in note] == [
        f"{opening(door)}u, v: never read",
        f"{opening(door)}w: cut at ArgMax, line 2: i = tf.argmax(w)",
    ]


@pytest.mark.parametrize(("engine", "times"), [("xla", 1), ("graph", 1), ("eager", 2)])
def test_the_program_does_not_run_again_for_it(shell: Notebook, engine: str, times: int) -> None:
    shell.ok("import tensorflow as tf\nx, w, calls = tf.Variable(2.0), tf.Variable([1.0, 3.0]), []")
    shell.ok(
        f"%%minimize loss --over x w --lr 1e-3 --steps 1 --engine {engine} -q\n"
        "calls.append(1)\nloss = x**2 + tf.round(w[0])"
    )
    assert len(shell.ns["calls"]) == times
    assert any("cut at Round, line 3" in note for note in shell.ns["minimum"].notes)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_program_assigns_is_not_assigned_again_for_it(shell: Notebook, engine: str) -> None:
    """What variables held is then not known for sure, so that a graph may have no reason to give."""
    shell.ok("import tensorflow as tf\nx, w = tf.Variable(2.0), tf.Variable([1.0, 3.0])")
    shell.ok("count = tf.Variable(0.0, trainable=False)")
    shell.ok(
        f"%%minimize loss --over x w --lr 1e-3 --steps 1 --engine {engine} -q\n"
        "count.assign_add(1.0)\nloss = x**2 + tf.round(w[0])"
    )
    assert shell.ns["count"].numpy() == 2.0  # at the start, and after the one step
    assert any(note.startswith("loss does not depend on w") for note in shell.ns["minimum"].notes)


def test_an_older_object_is_named(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(2.0)\nw = tf.Variable(1.0, name='w')\nkept = [w]")
    shell.ok("w = tf.Variable(1.0, name='w')")
    shell.ok("%%minimize loss --over x w --steps 1 --engine graph -q\nloss = x**2 + kept[0]")
    (note,) = shell.ns["minimum"].notes
    assert note.startswith("loss does not depend on w: it reads kept[0]")


@pytest.mark.parametrize("engine", WAYS)
def test_a_loss_without_a_name(door: Door, engine: str) -> None:
    line = f"--over x w --optimizer sgd --steps 1 --engine {engine}"
    result = door.minimize(Case("i = tf.round(w)\nx**2 + i[0]", line, namespace()))
    assert "the loss does not depend on w: cut at Round, line 2: i = tf.round(w)" in result.notes


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_numpy_in_a_graph_is_said_to_leave_tensorflow(door: Door, engine: str) -> None:
    cell = "r = tf.numpy_function(np.square, [w], tf.float32)\nloss = x**2 + tf.reduce_sum(r)"
    result = door.minimize(case(cell, namespace(), "x w", engine))
    (note,) = [note for note in result.notes if "depend" in note]
    assert "leaves TensorFlow" in note
    assert "line 2" in note
