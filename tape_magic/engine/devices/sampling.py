"""Memory and load of the GPUs, through NVML, and of the machine itself; TensorFlow has no part in it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.devices.nvml import NvmlMissing, opened, read_from
from tape_magic.engine.devices.report import cpu_product
from tape_magic.errors import DeviceError
from tape_magic.results.watching import Reading, Sample


class Sampler:
    """Reads all devices whenever it is asked; NVML stays open until `close`.

    GPUs are numbered as nvidia-smi does. `missing` says why NVML cannot be asked, None where it can.
    Raises `DeviceError` where there is nothing to read.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._stack = ExitStack()
        self._nvml: Any = None
        self.missing: str | None = None
        try:
            self._nvml = self._stack.enter_context(opened())
        except NvmlMissing as missing:
            without = Machine().without_card
            self.missing = "this machine shows no NVIDIA card" if without else str(missing)
        self._host = _Host(proc)
        if not self.sample().readings:
            self.close()
            raise DeviceError(
                f"There is nothing to watch: this system tells no load, and of GPUs: {self.missing}."
            )

    def sample(self) -> Sample:
        """The devices now."""
        cards = read_from(self._nvml).cards if self._nvml is not None else ()
        gpus = [
            Reading(f"GPU {card.index}", card.product, card.used, card.total, card.load) for card in cards
        ]
        return Sample(time.monotonic(), (*gpus, *self._host.readings()))

    def close(self) -> None:
        """Leave NVML."""
        self._nvml = None
        self._stack.close()


class _Host:
    """The processors' load since the last reading, and the system's memory; nothing without /proc."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._product = cpu_product()
        self._before = self._times()

    def readings(self) -> tuple[Reading, ...]:
        now = self._times()
        if now is None:
            return ()
        load = None
        if self._before is not None and now[1] > self._before[1]:
            load = (now[0] - self._before[0]) / (now[1] - self._before[1])
            self._before = now
        memory = self._memory()
        total, free = memory.get("MemTotal"), memory.get("MemAvailable")
        used = None if total is None or free is None else total - free
        return (Reading("CPU", self._product, used, total, load),)

    def _times(self) -> tuple[int, int] | None:
        """Busy and all ticks of all processors."""
        try:
            words = (self._proc / "stat").read_text().splitlines()[0].split()[1:9]
        except (OSError, IndexError):
            return None
        ticks = [int(word) for word in words]
        idle = sum(ticks[3:5])  # idle, and waiting for a disk
        return sum(ticks) - idle, sum(ticks)

    def _memory(self) -> dict[str, int]:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
        except OSError:
            return {}
        pairs = (line.partition(":") for line in lines if line.startswith("Mem"))
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in pairs}
