"""Samples memory and load of the GPUs, through NVML, and of the machine itself, without TensorFlow."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from tape_magic.engine.devices.host import HostSampler
from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.devices.nvml import NvmlMissing, open_nvml, read_from
from tape_magic.errors import DeviceError
from tape_magic.results.watching import Reading, Sample


class Sampler:
    """Reads memory and load of all devices on each call of `sample`; NVML stays open until `close`.

    GPUs have the numbers of nvidia-smi. `missing` is the reason why NVML cannot be asked, None where it can.
    Raises `DeviceError` where no device can be read.

    Parameters
    ----------
    unsafe
        The reason why NVML must not be asked in this process, if there is one.
    """

    def __init__(self, unsafe: str | None = None) -> None:
        self._stack = ExitStack()
        self._nvml: Any = None
        self.missing: str | None = None
        try:
            if unsafe is not None:
                raise NvmlMissing(unsafe)
            self._nvml = self._stack.enter_context(open_nvml())
        except NvmlMissing as missing:
            without = Machine().without_card
            self.missing = "this machine shows no NVIDIA card" if without else str(missing)
        self._host = HostSampler()
        if not self.sample().readings:
            self.close()
            raise DeviceError(
                f"There is nothing to watch: this system tells no load, and of GPUs: {self.missing}."
            )

    def sample(self) -> Sample:
        """Return the present memory and load of each device."""
        cards = read_from(self._nvml).cards if self._nvml is not None else ()
        gpus = [
            Reading(f"GPU {card.index}", card.product, card.used, card.total, card.load) for card in cards
        ]
        return Sample(time.monotonic(), (*gpus, *self._host.readings()))

    def close(self) -> None:
        """Close NVML."""
        self._nvml = None
        self._stack.close()
