"""Ctrl-C and the ■ button: deferred to the end of a chunk, held back while state is restored, never lost."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

AGAIN_SECONDS = 0.001
"""Seconds after which an interrupt that Python dropped is sent again: the callback has returned by then."""


class Hearer(Protocol):
    """What is told of the interrupts of a block."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Hear of an interrupt; may raise ``KeyboardInterrupt``."""

    def dropped(self) -> None:
        """Hear that Python has dropped what was raised; the interrupt comes again."""

    def note(self) -> None:
        """Hear of an interrupt that could not raise, since the block was ending."""


@dataclass
class PlainInterrupt:
    """An interrupt that raises at once, as without a handler.

    Attributes
    ----------
    owed
        Whether an interrupt has yet to raise.
    """

    owed: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise ``KeyboardInterrupt``."""
        self.owed = False
        raise KeyboardInterrupt

    def dropped(self) -> None:
        """Note that an interrupt has to raise."""
        self.owed = True

    note = dropped


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
    comes_again
        Whether the next interrupt is the last one, which Python dropped.
    """

    pressed: bool = False
    again: bool = False
    at_once: bool = False
    waits: bool = False
    comes_again: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note an interrupt; raise ``KeyboardInterrupt`` for the second, or with `at_once` for the first."""
        if not self.comes_again:
            self.again = self.pressed
        self.comes_again = False
        self.pressed = True
        if (self.again or self.at_once) and not self.waits:
            raise KeyboardInterrupt

    def dropped(self) -> None:
        """Note that the next interrupt is the same one."""
        self.comes_again = True

    def note(self) -> None:
        """Note an interrupt."""
        self.pressed = True

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
        Whether an interrupt has yet to raise at the end.
    raised
        Whether one was raised.
    """

    waits: bool = False
    pressed: bool = False
    raised: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise ``KeyboardInterrupt`` for the first interrupt; what follows it is restored undisturbed."""
        if self.waits or self.raised:
            self.pressed = True
            return
        self.raised = True
        raise KeyboardInterrupt

    def dropped(self) -> None:
        """Have the interrupt raise when it comes again, or at the end."""
        self.raised, self.pressed = False, True

    def note(self) -> None:
        """Have an interrupt raise at the end."""
        self.pressed = True


class Listener:
    """Has someone hear of the interrupts of a block, and sends those again that Python drops.

    Python drops an exception in a callback that nobody waits for, such as that of a weak reference, and says
    so to ``sys.unraisablehook`` only: without a second interrupt, the cell would run to its end. Before that,
    Cython has ``sys.excepthook`` print it, with its traceback (seen in pyzmq 27).

    To be entered and left as in :func:`undropped`: Python can raise in any call, but not where an attribute
    is set. On any other thread than the main one, nothing is installed, since Python delivers none there.

    Parameters
    ----------
    hearer
        Who is told.

    Attributes
    ----------
    holds
        Whether an interrupt is noted only, while handlers are installed or put back.
    """

    def __init__(self, hearer: Hearer) -> None:
        self.holds = True
        self._hearer = hearer
        self._before: Any = None
        self._opened = self._noted = False
        self._raised: KeyboardInterrupt | None = None
        self._again: _thread.LockType | None = None

    def open(self) -> None:
        """Listen from now on."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._thread = threading.get_ident()
        self._hook, self._print = sys.unraisablehook, sys.excepthook
        self._opened = True
        self._before = signal.signal(signal.SIGINT, self._handle)
        sys.unraisablehook, sys.excepthook = self._unraisable, self._uncaught
        self.holds = False
        if self._noted:
            self._noted = False
            self._handle(signal.SIGINT, None)

    def close(self) -> None:
        """Put the handlers from before back, once :attr:`holds` is set."""
        if not self._opened:
            return
        if self._again is not None:
            self._again.acquire()  # what is sent again arrives while someone hears it
        self._raised = None
        if sys.unraisablehook == self._unraisable:
            sys.unraisablehook = self._hook
        if sys.excepthook == self._uncaught:
            sys.excepthook = self._print
        # `before` is None for a handler that was not set from Python, which Python cannot put back.
        signal.signal(signal.SIGINT, self._before if self._before is not None else signal.default_int_handler)
        self._opened = False
        if self._noted:
            self._hearer.note()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.holds:
            self._noted = True
            return
        try:
            self._hearer.handle(number, frame)
        except KeyboardInterrupt as error:
            self._raised = error
            raise

    def _uncaught(self, kind: Any, error: Any, traceback: Any) -> None:
        """Print an exception, unless it is the interrupt that comes again."""
        if error is not self._raised:
            self._print(kind, error, traceback)

    def _unraisable(self, dropped: Any) -> None:
        """Send an interrupt again whose exception Python has dropped; pass all else on."""
        if self._raised is None or dropped.exc_value is not self._raised:
            self._hook(dropped)
            return
        self._raised = None
        self._hearer.dropped()
        if self._again is None or not self._again.locked():
            self._again = _thread.allocate_lock()
            self._again.acquire()
            # No threading.Thread, whose locks the thread that is interrupted may hold.
            _thread.start_new_thread(self._send_again, (self._again,))

    def _send_again(self, done: _thread.LockType) -> None:
        try:
            time.sleep(AGAIN_SECONDS)
            if sys.platform == "win32":
                _thread.interrupt_main()
            else:
                signal.pthread_kill(self._thread, signal.SIGINT)  # unlike a flag, it ends a sleep
        finally:
            done.release()


@contextmanager
def hearing(hearer: Hearer) -> Iterator[None]:
    """Have someone hear of the interrupts of a block; see :class:`Listener`."""
    listener = Listener(hearer)
    try:
        listener.open()
        yield
    finally:
        listener.holds = True
        listener.close()


def undropped(call: Callable[[], Result]) -> Result:
    """Call with interrupts as they are without this, but one that Python drops comes again.

    A handler of the user's own stays.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return call()
    plain = PlainInterrupt()
    listener = Listener(plain)
    # No `with`: an interrupt can raise where it calls `__exit__`, and the handlers would stay.
    try:
        listener.open()
        result = call()
    finally:
        listener.holds = True
        listener.close()
    if plain.owed:
        raise KeyboardInterrupt
    return result


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Note the first interrupt in the block, and raise ``KeyboardInterrupt`` at the second."""
    interrupt = Interrupt()
    with hearing(interrupt):
        yield interrupt


@contextmanager
def guarded_cleanup() -> Iterator[CleanupGuard]:
    """Let one interrupt raise in the block; hold back those that come while the guard waits until its end.

    One that something in the block catches, or takes for an error of its own, raises at the end, too.
    """
    guard = CleanupGuard()
    with hearing(guard):
        yield guard
    if guard.pressed or guard.raised:
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
