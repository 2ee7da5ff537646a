"""An unchanged cell is not traced again, a changed one is, and nothing piles up."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref
from typing import Any

import numpy as np
import pytest

from tape_magic.engine.minimization.keras_loop.compiled_program import EngineTimes
from tape_magic.engine.minimization.keras_loop.lean_loop import LeanLoop
from tape_magic.engine.minimization.reuse import CAPACITY, LoopCache
from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations
from tape_magic.engine.tracing.traced import Traced
from tests.support.notebook import Notebook

SET_UP = """
import numpy as np, tensorflow as tf
scale, shift, table = 2.0, tf.constant(1.0), np.array([1.0, 2.0], 'float32')
x, settings = tf.Variable(4.0), {'power': 2}
def term(x):
    return scale*(x - shift)**settings['power'] + table[0]
"""
CELL = "y = term(x) + 0*table[1]"


_traced: list[Any] = []


def traces() -> int:
    """How many programs were traced since the cells began."""
    return len(_traced)


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _traced.clear()
    original = Traced.__init__

    def counted(self: Traced, *arguments: Any, **named: Any) -> None:
        _traced.append(1)
        original(self, *arguments, **named)

    monkeypatch.setattr(Traced, "__init__", counted)


@pytest.fixture
def ready(shell: Notebook) -> Notebook:
    shell.ok(SET_UP)
    return shell


@pytest.mark.parametrize(
    "line", ["--over x", "", "--over x --engine xla", "--over x --lr 0.1 --keep best --tol 0"]
)
def test_an_unchanged_cell_is_traced_once(ready: Notebook, line: str) -> None:
    losses = []
    for steps in (3, 3, 5):
        ready.ok("x.assign(4.0)")
        ready.ok(f"%%minimize y {line} --steps {steps} -q\n{CELL}")
        losses.append(ready.ns["minimum"].history.tolist())
    assert traces() == 1
    # From the same start, with an optimizer that begins anew.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    np.testing.assert_allclose(losses[0], losses[2][:4], rtol=1e-6)
    assert float(ready.ns["y"]) == pytest.approx(ready.ns["minimum"].loss)


def test_few_steps_are_taken_by_the_loop_of_many(ready: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out = []
    original = LeanLoop.lay_out
    monkeypatch.setattr(LeanLoop, "lay_out", lambda self: (laid_out.append(self), original(self))[1])
    for steps in (100_000, 3, 11):
        ready.ok("x.assign(4.0)")
        line = f"%%minimize y --over x --optimizer sgd --lr 0.1 --engine xla --steps {steps} -q"
        ready.ok(f"{line}\n{CELL}")
        assert len(ready.ns["minimum"].history) >= min(steps, 10_000) + 1
        # y = 2(x - 1)² + 1, so that each step takes four tenths of the way to 1.
        assert float(ready.ns["x"]) == pytest.approx(1 + 3 * 0.6**steps, rel=1e-5)
    assert len(laid_out) == 1


def test_floats_are_traced_once_whatever_their_value(ready: Notebook) -> None:
    for value in (4.0, 3.0):
        ready.ns["x"] = value
        ready.ok(f"%%minimize y --over x --steps 3 -q\n{CELL}")
        assert ready.ns["minimum"].start_loss == pytest.approx(2 * (value - 1) ** 2 + 1)
    assert traces() == 1


@pytest.mark.parametrize(
    "change",
    [
        "x = tf.Variable(4.0)",
        "scale = 3.0",
        "shift = tf.constant(0.0)",
        "table[0] = 5.0",
        "settings['power'] = 4",
        "def term(x):\n    return x**2",
    ],
)
def test_a_change_of_what_it_reads_is_seen(ready: Notebook, change: str) -> None:
    ready.ok(f"%%minimize y --over x --steps 0 -q\n{CELL}")
    ready.ok(change)
    ready.ok(f"%%minimize y --over x --steps 0 -q\n{CELL}")
    assert traces() == 2
    assert ready.ns["minimum"].loss == pytest.approx(float(ready.ok(CELL.removeprefix("y = ")).out))


@pytest.mark.parametrize(
    ("set_up", "cell", "change"),
    [
        ("df = pd.DataFrame({'y': [1.0]})", "y = x*df['y'].to_numpy()[0]", "df['y'] = df['y']*10"),
        ("class C:\n    k = 1.0", "y = x*C.k", "C.k = 10.0"),
        (
            "k = 1.0\nclass M:\n    def f(self, x):\n        return k*x\nm = M()",
            "y = m.f(x)",
            "k = 10.0",
        ),
        ("t = tf.Module()\nt.k = tf.constant(1.0)", "y = x*t.k", "t.k = tf.constant(10.0)"),
        ("from types import SimpleNamespace\ns = SimpleNamespace(k=[1.0])", "y = x*s.k[0]", "s.k[0] = 10.0"),
        (
            "class L(tf.keras.Layer):\n    def call(self, x):\n        return x*self.k[0]\n"
            "l = L()\nl.k = np.array([1.0])",
            "y = l(x)",
            "l.k = np.array([10.0])",
        ),
        ("d = tf.keras.layers.Rescaling(1.0)", "y = d(x)", "d.scale = 10.0"),
        (
            "from functools import partial\nf = partial(tf.multiply, 1.0)",
            "y = f(x)",
            "f = partial(tf.multiply, 10.0)",
        ),
        ("def f(x, k=1.0):\n    return k*x", "y = f(x)", "f.__defaults__ = (10.0,)"),
        ("n = 1.0", "n = n*1.0\ny = n*x", "n = 10.0"),
    ],
    ids=["frame", "class", "method", "module", "object", "layer", "setting", "partial", "default", "entry"],
)
def test_what_may_have_changed_is_traced_anew(shell: Notebook, set_up: str, cell: str, change: str) -> None:
    shell.ok(f"import numpy as np, pandas as pd, tensorflow as tf\nx = tf.Variable(3.0)\n{set_up}")
    for factor in (1, 10):
        shell.ok(f"%%minimize y --over x --steps 0 -q\n{cell}")
        assert shell.ns["minimum"].start_loss == pytest.approx(3.0 * factor)
        shell.ok(change)


@pytest.mark.parametrize(
    ("set_up", "line", "cell"),
    [
        (
            "model = tf.keras.Sequential([tf.keras.Input([1]), tf.keras.layers.Dense(1)])",
            "--over model",
            "tf.reduce_mean(model(tf.ones([2, 1]))**2)",
        ),
        ("x = tf.Variable(3.0)", '--over x --optimizer "tf.keras.optimizers.SGD(0.01)"', "x**2"),
        ("x, data = tf.Variable(3.0), [(1.0,), (2.0,)]", '--over x --for "(r,) in data"', "x*r"),
        (
            "x = tf.Variable(3.0)",
            "--over x",
            "terms = [x, x**2]\nlogs = {'a': terms[0]}\nterms[1]",
        ),
        ("x = tf.Variable(3.0)", "--over x --optimizer bfgs", "terms = [x, (x, x**2)]\nterms[1][1]"),
        (
            "from tensorflow import keras\n"
            "class Noise(keras.layers.Layer):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.seed_generator = keras.random.SeedGenerator(1)\n"
            "    def call(self, x):\n"
            "        return x + keras.random.normal([], seed=self.seed_generator)\n"
            "x, noise = tf.Variable(3.0), Noise()",
            "--over x",
            "noise(x)**2",
        ),
        (
            "class Half(tf.keras.optimizers.schedules.LearningRateSchedule):\n"
            "    def __call__(self, step):\n"
            "        return 0.5 / (tf.cast(step, tf.float32) + 1.0)\n"
            "x = tf.Variable(3.0)",
            '--over x --optimizer "tf.keras.optimizers.SGD(Half())"',
            "x**2",
        ),
        (
            "x, sparse = tf.Variable([[3.0]]), tf.sparse.from_dense([[2.0]])",
            "--over x",
            "tf.reduce_sum(tf.sparse.sparse_dense_matmul(sparse, x)**2)",
        ),
        (
            "x, ragged = tf.Variable([3.0]), tf.ragged.constant([[0], [0, 0]])",
            "--over x",
            "tf.reduce_sum(tf.reduce_mean(tf.gather(x, ragged), axis=1)**2)",
        ),
    ],
    ids=["model", "expression", "data", "lists", "scipy", "sampling", "schedule", "sparse", "ragged"],
)
def test_further_cells_that_are_traced_once(shell: Notebook, set_up: str, line: str, cell: str) -> None:
    shell.ok(f"import tensorflow as tf\n{set_up}")
    for _ in range(3):
        shell.ok(f"%%minimize {line} --steps 2 -q\n{cell}")
    assert traces() == 1


def test_a_seed_after_a_run_without_one(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(3.0)")
    losses = []
    for seed in ("", "--seed 1", "--seed 1"):
        shell.ok("x.assign(3.0)")
        shell.ok(f"%%minimize --over x --steps 3 {seed} -q\n(x - tf.random.normal([]))**2")
        losses.append(shell.ns["minimum"].history.tolist())
    assert losses[1] == losses[2]


@pytest.mark.parametrize("line", ["--lr 0.5", "--target 0", "--engine graph", "--track z"])
def test_a_change_of_the_line_is_seen(ready: Notebook, line: str) -> None:
    ready.ok(f"%%minimize y --over x --steps 1 -q\n{CELL}\nz = y")
    ready.ok(f"%%minimize y --over x --steps 1 -q {line}\n{CELL}\nz = y")
    assert traces() == 2


def test_what_a_cell_keeps_in_a_list_is_of_the_last_run(ready: Notebook) -> None:
    for start in (4.0, 2.0):
        ready.ok(f"x.assign({start})")
        ready.ok(f"%%minimize y --over x --steps 0 -q\n{CELL}\nkept = [y]")
        assert float(ready.ns["kept"][0]) == pytest.approx(2 * (start - 1) ** 2 + 1)


def test_a_schedule_that_was_changed_is_seen(shell: Notebook) -> None:
    shell.ok(
        "import tensorflow as tf\n"
        "class Flat(tf.keras.optimizers.schedules.LearningRateSchedule):\n"
        "    rate = 0.5\n"
        "    def __call__(self, step):\n"
        "        return self.rate\n"
        "x, flat = tf.Variable(3.0), Flat()"
    )
    for rate, end in ((0.5, 0.0), (0.25, 1.5)):  # x - rate·2x
        shell.ok(f"x.assign(3.0)\nflat.rate = {rate}")
        shell.ok('%%minimize --over x --optimizer "tf.keras.optimizers.SGD(flat)" --steps 1 -q\nx**2')
        assert float(shell.ns["x"]) == pytest.approx(end)


def test_a_list_of_an_earlier_run_stays_as_it_was(ready: Notebook) -> None:
    kept = []
    for start in (4.0, 2.0, 3.0):
        ready.ok(f"x.assign({start})")
        made = "row = [y]\nlogs = {'row': row, 'all': [row]}"
        ready.ok(f"%%minimize y --over x --steps 0 -q\n{CELL}\n{made}")
        kept.append((ready.ns["row"], ready.ns["logs"]))
    assert traces() == 1
    for start, (row, logs) in zip((4.0, 2.0, 3.0), kept, strict=True):
        assert float(row[0]) == pytest.approx(2 * (start - 1) ** 2 + 1)
        assert logs["row"] is row
        assert logs["all"][0] is row


@pytest.mark.parametrize(
    ("set_up", "cell"),
    [
        ("log = []", "y = x**2\nlog.append(y)\nlast = [y]"),
        ("class Box:\n    pass", "y = x**2\nrow = [y]\nbox = Box()\nbox.row = row"),
        ("", "y = x**2\nrow = [y]\ndef f(row=row):\n    return row"),
        ("from collections import defaultdict", "y = x**2\nrow = defaultdict(list)\nrow['y'].append(y)"),
    ],
    ids=["outer", "object", "default", "class"],
)
def test_what_is_kept_elsewhere_has_values_at_each_run(shell: Notebook, set_up: str, cell: str) -> None:
    shell.ok(f"import tensorflow as tf\nx = tf.Variable(3.0)\n{set_up}")
    for start in (3.0, 2.0):
        shell.ok(f"x.assign({start})")
        shell.ok(f"%%minimize y --over x --steps 0 -q\n{cell}")
        held = {
            "log": "log[-1]",
            "box": "box.row[0]",
            "f": "f()[0]",
            "row": "row['y'][0]",
        }[next(name for name in ("log", "box", "f", "row") if name in shell.ns)]
        assert float(shell.ok(f"float({held})").out) == pytest.approx(start**2)


def test_a_demanded_engine_needs_no_reason(ready: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an earlier run of the cell found out about XLA: nobody asked for XLA here."""
    monkeypatch.setattr(EngineTimes, "xla_is_slower", True)
    for engine, reason in (("auto", "XLA was slower in an earlier run"), ("graph", ""), ("eager", "")):
        ready.ok(f"%%minimize y --over x --steps 3 --engine {engine} -q\n{CELL}")
        assert ready.ns["minimum"].engine_reason == reason


def test_compiled_functions_keep_no_earlier_run_alive(
    ready: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[Evaluations]] = []
    original = Evaluations.finish
    monkeypatch.setattr(
        Evaluations, "finish", lambda self, x: (kept.append(weakref.ref(self)), original(self, x))[1]
    )
    ready.ok(f"%%minimize y --over x --optimizer bfgs -q\n{CELL}")
    gc.collect()
    assert [one() for one in kept] == [None]


def test_compiled_loops_are_freed_with_their_variable(ready: Notebook) -> None:
    ready.ok(f"%%minimize y --over x --steps 3 --engine graph -q\n{CELL}")
    gone = weakref.ref(ready.ns["x"])
    ready.ok("del x, y, minimum")
    gc.collect()
    assert gone() is None


class _Owner:
    pass


def test_the_cache_is_bounded_and_lives_no_longer_than_the_owners() -> None:
    cache = LoopCache()
    owners = [_Owner() for _ in range(CAPACITY + 3)]
    entries: list[Any] = [_Owner() for _ in owners]
    for number, (owner, entry) in enumerate(zip(owners, entries, strict=True)):
        cache.put(number, entry, owner)
    assert [cache.get(number) is entries[number] for number in range(len(owners))] == (
        [False] * 3 + [True] * CAPACITY
    )
    gone = weakref.ref(entries.pop())
    del entry, owner
    owners.pop()
    gc.collect()
    assert gone() is None
    assert cache.get(len(owners)) is None
    cache.put("strong", "entry")
    assert cache.get("strong") == "entry"


_GROWTH = """
    import gc, os, resource, sys
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "tape_magic")

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cell(steps, more=""):
        shell.run_cell("x.assign(0.0)", silent=True)
        line = f"%%minimize y --over x --optimizer sgd --lr 0.01 --steps {steps} -q {more}"
        assert shell.run_cell(f"{line}\\ny = a*tf.pow(x, 2) + b*x + c", silent=True).success

    shell.run_cell("import tensorflow as tf\\nx = tf.Variable(0.0)")
    shell.run_cell("a, b, c = map(tf.constant, (1.0, -2.0, 1.0))")
    cell(100_000, "--engine xla")
    before = resident()
    cell(10_000_000, "--engine xla")
    assert shell.user_ns["minimum"].steps == 10_000_000
    print("steps", resident() - before)
    for _ in range(5):
        cell(1000)
    before = resident()
    for _ in range(200):
        cell(1000)
    print("runs", resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident memory from /proc")
def test_memory_does_not_grow_with_steps_or_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_GROWTH)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grown = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("steps", "runs")))
    assert float(grown["steps"]) < 50, grown
    assert float(grown["runs"]) < 50, grown


@pytest.mark.parametrize("engines", [("auto", "xla"), ("xla", "eager")])
def test_the_loop_of_another_engine_is_left_alone(shell: Notebook, engines: tuple[str, str]) -> None:
    """It has let go of the data of its own run already."""
    shell.ok("import numpy as np, tensorflow as tf\nx = tf.Variable(0.0); data = np.ones(8, 'float32')")
    for engine in engines:
        shell.ok(
            f"%%minimize y --over x --for 'b in data' --batch 8 --epochs 2 --engine {engine}\n"
            "y = tf.reduce_mean((x - b)**2)"
        )
        assert shell.ns["minimum"].steps == 2
