"""Who is watching: a notebook with widgets, a terminal, or nobody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tape_magic.display.progress import NoProgress, Progress, TerminalProgress, WidgetProgress
from tape_magic.errors import LineError

KINDS = ("auto", "widget", "terminal", "none")


def kind_of(shell: Any) -> str:
    """``widget``, ``terminal`` or ``none``.

    A kernel whose client takes no input is run by a program (nbclient, papermill), for which one
    final report is enough; that attribute is private, and without it a person is taken to watch.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal" if sys.stdout.isatty() else "none"
    return "widget" if getattr(kernel, "_allow_stdin", True) else "none"


@contextmanager
def front_end(shell: Any, wanted: str) -> Iterator[Progress]:
    """The progress display for this shell, closed at the end whatever happens."""
    if wanted not in KINDS:
        raise LineError(f"TapeMagics.progress is {wanted!r}; it can be {', '.join(KINDS)}.")
    kind = kind_of(shell) if wanted == "auto" else wanted
    progress: Progress
    if kind == "widget":
        progress = WidgetProgress()
    elif kind == "terminal":
        progress = TerminalProgress()
    else:
        progress = NoProgress()
    try:
        yield progress
    finally:
        progress.close()
