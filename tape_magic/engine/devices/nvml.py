"""What NVML tells of cards, and who holds their memory."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

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


_T = TypeVar("_T")

INSTALL = 'pip install "tape_magic[nvml]"'


@dataclass(frozen=True)
class Process:
    """A process on a card, and the bytes that it holds there; None where the system does not tell."""

    pid: int
    memory: int | None


@dataclass(frozen=True)
class Card:
    """One card as NVML has it; what a card does not support is None.

    `index` is that of nvidia-smi, in the order of the PCI bus. Memory is in bytes, `load` from 0 to 1,
    `temperature` in degrees Celsius. `used` leaves out what is `reserved`, which the driver keeps for itself,
    as nvidia-smi does; old drivers do not tell them apart.
    """

    index: int
    uuid: str
    bus: str
    product: str
    total: int | None
    used: int | None
    load: float | None
    temperature: int | None
    processes: tuple[Process, ...]
    reserved: int = 0

    @property
    def free(self) -> int | None:
        """Bytes that nobody holds."""
        return None if self.total is None or self.used is None else self.total - self.used - self.reserved


@dataclass(frozen=True)
class Cards:
    """All cards and the driver's version, or why NVML could not be asked."""

    cards: tuple[Card, ...] = ()
    driver: str | None = None
    missing: str | None = None


def read_cards() -> Cards:
    """The cards now."""
    try:
        with opened() as nvml:
            return read_from(nvml)
    except NvmlMissing as missing:
        return Cards(missing=str(missing))


class NvmlMissing(Exception):
    """NVML cannot be asked; the message says why, and what to do."""


@contextmanager
def opened() -> Iterator[Any]:
    """The module `pynvml`, initialised. Raises :class:`NvmlMissing`."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise NvmlMissing(f"nvidia-ml-py is not installed: {INSTALL}") from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NvmlMissing(f"NVML says: {error}") from None
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def read_from(nvml: Any) -> Cards:
    """The cards now, from an open NVML."""

    def ask(question: Callable[..., _T], *args: Any) -> _T | None:
        try:
            return question(*args)
        except nvml.NVMLError:
            return None  # this card, this driver or this container does not tell

    cards = []
    for index in range(ask(nvml.nvmlDeviceGetCount) or 0):
        handle = ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None:
            cards.append(_card(nvml, ask, index, handle))
    driver = ask(nvml.nvmlSystemGetDriverVersion)
    return Cards(tuple(cards), _text(driver) or None)


def _card(nvml: Any, ask: Callable[..., Any], index: int, handle: Any) -> Card:
    memory = _memory(nvml, ask, handle)
    rates = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    bus = ask(nvml.nvmlDeviceGetPciInfo, handle)
    processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
    return Card(
        index=index,
        uuid=_text(ask(nvml.nvmlDeviceGetUUID, handle)),
        bus=_text(bus.busId) if bus is not None else "",
        product=_text(ask(nvml.nvmlDeviceGetName, handle)),
        total=None if memory is None else int(memory.total),
        used=None if memory is None else int(memory.used),
        load=None if rates is None else rates.gpu / 100,
        temperature=ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        processes=tuple(Process(int(one.pid), one.usedGpuMemory) for one in processes),
        reserved=int(getattr(memory, "reserved", 0)),
    )


def _memory(nvml: Any, ask: Callable[..., Any], handle: Any) -> Any:
    """By the second version of the question, where the driver and `nvidia-ml-py` have it."""
    version = getattr(nvml, "nvmlMemory_v2", None)
    told = None if version is None else ask(nvml.nvmlDeviceGetMemoryInfo, handle, version)
    return told or ask(nvml.nvmlDeviceGetMemoryInfo, handle)


def _text(value: str | bytes | None) -> str:
    """Old versions of `nvidia-ml-py` answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
