"""Which engine SciPy's methods are run on: a graph at first, and XLA where it pays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.api.minimize import minimize_program
from tape_magic.engine.minimization import compiling, engine_choice
from tape_magic.engine.minimization.compiling import THREAD, BackgroundCompile
from tape_magic.engine.minimization.scipy_solver import functions, iterations
from tape_magic.engine.minimization.scipy_solver.functions import Functions
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step, Wish
from tests.support.gate import Gate
from tests.support.notebook import Notebook

FIRST = ["bfgs", "l-bfgs-b", "nelder-mead", "lm", "trf"]
SECOND = ["newton-cg", "trust-krylov", "trust-exact"]
SETUP = "import tensorflow as tf\nx = tf.Variable([-1.2, 1.0], dtype=tf.float64)"
BANANA = "y = 100*(x[1] - x[0]**2)**2 + (1 - x[0])**2"
EARLY = "over before XLA would have been ready"


def banana(x: Any) -> Any:
    return tf.reduce_sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def residuals(x: Any) -> Any:
    return tf.concat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]], axis=0)


def loss_of(method: str) -> Callable[[Any], Any]:
    return residuals if method in ("lm", "trf") else banana


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """XLA pays from the first evaluation on, and is there before the next one."""
    monkeypatch.setattr(engine_choice, "XLA_LEAST", 0.0)
    monkeypatch.setattr(engine_choice, "XLA_SHARE", 0.0)
    monkeypatch.setattr(functions, "_TELLING", 1e9)

    def compiled(call: Callable[[], Any]) -> BackgroundCompile:
        begun = BackgroundCompile(call)
        begun.wait(300)
        return begun

    monkeypatch.setattr(compiling, "BackgroundCompile", compiled)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD]


@pytest.mark.usefixtures("no_xla_beside")
@pytest.mark.parametrize("method", [*FIRST, *SECOND])
def test_a_short_run_is_over_before_xla_is_worth_it(method: str) -> None:
    result = tape_magic.minimize(loss_of(method), {"x": np.array([0.5, 0.5])}, method)
    assert result.engine == "graph"
    anew = "XLA would compile second derivatives anew at each call"
    assert result.engine_reason == (anew if method in SECOND else EARLY)
    np.testing.assert_allclose(result.variables["x"].end, [1.0, 1.0], atol=1e-3)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("method", FIRST)
def test_xla_takes_over_and_no_evaluation_is_lost(method: str) -> None:
    calls = tf.Variable(0, trainable=False)
    given = loss_of(method)

    def loss(x: Any) -> Any:
        calls.assign_add(1)
        return given(x)

    start = {"x": np.array([-1.2, 1.0])}
    result = tape_magic.minimize(loss, start, method)
    assert (result.engine, result.engine_reason) == ("xla", "")
    counted = int(calls)
    calls.assign(0)
    alone = tape_magic.minimize(loss, start, method, engine="graph")
    np.testing.assert_allclose(result.variables["x"].end, [1.0, 1.0], atol=1e-3)
    np.testing.assert_allclose(result.history, alone.history, rtol=1e-4, atol=1e-9)
    assert (result.steps, counted) == (alone.steps, int(calls))


@pytest.mark.usefixtures("at_once")
def test_where_xla_cannot_the_graph_goes_on_and_the_report_says_why() -> None:
    def loss(x: Any) -> Any:
        return banana(x) + 0.0 * tf.reduce_sum(tf.numpy_function(np.square, [x], tf.float64))

    result = tape_magic.minimize(loss, {"x": np.array([-1.2, 1.0])}, "bfgs")
    assert result.engine == "graph"
    assert result.engine_reason.startswith("XLA has no kernel for PyFunc")
    np.testing.assert_allclose(result.variables["x"].end, [1.0, 1.0], atol=1e-3)


@pytest.mark.usefixtures("at_once")
def test_a_slower_xla_is_left_again_and_not_tried_in_the_next_run(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, laid_out = Functions.__call__, list[str]()

    def slow(self: Functions, kind: str, *vectors: Any) -> Any:
        found = call(self, kind, *vectors)
        self.seconds += 0.05 if self.engine == "xla" else 0.0
        return found

    monkeypatch.setattr(Functions, "__call__", slow)
    make = Functions.__init__

    def noted(self: Functions, *arguments: Any) -> None:
        make(self, *arguments)
        laid_out.append(self.engine)

    monkeypatch.setattr(Functions, "__init__", noted)
    monkeypatch.setattr(functions, "_TELLING", 0.1)
    shell.ok(SETUP)
    for _ in range(2):
        shell.ok("x.assign([-1.2, 1.0])")
        shell.ok(f"%%minimize y --over x --optimizer nelder-mead\n{BANANA}")
        result = shell.ns["minimum"]
        assert result.engine == "graph"
        assert result.engine_reason.endswith(" times as long")
        np.testing.assert_allclose(shell.ns["x"], [1.0, 1.0], atol=1e-3)
    assert laid_out == ["graph", "xla"]


def test_what_compiles_beside_is_shown_and_a_stop_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "XLA_LEAST", 0.0)
    monkeypatch.setattr(engine_choice, "XLA_SHARE", 0.0)
    monkeypatch.setattr(iterations, "PROGRESS_SECONDS", 0.0)
    gate = Gate()
    monkeypatch.setattr(compiling, "BackgroundCompile", gate.held)
    seen = list[Step]()

    def loss(x: Any) -> Any:
        return banana(x)

    def wish() -> Wish:
        return Wish.STOP if any(step.compiling for step in seen) else Wish.GO_ON

    program = FunctionProgram(loss, {"x": np.full(50, -1.0)})
    settings = Settings(optimizer="bfgs", steps=10_000)
    try:
        result = minimize_program(
            program, {"x": np.full(50, -1.0)}, None, ("x",), settings, seen.append, wish=wish
        ).result
    finally:
        gate.opened.set()
    assert result.reason is StopReason.STOPPED
    assert {(step.engine, step.compiling) for step in seen if step.compiling} == {("graph", "xla")}
    assert result.steps > 0


@pytest.mark.usefixtures("at_once")
def test_with_a_seed_the_engine_does_not_depend_on_the_time() -> None:
    def minimized() -> MinimizeResult:
        return tape_magic.minimize(banana, {"x": np.array([-1.2, 1.0])}, "bfgs", seed=1)

    first, second = minimized(), minimized()
    assert (first.engine, second.engine) == ("graph", "graph")
    assert first.engine_reason == "with a seed, the engine does not change within a run"
    np.testing.assert_array_equal(first.history, second.history)


def test_what_runs_of_one_cell_took_counts_together(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short ones are worth XLA, too."""
    call = Functions.__call__

    def of_one_millisecond(self: Functions, kind: str, *vectors: Any) -> Any:
        before = self.seconds
        found = call(self, kind, *vectors)
        self.seconds = before + 0.001
        return found

    monkeypatch.setattr(Functions, "__call__", of_one_millisecond)
    monkeypatch.setattr(engine_choice, "XLA_LEAST", 0.1)
    monkeypatch.setattr(engine_choice, "XLA_SHARE", 0.0)
    shell.ok(SETUP)
    engines: list[str] = []
    while len(engines) < 100 and "xla" not in engines:
        shell.ok("x.assign([-1.2, 1.0])")
        shell.ok(f"%%minimize y --over x --optimizer bfgs -q\n{BANANA}")
        engines.append(shell.ns["minimum"].engine)
        for thread in threading.enumerate():
            if thread.name == THREAD:
                thread.join(300)
    assert engines[:3] == ["graph"] * 3
    assert engines[-1] == "xla"
