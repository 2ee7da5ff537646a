"""What an output does not read, and what drops out of a derivative: neither is put down to anything else."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

from tape_magic.results.reasons import Cause
from tests.support.cells import elsewhere
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


@pytest.fixture
def notebook(shell: Notebook) -> Notebook:
    shell.ok("import keras, numpy as np, tensorflow as tf")
    return shell


def reasons(notebook: Notebook, before: str, cell: str) -> dict[str, str]:
    for part in before.split("# ---\n"):
        notebook.ok(part)
    notebook.ok(cell)
    return {row.wrt[0]: str(row.why) for row in notebook.ns["grads"].rows if row.value is None}


# -- other variables of the same shape ---------------------------------------------------------------

ONE_SHAPE = "w1, w2 = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])\n"

OTHERS = {
    "a list as the source": (
        ONE_SHAPE + "params = [w1, w2]",
        "%%grad loss --wrt params -q\nloss = tf.reduce_sum(w1**2)",
        {"params[1]": "loss does not read params[1]"},
    ),
    "a list beside": (
        ONE_SHAPE + "params = [w1, w2]",
        "%%grad loss --wrt w1 w2 -q\nloss = tf.reduce_sum(w1**2)",
        {"w2": "loss does not read w2"},
    ),
    "a list of the other alone": (
        ONE_SHAPE + "params = [w1]",
        "%%grad loss --wrt w2 -q\nloss = tf.reduce_sum(params[0]**2)",
        {"w2": "loss does not read w2"},
    ),
    "a dict": (
        "P = {'a': tf.Variable(1.0), 'b': tf.Variable(2.0)}",
        "%%grad loss --wrt P -q\nloss = P['a']**2",
        {"P['b']": "loss does not read P['b']"},
    ),
    "what IPython keeps": (
        "x = tf.Variable(0.0)\n# ---\nx.assign(0.0)\n# ---\nk = tf.Variable(2.0)",
        "%%grad y --wrt k -q\ny = x**2",
        {"k": "y does not read k"},
    ),
    "what IPython keeps, of the same name": (
        "k = tf.Variable(0.0, name='k')\n# ---\nold = k\nk\n# ---\nk = tf.Variable(2.0, name='k')",
        "%%grad y --wrt k -q\ny = old**2",
        {"k": "y does not read k"},
    ),
    "two layers": (
        "a, b = keras.layers.Dense(2), keras.layers.Dense(2)\nd = tf.ones((1, 2))\na(d), b(d)\n"
        "params = a.trainable_variables;",
        "%%grad y --wrt b -q\ny = tf.reduce_sum(a(d) * params[1])",
        {"kernel": "y does not read kernel", "bias": "y does not read bias"},
    ),
    "moving averages": (
        "n = keras.layers.BatchNormalization()\nd = tf.ones((3, 2))\nn(d)\nkept = n.variables;",
        "%%grad y --wrt n.beta -q\ny = tf.reduce_sum(kept[0] * d)",
        {"n.beta": "y does not read n.beta"},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_variable_of_the_shape_is_no_older_one(notebook: Notebook, name: str) -> None:
    before, cell, told = OTHERS[name]
    assert reasons(notebook, before, cell) == told


@pytest.mark.parametrize(
    ("kept", "place"),
    [("params = [w]", "params[0]"), ("params = (1.0, w)", "params[1]"), ("params = {'w': w}", "params['w']")],
)
def test_an_older_variable_of_the_name_is_told(notebook: Notebook, kept: str, place: str) -> None:
    before = f"w = tf.Variable(1.0, name='w')\n{kept}\n# ---\nw = tf.Variable(2.0, name='w')"
    assert reasons(notebook, before, f"%%grad y --wrt w -q\ny = {place}**2") == {
        "w": f"y does not read w: it reads {place}, which was called that before w was bound anew; "
        "make params again from the new w"
    }


def test_a_list_that_holds_the_variable_itself_holds_no_older_one(notebook: Notebook) -> None:
    before = "o = tf.Variable(1.0, name='w')\nw = tf.Variable(2.0, name='w')\nparams = [o, w]"
    assert reasons(notebook, before, "%%grad y --wrt w -q\ny = params[0]**2") == {"w": "y does not read w"}


# -- derivatives that the user takes -----------------------------------------------------------------

SLOPES = (
    "with tf.GradientTape() as inner:\n    inner.watch(t)\n    u = {}\n"
    "s = inner.gradient(u, t)\nloss = tf.reduce_sum(s**2)"
)

DROPS_OUT = {
    "a scalar": ("w * t**2 + b", 1.0),
    "a shape that is spread": ("w * t**2 + b", [1.0, 2.0]),
    "a row": ("tf.matmul(t[None] * w, tf.ones((2, 2))) + b", [1.0, 2.0]),
    "beside another": ("w * tf.sin(t) + 2.0 * b + w", [1.0, 2.0]),
    "in a sum": ("tf.reduce_sum(w * t**3) + tf.reduce_sum(b)", [1.0, 2.0]),
}


@pytest.mark.parametrize("name", DROPS_OUT)
def test_what_drops_out_of_the_users_own_derivative(door: Door, name: str) -> None:
    text, value = DROPS_OUT[name]
    names = {"w": tf.Variable(2.0), "b": tf.Variable(value), "t": tf.constant([1.0, 2.0])}
    by_w, by_b = door.grad(Case(SLOPES.format(text), "dloss/dw, dloss/db", {**elsewhere(""), **names}))
    assert by_w.value is not None
    assert by_b.value is None
    assert by_b.why == "loss does not depend on b"


def test_what_drops_out_within_a_compiled_function(door: Door) -> None:
    text = (
        "@tf.function\ndef slope(t):\n    with tf.GradientTape() as g:\n        g.watch(t)\n"
        "        u = w * t**2 + b\n    return g.gradient(u, t)\n"
    )
    w, b = tf.Variable(2.0), tf.Variable([1.0, 2.0])
    names = {**elsewhere(text, w=w, b=b), "t": tf.constant([1.0, 2.0])}
    by_w, by_b = door.grad(
        Case("loss = tf.reduce_sum(slope(t)**2)", "loss --wrt w b", {**names, "w": w, "b": b})
    )
    assert by_w.value is not None
    assert "shape" not in by_b.why
    assert by_b.reason is not None
    assert by_b.reason.cause is Cause.NOT_READ


def critic(*layers: Any) -> keras.Sequential:
    ends = [keras.layers.Flatten(), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((4, 4, 1)), *layers, *ends])


CRITICS = {
    "a line": (lambda: critic(), {"bias"}),
    "convolutions": (lambda: critic(keras.layers.Conv2D(2, 2), keras.layers.Conv2D(2, 2)), {"bias"}),
    "tanh": (lambda: critic(keras.layers.Conv2D(2, 2, activation="tanh")), {"bias"}),
}


@pytest.mark.parametrize("name", CRITICS)
def test_the_biases_of_a_gradient_penalty(door: Door, name: str) -> None:
    make, dropped = CRITICS[name]
    cell = (
        "with tf.GradientTape() as inner:\n    inner.watch(images)\n    score = critic(images)\n"
        "slopes = inner.gradient(score, images)\n"
        "penalty = tf.reduce_mean((tf.norm(tf.reshape(slopes, (3, -1)), axis=1) - 1.0)**2)"
    )
    images = tf.random.stateless_uniform((3, 4, 4, 1), seed=(1, 1))
    rows = list(
        door.grad(Case(cell, "penalty --wrt critic", {**elsewhere(""), "critic": make(), "images": images}))
    )
    missing = [row for row in rows if row.value is None]
    assert missing
    for row in missing:
        assert row.wrt[0].rpartition("/")[2] in dropped
        assert row.why == f"penalty does not depend on {row.wrt[0]}"


LOOK_ALIKES = {
    "a shape that is read": (
        "n = tf.cast(tf.shape(b)[0], tf.float32)\nloss = tf.reduce_sum(w * t) / n",
        "only the shape of b is read, line 2: n = tf.cast(tf.shape(b)[0], tf.float32)",
    ),
    "a shape that is read before a derivative": (
        SLOPES.format("w * t**2 * tf.cast(tf.shape(b)[0], tf.float32)"),
        "only the shape of b is read, line 4: u = w * t**2 * tf.cast(tf.shape(b)[0], tf.float32)",
    ),
    "a cut": (
        SLOPES.format("w * t**2 + tf.round(b) * t"),
        "cut at Round, line 4: u = w * t**2 + tf.round(b) * t",
    ),
    "nothing": ("loss = tf.reduce_sum(w * t)", "loss does not read b"),
    "nothing, beside a derivative": (SLOPES.format("w * t**2"), "loss does not read b"),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_does_not_drop_out(door: Door, name: str) -> None:
    cell, why = LOOK_ALIKES[name]
    names = {"w": tf.Variable(2.0), "b": tf.Variable([1.0, 2.0]), "t": tf.constant([1.0, 2.0])}
    _, by_b = door.grad(Case(cell, "dloss/dw, dloss/db", {**elsewhere(""), **names}))
    assert by_b.why == why


# -- forward mode ------------------------------------------------------------------------------------

FORWARD = {
    "cut": ("y = tf.round(tf.sin(x))", "cut at Round, line 2: y = tf.round(tf.sin(x))"),
    "cut at once": ("y = tf.floor(x)", "cut at Floor, line 2: y = tf.floor(x)"),
    "cut, after two": ("z = tf.exp(x) * 2.0\ny = tf.sign(tf.round(z))", "cut at Round, line 3"),
    "not finite": ("y = tf.sqrt(x)", "the gradient of Sqrt is inf for 0 at [0], line 2: y = tf.sqrt(x)"),
    "not finite, later": ("z = x * 1.0\ny = tf.math.log(z)", "Log is −inf for 0 at [0], line 3"),
    "not read": ("y = a * 2.0", "y does not read x"),
}


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("make", [tf.Variable, tf.constant], ids=["variable", "tensor"])
def test_reasons_in_forward_mode(door: Door, name: str, make: Any) -> None:
    cell, why = FORWARD[name]
    names = {"x": make([0.0, 1.0]), "a": tf.Variable(2.0), "v": tf.ones(2)}
    (row,) = door.grad(Case(cell, "y --jvp x=v", {**elsewhere(""), **names}))
    assert row.why.startswith(why)


def test_forward_mode_where_nothing_is_wrong(door: Door) -> None:
    names = {"x": tf.Variable([0.5, 1.0]), "v": tf.ones(2)}
    (row,) = door.grad(Case("y = x * tf.round(x)", "y --jvp x=v", {**elsewhere(""), **names}))
    assert row.reason is None
    assert row.value is not None
