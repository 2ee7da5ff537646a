"""An interrupt in each part of a run that TensorFlow works in, as Python delivers it there, or drops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf

from tape_magic.engine.api.minimize import MinimizeInterrupted, minimize_program
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.results.minimum import MinimizeResult, StopReason


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
    """What Python drops is not shown, and eager mode is as it was at the end."""
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: None)
    yield
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

    chosen = Settings(optimizer=optimizer, **{"steps": 20, **settings})
    return minimize_program(FunctionProgram(loss, {}), {}, None, None, chosen).result


def is_over(press: Callable[[], None], run: Callable[[Any], MinimizeResult]) -> None:
    """An interrupt ends the run without a report, and the same run again is like any other."""
    w = tf.Variable([1.0, 2.0])
    with pytest.raises(KeyboardInterrupt) as caught:
        run(w)
    assert not isinstance(caught.value, MinimizeInterrupted)
    assert w.numpy().tolist() == [1.0, 2.0]
    assert tf.executing_eagerly()
    assert run(w).steps == 20


@pytest.mark.parametrize("press", WAYS)
@pytest.mark.parametrize("engine", KERAS)
def test_while_the_program_is_traced(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)
    is_over(press, lambda w: minimized(w, once, engine=engine))


@pytest.mark.parametrize("press", WAYS)
@pytest.mark.parametrize("engine", ["graph", "xla"])
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


@pytest.mark.parametrize("press", [raised, dropped])
@pytest.mark.parametrize("engine", KERAS)
def test_while_the_data_are_made_ready(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)

    class Batches:
        def __iter__(self) -> Iterator[Any]:
            once()
            return iter([(tf.ones(2),)] * 20)

    def run(w: Any) -> MinimizeResult:
        return minimized(w, data=Batches(), names=("batch",), label="data", steps=None, engine=engine)

    is_over(press, run)


@pytest.mark.parametrize("press", WAYS)
@pytest.mark.parametrize("engine", KERAS)
def test_while_a_program_over_data_is_traced(engine: str, press: Callable[[], None]) -> None:
    once = Once(press)
    arrays = (tf.ones([80, 2]).numpy(),)

    def run(w: Any) -> MinimizeResult:
        return minimized(
            w, once, data=arrays, names=("batch",), batch=4, label="data", steps=None, engine=engine
        )

    is_over(press, run)


@pytest.mark.parametrize("press", WAYS)
@pytest.mark.parametrize("engine", ["graph", "xla"])
def test_while_the_steps_are_laid_out(engine: str, press: Callable[[], None]) -> None:
    """The program can be evaluated by then, so that there is a report."""

    class Pressing(keras.optimizers.SGD):
        once = Once(press)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            type(self).once()
            super().update_step(gradient, variable, learning_rate)

    w, optimizer = tf.Variable([1.0, 2.0]), Pressing(0.1)
    with pytest.raises(MinimizeInterrupted, match="stopped after 0 steps") as caught:
        minimized(w, optimizer=optimizer, engine=engine)
    assert (caught.value.result.steps, caught.value.result.loss) == (0, 5.0)
    assert w.numpy().tolist() == [1.0, 2.0]
    assert tf.executing_eagerly()
    assert minimized(w, optimizer=optimizer, engine=engine).steps == 20
