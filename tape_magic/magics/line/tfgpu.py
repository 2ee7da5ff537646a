"""The line of `%tfgpu`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tape_magic.engine.devices.words import ALLOCATORS, FREEST, PRECISIONS, TF_CONFIG
from tape_magic.errors import LineError, shorten
from tape_magic.magics.line import words
from tape_magic.magics.line.meant import COMMON, MEANT_BY_TFGPU
from tape_magic.magics.line.option import Option
from tape_magic.magics.line.parser import NAME, QUIET, Magic


@dataclass(frozen=True)
class DeviceOptions:
    """The line of ``%tfgpu``.

    Attributes
    ----------
    indices
        The GPUs that the line names, by number or as ``freest``.
    doctor, watch
        Whether the chain to the GPU is examined, or the devices are watched, and nothing is set.
    json, quiet
        Whether the report is printed as JSON, or not shown.
    name
        The name that the report is bound to, where the line says it.
    arguments
        The keyword arguments of :func:`~tape_magic.engine.api.devices.devices` that the line gives.
    """

    indices: tuple[int | str, ...] | None = None
    doctor: bool = False
    watch: bool = False
    json: bool = False
    name: str | None = None
    quiet: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.indices and FREEST in self.indices and len(self.indices) > 1:
            raise LineError("freest is one GPU by itself; leave out the others.")
        if self.json and self.quiet:
            raise LineError("--json prints the report, and -q shows nothing; leave out one of them.")
        alone = [flag for flag, value in (("--doctor", self.doctor), ("--watch", self.watch)) if value]
        setting = ["INDEX"] * bool(self.indices)
        setting += [f"--{name.replace('_', '-')}" for name in self.arguments]
        if alone and (setting or alone[1:]):
            other = (alone[1:] or setting)[0]
            raise LineError(
                f"{alone[0]} only looks, and sets nothing; leave out {other}, or write two lines."
            )
        if self.watch and (self.json or self.quiet or self.name):
            raise LineError("--watch shows a picture that moves, and no report: leave out --json, -o and -q.")

    @property
    def gpus(self) -> Any:
        """The first argument of ``devices()``: indices, ``"freest"``, or ``None`` for all."""
        return FREEST if self.indices == (FREEST,) else self.indices or None


def _index(word: str) -> int | str:
    """Read the number of a GPU, or ``freest``. Raises :class:`LineError` for anything else."""
    if word == FREEST:
        return word
    named = _DEVICE.fullmatch(word.lower())
    if named is None:
        size = _SIZE.fullmatch(word)
        instead = f"give numbers such as 0 or 0,1, or {FREEST}."
        if size:
            instead = f"did you mean --limit {size[1]}?"
        elif ":" in word and not re.fullmatch(r"[0-9:]+", word):
            instead = 'addresses stand in quotes: --workers "a:1, b:2".'
        raise LineError(f"{shorten(word)!r} is not the index of a GPU; {instead}")
    return int(named[1])


_DEVICE = re.compile(r"(?:/?(?:physical_device:|device:)?(?:gpu|cuda):?)?([0-9]+)")
"""The index of a GPU, alone or as TensorFlow, PyTorch and reports name the device: ``GPU:0``, ``cuda:0``."""

_SIZE = re.compile(r"(\d*\.?\d+(?:%|[KMGT](?=B?$)|[KMGT]iB)|0?\.\d+)B?", re.IGNORECASE)


def _workers(word: str) -> str:
    """Read the addresses of workers. Raises ``ValueError`` for what may be an expression."""
    if ":" in word or word == TF_CONFIG:
        return word
    raise ValueError(word)


TFGPU = Magic(
    "tfgpu",
    cell=False,
    summary="Show the devices that TensorFlow can use, or choose among them.",
    options=(
        Option(
            "indices",
            (),
            "GPUs to use, by number, or freest, the one with the most free memory; the others are hidden",
            "INDEX",
            _index,
            many=True,
            choices=(FREEST,),
        ),
        Option("growth", ("--growth",), "take memory as it is needed"),
        Option("limit", ("--limit",), "cap the memory: 4G, 512M, or a share such as 0.5 or 50%", "SIZE"),
        Option("cpu", ("--cpu",), "hide every GPU"),
        Option(
            "split",
            ("--split",),
            "with --limit: number of logical GPUs of that size on each GPU; with --cpu: of logical CPUs",
            "N",
            int,
        ),
        Option(
            "allocator",
            ("--allocator",),
            "allocator of the GPU's memory: bfc, cuda_malloc_async or cuda_malloc",
            "NAME",
            choices=ALLOCATORS,
            closed=True,
        ),
        Option(
            "precision",
            ("--precision",),
            "dtype policy of Keras: mixed_bfloat16, mixed_float16, float32 and others",
            "NAME",
            choices=PRECISIONS,
            closed=True,
        ),
        Option("deterministic", ("--deterministic",), "make operations give the same bits each time"),
        Option(
            "seed",
            ("--seed",),
            "seed of the random numbers of Python, NumPy, TensorFlow and Keras",
            "N",
            int,
        ),
        Option("placement", ("--placement",), "have TensorFlow log the device of each operation"),
        Option("reset_peak", ("--reset-peak",), "reset the peak of memory in use"),
        Option("require", ("--require",), "raise an error where there is no GPU"),
        Option(
            "workers",
            ("--workers",),
            'addresses of the processes that compute together, "node1:5000, node2:5000", or TF_CONFIG',
            "ADDRESSES",
            _workers,
            choices=(TF_CONFIG,),
            evaluated=True,
        ),
        Option(
            "worker",
            ("--worker",),
            "number of this one among --workers, from 0; by default that of TF_CONFIG",
            "N",
            int,
            evaluated=True,
        ),
        Option(
            "wait",
            ("--wait",),
            "most time to wait for the other workers (60s)",
            "TIME",
            words.seconds,
            evaluated=True,
        ),
        Option("doctor", ("--doctor",), "find out why there is no GPU, and the one thing to do about it"),
        Option("watch", ("--watch",), "show memory and load of the last minute while cells run"),
        Option("json", ("--json",), "print the report as JSON"),
        NAME,
        QUIET,
    ),
    examples=(
        ("What there is", "%tfgpu"),
        ("The first GPU only, memory as needed", "%tfgpu 0 --growth"),
        ("Why there is no GPU", "%tfgpu --doctor"),
    ),
    options_class=DeviceOptions,
    meant=MappingProxyType(COMMON | MEANT_BY_TFGPU),
)
