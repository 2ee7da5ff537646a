"""A stub of `pynvml`, the module of `nvidia-ml-py`: the same functions over figures that a test gives."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

GIB = 2**30


class NVMLError(Exception):
    """As pynvml raises it."""


@dataclass
class StubCard:
    """What a card answers; None raises NVML's error, as a card does that has no such figure.

    The first version of the question for memory counts what is `reserved` as used.
    """

    name: str = "STUB"
    total: int | None = 64 * 2**20
    used: int = 0
    load: int | None = 0
    temperature: int | None = 40
    bus: str = "00000000:01:00.0"
    uuid: str = "GPU-0"
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    reserved: int = 0


def pynvml(*cards: StubCard, driver: str = "580.159.03", broken: str = "", old: bool = False) -> Any:
    """The module over these cards; `broken` is what it says instead of opening.

    `old` is a driver that knows the first version only of what there are two of.
    """

    def told(value: Any) -> Any:
        if value is None:
            raise NVMLError("Not Supported")
        return value

    def start() -> None:
        if broken:
            raise NVMLError(broken)
        module.opened += 1

    def end() -> None:
        module.opened -= 1

    def memory(card: StubCard, version: int | None = None) -> Any:
        total = told(card.total)
        if version is None:
            return SimpleNamespace(total=total, used=card.used + card.reserved)
        if old:
            raise NVMLError("Function Not Found")
        return SimpleNamespace(total=total, used=card.used, reserved=card.reserved)

    module: Any = ModuleType("pynvml")
    module.NVMLError, module.NVML_TEMPERATURE_GPU, module.opened = NVMLError, 0, 0
    module.nvmlMemory_v2 = 0x02000028
    module.nvmlInit, module.nvmlShutdown = start, end
    module.nvmlSystemGetDriverVersion = lambda: driver
    module.nvmlDeviceGetCount = lambda: len(cards)
    module.nvmlDeviceGetHandleByIndex = lambda index: cards[index]
    module.nvmlDeviceGetName = lambda card: card.name
    module.nvmlDeviceGetUUID = lambda card: card.uuid
    module.nvmlDeviceGetPciInfo = lambda card: SimpleNamespace(busId=card.bus)
    module.nvmlDeviceGetMemoryInfo = memory
    module.nvmlDeviceGetUtilizationRates = lambda card: SimpleNamespace(gpu=told(card.load))
    module.nvmlDeviceGetTemperature = lambda card, sensor: told(card.temperature)
    module.nvmlDeviceGetComputeRunningProcesses = lambda card: [
        SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in card.processes
    ]
    return module


def install(*cards: StubCard, **more: str) -> Any:
    """Put it where `import pynvml` finds it."""
    sys.modules["pynvml"] = module = pynvml(*cards, **more)
    return module
