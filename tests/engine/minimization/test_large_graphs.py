"""Graphs that are too large for XLA, and the loops that made them so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from tape_magic.engine.internals.graphs import operation_count
from tape_magic.engine.minimization import engine_choice
from tape_magic.engine.minimization.keras_loop import engines
from tape_magic.engine.minimization.keras_loop.lean_loop import FEW, unroll_factor
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tests.support.notebook import Notebook

MANY = 100
STEPS = "%%minimize loss --over p --lr 0.01 --steps 3 --seed 1\n"
ROUND = "    x, v = x + 0.01*v, v - 0.01*(p[0]*x + p[1]*v)\n"
BEGIN = "x, v = 1.0, 0.0\n"
LOSS = "loss = (x - 0.2)**2 + (v + 0.1)**2"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few operations are too many, and XLA takes over after one step."""
    monkeypatch.setattr(engine_choice, "XLA_MOST", MANY)
    monkeypatch.setattr(engines, "counted_change", lambda *sizes, **more: 1)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines for which a loop is begun."""
    engines: list[str] = []
    begin = LoopBuilder._begin

    def counted(self: LoopBuilder, engine: str, *more: Any) -> Any:
        engines.append(engine)
        return begin(self, engine, *more)

    monkeypatch.setattr(LoopBuilder, "_begin", counted)
    return engines


def reason(shell: Notebook, cell: str, set_up: str = "") -> str:
    shell.ok(f"import tensorflow as tf\np = tf.Variable([0.3, 0.2])\n{set_up}")
    shell.ok(cell)
    result = shell.ns["minimum"]
    engine_reason = str(result.engine_reason)
    assert (result.engine == "xla") == (not engine_reason)
    return engine_reason


def test_a_loop_of_python_s_is_named_with_its_line(shell: Notebook, compiled: list[str]) -> None:
    found = reason(shell, f"{STEPS}{BEGIN}for _ in range(20):\n{ROUND}{LOSS}")
    assert found.endswith(
        "operations would take XLA too long; "
        "the loop of line 3 is unrolled: `for … in tf.range(…)` keeps the loop"
    )
    assert compiled == ["graph"]


def test_the_cure_helps(shell: Notebook) -> None:
    assert reason(shell, f"{STEPS}{BEGIN}for _ in tf.range(20):\n{ROUND}{LOSS}") == ""


UNROLLED = {
    "two loops within each other": (
        f"{BEGIN}for i in range(5):\n    for j in range(5):\n    {ROUND}{LOSS}",
        "",
        "the loop of line 3 is unrolled: `for … in tf.range(…)` keeps the loop",
    ),
    "a while": (
        f"n = 0\n{BEGIN}while n < 20:\n    n += 1\n{ROUND}{LOSS}",
        "",
        "the loop of line 4 is unrolled",
    ),
    "over a list": (f"{BEGIN}for k in [1]*20:\n{ROUND}{LOSS}", "", "the loop of line 3 is unrolled"),
    "a list": (
        "terms = [tf.sin(k*p[0])*tf.cos(k*p[1]) + k for k in range(20)]\nloss = tf.add_n(terms)",
        "",
        "the loop of line 2 is unrolled",
    ),
    "of a function in another cell": (
        "x, v = simulate(p)\n" + LOSS,
        f"def simulate(p):\n    {BEGIN}    for _ in range(20):\n    {ROUND}    return x, v",
        "the loop in simulate is unrolled: `for … in tf.range(…)` keeps the loop",
    ),
    "of a compiled function": (
        "x, v = simulate(p)\n" + LOSS,
        f"@tf.function\ndef simulate(p):\n    {BEGIN}    for _ in range(20):\n    {ROUND}    return x, v",
        "the loop in simulate is unrolled: `for … in tf.range(…)` keeps the loop",
    ),
}


@pytest.mark.parametrize("case", UNROLLED)
def test_other_loops(shell: Notebook, case: str) -> None:
    cell, set_up, expected = UNROLLED[case]
    assert reason(shell, STEPS + cell, set_up).partition("; ")[2] == expected


def test_no_loop_is_named_where_there_is_none(shell: Notebook) -> None:
    cell = STEPS + "".join(f"a{k} = tf.sin({k}.0*p[0])*tf.cos({k}.0*p[1])\n" for k in range(20))
    cell += "loss = " + " + ".join(f"a{k}" for k in range(20))
    assert reason(shell, cell).endswith("operations would take XLA too long")


def test_a_short_loop_beside_many_lines_is_not_named(shell: Notebook) -> None:
    cell = STEPS + "".join(f"a{k} = tf.sin({k}.0*p[0])*tf.cos({k}.0*p[1])\n" for k in range(20))
    cell += "s = 0.0\nfor k in range(2):\n    s = s + p[k]\nloss = s + " + " + ".join(
        f"a{k}" for k in range(20)
    )
    assert reason(shell, cell).endswith("operations would take XLA too long")


@pytest.mark.parametrize(
    "cell",
    [
        f"{BEGIN}for _ in range(2):\n{ROUND}{LOSS}",
        "loss = tf.reduce_sum(tf.sin(tf.range(10_000.0)*p[0])**2)",
        "loss = tf.add_n([p[0]**2 for _ in range(3)])",
    ],
)
def test_graphs_that_are_small_enough(shell: Notebook, cell: str) -> None:
    assert reason(shell, STEPS + cell) == ""


def test_xla_is_compiled_where_it_is_demanded(shell: Notebook) -> None:
    cell = f"{STEPS.replace('--seed 1', '--engine xla')}{BEGIN}for _ in range(20):\n{ROUND}{LOSS}"
    assert reason(shell, cell) == ""


def test_a_run_that_begins_as_a_graph(shell: Notebook, compiled: list[str]) -> None:
    line = STEPS.replace("--steps 3 --seed 1", "--steps 5000")
    found = reason(shell, f"{line}{BEGIN}for _ in range(20):\n{ROUND}{LOSS}")
    assert "the loop of line 3" in found
    assert set(compiled) == {"graph"}


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b"])
def test_methods_of_scipy(shell: Notebook, method: str) -> None:
    line = f"%%minimize loss --over p --optimizer {method} --steps 2\n"
    found = reason(shell, f"{line}{BEGIN}for _ in range(20):\n{ROUND}{LOSS}")
    assert "the loop of line 3 is unrolled" in found


def test_the_caller_s_loop_is_not_meant() -> None:
    import tape_magic

    p = tf.Variable([0.3, 0.2])
    for _ in range(2):
        result = tape_magic.minimize(lambda: sum_of(p, keras.ops.sin), p, "adam", steps=2, seed=1)
    line = sum_of.__code__.co_firstlineno + 1
    assert result.engine_reason.endswith(f"the loop of line {line} is unrolled")


def sum_of(p: Any, function: Callable[[Any], Any]) -> Any:
    return tf.add_n([function(k * p[0]) * function(k * p[1]) for k in range(20)])


def counted(function: Callable[..., Any]) -> int:
    return operation_count(tf.function(function).get_concrete_function(tf.TensorSpec([], tf.float32)).graph)


def test_operations_are_counted_where_a_compiler_gets_them() -> None:
    @tf.function
    def three(x: Any) -> Any:
        return tf.sin(tf.cos(tf.tan(x)))

    one = counted(three)
    assert counted(lambda x: three(x) + three(x + 1.0)) == 2 * one + 2
    rounds = [
        counted(
            lambda x, n=n: tf.while_loop(lambda _: True, lambda y: [three(y)], [x], maximum_iterations=n)[0]
        )
        for n in (3, 300)
    ]
    assert rounds[0] == rounds[1] > one
    assert counted(lambda x: tf.cond(x > 0.0, lambda: three(x), lambda: x)) > one


def test_only_small_steps_are_laid_out_several_times() -> None:
    assert unroll_factor(100, FEW, 10**6) == 8
    assert unroll_factor(100, FEW + 1, 10**6) == 1
