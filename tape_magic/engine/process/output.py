"""Output of a repeated run, hidden: prints, warnings and figures. What other threads print passes."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any


class OtherThreads:
    """The threads of the process at the time of making, without the thread that makes the object.

    TensorFlow calls back into Python on threads of its own, which ``threading`` knows as dummies. Such
    threads count as part of the run, and so do threads that the run starts.
    """

    def __init__(self) -> None:
        known = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
        self._idents = {thread.ident for thread in known} - {threading.get_ident()}

    @property
    def here(self) -> bool:
        """Whether one of these threads asks."""
        return threading.get_ident() in self._idents


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def hide_output() -> Iterator[None]:
    """Hide what is printed or drawn with pyplot in the block, and its warnings.

    What other threads print through Python is shown all the same. One thread at a time may be in the block:
    the streams belong to the whole process, and can be put back in the reverse order only.
    """
    with ExitStack() as stack:
        stack.enter_context(_ONE_AT_A_TIME)
        stdout, stderr = (_STAND_INS.begin(stream) for stream in (sys.stdout, sys.stderr))
        for stream in (stdout, stderr):
            stack.callback(stream.end)
        stack.enter_context(_mute_files())
        stack.enter_context(redirect_stdout(stdout))
        stack.enter_context(redirect_stderr(stderr))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_hide_figures())
        yield


class _OtherThreadsStream:
    """A stream that passes on what other threads write and, once it has ended, what any thread writes.

    While the file behind the stream is muted, the text of other threads waits.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._others: OtherThreads | None = None
        self._waiting: list[str] | None = None

    def stands_for(self, stream: Any) -> bool:
        """Return whether this is the stream behind."""
        return self._stream is stream

    def begin(self) -> None:
        """Pass on what other threads write from now on, and nothing else."""
        self._waiting = [] if _file_number(self._stream) in (1, 2) else None
        self._others = OtherThreads()

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
        """Pass on all that any thread writes from now on, after what has waited."""
        self._others = None
        # Where both streams are one, so are their stand-ins, and the second end has nothing left to write.
        waiting, self._waiting = self._waiting, None
        for text in waiting or ():
            self._stream.write(text)


class _StandIns:
    """The streams that stand in for the last few others; they live on when they stand in no more.

    ``print`` uses ``sys.stdout`` without holding a reference: the process crashes if another thread puts
    another stream there meanwhile, and the first is freed (seen in Python 3.12.1; python/cpython#130163).
    """

    def __init__(self, size: int = 8) -> None:
        self._kept: deque[_OtherThreadsStream] = deque(maxlen=size)

    def begin(self, stream: Any) -> _OtherThreadsStream:
        """Return the stand-in of a stream, which passes on what other threads write from now on."""
        found = next((one for one in self._kept if one.stands_for(stream)), None)
        if found is None:
            found = _OtherThreadsStream(stream)
            self._kept.append(found)
        found.begin()
        return found


_STAND_INS = _StandIns()


def _file_number(stream: Any) -> int | None:
    """Return the number of the file that a stream writes to; ``None`` if there is none."""
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def _mute_files() -> Iterator[None]:
    """Send files 1 and 2 of the process to the null device, since TensorFlow prints past Python's streams."""
    with ExitStack() as stack:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            try:
                stream.flush()
                kept = os.dup(number)
            except (OSError, ValueError, AttributeError):
                continue  # there is no such file
            stack.callback(_restore_file, kept, number)
            os.dup2(null, number)
        yield


def _restore_file(kept: int, number: int) -> None:
    os.dup2(kept, number)
    os.close(kept)


@contextmanager
def _hide_figures() -> Iterator[None]:
    """Hide pyplot's open figures from the block, and close those that the block makes.

    Matplotlib's list of open figures is private, and pyplot itself can only close figures (seen in Matplotlib
    3.11). Where a version keeps the list elsewhere, figures stay as the block leaves them.
    """
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
