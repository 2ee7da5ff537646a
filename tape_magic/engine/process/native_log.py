"""The lines that TensorFlow's C++ writes to standard error: a quiet default, and none as its libraries load.

TensorFlow reads its log level from the environment, once. Its libraries write lines before they have read it
(seen in TensorFlow 2.21: whatever the level, six lines as ``import tensorflow`` loads them). Its build for
GPUs logs an error on a machine without one, ``failed call to cuInit``, when it first looks for GPUs.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from typing import Any

VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
"""The environment variable with TensorFlow's least level: 0 for all lines, 3 for fatal ones only."""

_LEVELS = "IWEF"
"""The letters of the levels, by their numbers."""

_LEVEL = "1"
"""The level that leaves a notebook without lines of TensorFlow's own where nothing is wrong."""

_DRIVER = "libcuda.so.1"
"""The library of NVIDIA's driver, which TensorFlow loads as it is imported."""

_HEADER = re.compile(
    rb"(?:(?P<absl>[IWEF])\d{4} \d\d:\d\d:[\d.]+ +\d+|\d{4}-\d\d-\d\d \d\d:\d\d:[\d.]+: (?P<tsl>[IWEF]))"
    rb" \S+:\d+\] "
)
"""The beginning of a line: ``I0000 00:00:1795979788.488091    4912 port.cc:153]``, or with a date."""

_NOT_READY = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
"""The line that comes before the first of a library, whatever the level of that."""


def without_log_lines(text: bytes, level: int) -> bytes:
    r"""Return a text without the log lines of TensorFlow's C++ that are below a level.

    >>> without_log_lines(b"I0000 00:00:17.48  1 port.cc:153] on\nmine\nE0000 00:00:17.48  1 a.cc:1] no\n", 1)
    b'mine\nE0000 00:00:17.48  1 a.cc:1] no\n'
    """
    return b"".join(line for line in text.splitlines(keepends=True) if not _is_below(line, level))


def _is_below(line: bytes, level: int) -> bool:
    found = _HEADER.match(line)
    if found is None:
        return line.rstrip() == _NOT_READY
    letter = found["absl"] or found["tsl"]
    return _LEVELS.index(letter.decode()) < level


class QuietLibraries(MetaPathFinder):
    """Keeps back what TensorFlow's libraries write while Python loads them, if it is below the log level.

    It stands first among the finders of modules, and only looks at TensorFlow and its extension modules.
    Python holds its lock while it loads one, so that no other thread of Python's writes meanwhile.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """Return how Python finds TensorFlow or an extension module of it; ``None`` for any other."""
        if fullname.partition(".")[0] != "tensorflow":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        if fullname == "tensorflow":
            execute: Any = spec.loader.exec_module

            def execute_and_look(module: Any) -> None:
                execute(module)
                _look_for_gpus(module)

            spec.loader.exec_module = execute_and_look  # type: ignore[method-assign]
        elif isinstance(spec.loader, ExtensionFileLoader):
            load: Any = spec.loader.create_module

            def load_quietly(spec: ModuleSpec) -> Any:
                with _kept_back(without_log_lines):
                    return load(spec)

            spec.loader.create_module = load_quietly  # type: ignore[method-assign]
        else:
            return None
        return spec


def _look_for_gpus(tensorflow: Any) -> None:
    """Have TensorFlow look for GPUs where there is no driver, and drop the error that it logs about that.

    It looks once in a process, at the first operation if not before, and then fixes nothing that could still
    be set. Where there is a driver, the error tells what is wrong with it, and is left to that moment.
    """
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        with suppress(Exception), _kept_back(_without_gpus):
            if tensorflow.test.is_built_with_cuda():
                tensorflow.config.list_physical_devices("GPU")


def _without_gpus(text: bytes, level: int) -> bytes:
    lines = without_log_lines(text, level).splitlines(keepends=True)
    return b"".join(line for line in lines if not (_HEADER.match(line) and b"cuda" in line.lower()))


@contextmanager
def _kept_back(cleaned: Callable[[bytes, int], bytes]) -> Iterator[None]:
    """Let what is written to the process's standard error in the block appear at its end, cleaned.

    It goes to a file, since a pipe that is full would stop a writer who holds Python's lock.

    Parameters
    ----------
    cleaned
        Returns a text without the lines to be dropped, given the log level.
    """
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept, held = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115
    except (OSError, ValueError, AttributeError):
        yield  # there is no such file, or no room for one
        return
    os.dup2(held.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        with held:
            held.seek(0)
            # Where nobody has set a level, the import is within a call of this package.
            _write(cleaned(held.read(), int(os.environ.get(VARIABLE) or _LEVEL)))


def _write(text: bytes) -> None:
    while text:
        text = text[os.write(2, text) :]


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keep lines of level I back while the block imports TensorFlow, unless the user has set a level."""
    if os.environ.get(VARIABLE) is not None:
        yield
        return
    finder = QuietLibraries()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class QuietDefault:
    """TensorFlow's log level for this process, set before TensorFlow is imported, and given back by `end`.

    Where TensorFlow is imported already, or the user has chosen a level, nothing is changed.
    """

    def __init__(self) -> None:
        self._level: str | None = None
        self._finder = QuietLibraries()

    def begin(self) -> None:
        """Set the level."""
        if "tensorflow" in sys.modules or os.environ.get(VARIABLE) is not None:
            return
        self._level = os.environ[VARIABLE] = _LEVEL
        sys.meta_path.insert(0, self._finder)

    def end(self) -> None:
        """Take the level back, as far as nobody else has set one, for processes that start later."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if self._level is not None and os.environ.get(VARIABLE) == self._level:
            del os.environ[VARIABLE]
        self._level = None

    @property
    def holds(self) -> bool:
        """Whether the level is the one that was set here."""
        return self._level is not None and os.environ.get(VARIABLE) == self._level


DEFAULT = QuietDefault()
"""The one default of this process."""
