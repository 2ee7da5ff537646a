"""What `%tfgpu` and `devices()` answer: the machine's devices, and what became of the request.

Plain frozen data, made by the engine and laid out by the display. Memory is in bytes everywhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal


class PolicyKind(enum.Enum):
    """How TensorFlow takes a device's memory; the value says it in words."""

    DEFAULT = "nearly all memory at once"
    GROWTH = "memory as needed"
    LIMIT = "at most"
    HIDDEN = "hidden"
    HOST = "the system's memory"


@dataclass(frozen=True)
class Policy:
    """How TensorFlow takes one device's memory.

    `limits` holds the cap of each logical device in bytes, and is empty unless `kind` is `LIMIT`.

    >>> Policy(PolicyKind.LIMIT, (4 * 2**30,)).text
    'at most 4 GiB'
    >>> Policy(PolicyKind.GROWTH).text
    'memory as needed'
    """

    kind: PolicyKind
    limits: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """In words."""
        if self.kind is not PolicyKind.LIMIT:
            return str(self.kind.value)
        return f"{self.kind.value} {' + '.join(size_text(limit) for limit in self.limits)}"


class Outcome(enum.Enum):
    """What became of the request; each member carries its sentence."""

    DONE = "Done"
    ALREADY_SO = "Already so"
    ASKED = "Only asked, nothing changed"
    NO_GPU = "No GPU: TensorFlow continues on the CPU"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return str(self.value)


@dataclass(frozen=True)
class Device:
    """One physical device, as TensorFlow numbers it.

    `logical_names` are the names that `tf.device` takes, as ("GPU:0",); empty for a hidden device.
    `compute_capability` is (major, minor). Memory is in bytes: `memory_total` is the device's own,
    `memory_used` what TensorFlow's tensors in this process hold now, `memory_peak` the most they held (over
    several logical devices: the sum of their peaks). All three are None where they are not known; used and
    peak are never known before TensorFlow has started.
    """

    kind: Literal["GPU", "CPU"]
    index: int
    logical_names: tuple[str, ...]
    product: str | None
    compute_capability: tuple[int, int] | None
    memory_total: int | None
    memory_used: int | None
    memory_peak: int | None
    policy: Policy
    visible: bool

    @property
    def name(self) -> str:
        """The physical device in words, as "GPU 0"."""
        return f"{self.kind} {self.index}"


@dataclass(frozen=True)
class DeviceReport:
    """The devices of this machine, GPUs first, and what became of the request.

    `cuda` and `cudnn` are the versions that this TensorFlow was built for, None for a build without them.
    `started` says whether TensorFlow's runtime has started, after which devices can no longer be changed.
    `why_no_gpu` is the reason in words where there is no GPU, else None. `notes` are whole sentences, for
    example about an environment variable that overrides the request.
    """

    devices: tuple[Device, ...]
    tensorflow: str
    cuda: str | None
    cudnn: str | None
    started: bool
    outcome: Outcome
    why_no_gpu: str | None
    notes: tuple[str, ...]

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs, the hidden ones too."""
        return tuple(device for device in self.devices if device.kind == "GPU")

    @property
    def cpus(self) -> tuple[Device, ...]:
        """The CPU."""
        return tuple(device for device in self.devices if device.kind == "CPU")

    @property
    def headline(self) -> str:
        """One line: the outcome, and then what is so now.

        For example "Done: GPU 0 memory as needed, GPU 1 hidden." or
        "No GPU: TensorFlow continues on the CPU (this TensorFlow is built without CUDA)."
        """
        if self.outcome is Outcome.NO_GPU:
            return f"{self.outcome.sentence} ({self.why_no_gpu})."
        return f"{self.outcome.sentence}: {self._setup()}."

    def _setup(self) -> str:
        parts = [f"{gpu.name} {gpu.policy.text}" for gpu in self.gpus]
        if not parts:
            parts.append(f"no GPU ({self.why_no_gpu})")
        parts += [
            f"{cpu.name} as {len(cpu.logical_names)} logical CPUs"
            for cpu in self.cpus
            if len(cpu.logical_names) > 1
        ]
        return ", ".join(parts)


def size_text(size: int) -> str:
    """A number of bytes for reading: the largest unit of 1024 that keeps it at one or more, to four digits.

    >>> size_text(4 * 2**30), size_text(1536 * 2**20), size_text(256)
    ('4 GiB', '1.5 GiB', '256 B')
    """
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        # 1023.95 would round to "1024" of the smaller unit
        if value < 1023.95:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
