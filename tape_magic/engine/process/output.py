"""What a repeated run prints, warns of and draws, hidden; other threads' output passes."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any


class OtherThreads:
    """The threads of the program at the time of making, without the one that makes it.

    What TensorFlow calls back into Python runs on threads of its own, which count as the run's, and
    so do threads that the run starts.
    """

    def __init__(self) -> None:
        known = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
        self._idents = {thread.ident for thread in known} - {threading.get_ident()}

    @property
    def here(self) -> bool:
        """Whether one of them asks."""
        return threading.get_ident() in self._idents


_ONE = threading.RLock()


@contextmanager
def unseen() -> Iterator[None]:
    """Within this, nothing appears that is printed or drawn with pyplot, and no warning.

    What other threads print by way of Python is seen all the same. One thread at a time: what is replaced is
    the whole program's, and goes back in the reverse order only.
    """
    with ExitStack() as stack:
        stack.enter_context(_ONE)
        stdout, stderr = (_OthersOnly(stream) for stream in (sys.stdout, sys.stderr))
        for stream in (stdout, stderr):
            stack.callback(stream.end)
        stack.enter_context(_muted_files())
        stack.enter_context(redirect_stdout(stdout))
        stack.enter_context(redirect_stderr(stderr))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_figures_apart())
        yield


class _OthersOnly:
    """A stream that takes only what other threads write; all of it, once that is at an end.

    What would go to one of the program's muted files waits until these can be written to again.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._others: OtherThreads | None = OtherThreads()
        self._waiting: list[str] | None = [] if _number(stream) in (1, 2) else None

    def write(self, text: str) -> int:
        if self._others is not None:
            if not self._others.here:
                return len(text)
            if self._waiting is not None:
                self._waiting.append(text)
                return len(text)
        return int(self._stream.write(text) or 0)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._others is None or self._waiting is None:
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def end(self) -> None:
        """From now on, it is the stream itself."""
        self._others = None
        for text in self._waiting or ():
            self._stream.write(text)


def _number(stream: Any) -> int | None:
    """The file that a stream writes to, if it is one."""
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def _muted_files() -> Iterator[None]:
    """TensorFlow prints past Python: into the null device with it."""
    with ExitStack() as stack:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            try:
                stream.flush()
                kept = os.dup(number)
            except (OSError, ValueError, AttributeError):
                continue  # there is no such file
            stack.callback(_put_back, kept, number)
            os.dup2(null, number)
        yield


def _put_back(kept: int, number: int) -> None:
    os.dup2(kept, number)
    os.close(kept)


@contextmanager
def _figures_apart() -> Iterator[None]:
    """Figures of pyplot that are made within are none afterwards; those of before are not drawn into."""
    # Not public, but pyplot itself can only close figures, not put them aside.
    manager = getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None)
    figures = getattr(manager, "figs", None)
    if not isinstance(figures, OrderedDict):
        yield
        return
    kept = figures.copy()
    figures.clear()
    try:
        yield
    finally:
        manager.destroy_all()  # type: ignore[union-attr]
        figures.update(kept)
