"""Values that an earlier cell computed from a source: the report names them and the line."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import BASE, the_reason_is_found

W = "w = tf.Variable([3.0, 2.0])"

EARLIER = {
    "a product": ([W, "h = w*2"], "y = tf.reduce_sum(h**2)", "h", r"line 1: h = w\*2"),
    "two cells": ([W, "a = w*2", "h = tf.exp(a)"], "y = tf.reduce_sum(h)", "h", "line 1: h = tf.exp"),
    "below a magic": ([W, "%%grad h --wrt w -q\nh = w*2"], "y = tf.reduce_sum(h)", "h", r"line 2: h = w\*2"),
    "in a block": ([W, "if True:\n    h = w*2"], "y = tf.reduce_sum(h)", "h", r"line 2: h = w\*2"),
    "of a function": ([W, "def g():\n    return w*2", "h = g()"], "y = h[0]", "h", r"line 1: h = g\(\)"),
    "in a function": ([W, "h = w*2\ndef f():\n    return h[0]"], "y = f()", "h", r"line 1: h = w\*2"),
    "the output itself": ([W, "loss = w[0]**2"], "y = loss", "loss", "line 1: loss = w"),
    "a list": ([W, "hs = [w*2, w*3]"], "y = tf.reduce_sum(hs[1])", "hs", r"line 1: hs = \[w\*2"),
    "a list that grows": (
        [W, "hs = []\nfor i in range(3):\n    hs.append(w*i)"],
        "y = hs[1][0]",
        "hs",
        "line 3",
    ),
    "a dict": ([W, "out = {}\nout['h'] = w*2"], "y = out['h'][0]", "out", r"line 2: out\['h'\]"),
    "an attribute": (
        [W, "class Held:\n    pass\nheld = Held()", "held.h = w*2"],
        "y = held.h[0]",
        "held.h",
        r"line 1: held.h = w\*2",
    ),
    "several names": ([W, "a, b = w[0], w[1]"], "y = a**2*b", "a", "line 1: a, b"),
    "numbers": ([W, "h = w.numpy()*2"], "y = tf.reduce_sum(tf.square(h))", "h", "line 1: h = w.numpy"),
    "a source bound anew": ([W, "h = w*2", W], "y = tf.reduce_sum(h)", "h", r"line 1: h = w\*2"),
}

HIDDEN = {
    "a reset": [W, "h = w*2", "%reset -f", BASE + W, "exec('h = tf.constant(1.0)')"],
    "exec": [W, "h = w*2", "exec('h = tf.constant(1.0)')"],
    "a name within an expression": [W, "h = w*2", "print(h := tf.constant(1.0))"],
    "a loop": [W, "h = w*2", "for h in [tf.constant(1.0)]:\n    pass"],
    "a function": [W, "h = w*2", "def put():\n    global h\n    h = tf.constant(1.0)\nput()"],
    "a magic that runs anything": [W, "h = w*2", "%time h = tf.constant(1.0)"],
    "a magic that runs nothing": [W, "h = tf.constant(1.0)", "%%grad --def g --wrt w h\nh = w*2"],
}
"""Cells that bind ``h`` to something else in the end."""

UNRELATED = {
    "data": ([W, "data = tf.constant([1.0, 2.0])"], "y = tf.reduce_sum(data**2)"),
    "of its shape": ([W, "noise = tf.random.stateless_normal(w.shape, (1, 1))"], "y = noise[0]"),
    "ones like it": ([W, "ones = tf.ones_like(w)"], "y = ones[0]"),
    "bound anew": ([W, "h = w*2", "h = tf.constant(1.0)"], "y = h**2"),
    "not read": ([W + "; v = tf.constant(2.0)", "h = w*2"], "y = v**2"),
    "bound by the cell": ([W + "; v = tf.constant(2.0)", "h = w*2"], "h = v*2\ny = h**2"),
    "another variable": ([W + "; v = tf.Module(); v.w, v.b = w, tf.Variable(1.0)", "h = v.b*2"], "y = h**2"),
    "a name of a comprehension": ([W, "h = tf.add_n([w*2.0 for w in [tf.constant(1.0)]])"], "y = h**2"),
    "a number of the cell": ([W, "n = 2.0*float(w[0])"], "n = 6.0\ny = tf.constant(n)"),
    "a number as another": ([W + "; k = 2.0", "h = k*3"], "y = tf.square(h)"),
}


@pytest.mark.parametrize("name", EARLIER)
def test_what_was_computed_before_is_named(shell: Notebook, name: str) -> None:
    cells, body, read, line = EARLIER[name]
    before = [BASE, *cells]
    for cell in before[:-1]:
        shell.ok(cell)
    why = rf"y does not read w in this cell: it reads {read}, which was computed before, cell \d+, {line}"
    the_reason_is_found(shell, before[-1], f"%%grad dy/dw\n{body}", why, f"compute {read} in this cell", "")


@pytest.mark.parametrize("name", UNRELATED)
def test_other_values_of_earlier_cells_are_not_blamed(shell: Notebook, name: str) -> None:
    cells, body = UNRELATED[name]
    for cell in [BASE, *cells]:
        shell.ok(cell)
    shell.ok(f"%%grad dy/dw -q\n{body}")
    assert [row.why for row in shell.ns["grads"].rows] == ["y does not read w"]


@pytest.mark.parametrize("name", HIDDEN)
def test_a_line_that_may_not_be_the_last_is_not_named(shell: Notebook, name: str) -> None:
    for cell in [BASE, *HIDDEN[name]]:
        shell.run(cell)
    shell.ok("%%grad dy/dw -q\ny = h**2")
    assert [row.why for row in shell.ns["grads"].rows] == ["y does not read w"]


def test_a_layer_whose_output_was_computed_before(shell: Notebook) -> None:
    shell.ok(
        BASE + "net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])"
    )
    shell.ok("seen = net.layers[0](tf.ones((4, 2)))")
    shell.ok("%%grad loss --wrt net -q\nloss = tf.reduce_mean(net.layers[1](seen)**2)")
    whys = [row.why for row in shell.ns["grads"].rows]
    assert [why.partition(", which")[0].partition(": ")[2] for why in whys] == ["it reads seen"] * 2 + [
        ""
    ] * 2


def test_the_cure_helps(shell: Notebook) -> None:
    for cell in (BASE, W, "h = w*2", "%%grad dy/dw -q\nh = w*2\ny = tf.reduce_sum(h**2)"):
        shell.ok(cell)
    assert shell.ns["dy_dw"].numpy().tolist() == [24.0, 16.0]  # 8 w
