"""Ctrl-C and the ■ button, served between chunks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Interrupt:
    """Whether the user asked to stop.

    Attributes
    ----------
    pressed, again
        Whether there was an interrupt, and a second one.
    at_once
        Whether the first one raises ``KeyboardInterrupt``, too.
    """

    pressed: bool = False
    again: bool = False
    at_once: bool = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Within this, the first interrupt is noted and the second raises ``KeyboardInterrupt`` at once.

    Off the main thread Python delivers no signals, and nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.again = interrupt.pressed
        interrupt.pressed = True
        if interrupt.again or interrupt.at_once:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        # None: a handler that was not set from Python, which Python cannot put back.
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@dataclass
class Guard:
    """Whether an interrupt has to wait, and whether one does."""

    waits: bool = False
    pressed: bool = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler. The first interrupt is the last: what follows is putting things back."""
        if self.waits:
            self.pressed = True
            return
        self.waits = True
        raise KeyboardInterrupt


@contextmanager
def guarded() -> Iterator[Guard]:
    """Within this, one interrupt raises at once, and any that comes when the guard waits at the end.

    Off the main thread Python delivers no signals, and nothing changes.
    """
    guard = Guard()
    if threading.current_thread() is not threading.main_thread():
        yield guard
        return
    before = signal.signal(signal.SIGINT, guard.interrupt)
    try:
        yield guard
    finally:
        # None: a handler that was not set from Python, which Python cannot put back.
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if guard.pressed:
        raise KeyboardInterrupt


def assign_all(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Give variables their values: all of them, even if an interrupt comes in between."""
    interrupt: KeyboardInterrupt | None = None
    for variable, value in pairs:
        try:
            variable.assign(value)
        except KeyboardInterrupt as pressed:
            variable.assign(value)
            interrupt = pressed
    if interrupt is not None:
        raise interrupt
