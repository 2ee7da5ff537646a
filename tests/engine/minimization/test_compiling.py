"""A run that is ended while TensorFlow or XLA compile: at once, and with nothing changed."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.api.minimize import MinimizeInterrupted, minimize_program
from tape_magic.engine.minimization import compiling, engine_choice
from tape_magic.engine.minimization.compiling import (
    THREAD,
    BackgroundCompile,
    CompileWaiter,
    compile_in_background,
)
from tape_magic.engine.minimization.keras_loop import engines, loop_builder
from tape_magic.engine.minimization.keras_loop.compiled_program import EngineTimes
from tape_magic.engine.minimization.keras_loop.lean_loop import LeanLoop
from tape_magic.engine.minimization.scipy_solver.derivatives import Derivatives
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step, Wish
from tests.support.clock import Clock
from tests.support.gate import Gate
from tests.support.notebook import Notebook

COMPILED = ["xla", "graph"]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(compiling, "BackgroundCompile", gate.held)
    monkeypatch.setattr(loop_builder, "QUICK_SECONDS", 0.0)
    yield gate
    gate.opened.set()
    for thread in threads():
        thread.join(300)
    assert not threads()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def minimized(w: Any, wish: Callable[[], Wish], optimizer: Any = "adam", **settings: Any) -> MinimizeResult:
    def loss() -> Any:
        return tf.reduce_sum((w - 3.0) ** 2)

    chosen = Settings(optimizer=optimizer, steps=20, lr=0.1 if optimizer == "adam" else None, **settings)
    return minimize_program(FunctionProgram(loss, {}), {}, None, None, chosen, wish=wish).result


def while_compiling(do: Callable[[], Wish]) -> Callable[[], Wish]:
    """Asked some times while a compiler works, then do something."""
    asked = []

    def wish() -> Wish:
        asked.extend(threads()[:1])
        return do() if len(asked) == 3 else Wish.GO_ON

    return wish


def press() -> Wish:
    signal.raise_signal(signal.SIGINT)
    return Wish.GO_ON


@pytest.mark.parametrize("engine", COMPILED)
def test_a_stop_ends_the_wait_and_the_next_run_is_like_any_other(gate: Gate, engine: str) -> None:
    w = tf.Variable([1.0, 2.0])
    stopped = minimized(w, while_compiling(lambda: Wish.STOP), engine=engine)
    assert (stopped.reason, stopped.steps, stopped.loss) == (StopReason.STOPPED, 0, 5.0)
    assert stopped.history.tolist() == [5.0]
    assert w.numpy().tolist() == [1.0, 2.0]
    assert threads()  # left to itself
    gate.opened.set()
    found = minimized(w, lambda: Wish.GO_ON, engine=engine)
    v = tf.Variable([1.0, 2.0])
    expected = minimized(v, lambda: Wish.GO_ON, engine="eager")
    assert (found.reason, found.steps, found.engine) == (StopReason.STEPS, 20, engine)
    np.testing.assert_allclose(found.history, expected.history, rtol=1e-5)
    np.testing.assert_allclose(w, v, rtol=1e-5)


@pytest.mark.parametrize("engine", COMPILED)
def test_an_interrupt_ends_the_wait_with_a_report(gate: Gate, engine: str) -> None:
    w = tf.Variable([1.0, 2.0])
    with pytest.raises(MinimizeInterrupted, match="stopped before the first step") as caught:
        minimized(w, while_compiling(press), engine=engine)
    assert (caught.value.result.reason, caught.value.result.loss) == (StopReason.INTERRUPTED, 5.0)
    assert w.numpy().tolist() == [1.0, 2.0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_gets_out_without_one(gate: Gate) -> None:
    w = tf.Variable([1.0, 2.0])

    def twice() -> Wish:
        press()
        return press()

    with pytest.raises(KeyboardInterrupt) as caught:
        minimized(w, while_compiling(twice), engine="xla")
    assert not isinstance(caught.value, MinimizeInterrupted)
    assert w.numpy().tolist() == [1.0, 2.0]


METHODS = ["l-bfgs-b", "trust-ncg", "nelder-mead"]


@pytest.mark.parametrize("method", METHODS)
def test_scipys_functions_are_waited_for_too(gate: Gate, method: str) -> None:
    w = tf.Variable([1.0, 2.0], dtype=tf.float64)
    stopped = minimized(w, while_compiling(lambda: Wish.STOP), method, engine="xla")
    assert (stopped.reason, stopped.steps, stopped.loss) == (StopReason.STOPPED, 0, 5.0)
    assert stopped.history.tolist() == [5.0]
    assert w.numpy().tolist() == [1.0, 2.0]
    gate.opened.set()
    found = minimized(w, lambda: Wish.GO_ON, method, engine="xla")
    assert found.engine == "xla"
    # As far as either comes in twenty steps; the least of Σ(w - 3)² is 0 at 3.
    np.testing.assert_allclose(w, [3.0, 3.0], atol=0.3 if method == "nelder-mead" else 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_ends_the_wait_for_scipys_functions_with_a_report(gate: Gate, method: str) -> None:
    w = tf.Variable([1.0, 2.0], dtype=tf.float64)
    with pytest.raises(MinimizeInterrupted) as caught:
        minimized(w, while_compiling(press), method, engine="xla")
    assert (caught.value.result.reason, caught.value.result.loss) == (StopReason.INTERRUPTED, 5.0)
    assert w.numpy().tolist() == [1.0, 2.0]


def test_the_wait_for_scipys_functions_is_shown(gate: Gate) -> None:
    w, seen = tf.Variable([1.0, 2.0], dtype=tf.float64), list[Step]()

    def wish() -> Wish:
        if len(seen) == 3:
            gate.opened.set()
        return Wish.GO_ON

    program = FunctionProgram(lambda: tf.reduce_sum((w - 3.0) ** 2), {})
    minimize_program(
        program, {}, None, None, Settings(optimizer="bfgs", engine="xla"), wish=wish, on_wait=seen.append
    )
    assert len(seen) >= 3
    assert {(step.step, step.compiling) for step in seen} == {(0, "xla")}


@pytest.mark.parametrize("kind", ["keras", "scipy"])
@pytest.mark.parametrize("engine", COMPILED)
def test_it_is_shown_before_python_begins_its_part(
    engine: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes seconds for hundreds of variables, with nothing in between."""
    w, seen, shown = tf.Variable([1.0, 2.0], dtype=tf.float64), list[Step](), list[int]()

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (shown.append(len(seen)), method(*arguments))[1]

    monkeypatch.setattr(Derivatives, "gradient", noting(Derivatives.gradient))
    monkeypatch.setattr(keras.optimizers.SGD, "update_step", noting(keras.optimizers.SGD.update_step))
    optimizer = keras.optimizers.SGD(0.1) if kind == "keras" else "bfgs"
    program = FunctionProgram(lambda: tf.reduce_sum((w - 3.0) ** 2), {})
    minimize_program(
        program, {}, None, None, Settings(optimizer=optimizer, engine=engine, steps=3), on_wait=seen.append
    )
    assert shown[0] == 1
    assert seen[0].compiling == engine
    assert math.isnan(seen[0].loss)


class Pressing(keras.optimizers.SGD):
    """An interrupt comes while Python lays the step out for the compiler."""

    presses = 1

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.presses:
            self.presses -= 1
            signal.raise_signal(signal.SIGINT)
        super().update_step(gradient, variable, learning_rate)


@pytest.mark.parametrize("engine", COMPILED)
def test_an_interrupt_ends_what_python_does_for_a_compiler(engine: str) -> None:
    w = tf.Variable([1.0, 2.0])
    optimizer = Pressing(0.1)
    with pytest.raises(MinimizeInterrupted) as caught:
        minimized(w, lambda: Wish.GO_ON, optimizer, engine=engine)
    assert (caught.value.result.steps, caught.value.result.loss) == (0, 5.0)
    assert (w.numpy().tolist(), optimizer.presses) == ([1.0, 2.0], 0)
    assert tf.executing_eagerly()
    assert minimized(w, lambda: Wish.GO_ON, optimizer, engine=engine).steps == 20


def test_the_display_is_told_what_the_run_waits_for(gate: Gate) -> None:
    seen: list[Step] = []

    def told(step: Step) -> None:
        seen.append(step)
        gate.opened.set()

    def loss(x: Any) -> Any:
        return x**2

    namespace = {"x": tf.Variable(1.0)}
    minimize_program(
        FunctionProgram(loss, namespace), namespace, None, ("x",),
        Settings(optimizer="sgd", steps=3, engine="xla"), on_wait=told,
    )  # fmt: skip
    assert {(step.step, step.steps, step.compiling) for step in seen} == {(0, 3, "xla")}
    assert np.isnan(seen[0].loss)


def test_a_cell_that_runs_again_waits_for_what_its_last_run_began(
    gate: Gate, shell: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, waited = CompileWaiter.wait, list[str]()

    def pressed(self: CompileWaiter, begun: BackgroundCompile, engine: str) -> None:
        waited.append(engine)
        press()
        wait(self, begun, engine)

    shell.ok("import tensorflow as tf\nx = tf.Variable(1.0)")
    cell = "%%minimize y --over x --lr 1e-3 --steps 30 --engine xla\ny = x**2"

    monkeypatch.setattr(CompileWaiter, "wait", pressed)
    for _ in range(2):
        assert isinstance(shell.run(cell).error, KeyboardInterrupt)
        assert shell.ns["minimum"].steps == 0
    assert waited == ["xla", "xla"]
    monkeypatch.setattr(CompileWaiter, "wait", wait)
    gate.opened.set()
    shell.ok(cell)
    assert shell.ns["minimum"].steps == 30
    assert gate.begun == 1


def test_the_graph_goes_on_while_xla_compiles(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "XLA_LEAST", 0.0)
    monkeypatch.setattr(engine_choice, "XLA_SHARE", 0.0)
    monkeypatch.setattr(
        compiling, "BackgroundCompile", lambda call: (gate.held if gate.begun else first)(call)
    )

    def first(call: Callable[[], Any]) -> BackgroundCompile:
        gate.begun += 1
        return BackgroundCompile(call)  # the graph

    clock, leanly, called = Clock(), LeanLoop._leanly, []
    monkeypatch.setattr(engines, "time", clock)

    def slow_at_first(self: LeanLoop, *arguments: Any) -> Any:
        called.append(1)
        clock.sleep(1000.0 if len(called) == 1 else 0.0)  # as the first call of many variables is
        return leanly(self, *arguments)

    monkeypatch.setattr(LeanLoop, "_leanly", slow_at_first)
    w = tf.Variable(0.0)
    seen: list[Step] = []

    def told(step: Step) -> None:
        seen.append(step)
        if sum(one.compiling == "xla" for one in seen) == 3:
            gate.opened.set()
            for thread in threads():
                thread.join(300)

    steps = 600_000  # each takes exactly 1
    result = tape_magic.minimize(lambda: w, None, "sgd", steps, lr=1.0, on_progress=told)
    beside = [step for step in seen if step.compiling]
    assert {(step.engine, step.compiling) for step in beside} == {("graph", "xla")}
    assert len({step.step for step in beside}) >= 3
    assert (result.engine, result.engine_reason) == ("xla", "")
    assert w.numpy() == -steps
    np.testing.assert_array_equal(result.history, -result.history_steps.astype(float))
    assert gate.begun == 2


def test_what_a_step_takes_is_without_compiling_what_looks_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else XLA seemed to be slow, and the next run of the cell began as a graph."""
    clock = Clock()
    for module in (engines, compiling):
        monkeypatch.setattr(module, "time", clock)
    begun: list[int] = []
    noted: list[float] = []

    class Slow(BackgroundCompile):
        """Is waited for a thousand seconds."""

        def wait(self, seconds: float) -> bool:
            clock.sleep(1000.0)
            return super().wait(300)

    def slow(call: Callable[[], Any]) -> BackgroundCompile:
        begun.append(1)
        return (Slow if len(begun) > 1 else BackgroundCompile)(call)

    monkeypatch.setattr(compiling, "BackgroundCompile", slow)
    monkeypatch.setattr(
        EngineTimes, "note", lambda self, engine, seconds, steps, **more: noted.append(seconds)
    )
    w = tf.Variable(0.0)

    def loss() -> dict[str, Any]:
        return {"loss": w, "t": tf.where(tf.equal(w, -12_004.0), float("nan"), 1.0)}

    result = tape_magic.minimize(loss, None, "sgd", 20_000, lr=1.0, track=["t"], engine="xla")
    assert (result.steps, len(begun)) == (20_000, 2)
    assert max(noted) < 900
    assert result.compile_seconds > 1000


def test_a_stop_while_what_looks_at_each_step_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunk that was not finite is taken back, and nothing of it is left."""
    begun: list[int] = []
    over = threading.Event()

    def held(call: Callable[[], Any]) -> BackgroundCompile:
        begun.append(1)
        return BackgroundCompile(lambda: (over.wait(300) if len(begun) > 1 else None, call()))

    monkeypatch.setattr(compiling, "BackgroundCompile", held)
    w = tf.Variable(0.0)

    def loss() -> Any:
        return w + tf.stop_gradient(tf.where(w <= -12_004.0, float("inf"), 0.0))

    chosen = Settings(optimizer="sgd", lr=1.0, steps=20_000, engine="xla")
    wish = lambda: Wish.STOP if len(begun) > 1 else Wish.GO_ON  # noqa: E731
    try:
        result = minimize_program(FunctionProgram(loss, {}), {}, None, None, chosen, wish=wish).result
    finally:
        over.set()
        for thread in threads():
            thread.join(300)
    assert result.reason is StopReason.STOPPED
    assert 0 < result.steps <= 12_004
    assert w.numpy() == -result.steps == result.history[-1]


def test_what_is_compiled_beside_touches_no_variable() -> None:
    counted, drawn = tf.Variable(0), tf.random.Generator.from_seed(1)
    before = drawn.state.numpy()

    @tf.function(autograph=False, jit_compile=True)
    def function(x: Any) -> Any:
        return x + tf.cast(counted.assign_add(1), tf.float32) + drawn.normal([])

    concrete = function.get_concrete_function(tf.TensorSpec([]))
    begun = compile_in_background(concrete, [tf.constant(1.0)])
    assert begun is not None
    assert begun.wait(300)
    begun.check()
    assert counted.numpy() == 0
    np.testing.assert_array_equal(drawn.state, before)
    concrete(tf.constant(1.0))
    assert counted.numpy() == 1


@pytest.mark.parametrize("device", [None, "/CPU:0"])
def test_a_thread_compiles_on_the_device_of_whoever_began(device: str | None) -> None:
    seen = []
    with tf.device(device):
        begun = BackgroundCompile(lambda: seen.append(tf.constant(1.0).device))
        here = tf.constant(1.0).device
    assert begun.wait(300)
    begun.check()
    assert seen == [here]


ENDS = """
import ctypes, os, sys, threading, time
import tensorflow
from tape_magic.engine.minimization.compiling import THREAD, BackgroundCompile

def end(seconds):
    library = ctypes.CDLL(None)
    library.on_exit(library.abort, None)
    begun = BackgroundCompile(lambda: time.sleep(seconds))
    if not seconds:
        for one in threading.enumerate():
            one.name == THREAD and one.join()
    print("said at the end", end=" ")
    sys.exit(7)

for seconds in 3600, 0:
    child = os.fork()
    if not child:
        end(seconds)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Something is tidied up at the end that a compiler which still works does not survive.

Each program is a fork of one that has imported TensorFlow, which takes longer than all the rest.
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other C libraries have no word for it")
def test_a_program_that_ends_meanwhile_ends_with_its_own_status() -> None:
    ran = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=600)
    assert ran.stdout == f"said at the end 7\nsaid at the end {-signal.SIGABRT}\n", ran.stderr
