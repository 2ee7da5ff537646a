"""An interrupt in each part of a run that TensorFlow works in, as Python delivers it there, or drops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import scipy.optimize
import tensorflow as tf

from tape_magic.display.live.progress import NoProgress
from tape_magic.engine.api.minimize import MinimizeInterrupted, minimize_program
from tape_magic.engine.minimization.keras_loop import compiled_loop, run
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.eager_loop import EagerLoop
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.scipy_solver.functions import Functions
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.magics import front_end
from tape_magic.magics import shell as magics
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step, Wish
from tests.support.covering import covering
from tests.support.notebook import Notebook


def raised() -> None:
    """An interrupt that raises where Python stands."""
    signal.raise_signal(signal.SIGINT)


class _Dropping:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def dropped() -> None:
    """An interrupt whose exception Python drops, as in any callback that nobody waits for."""
    _Dropping()


def translated() -> None:
    """An interrupt of which a library makes an error of its own, within a graph that it leaves entered."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        tf.Graph().as_default().__enter__()
        raise TypeError("float() argument must be a string or a real number") from None


WAYS = [raised, dropped, translated]
KERAS = ["graph", "xla", "auto"]


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python says of no interrupt that it dropped it, and eager mode is as it was at the end."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    yield
    assert told == []
    assert tf.executing_eagerly()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Once:
    """Presses the first time that it is asked to."""

    def __init__(self, press: Callable[[], None]) -> None:
        self.press, self.left = press, 1

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            self.press()


def minimized(
    w: Any,
    within: Callable[[], None] = lambda: None,
    backward: Callable[[], None] = lambda: None,
    optimizer: Any = "sgd",
    **settings: Any,
) -> MinimizeResult:
    @tf.custom_gradient
    def square(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            if not tf.executing_eagerly():
                backward()
            return 2 * x * upstream

        return x * x, gradient

    def loss(*batch: Any) -> Any:
        if not tf.executing_eagerly():
            within()
        return tf.reduce_sum(square(w - 3.0)) + sum(0.0 * tf.reduce_sum(one) for one in batch)

    on_progress, wish = settings.pop("on_progress", None), settings.pop("wish", None)
    chosen = Settings(optimizer=optimizer, **{"steps": 20, **settings})
    program = FunctionProgram(loss, {})
    return minimize_program(program, {}, None, None, chosen, on_progress, wish=wish).result


def is_over(press: Callable[[], None], run: Callable[[Any], MinimizeResult]) -> None:
    """An interrupt ends the run without a report, and the same run again is like any other."""
    w = tf.Variable([1.0, 2.0])
    with pytest.raises(KeyboardInterrupt) as caught:
        run(w)
    assert not isinstance(caught.value, MinimizeInterrupted)
    assert w.numpy().tolist() == [1.0, 2.0]
    assert tf.executing_eagerly()
    assert run(w).steps == 20


@pytest.mark.parametrize(("press", "engine"), covering(WAYS, KERAS))
def test_while_the_program_is_traced(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)
    is_over(press, lambda w: minimized(w, once, engine=engine))


@pytest.mark.parametrize(("press", "engine"), covering(WAYS, ["graph", "xla"]))
def test_while_the_gradient_is_traced(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)
    is_over(press, lambda w: minimized(w, backward=once, engine=engine))


@pytest.mark.parametrize("press", WAYS)
def test_while_a_program_is_traced_for_scipy(press: Callable[[], None]) -> None:
    once, w = Once(press), tf.Variable([1.0, 2.0])
    with pytest.raises(KeyboardInterrupt) as caught:
        minimized(w, once, optimizer="l-bfgs-b")
    assert not isinstance(caught.value, MinimizeInterrupted)
    assert tf.executing_eagerly()
    assert minimized(w, once, optimizer="l-bfgs-b").reason is StopReason.METHOD_CONVERGED


@pytest.mark.parametrize(("press", "engine"), covering([raised, dropped], KERAS))
def test_while_the_data_are_made_ready(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)

    class Batches:
        def __iter__(self) -> Iterator[Any]:
            once()
            return iter([(tf.ones(2),)] * 20)

    def run(w: Any) -> MinimizeResult:
        return minimized(w, data=Batches(), names=("batch",), label="data", steps=None, engine=engine)

    is_over(press, run)


@pytest.mark.parametrize(("press", "engine"), covering(WAYS, KERAS))
def test_while_a_program_over_data_is_traced(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)
    arrays = (tf.ones([80, 2]).numpy(),)

    def run(w: Any) -> MinimizeResult:
        return minimized(
            w, once, data=arrays, names=("batch",), batch=4, label="data", steps=None, engine=engine
        )

    is_over(press, run)


@pytest.mark.parametrize(("press", "engine"), covering(WAYS, ["graph", "xla"]))
def test_while_the_steps_are_laid_out(engine: str, press: Callable[[], None]) -> None:
    """The program can be evaluated by then, so that there is a report."""

    class Pressing(keras.optimizers.SGD):
        once = Once(press)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            type(self).once()
            super().update_step(gradient, variable, learning_rate)

    w, optimizer = tf.Variable([1.0, 2.0]), Pressing(0.1)
    with pytest.raises(MinimizeInterrupted, match="stopped before the first step") as caught:
        minimized(w, optimizer=optimizer, engine=engine)
    assert (caught.value.result.steps, caught.value.result.loss) == (0, 5.0)
    assert w.numpy().tolist() == [1.0, 2.0]
    assert tf.executing_eagerly()
    assert minimized(w, optimizer=optimizer, engine=engine).steps == 20


# -- each phase of a run ---------------------------------------------------------------------------------

ENGINES = [*KERAS, "eager"]
LOOPS = [("auto", False), ("xla", False), ("eager", False), ("graph", True), ("eager", True)]
ARRAYS = (tf.ones([8, 2]).numpy(),)
OVER_DATA: dict[str, Any] = {"data": ARRAYS, "names": ("batch",), "batch": 4, "label": "data", "steps": None}


def pressing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, press: Callable[[], None]) -> None:
    """An interrupt before the first call of something."""
    once, original = Once(press), getattr(owner, name)

    def pressed(*arguments: Any, **keywords: Any) -> Any:
        once()
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, pressed)


def told(run: Callable[[], MinimizeResult]) -> MinimizeResult:
    """The result of a run that ends with an interrupt and a report."""
    with pytest.raises(MinimizeInterrupted) as caught:
        run()
    return caught.value.result


@pytest.mark.parametrize(("engine", "over_data"), LOOPS)
def test_between_two_chunks(engine: str, over_data: bool) -> None:
    """The step that was told last is the last one."""
    w, seen = tf.Variable([1.0, 2.0]), list[int]()

    def tell(step: Step) -> None:
        seen.append(step.step)
        if len(seen) == 2:
            raised()

    more = {**OVER_DATA, "epochs": 10**4} if over_data else {"steps": 10**9}
    result = told(lambda: minimized(w, optimizer="adam", lr=1e-6, engine=engine, on_progress=tell, **more))
    assert result.reason is StopReason.INTERRUPTED
    assert [result.steps - 1, len(seen)] == [seen[-1], 2]


@pytest.mark.parametrize(("engine", "over_data"), LOOPS)
def test_within_the_first_call(engine: str, over_data: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That call ends with whole steps, and no other follows."""
    pressing(monkeypatch, Engines, "advance", raised)
    w, more = tf.Variable([1.0, 2.0]), {**OVER_DATA, "epochs": 10**4} if over_data else {"steps": 10**9}
    result = told(lambda: minimized(w, optimizer="sgd", lr=0.25, engine=engine, **more))
    assert (result.reason, result.steps) == (StopReason.INTERRUPTED, 1)
    assert w.numpy().tolist() == [2.0, 2.5]  # half of the way to 3


@pytest.mark.parametrize("engine", ENGINES)
def test_within_the_final_evaluation_and_while_the_report_is_made(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are done, so that the report says so; the cell ends with the interrupt all the same."""
    for owner, name in (
        (EagerLoop if engine == "eager" else CompiledLoop, "final"),
        (run.KerasRun, "finish"),
    ):
        w = tf.Variable([1.0, 2.0])
        pressing(monkeypatch, owner, name, raised)
        result = told(lambda w=w: minimized(w, optimizer="sgd", lr=0.25, engine=engine, steps=2))
        assert (result.reason, result.steps, result.loss) == (StopReason.STEPS, 2, 0.3125)
        assert w.numpy().tolist() == [2.5, 2.75]


CELLS = ["%%minimize y --over x --steps 3 --optimizer sgd\ny = x*x", "%%grad dy/dx\ny = x*x", "%tfgpu"]


@pytest.mark.parametrize("press", [raised, dropped])
def test_before_the_first_line_and_while_the_report_is_shown(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch, press: Callable[[], None]
) -> None:
    """Each magic ends with one line, and what was bound before the report stays."""
    shell.ns["x"] = 2.0
    shell.ok(CELLS[0])
    began = {"%%minimize": "front_end", "%%grad": "request_arguments", "%tfgpu": "in_one_line"}
    for cell in CELLS:
        places = [(magics, began[cell.split()[0]]), (magics, "display")]
        if "minimize" in cell:
            places = [(front_end, "front_end"), (NoProgress, "finish")]
        for owner, name in places:
            with monkeypatch.context() as patch:
                pressing(patch, owner, name, press)
                run = shell.run(cell)
            assert type(run.error) is KeyboardInterrupt, (cell, name)
            assert run.traceback.strip().startswith("KeyboardInterrupt"), run.traceback
            assert "Error" not in run.traceback
            assert isinstance(shell.ns["x"], float)
            assert "tape" not in shell.ns
    assert shell.ns["minimum"].steps == 3
    shell.ok("%%grad dz/dx\nz = x*x")
    assert float(shell.ns["dz_dx"]) == 2 * shell.ns["x"]


LONG_CELLS = ["%%grad dy/dx", *(f"%%minimize y --over x --engine {engine}" for engine in ENGINES)]


def test_a_dropped_interrupt_ends_a_long_cell(shell: Notebook) -> None:
    """Not at its end only: the cell would wait for a minute."""
    shell.ns.update(x=2.0, drop=dropped, passed=[])
    cell = "\ndrop()\nimport threading\nthreading.Event().wait(60)\npassed.append(1)\ny = x*x"
    for line in LONG_CELLS:
        run = shell.run(line + cell)
        assert type(run.error) is KeyboardInterrupt
        assert "tape_magic" not in run.traceback
        assert shell.ns["passed"] == []
        assert isinstance(shell.ns["x"], float)


# -- what a chunk waits for -------------------------------------------------------------------------------


def test_a_chunk_that_waits_for_data_ends_after_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps were planned; the run is the same but for that."""
    runs = []
    for seconds in (600.0, -600.0):
        monkeypatch.setattr(compiled_loop, "LONGEST_SECONDS", seconds)
        w, seen = tf.Variable([1.0, 2.0]), list[int]()
        more = {**OVER_DATA, "engine": "graph", "seed": 3, "epochs": 4}
        result = minimized(
            w, optimizer="sgd", lr=0.01, on_progress=lambda step, seen=seen: seen.append(step.step), **more
        )
        runs.append((w.numpy().tolist(), result.history.tolist(), result.reason, result.steps))
    assert runs[0] == runs[1]
    assert seen[:-1] == list(range(8))


def test_a_chunk_of_steps_that_wait_for_nothing_has_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_loop, "LONGEST_SECONDS", -600.0)
    w, seen = tf.Variable([1.0, 2.0]), list[int]()
    minimized(w, steps=500, engine="graph", on_progress=lambda step: seen.append(step.step))
    assert len(seen) < 100


def test_a_simplex_that_has_shrunk_to_a_point_hears_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy asks for known points only then, for ever where the tolerance is 0."""

    def shrunk(loss: Any, x: Any, callback: Any, **options: Any) -> Any:
        loss(x)
        loss(x + 1)
        for _ in range(100):
            callback(x + 1)
        raise AssertionError("nobody asked the user")

    monkeypatch.setattr(scipy.optimize, "minimize", shrunk)
    asked: list[int] = []

    def wish() -> Wish:
        asked.append(1)
        return Wish.STOP if len(asked) > 20 else Wish.GO_ON

    result = minimized(tf.Variable([1.0, 2.0]), optimizer="nelder-mead", tol=0.0, steps=10**8, wish=wish)
    assert result.reason is StopReason.STOPPED


# -- before the first step --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_without_a_step_leaves_what_the_program_assigns_too(engine: str) -> None:
    w, counter = tf.Variable([1.0, 2.0]), tf.Variable(0.0, trainable=False)

    def count() -> Any:
        counter.assign_add(1.0)
        return tf.reduce_sum((w - 3.0) ** 2)

    def minimize(wish: Callable[[], Wish]) -> MinimizeResult:
        chosen = Settings(optimizer="sgd", steps=2, engine=engine)
        return minimize_program(FunctionProgram(count, {}), {}, None, None, chosen, wish=wish).result

    stopped = minimize(lambda: Wish.STOP)
    assert (stopped.steps, stopped.loss, stopped.stepless) == (0, 5.0, True)
    assert (counter.numpy(), w.numpy().tolist()) == (0.0, [1.0, 2.0])
    done = minimize(lambda: Wish.GO_ON)
    assert (done.steps, done.stepless, counter.numpy()) == (2, False, 3.0)  # as ever: 2 steps and the end


@pytest.mark.parametrize(("method", "engine"), covering(["lm", "l-bfgs-b", "nelder-mead"], ["graph", "xla"]))
def test_nothing_is_laid_out_for_scipy_any_more(
    method: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report needs the loss and its gradient only."""
    laid_out: list[str] = []
    original = Functions.__init__

    def laying_out(self: Any, traced: Any, flat: Any, kinds: Any, *more: Any) -> None:
        laid_out.extend(kinds)
        if kinds:
            raised()
        original(self, traced, flat, kinds, *more)

    monkeypatch.setattr(Functions, "__init__", laying_out)
    w, kept = tf.Variable([1.0, 2.0]), tf.Variable(0.0, trainable=False)

    def residuals() -> Any:
        kept.assign_add(1.0)
        return w - 3.0 if method == "lm" else 0.5 * tf.reduce_sum((w - 3.0) ** 2)

    chosen = Settings(optimizer=method, engine=engine)
    result = told(lambda: minimize_program(FunctionProgram(residuals, {}), {}, None, None, chosen).result)
    assert (result.stepless, result.loss, result.history.tolist()) == (True, 2.5, [2.5])
    (change,) = result.variables.values()
    assert change.gradient_norm == pytest.approx(5**0.5)
    assert (w.numpy().tolist(), kept.numpy()) == ([1.0, 2.0], 0.0)
    assert len(set(laid_out)) == len(laid_out)
