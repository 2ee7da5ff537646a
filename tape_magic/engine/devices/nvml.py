"""Reads NVIDIA's cards through NVML, NVIDIA's library for the management of cards."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")

INSTALL = 'pip install "tape_magic[nvml]"'


@dataclass(frozen=True)
class CardProcess:
    """A process on a card, and the bytes that it holds there; None where they are not known."""

    pid: int
    memory: int | None


@dataclass(frozen=True)
class Card:
    """One card as NVML describes it; a value that the card does not support is None.

    `index` is the number in nvidia-smi, in the order of the PCI bus. Memory is in bytes, `load` from 0 to 1,
    `temperature` in degrees Celsius. As in nvidia-smi, `used` leaves out the `reserved` memory, which the
    driver keeps for itself; old drivers report both as one.
    """

    index: int
    uuid: str
    bus: str
    product: str
    total: int | None
    used: int | None
    load: float | None
    temperature: int | None
    processes: tuple[CardProcess, ...]
    reserved: int = 0

    @property
    def free(self) -> int | None:
        """The bytes that no process holds."""
        return None if self.total is None or self.used is None else self.total - self.used - self.reserved


@dataclass(frozen=True)
class Cards:
    """All cards and the driver's version, or the reason why NVML could not be asked."""

    cards: tuple[Card, ...] = ()
    driver: str | None = None
    missing: str | None = None


def read_cards() -> Cards:
    """Return the present state of all cards."""
    try:
        with open_nvml() as nvml:
            return read_from(nvml)
    except NvmlMissing as missing:
        return Cards(missing=str(missing))


class NvmlMissing(Exception):
    """NVML cannot be asked; the message gives the cause and what to do."""


@contextmanager
def open_nvml() -> Iterator[Any]:
    """Yield the module `pynvml`, initialised; raise :class:`NvmlMissing` where that is not possible."""
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
    """Return the present state of all cards from an open NVML."""

    def ask(question: Callable[..., _T], *args: Any) -> _T | None:
        try:
            return question(*args)
        except nvml.NVMLError:
            return None  # not supported by this card, this driver or this container

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
        processes=tuple(CardProcess(int(one.pid), one.usedGpuMemory) for one in processes),
        reserved=int(getattr(memory, "reserved", 0)),
    )


def _memory(nvml: Any, ask: Callable[..., Any], handle: Any) -> Any:
    """Return the memory of a card in the second version of NVML's record, or else in the first.

    Only the second, of newer drivers and newer `nvidia-ml-py`, tells used memory from reserved memory.
    """
    version = getattr(nvml, "nvmlMemory_v2", None)
    newer = None if version is None else ask(nvml.nvmlDeviceGetMemoryInfo, handle, version)
    return newer or ask(nvml.nvmlDeviceGetMemoryInfo, handle)


def _text(value: str | bytes | None) -> str:
    """Return a text of NVML's, which old versions of `nvidia-ml-py` give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
