"""The front end of a shell: a notebook with widgets, a terminal, or a program without a viewer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tape_magic.display.live.line import LineProgress
from tape_magic.display.live.panel import WidgetProgress
from tape_magic.display.live.progress import NoProgress, Progress
from tape_magic.display.live.terminal import TerminalProgress
from tape_magic.errors import LineError
from tape_magic.magics.comms import reading_comms

KINDS = ("auto", "widget", "terminal", "none")
VARIABLE = "TAPE_MAGIC_PROGRESS"
"""The environment variable that sets how runs are shown, where the notebook does not set it."""

_SESSION = "JPY_SESSION_NAME"
"""The environment variable that Jupyter Server gives a notebook's kernel, and it to the engines it starts."""


def kind_of(shell: Any) -> str:
    """Return ``widget``, ``terminal``, ``line`` or ``none``, whichever fits the shell.

    A kernel whose client takes no input is run by a program (nbclient, papermill), for which the final
    report is enough. That attribute of ipykernel 6 and 7 is private; without it, a person is presumed.

    An engine of ipyparallel does not know whether its client is a notebook, a program or a terminal, and must
    not try: ipyparallel 8 and 9 end a terminal's connection over the first message of a widget
    (``Client._dispatch_iopub``). It shows a line where a notebook that someone has opened started it.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal" if sys.stdout.isatty() else "none"
    if is_engine(kernel):
        return "line" if _SESSION in os.environ else "none"
    return "widget" if getattr(kernel, "_allow_stdin", True) else "none"


def is_engine(kernel: Any) -> bool:
    """Return whether a kernel is an engine of ipyparallel, which relays what it shows to a notebook."""
    return any(one.__module__.partition(".")[0] == "ipyparallel" for one in type(kernel).__mro__)


def chosen(shell: Any, wanted: str) -> str:
    """Return the kind that the notebook sets, else the environment, else the one that fits the shell.

    Raises :class:`LineError` for an unknown kind.
    """
    for source, kind in (("TapeMagics.progress", wanted), (VARIABLE, os.environ.get(VARIABLE) or "auto")):
        if kind not in KINDS:
            raise LineError(f"{source} is {kind!r}; it can be {', '.join(KINDS)}.")
        if kind != "auto":
            return kind
    return kind_of(shell)


@contextmanager
def front_end(shell: Any, wanted: str) -> Iterator[Progress]:
    """Make the progress display of a shell, and close it at the end in any case."""
    kind, kernel = chosen(shell, wanted), getattr(shell, "kernel", None)
    relayed = is_engine(kernel)
    with reading_comms(kernel) as comms:
        progress: Progress
        if kind == "widget":
            progress = WidgetProgress(comms.poll if comms.working else None, relayed=relayed)
        elif kind == "line" or (kind == "terminal" and relayed):
            progress = LineProgress()
        elif kind == "terminal":
            progress = TerminalProgress()
        else:
            progress = NoProgress()
        try:
            yield progress
        finally:
            progress.close()
