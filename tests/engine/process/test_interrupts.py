"""Handlers of SIGINT, installed for a block and put back after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tape_magic.engine.process.interrupts import assign_all, deferred_interrupt, guarded_cleanup


@pytest.fixture(autouse=True)
def _handler() -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


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
