"""Lines of TensorFlow's own log that a kernel has read from standard error, dropped by their time.

TensorFlow 2.20 has a log level of its own, which cannot be changed once it has logged. A kernel reads what
the process writes to standard error in a thread of its own, where these lines can be told from others.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Any

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+): I \S+:\d+\] ")
_HEAD = "0000-00-00 00:00:00.000000: I "
_DATE = 10
"""The characters of a date, which a text of the user's may end with."""

_FIELD = str.maketrans("123456789", "000000000")


class KernelLog:
    """Drops the lines of level I that TensorFlow has logged within some spans of time.

    Parameters
    ----------
    stream
        The kernel's standard error.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._write = stream, stream.write
        self._spans: list[tuple[float, float]] = []
        self._held = ""

    @classmethod
    def of(cls, stream: Any) -> KernelLog | None:
        """Put one before a stream, once; ``None`` for a stream that is no kernel's.

        The thread is an attribute of ipykernel's streams (seen in ipykernel 6.17 and 7.4).
        """
        if getattr(stream, "watch_fd_thread", None) is None:
            return None
        placed = getattr(stream.write, "__self__", None)
        if isinstance(placed, cls):
            return placed
        log = cls(stream)
        stream.write = log.write
        return log

    def begin(self) -> None:
        """Drop what is logged from now on."""
        self._spans.append((time.time(), float("inf")))

    def end(self) -> None:
        """Drop what was logged until now."""
        self._spans[-1] = (self._spans[-1][0], time.time())

    def write(self, text: str) -> int | None:
        """Write a text, without the lines to be dropped where it comes from the process's file."""
        if threading.current_thread() is not self._stream.watch_fd_thread:
            return self._write(text)  # type: ignore[no-any-return]
        lines = (self._held + text).splitlines(keepends=True)
        self._held = lines.pop() if lines and _may_begin_a_line(lines[-1]) else ""
        self._write("".join(line for line in lines if not self._is_ours(line)))
        return len(text)

    def _is_ours(self, line: str) -> bool:
        found = _LINE.match(line)
        if found is None:
            return False
        at = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + float(found[2])
        return any(begun <= at <= ended for begun, ended in self._spans)


def _may_begin_a_line(text: str) -> bool:
    """Return whether a text without its end may become a line of TensorFlow's, of level I."""
    begun = len(text) > _DATE and text[: len(_HEAD)].translate(_FIELD) == _HEAD[: len(text)]
    return begun and not text.endswith(("\n", "\r"))
