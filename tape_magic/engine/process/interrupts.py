"""Ctrl-C and the ■ button: deferred to the end of a chunk, or held back while state is restored."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
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
        Whether the first interrupt raises ``KeyboardInterrupt``, too.
    waits
        Whether no interrupt raises any more, since state is being restored.
    """

    pressed: bool = False
    again: bool = False
    at_once: bool = False
    waits: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note an interrupt; raise ``KeyboardInterrupt`` for the second, or with `at_once` for the first."""
        self.again = self.pressed
        self.pressed = True
        if (self.again or self.at_once) and not self.waits:
            raise KeyboardInterrupt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Let the first interrupt end the block, in which a library works, with a ``KeyboardInterrupt``.

        An interrupt from before does so, too. So does one of which the library has made another error, or
        nothing at all: Python drops an exception in a callback, such as that of a weak reference.
        """
        try:
            self.at_once = True
            if self.pressed:
                raise KeyboardInterrupt
            yield
        except BaseException as error:
            if self.pressed and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise
        finally:
            self.at_once = False
        if self.pressed:
            raise KeyboardInterrupt


@dataclass
class CleanupGuard:
    """Whether an interrupt has to wait until state is restored, and whether one does.

    Attributes
    ----------
    waits
        Whether an interrupt has to wait from now on.
    pressed
        Whether an interrupt came while it had to wait.
    """

    waits: bool = False
    pressed: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise ``KeyboardInterrupt`` for the first interrupt; what follows it is restored undisturbed."""
        if self.waits:
            self.pressed = True
            return
        self.waits = True
        raise KeyboardInterrupt


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Note the first interrupt in the block, and raise ``KeyboardInterrupt`` at the second."""
    interrupt = Interrupt()
    with _handling_interrupts(interrupt.handle):
        yield interrupt


@contextmanager
def guarded_cleanup() -> Iterator[CleanupGuard]:
    """Let one interrupt raise in the block; hold back those that come while the guard waits until its end."""
    guard = CleanupGuard()
    with _handling_interrupts(guard.handle):
        yield guard
    if guard.pressed:
        raise KeyboardInterrupt


@contextmanager
def _handling_interrupts(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler of SIGINT for the block.

    On any other thread than the main one, nothing is installed: Python delivers no signals there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        # `before` is None for a handler that was not set from Python, which Python cannot put back.
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


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
