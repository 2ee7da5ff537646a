"""Side effects of Python in a compiled program: each is warned of with its line, and no look-alikes."""

from __future__ import annotations

import collections
import datetime
import io
import logging
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.program import Program
from tape_magic.engine.static_analysis.side_effects import SideEffect, side_effects
from tape_magic.magics.cell.cache import CellCache
from tape_magic.magics.cell.cell import Cell
from tests.support.doors import Case, Door, function_of
from tests.support.notebook import Notebook

LINE = "y --over x --optimizer sgd --lr 0.1 --steps 2"
HAPPENS = "happens only while the loop is compiled, and not at each step"


class Counter:
    """Of the user's, with a method that counts."""

    def __init__(self) -> None:
        self.count = 0
        self.values: list[Any] = []

    def note(self, value: Any) -> Any:
        self.count += 1
        self.values.append(value)
        return value

    @property
    def rate(self) -> float:
        return 0.5

    @rate.setter
    def rate(self, value: float) -> None:
        pass


def names(tmp_path: Path) -> dict[str, Any]:
    return {
        "tf": tf,
        "np": np,
        "random": random,
        "time": time,
        "datetime": datetime.datetime,
        "x": tf.Variable(2.0),
        "log": [],
        "table": {"loss": []},
        "seen": set(),
        "queue": collections.deque(),
        "holder": SimpleNamespace(last=None, log=[]),
        "counter": Counter(),
        "array": np.zeros(3),
        "rng": np.random.default_rng(0),
        "draw": random.Random(0).random,
        "numbers": iter(range(100)),
        "stream": io.StringIO(),
        "logger": logging.getLogger("tests"),
        "path": tmp_path / "losses.txt",
    }


def notes_of(door: Door, cell: str, namespace: dict[str, Any], engine: str = "graph") -> list[str]:
    result = door.minimize(Case(cell, f"{LINE} --engine {engine}", namespace))
    assert result.engine == engine
    return [note for note in result.notes if HAPPENS in note]


def found_in(door: Door, cell: str, namespace: dict[str, Any]) -> list[SideEffect]:
    """What is found in the text, without a run."""
    program: Program
    if door.name == "magic":
        door.shell.ns.update(namespace)
        program, namespace = Cell(door.shell.shell, cell, "minimize", CellCache()), door.shell.ns
    else:
        program = FunctionProgram(function_of(cell, ["x"], namespace, "y"), {"x": namespace["x"]})
    return side_effects(program.text(namespace))


# The line is that of the notebook: the magic's is line 1, and `y = x**2` is line 2.
EFFECTS = [
    ("print('here')", "print('here')", "use tf.print"),
    ("print('at', x, flush=True)", "print('at', x, flush=True)", "use tf.print"),
    ("logger.warning('here')", "logger.warning('here')", "use tf.print"),
    ("log.append(1)", "log.append(1)", "--track"),
    ("log.extend([1, 2])", "log.extend([1, 2])", "--track"),
    ("log.insert(0, 1)", "log.insert(0, 1)", "--track"),
    ("table.update(k=1)", "table.update(k=1)", "--track"),
    ("table.setdefault('k', 1)", "table.setdefault('k', 1)", "--track"),
    ("seen.add(1)", "seen.add(1)", "--track"),
    ("queue.appendleft(1)", "queue.appendleft(1)", "--track"),
    ("table['loss'].append(1)", "table['loss'].append(1)", "--track"),
    ("holder.log.append(1)", "holder.log.append(1)", "--track"),
    ("counter.count += 1", "counter.count += 1", "--track"),
    ("counter.count = counter.count + 1", "counter.count = counter.count + 1", "--track"),
    (
        "setattr(counter, 'count', counter.count + 1)",
        "setattr(counter, 'count', counter.count + 1)",
        "--track",
    ),
    ("table['n'] = table.get('n', 0) + 1", "table['n'] = table.get('n', 0) + 1", "--track"),
    ("table['loss'] = [*table['loss'], 1]", "table['loss'] = [*table['loss'], 1]", "--track"),
    ("array[0] = array[0] + 1.0", "array[0] = array[0] + 1.0", "--track"),
    ("array[1:] = array[:-1]", "array[1:] = array[:-1]", "--track"),
    ("del table['loss']", "del table['loss']", "--track"),
    ("array.fill(1.0)", "array.fill(1.0)", "--track"),
    ("log += [1]", "log += [1]", "--track"),
    ("alias = log; alias.append(1)", "alias.append(1)", "--track"),
    ("[log.append(i) for i in range(2)]; z = 1", "log.append(i)", "--track"),
    ("for entry in table.values(): log.append(1)", "log.append(1)", "--track"),
    ("if x > 0: log.append(1)", "log.append(1)", "--track"),
    ("z = x * np.random.normal()", "np.random.normal()", "use tf.random"),
    ("z = np.random.rand(3)", "np.random.rand(3)", "use tf.random"),
    ("z = random.random() * x", "random.random()", "use tf.random"),
    ("z = rng.normal()", "rng.normal()", "use tf.random"),
    ("z = draw()", "draw()", "use tf.random"),
    ("z = np.random.default_rng()", "np.random.default_rng()", "use tf.random"),
    ("import numpy.random as npr; z = npr.uniform()", "npr.uniform()", "use tf.random"),
    ("from random import gauss; z = gauss(0, 1)", "gauss(0, 1)", "use tf.random"),
    ("z = next(numbers)", "next(numbers)", "--for"),
    ("for i in numbers:\n    break", "numbers", "--for"),
    ("t = time.time()", "time.time()", "use tf.timestamp"),
    ("t = time.perf_counter()", "time.perf_counter()", "use tf.timestamp"),
    ("t = datetime.now()", "datetime.now()", "use tf.timestamp"),
    ("time.sleep(0)", "time.sleep(0)", "a cell above"),
    ("stream.write('x')", "stream.write('x')", "a cell below"),
    ("path.write_text('x')", "path.write_text('x')", "a cell below"),
    ("open(path, 'a').close()", "open(path, 'a')", "a cell below"),
    ("with open(path, mode='w') as f:\n    f.write('x')", "open(path, mode='w')", "a cell below"),
    ("def tell(): print('called')\nz = tell()", "print('called')", "use tf.print"),
    ("z = tf.map_fn(lambda v: log.append(1) or v, tf.ones(2))", "log.append(1)", "--track"),
]


@pytest.mark.parametrize(
    ("body", "text", "cure"), EFFECTS, ids=[body.partition("\n")[0] for body, _, _ in EFFECTS]
)
def test_each_is_found_with_its_line_and_its_cure(
    door: Door, tmp_path: Path, body: str, text: str, cure: str
) -> None:
    cell = f"y = x**2\n\n{body}"
    (effect,) = found_in(door, cell, names(tmp_path))
    line = next(index for index, line in enumerate(cell.splitlines()) if text in line) + 2
    assert (effect.place, effect.text) == (f"line {line}", text)
    assert cure in effect.cure.value


def test_one_of_each_kind_is_warned_of_once(door: Door, tmp_path: Path) -> None:
    body = [
        "print('here')",
        "log.append(1)",
        "table['loss'] += [1]",
        "z = np.random.normal()",
        "n = next(numbers)",
    ]
    namespace = names(tmp_path)
    notes = notes_of(door, "\n".join(["y = x**2", *body, "last = 1"]), namespace)
    assert [note.partition(";")[0] for note in notes] == [
        f"line {line} {HAPPENS}: {text.partition(' = ')[2] if text[0] in 'zn' else text}"
        for line, text in enumerate(body, 3)
    ]
    assert namespace["log"] == [1]
    assert next(namespace["numbers"]) == 1


LOOK_ALIKES = [
    "table['last'] = 1",
    "holder.last = 1",
    "holder.last = x - 1",
    "holder.last = holder.log",
    "counter.last = counter.rate * x",
    "table['last'] = table['loss']",
    "array[0] = 1.0",
    "array[0] = array[1]",
    "setattr(holder, 'last', 1)",
    "setattr(holder, 'last', x - 1)",
    "for holder.last in [1, 2]: pass",
    "own = []; own.append(x)",
    "own = {}; own['k'] = x; own.update(z=1)",
    "own = [i for i in range(3)]; own.insert(0, 1); own += [2]",
    "log = []\nlog.append(x)",
    "tf.print('at', x)",
    "from tensorflow import print; print('at')",
    "v.assign_add(1.0)",
    "v = x + 0.0",
    "n += 1",
    "t += 1.0",
    "a = tf.TensorArray(tf.float32, 2); a = a.write(0, x); z = a.stack()",
    "a.append(x)",
    "z = x * tf.random.normal([])",
    "z = tf.keras.random.normal([])",
    "z = np.random.default_rng(0).normal(size=2)",
    "np.random.seed(0)",
    "z = np.mean([1.0, 2.0])",
    "it = iter([1.0, 2.0]); z = next(it)",
    "z = next(batches)",
    "def tell(): print('never')",
    "tell = lambda v: print(v)",
    "z = table['loss'].count(1)",
    "z = len(log) + sum(log)",
    "z = sorted(log); z.append(1)",
    "z = dict(table); z['k'] = 1",
    "z = log.copy(); z.append(1)",
    "z = [*log]; z.append(1)",
    "counter.rate = 1.0",
    "z = stream.getvalue()",
    "z = datetime(2024, 1, 1)",
    "z = time.strptime('2024', '%Y')",
    "z = path.exists()",
    "z = tf.timestamp()",
    "text = f'{x.shape} print(1)'",
    "z = tf.py_function(lambda v: (log.append(1), v)[1], [x], tf.float32)",
    "z = traced(x)",
]


class Appending(tf.Module):
    """Its `append` is TensorFlow's affair."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = tf.Variable(0.0)

    def append(self, value: Any) -> None:
        self.sum.assign_add(value)


@tf.function
def traced_by_itself(value: Any) -> Any:
    print("tracing")
    return value


@pytest.mark.parametrize("body", LOOK_ALIKES)
def test_what_only_looks_like_one_is_not_warned_of(door: Door, tmp_path: Path, body: str) -> None:
    namespace = names(tmp_path) | {
        "a": Appending(),
        "v": tf.Variable(0.0, trainable=False),
        "n": 1,
        "t": tf.constant(1.0),
        "batches": iter(tf.data.Dataset.range(1000)),
        "traced": traced_by_itself,
    }
    assert found_in(door, f"y = x**2\n{body}", namespace) == []


@pytest.mark.parametrize("engine", ["xla", "graph"])
def test_on_each_compiled_engine(door: Door, engine: str) -> None:
    log: list[str] = []
    namespace = {"tf": tf, "x": tf.Variable(2.0), "log": log}
    (note,) = notes_of(door, "y = x**2\nlog.append('ran')\nlast = 1", namespace, engine)
    assert note.startswith("line 3 ")
    assert log == ["ran"]


def test_nothing_is_said_where_python_runs_at_each_step(door: Door) -> None:
    log: list[str] = []
    namespace = {"tf": tf, "x": tf.Variable(2.0), "log": log}
    assert notes_of(door, "y = x**2\nlog.append('ran')\nlast = 1", namespace, "eager") == []
    assert log == ["ran"] * 3


def test_several_are_listed_in_order_and_many_are_counted(door: Door) -> None:
    body = "\n".join(f"log.append({number})" for number in range(8))
    result = door.minimize(
        Case(
            f"y = x**2\n{body}\nz = 1", f"{LINE} --engine graph", {"tf": tf, "x": tf.Variable(2.0), "log": []}
        )
    )
    said = [note for note in result.notes if "only while" in note]
    assert [note.partition(" happens")[0] for note in said[:5]] == [f"line {line}" for line in range(3, 8)]
    assert said[5:] == ["3 more lines happen only while it is compiled"]


# -- functions that the cell calls ---------------------------------------------------------------------------


def test_a_function_of_another_cell_is_named_by_its_cell(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx, log = tf.Variable(2.0), []")
    number = shell.shell.execution_count
    shell.ok("def model(v):\n    print('model')\n    log.append(v)\n    return v**2")
    shell.ok(f"%%minimize {LINE} --engine graph -q\ny = model(x)")
    notes = shell.ns["minimum"].notes
    assert [note.partition(" happens")[0] for note in notes] == [
        f"cell {number}, line 2",
        f"cell {number}, line 3",
    ]
    assert "print('model'); use tf.print" in notes[0]


def test_a_function_that_is_given_an_outer_list(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx, log = tf.Variable(2.0), []")
    shell.ok("def note(kept, v):\n    kept.append(v)\n    return v")
    shell.ok(f"%%minimize {LINE} --engine graph -q\nown = []\ny = note(own, x**2)")
    assert shell.ns["minimum"].notes == ()
    shell.ok(f"%%minimize {LINE} --engine graph -q\ny = note(log, x**2)")
    (note,) = shell.ns["minimum"].notes
    assert "line 2 happens" in note
    assert "kept.append(v)" in note


def test_methods_global_names_and_layers(shell: Notebook) -> None:
    shell.ok("import keras, tensorflow as tf\nx, calls = tf.Variable(2.0), 0")
    shell.ok(
        "class Square(keras.layers.Layer):\n"
        "    def call(self, v):\n"
        "        self.last = [*getattr(self, 'last', ()), 1]\n"
        "        return v**2\n"
        "def count():\n"
        "    global calls\n"
        "    calls += 1\n"
        "layer = Square()"
    )
    shell.ok(f"%%minimize {LINE} --engine graph -q\ncount()\ny = layer(x)")
    said = shell.ns["minimum"].notes
    assert ["calls += 1" in note or "self.last = [" in note for note in said] == [True, True]
    assert "line 7" in said[0]
    assert "line 3" in said[1]


def test_what_a_function_closes_over() -> None:
    log: list[Any] = []
    x = tf.Variable(2.0)

    def loss() -> Any:
        log.append("ran")
        return x**2

    result = tape_magic.minimize(loss, None, "sgd", 3, lr=0.1, engine="graph")
    (note,) = result.notes
    assert f"line {loss.__code__.co_firstlineno + 1} happens" in note
    assert log == ["ran"]


def test_a_method_as_the_function() -> None:
    counter = Counter()
    x = tf.Variable(2.0)

    class Model:
        def __init__(self) -> None:
            self.counter = counter

        def loss(self) -> Any:
            return self.counter.note(x**2)

    result = tape_magic.minimize(Model().loss, None, "sgd", 3, lr=0.1, engine="graph")
    assert ["self.count += 1" in result.notes[0], "self.values.append" in result.notes[1]] == [True, True]
    assert counter.count == 1


def test_the_warning_is_shown_with_the_report(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(2.0)")
    run = shell.ok(f"%%minimize {LINE}\ny = x**2\nprint('here')")
    text = " ".join(run.displayed[-1].text.split())
    assert "line 3 happens only while the loop is compiled" in text
    assert "use tf.print" in text


def test_an_object_that_answers_with_errors_breaks_nothing(door: Door) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __call__(self) -> None:
            return None

    assert found_in(door, "y = x**2\nodd()", {"x": tf.Variable(2.0), "odd": Odd()}) == []
