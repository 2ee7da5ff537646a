"""The least level of TensorFlow's log lines, changed while the process runs.

TensorFlow has no public way to do that. Its library offers Abseil's function for it, under a name with
Abseil's version in it (seen in TensorFlow 2.20 and 2.21). Where a version lacks it, the level stays. In
TensorFlow 2.20, part of the lines goes by a level of TensorFlow's own, which cannot be changed; a kernel
drops those as it reads them.
"""

from __future__ import annotations

import ctypes
import glob
import mmap
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from tape_magic.engine.process.kernel_stderr import KernelLog
from tape_magic.engine.process.native_log import DEFAULT, VARIABLE

_SETTER = re.compile(rb"_ZN4absl(?:\d+lts_\d+)?14SetMinLogLevelENS(?:0)?_\d+LogSeverityAtLeastE")

_INFO, _WARNING = 0, 1


@cache
def _functions() -> tuple[Callable[[int], None], Callable[[], int]] | None:
    """Return Abseil's functions that set and return the least level; ``None`` where they cannot be found."""
    import tensorflow as tf

    folder = os.path.dirname(tf.__file__)
    try:
        (path,) = glob.glob(os.path.join(glob.escape(folder), "libtensorflow_framework.so*"))
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = _SETTER.search(text)
            setter = found.group().decode() if found else ""
        if not setter:
            return None
        getter = re.sub(r"14Set(MinLogLevel)E.*", r"11\1Ev", setter)
        library = ctypes.CDLL(path)
        set_level, get_level = getattr(library, setter), getattr(library, getter)
    except (OSError, ValueError, AttributeError):
        return None
    set_level.argtypes, set_level.restype = [ctypes.c_int], None
    get_level.argtypes, get_level.restype = [], ctypes.c_int
    return set_level, get_level


class _Quiet:
    """Who needs TensorFlow to log no informational lines now, in any thread."""

    def __init__(self) -> None:
        self.allowed, self.shown = True, False
        self._holders, self._raised = 0, False
        self._kernel: KernelLog | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders > 1 or not self._wanted:
                return
            if (functions := _functions()) is not None and functions[1]() == _INFO:
                functions[0](_WARNING)
                self._raised = True
            self._kernel = KernelLog.of(sys.stderr) if _has_own_level() else None
            if self._kernel is not None:
                self._kernel.begin()

    def end(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            if self._raised and (functions := _functions()) is not None:
                self._raised = False
                if functions[1]() == _WARNING:
                    functions[0](_INFO)
            if self._kernel is not None:
                self._kernel.end()
                self._kernel = None

    @property
    def _wanted(self) -> bool:
        """Whether nobody has asked for the lines: level 0 in the environment does."""
        asked = self.shown or os.environ.get(VARIABLE) == "0"
        return self.allowed and not asked and "tensorflow" in sys.modules


@cache
def _has_own_level() -> bool:
    """Return whether TensorFlow logs by a level of its own, beside Abseil's."""
    import tensorflow as tf

    return bool(tf.__version__.startswith("2.20."))


_QUIET = _Quiet()


@contextmanager
def quiet_log() -> Iterator[None]:
    """Keep TensorFlow from logging lines of level I in the block, in all threads.

    Warnings and errors pass.
    """
    _QUIET.begin()
    try:
        yield
    finally:
        _QUIET.end()


def allow_quiet(allowed: bool) -> None:
    """Say whether :func:`quiet_log` may keep lines back."""
    _QUIET.allowed = allowed


def is_quiet_allowed() -> bool:
    """Return whether lines may be kept back."""
    return _QUIET.allowed


def show_log() -> bool:
    """Have TensorFlow log lines of all levels from now on, for a user who asks for what it logs.

    Return whether it does. A level that the user has set in the environment stays.
    """
    functions = _functions()
    if _QUIET.shown or os.environ.get(VARIABLE) in (None, "0"):
        _QUIET.shown = True
    elif DEFAULT.holds and functions is not None and functions[1]() == int(os.environ[VARIABLE]):
        functions[0](_INFO)
        _QUIET.shown = True
    return _QUIET.shown
