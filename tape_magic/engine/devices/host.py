"""The machine around its GPUs: its processor, memory and load, and the processes that run on it.

psutil reads all of it but the processor's name, which it does not know.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path, PurePath

import psutil

from tape_magic.engine.devices.nvml import CardProcess
from tape_magic.results.devices import Holder
from tape_magic.results.watching import Reading

_SESSION = "JPY_SESSION_NAME"
"""Jupyter's servers start each kernel with the path of its notebook in this variable."""


def cpu_product() -> str:
    """Return the processor and how many of its cores this process may use, as "AMD EPYC 7B12, 2 cores"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = next(filter(None, named), "") or platform.processor() or platform.machine() or "unknown processor"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} {'core' if cores == 1 else 'cores'}"


def system_memory() -> tuple[int | None, int | None]:
    """Return the machine's memory and the part of it in use, in bytes; ``None`` where it is not known."""
    try:
        memory = psutil.virtual_memory()
    except (psutil.Error, OSError):
        return None, None
    return memory.total, memory.total - memory.available


class HostSampler:
    """Reads the load of all processors since the reading before, and the memory in use.

    psutil's own `cpu_percent` measures since its last call by anybody, the user's code included.
    """

    def __init__(self) -> None:
        self._product = cpu_product()
        self._before = _processor_times()

    def readings(self) -> tuple[Reading, ...]:
        """Return the reading of the CPU, or none where the system counts no processor time."""
        now = _processor_times()
        if now is None:
            return ()
        load = None
        if self._before is not None and now[1] > self._before[1]:
            load = (now[0] - self._before[0]) / (now[1] - self._before[1])
            self._before = now
        total, used = system_memory()
        return (Reading("CPU", self._product, used, total, load),)


def _processor_times() -> tuple[float, float] | None:
    """Return the busy seconds and all seconds of all processors, ``None`` where they are not counted."""
    try:
        times = psutil.cpu_times()._asdict()
    except (psutil.Error, OSError):
        return None
    # Linux counts the time of virtual machines in `user` and `nice` too, and a wait for a disk as its own.
    total = sum(seconds for name, seconds in times.items() if name not in ("guest", "guest_nice"))
    return total - times["idle"] - times.get("iowait", 0.0), total


def holders(processes: Sequence[CardProcess]) -> tuple[Holder, ...]:
    """Return each process once, with its command and its notebook, the one that holds the most first."""
    by_pid = {process.pid: process for process in processes}  # a card may list a process twice
    found = map(_holder, by_pid.values())
    return tuple(sorted(found, key=lambda one: (-(one.memory or 0), one.pid)))


def _holder(process: CardProcess) -> Holder:
    command: list[str] = []
    session = ""
    try:
        running = psutil.Process(process.pid)
        command = running.cmdline()
        session = running.environ().get(_SESSION, "")
    except (psutil.Error, OSError):
        pass  # gone, or another user's, whose environment is closed
    here = process.pid == os.getpid()
    return Holder(process.pid, process.memory, _program(command), _notebook(session), here)


def _program(command: Sequence[str]) -> str | None:
    """Return what a command line starts, without the path of Python and without the arguments."""
    words = [word for word in map(_readable, command) if word]
    if not words:
        return None
    program = PurePath(words[0]).name
    if not program.startswith("python"):
        return program
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        rest = rest[1:]
    if len(rest) > 1 and rest[0] == "-m":
        return rest[1]
    return PurePath(rest[0]).name if rest and rest[0] != "-c" else program


def _notebook(session: str) -> str | None:
    """Return the file name of the notebook that a session of Jupyter's belongs to, if it is one."""
    return PurePath(_readable(session)).name if session.endswith(".ipynb") else None


def _readable(text: str) -> str:
    """Return `text` with a replacement character for each byte that psutil could not decode."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
