"""`%%minimize` as a notebook sees it: names and types afterwards, what is shown, and what is refused."""

from __future__ import annotations

import collections
import re
import signal
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.support.covering import covering
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")
WAYS = ("graph", "eager")
"""For what XLA, which compiles the same graph, cannot make different."""
Pair = collections.namedtuple("Pair", "first second")


@pytest.fixture
def notebook(shell: Notebook) -> Notebook:
    """With what the cells import."""
    shell.ns.update(tf=tf, np=np, keras=keras)
    return shell


def minimum(notebook: Notebook) -> MinimizeResult:
    result = notebook.ns["minimum"]
    assert isinstance(result, MinimizeResult)
    return result


# -- types come back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", WAYS)
def test_floats_come_back_as_floats_and_what_is_only_read_stays_the_same(
    notebook: Notebook, engine: str
) -> None:
    notebook.ok("x, a, b, c = 0.0, 1.0, -2.0, 1.0")
    others = {name: notebook.ns[name] for name in "abc"}
    notebook.ok(
        f"%%minimize y --over x --optimizer sgd --lr 0.01 --steps 1000 --engine {engine}\n"
        "y = a*tf.pow(x, 2) + b*x + c"
    )
    assert type(notebook.ns["x"]) is float
    assert notebook.ns["x"] == pytest.approx(0.9999985, abs=1e-6)
    assert notebook.ns["x"] == minimum(notebook).variables["x"].end
    for name, value in others.items():
        assert notebook.ns[name] is value
    assert tf.is_tensor(notebook.ns["y"])
    assert notebook.ns["y"].numpy() == 0
    assert set(notebook.names) == {"tf", "np", "keras", "x", "a", "b", "c", "y", "minimum"}


@pytest.mark.parametrize(
    ("engine", "value"),
    covering(
        ENGINES,
        [
            1.0,
            np.float32(1),
            np.float64(1),
            np.array([1.0, -2.0]),
            np.array([1.0, -2.0], np.float32),
            np.array([1.0, -2.0], np.float16),
            np.array(1.0),
            tf.constant([1.0, -2.0]),
            tf.constant([1.0, -2.0], tf.float64),
        ],
    ),
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', value)}-{np.ndim(value)}",
)
def test_values_come_back_as_the_type_they_were(notebook: Notebook, engine: str, value: Any) -> None:
    notebook.ns["v"] = value
    before = np.array(value)
    notebook.ok(
        f"%%minimize loss --over v --optimizer sgd --lr 0.25 --steps 2 --engine {engine}\n"
        "loss = tf.reduce_sum(v*v)"
    )
    after = notebook.ns["v"]
    assert type(after) is type(value)
    assert getattr(after, "dtype", None) == getattr(value, "dtype", None)
    assert np.shape(after) == np.shape(value)
    np.testing.assert_array_equal(np.asarray(after), before / 4)
    np.testing.assert_array_equal(np.array(value), before)  # a new object: the old one is untouched


@pytest.mark.parametrize("engine", WAYS)
def test_structures_come_back_in_place(notebook: Notebook, engine: str) -> None:
    own = tf.Variable(8.0)
    inner = [2.0, own]
    p = {"a": 1.0, "b": np.array([4.0, 8.0]), "l": inner, "t": (2.0, 4.0), "n": Pair(2.0, 1.0)}
    notebook.ns["p"] = p
    notebook.ok(
        f"%%minimize --over p --optimizer sgd --lr 0.25 --steps 1 --engine {engine}\n"
        "total = p['a']**2 + p['l'][0]**2 + p['l'][1]**2 + p['t'][0]**2 + p['t'][1]**2 + p['n'].first**2\n"
        "total + tf.reduce_sum(tf.cast(p['b'], tf.float32)**2)"
    )
    assert notebook.ns["p"] is p
    assert p["l"] is inner
    assert inner == [1.0, own]
    assert own.numpy() == 4.0
    assert (p["a"], p["t"]) == (0.5, (1.0, 2.0))
    assert p["n"] == Pair(1.0, 1.0)
    assert type(p["n"]) is Pair
    assert {type(p["a"]), type(inner[0]), type(p["t"][0]), type(p["n"].first)} == {float}
    assert isinstance(p["b"], np.ndarray)
    assert p["b"].dtype == np.float64
    assert p["b"].tolist() == [2.0, 4.0]
    assert minimum(notebook).variables["p['n'].second"].gradient_norm is None


@pytest.mark.parametrize("place", ["p['w']", "m.w", "q[-1]", "p['deep'][0].w"])
def test_places(notebook: Notebook, place: str) -> None:
    class Holder:
        def __init__(self) -> None:
            self.w, self.other = 4.0, 4.0

    holder, deep = Holder(), Holder()
    notebook.ns.update(p={"w": 4.0, "o": 4.0, "deep": [deep]}, m=holder, q=[1.0, 4.0])
    notebook.ok(
        f"%%minimize y --over {place} --optimizer sgd --lr 0.25 --steps 2 --engine graph\n"
        f"y = ({place})**2 + 0.0*p['o']"
    )
    value = eval(place, dict(notebook.ns))
    assert (value, type(value)) == (1.0, float)
    assert list(minimum(notebook).variables) == [place]
    everything = [*notebook.ns["q"], notebook.ns["p"]["w"], holder.w, deep.w]
    assert sorted(everything) == [1.0, 1.0, 4.0, 4.0, 4.0]
    assert (notebook.ns["p"]["o"], holder.other) == (4.0, 4.0)


def test_two_names_for_one_variable_move_it_once(notebook: Notebook) -> None:
    notebook.ok("u = tf.Variable(1.0)\nv = u")
    notebook.ok("%%minimize y --over u v --optimizer sgd --lr 0.25 --steps 1\ny = u**2 + v**2")
    assert notebook.ns["u"].numpy() == 0.0
    assert len(minimum(notebook).variables) == 1


# -- what the cell leaves -----------------------------------------------------------------------------------


LEFT = """\
import math
half = x/2
y = (x - 1)**2
pair = (y, half)
table = {'y': y, 'list': [half, {'deep': y}], 'text': 'plain'}
number, text, none = 3, 'text', None
ragged = tf.ragged.constant([[1., 2.], [3.]])*x
def shifted(by):
    return y + by
class Holder:
    scale = 2.0
    def value(self):
        return self.scale*x
twice = lambda v: 2*v*x
calls = [lambda: y, lambda: half]
held = Bag()
held.half = half
held.inside = ([y],)
if number:
    branch = 2*y
    def within():
        return branch
for step in range(3):
    last = step*x
rows = [x*k for k in range(2)]
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_names_of_the_cell_hold_values_at_the_final_variables(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(3.0)\nlog = []\nclass Bag: pass")
    known = set(notebook.names)
    notebook.ok(f"%%minimize y --over x --optimizer sgd --lr 0.125 --steps 2 --engine {engine} -q\n{LEFT}")
    ns, x = notebook.ns, notebook.ns["x"].numpy()
    y, half = (x - 1) ** 2, x / 2
    assert x == 1 + 2 * 0.75**2
    for tensor, value in [
        (ns["y"], y),
        (ns["half"], half),
        (ns["pair"][1], half),
        (ns["table"]["y"], y),
        (ns["table"]["list"][1]["deep"], y),
        (ns["held"].half, half),
        (ns["held"].inside[0][0], y),
        (ns["branch"], 2 * y),
        (ns["last"], 2 * x),
        (ns["rows"][1], x),
        (ns["shifted"](1.0), y + 1),
        (ns["Holder"]().value(), 2 * x),
        (ns["twice"](1.0), 2 * x),
        (ns["calls"][0](), y),
        (ns["calls"][1](), half),
        (ns["within"](), 2 * y),
    ]:
        assert tensor.numpy() == pytest.approx(value)
    assert ns["ragged"].to_list() == [[x, 2 * x], [3 * x]]
    assert type(ns["pair"]) is tuple
    assert (ns["number"], ns["text"], ns["none"], ns["step"]) == (3, "text", None, 2)
    assert ns["table"]["text"] == "plain"
    assert ns["math"].pi > 3
    left = "math half y pair table number text none ragged shifted Holder twice calls held branch within"
    assert set(notebook.names) - known == {*left.split(), "step", "last", "rows", "minimum"}


@pytest.mark.parametrize("engine", WAYS)
def test_definitions_of_the_cell_follow_the_notebook_afterwards(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(3.0)\nscale = 2.0")
    notebook.ok(
        f"%%minimize y --over x --steps 1 --engine {engine} -q\n"
        "def scaled(v):\n    return scale*v\ny = scaled(x**2)"
    )
    notebook.ok("scale = 10.0")
    assert notebook.ns["scaled"](1.0) == 10.0


@pytest.mark.parametrize("engine", WAYS)
def test_names_from_branches_and_loops_on_tensors(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(3.0)")
    cell = (
        f"%%minimize y --over x --optimizer sgd --lr 0.25 --steps 1 --engine {engine} -q\n"
        "if x > 0:\n    y = x**2\n    side = 1.0\nelse:\n    y = -x\n    side = -1.0\n"
        "for k in tf.range(3):\n    product = x*tf.cast(k, tf.float32)\n"
    )
    for expected in (1.5, 0.75):  # a second time, the names exist already
        notebook.ok(cell)
        assert notebook.ns["x"].numpy() == expected
        assert float(notebook.ns["side"]) == 1.0
        assert int(notebook.ns["k"]) == 2
        assert float(notebook.ns["product"]) == 2 * expected
        assert float(notebook.ns["y"]) == expected**2


@pytest.mark.parametrize("engine", ["xla", "graph"])
def test_a_name_of_one_branch_only_still_compiles(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(2.0)")
    notebook.ok(
        f"%%minimize y --over x --optimizer sgd --lr 0.25 --steps 1 --engine {engine} -q\n"
        "y = x**2\nif x > 0:\n    extra = x*2"
    )
    assert notebook.ns["x"].numpy() == 1.0


@pytest.mark.parametrize(("engine", "times"), [("xla", 1), ("graph", 1), ("auto", 1), ("eager", 6)])
def test_python_runs_once_when_compiled(notebook: Notebook, engine: str, times: int) -> None:
    notebook.ok("x = tf.Variable(1.0)\nlog, seen = [], []")
    run = notebook.ok(
        f"%%minimize y --over x --optimizer sgd --lr 0.25 --steps 5 --engine {engine} -q\n"
        "y = x**2\nlog.append('ran')\nseen.append(y)\nprint('computing')"
    )
    assert notebook.ns["log"] == ["ran"] * times
    assert run.stdout == "computing\n" * times
    assert all(np.isfinite(tensor.numpy()) for tensor in notebook.ns["seen"])
    assert notebook.ns["seen"][-1].numpy() == 4.0**-5


@pytest.mark.parametrize("engine", WAYS)
def test_a_name_that_the_cell_counts_up_begins_anew_at_each_step(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(1.0)\nn, t = 5, tf.constant(2.0)")
    notebook.ok(
        f"%%minimize y --over x --optimizer sgd --lr 0.25 --steps 4 --engine {engine} -q\n"
        "n = n + 1\nt += 1.0\ny = t*x**2/t + 0.0*n"
    )
    assert notebook.ns["n"] == 6
    assert notebook.ns["t"].numpy() == 3.0
    np.testing.assert_allclose(minimum(notebook).history, 4.0 ** -np.arange(5), rtol=1e-5)


def test_the_last_expression_is_the_loss_and_the_value_of_the_cell(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)")
    run = notebook.ok("%%minimize --over x --optimizer sgd --lr 0.25 --steps 2\nx**2")
    assert run.out.numpy() == 1 / 16
    assert minimum(notebook).loss_name == "_"
    assert notebook.ok("%%minimize --over x --steps 1\nx**2;").out is None
    assert notebook.ok("%%minimize y --over x --steps 1\ny = x**2").out is None
    assert notebook.ok("%%minimize y --over x --steps 1\ny = x**2\n'shown'").out == "shown"


@pytest.mark.parametrize("loss", ["losses['total']", "out.total", "parts[1]"])
def test_a_loss_by_its_place(notebook: Notebook, loss: str) -> None:
    notebook.ok("x = tf.Variable(1.0)\nimport types")
    notebook.ok(
        f"%%minimize {loss} --over x --optimizer sgd --lr 0.25 --steps 1 -q\n"
        "total = x**2\nlosses, parts = {'total': total}, [0, total]\nout = types.SimpleNamespace(total=total)"
    )
    assert notebook.ns["x"].numpy() == 0.5


def test_the_name_of_the_report(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)")
    notebook.ok("%%minimize y --over x --steps 1 -o found -q\ny = x**2")
    assert isinstance(notebook.ns["found"], MinimizeResult)
    assert "minimum" not in notebook.ns
    notebook.ok("%config TapeMagics.minimum_name = 'best'")
    notebook.ok("%%minimize y --over x --steps 1 -q\ny = x**2")
    assert isinstance(notebook.ns["best"], MinimizeResult)
    assert "minimum" not in notebook.ns


def test_one_report_is_shown_and_none_when_quiet(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)")
    run = notebook.ok("%%minimize y --over x --optimizer adam --steps 3 --engine graph\ny = x**2")
    (shown,) = run.displayed
    assert shown.text.startswith("y = ")
    assert "at step 3" in shown.text
    assert "step limit" in shown.text
    assert "graph" in shown.text
    assert shown.html.startswith("<")
    assert (run.stdout, run.stderr) == ("", "")
    quiet = notebook.ok("%%minimize y --over x --steps 3 --engine graph -q\ny = x**2")
    assert not quiet.displayed
    assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.parametrize("engine", WAYS)
def test_a_report_of_divergence_says_so(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(1.0)")
    run = notebook.ok(
        f"%%minimize y --over x --optimizer sgd --lr 10 --steps 100 --engine {engine}\ny = x**4"
    )
    (shown,) = run.displayed
    assert shown.text.startswith("diverged at step 3")
    assert "converge" not in (shown.text + shown.html).lower()
    assert minimum(notebook).reason is StopReason.DIVERGED
    assert notebook.ns["y"].numpy() == pytest.approx(minimum(notebook).loss)
    assert np.isfinite(notebook.ns["x"].numpy())


# -- which variables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", WAYS)
def test_the_trainable_variables_that_the_cell_reads(notebook: Notebook, engine: str) -> None:
    notebook.ok(
        "w, unused = tf.Variable(1.0), tf.Variable(1.0)\n"
        "fixed = tf.Variable(2.0, trainable=False)\n"
        "through = tf.Variable(1.0)\n"
        "model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
        "def penalty():\n    return through**2"
    )
    notebook.ok(
        f"%%minimize loss --optimizer sgd --lr 0.125 --steps 1 --engine {engine} -q\n"
        "loss = fixed*w**2 + penalty() + tf.reduce_sum(model(tf.ones([1, 1]))**2)"
    )
    ns = notebook.ns
    assert (ns["w"].numpy(), ns["through"].numpy()) == (0.5, 0.75)
    assert (ns["unused"].numpy(), ns["fixed"].numpy()) == (1.0, 2.0)
    names = set(minimum(notebook).variables)
    assert {"w", "through"} <= names
    assert len(names) == 4
    assert not {"unused", "fixed"} & names


@pytest.mark.parametrize("engine", WAYS)
def test_only_what_is_named_moves(notebook: Notebook, engine: str) -> None:
    notebook.ok("u, v = tf.Variable(1.0), tf.Variable(1.0)\nk = keras.Variable(1.0)")
    notebook.ok(
        f"%%minimize y --over v k --optimizer sgd --lr 0.25 --steps 1 --engine {engine} -q\n"
        "y = u**2 + v**2 + k**2"
    )
    assert (notebook.ns["u"].numpy(), notebook.ns["v"].numpy()) == (1.0, 0.5)
    assert float(notebook.ns["k"]) == 0.5
    assert list(minimum(notebook).variables) == ["v", "k"]


def test_a_variable_without_influence_is_noted(notebook: Notebook) -> None:
    notebook.ok("u, v = tf.Variable(1.0), tf.Variable(1.0)")
    run = notebook.ok("%%minimize y --over u v --steps 1\ny = u**2")
    assert "y does not depend on v" in run.displayed[0].text
    assert notebook.ns["v"].numpy() == 1.0


# -- refusals: one line, and nothing changed -----------------------------------------------------------------


REFUSED = [
    ("y --over x --stps 3", "y = x**2", ("--stps", "did you mean --steps?")),
    ("y --over x --optimizer sdg", "y = x**2", ("sdg", "did you mean sgd?")),
    ("y --over x --engine xal", "y = x**2", ("xal", "did you mean xla?")),
    ("y --over weight", "y = x**2", ("weight is not defined", "did you mean weights?")),
    ("y --over x --steps -3", "y = x**2", ("--steps", "-3")),
    ("y --over x --steps some", "y = x**2", ("--steps", "some")),
    ("y --over x --seed -1", "y = x**2", ("--seed",)),
    ("y z --over x", "y = x**2\nz = y", ("one loss only", "y, z; write --over before")),
    ("y --over x -o 3d", "y = x**2", ("3d",)),
    ("loss --over x", "los = x**2", ("never assigns loss", "did you mean los?")),
    ("--over x", "y = x**2", ("no loss", "%%minimize")),
    ("y --over x", "x = x + 1\ny = x**2", ("line 2 assigns x", "cell above")),
    ("y --over x", "y = x*[1., 2.]", ("shape (2,)", "tf.reduce_mean(y)")),
    ("y --over x", "y = weights", ("y does not depend on x",)),
    ("y --over x", "y = 2.0", ("y is a float",)),
    ("y --over n", "y = x*n", ("n is an integer", "n = 3.0")),
    ("y --over x", "y = tf.cast(x, tf.complex64)", ("complex64", "real")),
    ("y --over z", "y = tf.abs(z)", ("complex", "real")),
    ("y", "y = tf.constant(1.0)", ("no trainable variable", "--over x")),
    ("y --over x", "", ("empty",)),
    ("y --over x", "import asyncio\nawait asyncio.sleep(0)\ny = x", ("line 3", "awaits")),
    ("y --over x", "v = tf.Variable(1.0)\ny = v*x", ("line 2 creates a variable", "cell above")),
    (
        "y --over x",
        "d = keras.layers.Dense(1)\ny = tf.reduce_sum(d(tf.ones([1, 1])))*x",
        ("line 3 creates a variable", "cell above"),
    ),
]


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        (f"{line}{engine}", cell, said)
        for engine in ("", " --engine graph", " --engine eager")
        for line, cell, said in REFUSED
        if not (engine and "--engine" in line)
    ],
)
def test_refused_in_one_line(notebook: Notebook, line: str, cell: str, said: tuple[str, ...]) -> None:
    notebook.ok("x, weights = tf.Variable(1.0), tf.Variable([2.0])[0]\nn, z = 3, tf.Variable(1 + 2j)")
    sentence = notebook.refused(f"%%minimize {line}\n{cell}")
    for part in said:
        assert part in sentence
    assert notebook.ns["x"].numpy() == 1.0


def test_a_refusal_after_floats_were_lifted_gives_them_back(notebook: Notebook) -> None:
    notebook.ok("p = {'a': 1.0, 'l': [2.0]}\nu = 3.0\ninner = p['l']")
    for engine in (*ENGINES, "auto"):
        notebook.refused(f"%%minimize y --over p u --engine {engine}\ny = tf.constant([1., 2.])*u*p['a']")
        assert notebook.ns["p"] == {"a": 1.0, "l": [2.0]}
        assert notebook.ns["p"]["l"] is notebook.ns["inner"]
        assert {type(notebook.ns["u"]), type(notebook.ns["p"]["a"])} == {float}


def test_a_progress_that_there_is_not(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)\n%config TapeMagics.progress = 'loud'")
    said = notebook.refused("%%minimize y --over x\ny = x**2")
    assert "loud" in said
    assert "widget" in said


# -- errors of the user's -----------------------------------------------------------------------------------


OURS = re.compile(r"tape_magic[/\\]|__tape_magic|autograph")


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize(
    ("cell", "error", "line"),
    [
        ("a = 1\ny = missing + x", NameError, 3),
        ("y = x**2\n\n\ny = 1/0", ZeroDivisionError, 5),
        ("y = fail(x)", KeyError, 2),
        ("y = tf.matmul(x, [[1.0]])", Exception, 2),
        ("if True:\n    for i in range(2):\n        y = [][i]", IndexError, 4),
    ],
    ids=["name", "division", "function", "tensorflow", "nested"],
)
def test_the_users_error_with_the_users_line(
    notebook: Notebook, engine: str, cell: str, error: type[Exception], line: int
) -> None:
    notebook.ok("x = tf.Variable(1.0)\ndef fail(v):\n    raise KeyError('mine')")
    run = notebook.run(f"%%minimize y --over x --steps 3 --engine {engine}\n{cell}")
    assert not run.success
    assert isinstance(run.error, error)
    text = run.traceback
    source = cell.splitlines()[line - 2]
    assert re.search(rf"----> {line} {re.escape(source)}", text), text
    assert not OURS.search(text), text
    assert "run_cell_magic" not in text
    if error is KeyError:
        assert "raise KeyError('mine')" in text
    assert not run.displayed
    assert notebook.ns["x"].numpy() == 1.0


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_an_error_at_a_later_step(notebook: Notebook, engine: str) -> None:
    notebook.ok("x = tf.Variable(0.0)")
    run = notebook.run(
        f"%%minimize y --over x --optimizer sgd --lr 0.1 --engine {engine}\n"
        "y = (x - 1)**2\ntf.debugging.assert_less(x, 0.5)"
    )
    assert isinstance(run.error, tf.errors.InvalidArgumentError)
    assert re.search(r"----> 3 tf\.debugging\.assert_less", run.traceback), run.traceback
    assert not OURS.search(run.traceback), run.traceback


def test_a_cell_that_is_not_python(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)")
    with notebook.unchanged():
        run = notebook.run("%%minimize y --over x\ny = x**2\ny = (x")
    assert type(run.error).__name__ == "SyntaxError"  # what a kernel reports
    assert re.search(r"^SyntaxError: ", run.traceback, re.MULTILINE)
    assert "line 3" in run.traceback
    assert not OURS.search(run.traceback)


# -- interrupts ---------------------------------------------------------------------------------------------


def press_at(monkeypatch: pytest.MonkeyPatch, step: int, times: int = 1) -> None:
    """Ctrl-C when the run has come to a step."""
    from tape_magic.display.live.progress import NoProgress

    def update(self: Any, now: Step) -> None:
        if now.step >= step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(NoProgress, "update", update)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_shows_the_report_and_then_raises(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    press_at(monkeypatch, 3)
    handler = signal.getsignal(signal.SIGINT)
    notebook.ok("x, p = 1.0, {'w': np.array([1.0])}")
    run = notebook.run(
        f"%%minimize y --over x p --optimizer sgd --lr 1e-6 --steps 100_000_000 --engine {engine}\n"
        "y = x**2 + p['w'][0]**2"
    )
    assert isinstance(run.error, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    result = minimum(notebook)
    assert result.reason is StopReason.INTERRUPTED
    assert 3 <= result.steps < 100_000_000
    (shown,) = run.displayed
    assert "interrupted" in shown.text
    assert (type(notebook.ns["x"]), type(notebook.ns["p"]["w"])) == (float, np.ndarray)
    assert notebook.ns["x"] == pytest.approx(float(result.variables["x"].end))
    assert notebook.ns["y"].numpy() == pytest.approx(result.loss)
    assert run.traceback.count("KeyboardInterrupt") == 1
    assert not OURS.search(run.traceback)


def test_a_second_interrupt_gets_out_with_everything_given_back(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    press_at(monkeypatch, 3, times=2)
    handler = signal.getsignal(signal.SIGINT)
    notebook.ok("x = 1.0")
    run = notebook.run("%%minimize y --over x --optimizer adam --steps 100_000_000\ny = x**2")
    assert isinstance(run.error, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    assert type(notebook.ns["x"]) is float
    assert not run.displayed
    assert not OURS.search(run.traceback)


# -- again, and again ---------------------------------------------------------------------------------------


def test_a_seed_makes_a_cell_repeat_itself(notebook: Notebook) -> None:
    cell = (
        "%%minimize loss --over w --lr 0.1 --steps 20 --seed 7 -q\n"
        "loss = tf.reduce_sum((w + tf.random.normal([3]))**2)"
    )
    ends = []
    for _ in range(2):
        notebook.ok("w = tf.Variable([1.0, 2.0, 3.0])")
        notebook.ok(cell)
        ends.append((notebook.ns["w"].numpy().tolist(), minimum(notebook).history.tolist()))
    assert ends[0] == ends[1]
    assert minimum(notebook).engine == "graph"
    assert "RandomStandardNormal" in minimum(notebook).engine_reason


def test_a_cell_again_goes_on_from_where_it_ended(notebook: Notebook) -> None:
    notebook.ok("x = 1.0")
    for expected in (0.5, 0.25, 0.125):
        notebook.ok("%%minimize y --over x --optimizer sgd --lr 0.25 --steps 1 -q\ny = x**2")
        assert notebook.ns["x"] == expected


def test_line_magics_and_comments_in_the_cell(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)")
    run = notebook.ok(
        "%%minimize y --over x --optimizer sgd --lr 0.25 --steps 1 -q\n"
        "\n# first\ntext = '''\n  kept\n'''\n%time y = x**2\n!true\n"
    )
    assert notebook.ns["x"].numpy() == 0.5
    assert notebook.ns["text"] == "\n  kept\n"
    assert minimum(notebook).engine == "eager"
    assert "time" in minimum(notebook).engine_reason
    assert "time" in run.stdout.lower()


def test_braces_and_dollars_are_left_alone(notebook: Notebook) -> None:
    notebook.ok("x = tf.Variable(1.0)\nname = 'other'")
    notebook.ok("%%minimize y --over x --steps 1 -q\ny = x**2\ntext = '{name} $name'")
    assert notebook.ns["text"] == "{name} $name"


@pytest.mark.parametrize(
    "cell",
    [
        "loss = (n := tf.reduce_sum(x**2)) * 1.0",
        "match mode:\n    case 'a': loss = tf.reduce_sum(x**2)\n    case _: loss = tf.reduce_sum(x)",
    ],
)
def test_what_autograph_does_not_know_is_compiled_without_its_complaints(
    notebook: Notebook, cell: str, capfd: pytest.CaptureFixture[str]
) -> None:
    notebook.ns.update(x=tf.Variable([3.0, 1.0]), mode="a")
    run = notebook.ok(f"%%minimize loss --over x --steps 3 --engine graph\n{cell}")
    made = notebook.ok(f"%%grad --def f loss --wrt x\n{cell}")
    np.testing.assert_allclose(notebook.ns["f"](tf.constant([3.0, 1.0])).dloss_dx, [6.0, 2.0])
    captured = capfd.readouterr()
    for text in (run.stdout, run.stderr, made.stdout, made.stderr, captured.out, captured.err):
        assert "AutoGraph" not in text
