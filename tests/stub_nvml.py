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
    """What a card answers; None raises NVML's error, as a card does that has no such figure."""

    name: str = "STUB"
    total: int | None = 64 * 2**20
    used: int = 0
    load: int | None = 0
    temperature: int | None = 40
    bus: str = "00000000:01:00.0"
    uuid: str = "GPU-0"
    processes: list[tuple[int, int | None]] = field(default_factory=list)


def pynvml(*cards: StubCard, driver: str = "580.159.03", broken: str = "") -> Any:
    """The module over these cards; `broken` is what it says instead of opening."""

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

    module: Any = ModuleType("pynvml")
    module.NVMLError, module.NVML_TEMPERATURE_GPU, module.opened = NVMLError, 0, 0
    module.nvmlInit, module.nvmlShutdown = start, end
    module.nvmlSystemGetDriverVersion = lambda: driver
    module.nvmlDeviceGetCount = lambda: len(cards)
    module.nvmlDeviceGetHandleByIndex = lambda index: cards[index]
    module.nvmlDeviceGetName = lambda card: card.name
    module.nvmlDeviceGetUUID = lambda card: card.uuid
    module.nvmlDeviceGetPciInfo = lambda card: SimpleNamespace(busId=card.bus)
    module.nvmlDeviceGetMemoryInfo = lambda card: SimpleNamespace(total=told(card.total), used=card.used)
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
