"""Who holds the memory of a card: from a process to its command, and to the notebook of a Jupyter kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tape_magic.engine.nvml import Process
from tape_magic.results.devices import Holder

_SESSION = b"JPY_SESSION_NAME="
"""Jupyter's servers start each kernel with the path of its notebook in this variable."""


def holders(processes: Sequence[Process], proc: Path = Path("/proc")) -> tuple[Holder, ...]:
    """The processes with commands and notebooks, the greediest first; a card may list one twice."""
    by_pid = {process.pid: process for process in processes}
    found = [_holder(process, proc / str(process.pid)) for process in by_pid.values()]
    return tuple(sorted(found, key=lambda one: (-(one.memory or 0), one.pid)))


def _holder(process: Process, folder: Path) -> Holder:
    here = process.pid == os.getpid()
    return Holder(process.pid, process.memory, _command(folder), _notebook(folder), here)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""  # gone, another user's, or not Linux


def _command(folder: Path) -> str | None:
    """What was started, without the path of Python and without its arguments."""
    words = [word.decode(errors="replace") for word in _read(folder / "cmdline").split(b"\0") if word]
    if not words:
        return None
    program = PurePosixPath(words[0]).name
    if not program.startswith("python"):
        return program
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        rest = rest[1:]
    if len(rest) > 1 and rest[0] == "-m":
        return rest[1]
    return PurePosixPath(rest[0]).name if rest and rest[0] != "-c" else program


def _notebook(folder: Path) -> str | None:
    for entry in _read(folder / "environ").split(b"\0"):
        if entry.startswith(_SESSION):
            path = entry.removeprefix(_SESSION).decode(errors="replace")
            return PurePosixPath(path).name if path.endswith(".ipynb") else None
    return None
