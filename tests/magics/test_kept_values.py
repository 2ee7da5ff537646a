"""What a cell's Python keeps of its tensors: after the run it holds numbers, those of the final variables."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tests.support.notebook import Notebook

SETUP = "import collections, keras, numpy as np, tensorflow as tf, types\nx = tf.Variable(3.0)\n"
END = 2 * 0.5**5
"""x − 1 after five steps of half the way, from x = 3."""


def line(engine: str) -> str:
    return f"%%minimize loss --over x --optimizer sgd --lr 0.25 --steps 5 --engine {engine} -q\n"


CLASS = "class Model:\n    {0}\n"
LAYER = (
    "class Layer(keras.layers.Layer):\n"
    "    def call(self, v):\n"
    "        self.last = v - 1\n"
    "        return self.last**2\n"
)

KEPT: dict[str, tuple[str, str, str]] = {
    "global in a function above": (
        "def f():\n    global last\n    last = x - 1\n    return last**2",
        "loss = f()",
        "last",
    ),
    "global in a function of the cell": (
        "",
        "def f():\n    global last\n    last = x - 1\n    return last**2\nloss = f()",
        "last",
    ),
    "global of a name that the cell assigns": (
        "",
        "last = 0.0\ndef f():\n    global last\n    last = x - 1\n    return last**2\nloss = f()",
        "last",
    ),
    "global of one name of the cell and one of the notebook": (
        "",
        (
            "last = 0.0\n"
            "def f():\n"
            "    global last, other\n"
            "    last = other = x - 1\n"
            "    return last**2\n"
            "loss = f()"
        ),
        "last + 0*other",
    ),
    "global of the cell": ("", "global last\nlast = x - 1\nloss = last**2", "last"),
    "global of the cell, also the loss": (
        "last = 5",
        "global last, loss; last = x - 1\nloss = last**2",
        "last",
    ),
    "a function that calls one with global": (
        "def g():\n    global last\n    last = x - 1\ndef f():\n    g()\n    return last**2",
        "loss = f()",
        "last",
    ),
    "globals()": ("", "globals()['last'] = x - 1\nloss = (x - 1)**2", "last"),
    "an attribute of a namespace": (
        "o = types.SimpleNamespace()",
        "o.last = x - 1\nloss = o.last**2",
        "o.last",
    ),
    "a namespace of the cell": ("", "o = types.SimpleNamespace(last=x - 1)\nloss = o.last**2", "o.last"),
    "an attribute of an object": (
        CLASS.format("pass") + "o = Model()",
        "o.last = x - 1\nloss = o.last**2",
        "o.last",
    ),
    "an attribute of a class": (
        CLASS.format("pass"),
        "Model.last = x - 1\nloss = Model.last**2",
        "Model.last",
    ),
    "a slot": (
        CLASS.format("__slots__ = ('last',)") + "o = Model()",
        "o.last = x - 1\nloss = o.last**2",
        "o.last",
    ),
    "an attribute of a Keras model": (
        "m = keras.Sequential([keras.layers.Dense(1)])",
        "m.last = x - 1\nloss = m.last**2",
        "m.last",
    ),
    "an attribute of a tf.Module": ("m = tf.Module()", "m.last = x - 1\nloss = m.last**2", "m.last"),
    "an attribute of a function": (
        "def f():\n    f.last = x - 1\n    return f.last**2",
        "loss = f()",
        "f.last",
    ),
    "a method's object": (
        CLASS.format("def __call__(self):\n        self.last = x - 1\n        return self.last**2")
        + "m = Model()\ncall = m.__call__",
        "loss = call()",
        "m.last",
    ),
    "a layer's call": (LAYER + "m = Layer()", "loss = m(x)", "m.last"),
    "a layer within a model": (
        LAYER + "inner = Layer()\nm = keras.Sequential([inner])",
        "loss = tf.reduce_sum(m(x[None, None]))",
        "inner.last[0, 0]",
    ),
    "a dict of another cell": (
        "d = {}\ndef f():\n    d['last'] = x - 1\n    return d['last']**2",
        "loss = f()",
        "d['last']",
    ),
    "a deque": ("d = collections.deque(maxlen=1)", "d.append(x - 1)\nloss = d[-1]**2", "d[-1]"),
    "an array of objects": ("d = np.empty(1, object)", "d[0] = x - 1\nloss = d[0]**2", "d[0]"),
    "a list of lists": ("d = [[0, 1]]", "d[0][1] = x - 1\nloss = d[0][1]**2", "d[0][1]"),
}


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("name", KEPT)
def test_what_python_keeps_holds_its_value_at_the_end(shell: Notebook, name: str, engine: str) -> None:
    before, cell, kept = KEPT[name]
    shell.ok(f"{SETUP}{before}")
    shell.ok(f"{line(engine)}{cell}")
    shell.ok(f"held = float({kept})")
    assert shell.ns["held"] == pytest.approx(END)
    assert [note for note in shell.ns["minimum"].notes if "append" not in note] == []


@pytest.mark.parametrize("method", ["bfgs", "nelder-mead"])
def test_with_a_method_of_scipy(shell: Notebook, method: str) -> None:
    shell.ok(
        f"{SETUP}o = types.SimpleNamespace()\n"
        "def f():\n"
        "    global last\n"
        "    o.last = last = x - 1\n"
        "    return last**2"
    )
    shell.ok(f"%%minimize loss --over x --optimizer {method} -q\nloss = f() + 1")
    assert shell.ns["last"].numpy() == shell.ns["o"].last.numpy() == shell.ns["x"].numpy() - 1


def test_each_run_binds_anew(shell: Notebook) -> None:
    shell.ok(f"{SETUP}def f():\n    global last\n    last = x - 1\n    return last**2")
    for start in (3.0, 9.0, 1.0):
        shell.ok(f"x.assign({start})")
        shell.ok(f"{line('graph')}loss = f()")
        assert shell.ns["last"].numpy() == pytest.approx((start - 1) * 0.5**5)


# -- what has no value --------------------------------------------------------------------------------


def test_a_tensor_of_a_loop_is_taken_out_and_said(shell: Notebook) -> None:
    shell.ok(f"{SETUP}log, o = [], types.SimpleNamespace(last=None)")
    shell.ok(
        f"{line('graph')}s = 0.0*x\nfor i in tf.range(3):\n    log.append(s*2)\n    s += (x - 1)**2\nloss = s"
    )
    assert shell.ns["log"] == []
    said = [note for note in shell.ns["minimum"].notes if "no value after it" in note]
    assert said == [
        "line 4: a tensor of a loop or branch has no value after it; Python's objects do not keep it"
    ]


@pytest.mark.parametrize("fails", ["float(loss)", "np.sin(loss)", "1/0", "raise KeyError"])
def test_a_trace_that_fails_leaves_none_of_its_tensors(shell: Notebook, fails: str) -> None:
    shell.ok(
        f"{SETUP}log, o, last = [], types.SimpleNamespace(last=None), 7\n"
        "def f():\n"
        "    global last\n"
        "    last = x*2"
    )
    shell.run(f"{line('auto')}f()\nlog.append(x*1)\no.last = x*1\nloss = (x - 1)**2\n{fails}")
    for tensor in [*shell.ns["log"], shell.ns["o"].last, shell.ns["last"]]:
        assert tensor is None or not tf.is_symbolic_tensor(tensor)


def test_a_graph_of_the_users_own_keeps_its_tensors(shell: Notebook) -> None:
    shell.ok(
        f"{SETUP}f = tf.function(lambda v: v*2).get_concrete_function(tf.constant(1.0))\n"
        "held = [f.outputs[0]]"
    )
    output = shell.ns["held"][0]
    shell.ok(f"{line('graph')}loss = f(x - 1)**2 + 0.0*len(held)")
    assert shell.ns["held"][0] is output
    assert shell.ns["minimum"].notes == ()


def test_values_from_before_stay_the_same_objects(shell: Notebook) -> None:
    shell.ok(
        f"{SETUP}class Model:\n"
        "    rate = 2.0\n"
        "    def __init__(self):\n"
        "        self.parts = [tf.constant(1.0)]\n"
        "m = Model()\n"
        f"d = {{'k': [1]}}"
    )
    before = shell.ns["m"].parts, shell.ns["m"].parts[0], shell.ns["d"]["k"]
    shell.ok(f"{line('graph')}loss = m.rate*(x - m.parts[0])**2 + 0.0*len(d['k'])")
    assert all(
        one is other
        for one, other in zip(
            before, (shell.ns["m"].parts, shell.ns["m"].parts[0], shell.ns["d"]["k"]), strict=True
        )
    )


# -- del ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(
    "cell",
    [
        "loss = (x - 1)**2\ndel junk",
        "loss = (x - 1)**2 + 0.0*junk\ndel junk",
        "t = x - 1\nloss = t**2\ndel t, junk",
        "junk = x - 1\nloss = junk**2\ndel junk",
        "for junk in range(2):\n    loss = (x - 1)**2\ndel junk",
    ],
)
def test_a_name_that_the_cell_deletes_is_gone(shell: Notebook, cell: str, engine: str) -> None:
    shell.ok(f"{SETUP}junk = 3.0")
    for _ in range(2):
        shell.ok("junk = 3.0")
        shell.ok(f"{line(engine)}{cell}")
        assert "junk" not in shell.ns
        assert "t" not in shell.ns
    assert float(shell.ns["x"]) == pytest.approx(1 + END * 0.5**5)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(
    ("cell", "value"),
    [("del t\nt = x - 1\nloss = t**2", END), ("d = {'k': 1}\ndel d['k']\nloss = (x - 1)**2\nt = 2.0", 2.0)],
)
def test_a_name_that_is_deleted_and_assigned_stays(
    shell: Notebook, cell: str, value: float, engine: str
) -> None:
    shell.ok(f"{SETUP}t = 1.0")
    shell.ok(f"{line(engine)}{cell}")
    assert float(shell.ns["t"]) == pytest.approx(value)


# -- false alarms -----------------------------------------------------------------------------------------


QUIET: list[tuple[str, str]] = [
    (
        "",
        (
            "def outer():\n"
            "    c = 0.0\n"
            "    def inner():\n"
            "        nonlocal c\n"
            "        c = c + (x - 1)**2\n"
            "    inner()\n"
            "    return c\n"
            "loss = outer()"
        ),
    ),
    (
        (
            "def outer():\n"
            "    c = 0.0\n"
            "    def inner():\n"
            "        nonlocal c\n"
            "        c += (x - 1)**2\n"
            "    inner()\n"
            "    return c"
        ),
        "loss = outer()",
    ),
    ("c = 0", "def f():\n    global c\n    c = 1\n    return (x - 1)**2\nloss = f()"),
    ("c = 0\ndef f():\n    global c\n    c = 1\n    return (x - 1)**2", "loss = f()"),
    ("", "c = 0\ndef f():\n    global c\n    c += 1\n    return (x - 1)**2*c\nloss = f()"),
    ("d = {}", "d['scale'] = 2.0\nloss = d['scale']*(x - 1)**2"),
    ("class C: pass\no = C()", "o.shift = 1.0\nloss = (x - o.shift)**2"),
]


@pytest.mark.parametrize(("before", "cell"), QUIET)
def test_what_is_the_same_at_each_step_is_no_side_effect(shell: Notebook, before: str, cell: str) -> None:
    shell.ok(f"{SETUP}{before}")
    shell.ok(f"{line('graph')}{cell}")
    assert shell.ns["minimum"].notes == ()


LOUD: list[tuple[str, str, str]] = [
    ("c = 0\ndef f():\n    global c\n    c += 1\n    return (x - 1)**2", "loss = f()", "c += 1"),
    ("c = 0", "def f():\n    global c\n    c = c + 1\n    return (x - 1)**2\nloss = f()", "c = c + 1"),
    (
        (
            "def make():\n"
            "    n = 0\n"
            "    def f():\n"
            "        nonlocal n\n"
            "        n += 1\n"
            "        return (x - 1)**2\n"
            "    return f\n"
            "f = make()"
        ),
        "loss = f()",
        "n += 1",
    ),
]


@pytest.mark.parametrize(("before", "cell", "effect"), LOUD)
def test_what_counts_steps_is_one(shell: Notebook, before: str, cell: str, effect: str) -> None:
    shell.ok(f"{SETUP}{before}")
    shell.ok(f"{line('graph')}{cell}")
    (note,) = shell.ns["minimum"].notes
    assert "happens only while the loop is compiled" in note
    assert effect in note
