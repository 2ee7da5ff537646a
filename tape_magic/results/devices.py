"""The report of ``%tfgpu`` and ``devices()``: the machine's devices, and the outcome of the request.

Plain frozen data, made by the engine and laid out by the display. Memory is in bytes everywhere.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tape_magic.errors import size_text
from tape_magic.results import views


class PolicyKind(enum.Enum):
    """How TensorFlow takes a device's memory; the value is the way in words."""

    DEFAULT = "nearly all memory at once"
    GROWTH = "memory as needed"
    LIMIT = "at most"
    HIDDEN = "hidden"
    UNSEEN = "not seen by TensorFlow"
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
        """The policy in words."""
        if self.kind is not PolicyKind.LIMIT:
            return str(self.kind.value)
        return f"{self.kind.value} {' + '.join(size_text(limit) for limit in self.limits)}"


class SetupOutcome(enum.Enum):
    """The outcome of a request; each member carries its sentence."""

    DONE = "Done"
    ALREADY_SO = "Already so"
    ASKED = "Only asked, nothing changed"
    NO_GPU = "No GPU: TensorFlow continues on the CPU"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return str(self.value)


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU: its number, its bytes, its command, and its notebook if any.

    `here` is true for this very process. Attributes that the system does not give are None.

    >>> Holder(4121, 2 * 2**30, "ipykernel_launcher", "train.ipynb").text
    'the notebook train.ipynb (process 4121)'
    """

    pid: int
    memory: int | None = None
    command: str | None = None
    notebook: str | None = None
    here: bool = False

    @property
    def text(self) -> str:
        """The process in words."""
        if self.here:
            return f"this kernel (process {self.pid})"
        if self.notebook:
            return f"the notebook {self.notebook} (process {self.pid})"
        return f"process {self.pid}, {self.command}" if self.command else f"process {self.pid}"


@dataclass(frozen=True)
class Device:
    """One physical device, as TensorFlow numbers it.

    A "CARD" is a GPU that NVML finds and TensorFlow does not, with the number that NVML and nvidia-smi give
    it; a GPU that both find has that number as `card`, None where it is not known.

    `logical_names` are the names that `tf.device` takes, as ("GPU:0",); empty for a hidden device.
    `compute_capability` is (major, minor). Memory is in bytes: `memory_total` is the memory of the device,
    `memory_used` the memory that TensorFlow's tensors in this process hold now, `memory_peak` the most they
    held (the sum of the peaks of several logical devices), `memory_all` the memory that all processes hold.
    Each is None where it is not known; used and peak are never known before TensorFlow has started. `load` is
    the share of the last moments in which the GPU was busy, from 0 to 1; `temperature` is in degrees Celsius.
    `holders` are the processes that hold memory of the device, as far as NVML knows, the largest first.
    """

    kind: Literal["GPU", "CARD", "CPU"]
    index: int
    logical_names: tuple[str, ...]
    product: str | None
    compute_capability: tuple[int, int] | None
    memory_total: int | None
    memory_used: int | None
    memory_peak: int | None
    policy: Policy
    visible: bool
    card: int | None = None
    memory_all: int | None = None
    load: float | None = None
    temperature: int | None = None
    holders: tuple[Holder, ...] = ()

    @property
    def name(self) -> str:
        """The physical device in words, as "GPU 0"."""
        return f"{'card' if self.kind == 'CARD' else self.kind} {self.index}"


@dataclass(frozen=True)
class Membership:
    """The place of this process among the workers that compute together.

    `worker` is its number, from 0; `addresses` are those of all workers, in the order of their numbers.

    >>> Membership(1, ("node1:5000", "node2:5000")).text
    'worker 1 (node2:5000) of 2'
    """

    worker: int
    addresses: tuple[str, ...]

    def name_of(self, worker: int) -> str:
        """Return a worker in words, as "worker 1 (node2:5000)"."""
        return f"worker {worker} ({self.addresses[worker]})"

    @property
    def text(self) -> str:
        """Return the worker in words, and how many there are."""
        return f"{self.name_of(self.worker)} of {len(self.addresses)}"

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the magic line that ask for it."""
        return "--workers", f'"{", ".join(self.addresses)}"', "--worker", str(self.worker)


@dataclass(frozen=True)
class DeviceReport(views.Shown):
    """The devices of this machine, GPUs first, and the outcome of the request.

    `cuda` and `cudnn` are the versions that this TensorFlow was built for, None for a build without them.
    `started` is true once TensorFlow's runtime has started, after which devices can no longer be changed.
    `why_no_gpu` is the reason in words where there is no GPU, else None. `notes` are whole sentences, for
    example about an environment variable that overrides the request. `driver` is the version of NVIDIA's
    driver, None where NVML does not give it. `settings` are the settings for all devices, in words, as
    "precision mixed_bfloat16"; a setting at TensorFlow's default is left out. `cluster` is the place of this
    process among the workers that it has joined, None where it has not.
    """

    devices: tuple[Device, ...]
    tensorflow: str
    cuda: str | None
    cudnn: str | None
    started: bool
    outcome: SetupOutcome
    why_no_gpu: str | None
    notes: tuple[str, ...]
    driver: str | None = None
    settings: tuple[str, ...] = ()
    cluster: Membership | None = None

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs that TensorFlow sees, the hidden ones too."""
        return tuple(device for device in self.devices if device.kind == "GPU")

    @property
    def cpus(self) -> tuple[Device, ...]:
        """The CPU."""
        return tuple(device for device in self.devices if device.kind == "CPU")

    @property
    def headline(self) -> str:
        """One line: the outcome, and the state of the devices after it.

        For example "Done: GPU 0 memory as needed, GPU 1 hidden." or
        "No GPU: TensorFlow continues on the CPU (this TensorFlow is built without CUDA)."
        """
        if self.outcome is SetupOutcome.NO_GPU:
            more = [*([self.cluster.text] if self.cluster else []), *self.settings]
            settings = f": {', '.join(more)}" if more else ""
            return f"{self.outcome.sentence} ({self.why_no_gpu}){settings}."
        return f"{self.outcome.sentence}: {self.setup}."

    @property
    def setup(self) -> str:
        """The state of the devices in words."""
        parts = [f"{gpu.name} {gpu.policy.text}" for gpu in self.gpus]
        parts += [
            f"{cpu.name} as {len(cpu.logical_names)} logical CPUs"
            for cpu in self.cpus
            if len(cpu.logical_names) > 1
        ]
        parts += [self.cluster.text] if self.cluster else []
        parts += self.settings
        if not self.gpus and (not parts or self.outcome is SetupOutcome.ASKED):
            parts.insert(0, f"no GPU ({self.why_no_gpu})")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"

    def to_json(self) -> str:
        """Return the report as `%tfgpu --json` prints it; enumerations are their names in small letters.

        >>> import json
        >>> report = DeviceReport((), "2.21.0", None, None, False, SetupOutcome.ASKED, "no driver", ())
        >>> json.loads(report.to_json())["outcome"]
        'asked'
        """
        return report_json(self)


def report_json(report: Any) -> str:
    """Return a report, which is a dataclass with a headline, as JSON with its enumerations by their names."""
    return json.dumps({**asdict(report), "headline": report.headline}, default=_name_in_json, indent=2)


def _name_in_json(value: object) -> str:
    """Return the name of an enumeration's member in small letters; raise `TypeError` for anything else."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    raise TypeError(f"no JSON for {type(value).__name__}")
