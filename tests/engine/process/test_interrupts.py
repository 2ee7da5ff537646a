"""Handlers of SIGINT, installed for a block and put back after it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tape_magic.engine.process.interrupts import assign_all, deferred_interrupt, guarded_cleanup, undropped


@pytest.fixture(autouse=True)
def _handler() -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[type]]:
    """What the process says of exceptions that nobody catches, or that Python drops; and the hooks stay."""
    told: list[type] = []

    def unraisable(dropped: Any) -> None:
        told.append(dropped.exc_type)

    def uncaught(kind: type, error: BaseException, traceback: Any) -> None:
        told.append(kind)

    monkeypatch.setattr(sys, "unraisablehook", unraisable)
    monkeypatch.setattr(sys, "excepthook", uncaught)
    yield told
    assert (sys.unraisablehook, sys.excepthook) == (unraisable, uncaught)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_interrupt_is_noted_and_the_second_raises() -> None:
    with deferred_interrupt() as interrupt:
        assert not interrupt.pressed
        press()
        assert (interrupt.pressed, interrupt.again) == (True, False)
        with pytest.raises(KeyboardInterrupt):
            press()
        assert interrupt.again


def test_the_first_interrupt_raises_where_it_need_not_wait() -> None:
    with deferred_interrupt() as interrupt:
        interrupt.at_once = True
        with pytest.raises(KeyboardInterrupt):
            press()
        assert (interrupt.pressed, interrupt.again) == (True, False)


def test_interrupts_wait_while_state_is_restored() -> None:
    with deferred_interrupt() as interrupt:
        interrupt.waits = True
        press()
        press()
        assert (interrupt.pressed, interrupt.again) == (True, True)


def test_one_interrupt_raises_and_what_follows_is_undisturbed() -> None:
    restored = []

    def run() -> None:
        with guarded_cleanup():
            try:
                press()
            finally:
                press()
                restored.append(True)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert restored == [True]


def test_an_interrupt_during_cleanup_raises_after_it() -> None:
    restored = []

    def run() -> None:
        with guarded_cleanup() as guard:
            guard.waits = True
            press()
            restored.append(guard.pressed)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert restored == [True]


def test_an_interrupt_that_is_taken_for_an_error_raises_at_the_end() -> None:
    def run() -> None:
        with guarded_cleanup():
            try:
                press()
            except KeyboardInterrupt as interrupt:
                with pytest.raises(TypeError):
                    raise TypeError from interrupt

    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.parametrize("block", [deferred_interrupt, guarded_cleanup])
def test_another_thread_installs_nothing(block: Callable[[], AbstractContextManager[Any]]) -> None:
    seen: list[Any] = []

    def run() -> None:
        with block():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize("block", [deferred_interrupt, guarded_cleanup])
def test_a_handler_that_python_did_not_set(
    monkeypatch: pytest.MonkeyPatch, block: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Python cannot put such a handler back, and its own takes the place."""
    set_handler = signal.signal

    def unknown(number: int, handler: Any) -> Any:
        set_handler(number, handler)

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", unknown)
        with block():
            pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_all_variables_are_assigned_in_spite_of_an_interrupt() -> None:
    class Variable:
        value, pressed = 0, False

        def assign(self, value: int) -> None:
            if not self.pressed and value == 1:
                type(self).pressed = True
                raise KeyboardInterrupt
            self.value = value

    variables = [Variable(), Variable()]
    with pytest.raises(KeyboardInterrupt):
        assign_all(zip(variables, [1, 2], strict=True))
    assert [variable.value for variable in variables] == [1, 2]


# -- what Python drops ----------------------------------------------------------------------------------


class Destroyed:
    """Does something when it goes, where Python drops what it raises."""

    def __init__(self, do: Callable[[], None]) -> None:
        self.do = do

    def __del__(self) -> None:
        self.do()


def drop(do: Callable[[], None]) -> None:
    Destroyed(do)


def printed_and_dropped() -> None:
    """As Cython does in a destructor."""
    try:
        press()
    except KeyboardInterrupt as error:
        sys.excepthook(type(error), error, error.__traceback__)
        raise


def wait() -> None:
    """Go on until an interrupt comes; one that was lost would not."""
    for _ in range(600):
        threading.Event().wait(0.05)
    raise AssertionError("the interrupt was lost")


@contextmanager
def at_once() -> Iterator[None]:
    with deferred_interrupt() as interrupt, interrupt.raising():
        try:
            yield
        finally:
            assert not interrupt.again  # it is the same one


@pytest.mark.parametrize("do", [press, printed_and_dropped])
@pytest.mark.parametrize("block", [at_once, guarded_cleanup, None])
def test_an_interrupt_that_python_drops_comes_again(
    block: Callable[[], AbstractContextManager[Any]] | None, do: Callable[[], None], told: list[type]
) -> None:
    def run() -> None:
        drop(do)
        wait()

    def within() -> None:
        if block is None:
            undropped(run)
            return
        with block():
            run()

    with pytest.raises(KeyboardInterrupt):
        within()
    assert told == []


def test_it_comes_again_as_often_as_it_is_dropped_and_at_the_end_at_last(told: list[type]) -> None:
    def handled() -> None:
        for _ in range(3):
            drop(press)
            with pytest.raises(KeyboardInterrupt):
                wait()

    undropped(handled)
    with pytest.raises(KeyboardInterrupt):
        undropped(lambda: drop(press))
    assert told == []


def test_a_second_interrupt_that_is_dropped_is_still_the_second(told: list[type]) -> None:
    with deferred_interrupt() as interrupt:
        press()
        drop(press)
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert interrupt.again
    assert told == []


def own_interrupt() -> None:
    raise KeyboardInterrupt("the program's own")


def failing() -> None:
    raise ValueError("a destructor's own")


@pytest.mark.parametrize("do", [own_interrupt, failing])
def test_what_a_destructor_raises_itself_is_dropped_as_ever(do: Callable[[], None], told: list[type]) -> None:
    assert undropped(lambda: (drop(do), "through")[1]) == "through"
    with deferred_interrupt() as interrupt:
        drop(do)
    assert not interrupt.pressed
    assert len(told) == 2


def test_what_the_user_catches_is_caught(told: list[type]) -> None:
    def run() -> str:
        try:
            press()
        except KeyboardInterrupt:
            return "caught"
        raise AssertionError

    assert undropped(run) == "caught"
    assert undropped(lambda: "nothing") == "nothing"


def test_a_handler_of_the_users_own_stays(told: list[type]) -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        undropped(press)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]
