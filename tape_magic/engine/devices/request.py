"""A request for devices: the arguments, checked against each other before TensorFlow is asked anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tape_magic.engine.devices.settings import NOTHING, RuntimeSettings
from tape_magic.engine.devices.size import Size, read_size
from tape_magic.engine.devices.words import FREEST
from tape_magic.errors import DeviceError, shorten
from tape_magic.results.devices import Membership


@dataclass(frozen=True)
class DeviceRequest:
    """One whole setup: a device setting that the request does not name returns to TensorFlow's default.

    `indices` are the GPUs to keep visible, ascending; None keeps all. `freest` keeps the GPU with the most
    free memory. `split` is the number of logical CPUs, or with a `limit` the number of logical GPUs on each
    GPU. `workers` are those to join. A request that names nothing only asks for the report.
    """

    indices: tuple[int, ...] | None = None
    freest: bool = False
    growth: bool = False
    limit: Size | None = None
    cpu: bool = False
    split: int = 1
    require: bool = False
    settings: RuntimeSettings = NOTHING
    reset_peak: bool = False
    workers: Membership | None = None

    @property
    def names_devices(self) -> bool:
        """Whether the request changes devices; otherwise they stay as they are."""
        return self.indices is not None or self.freest or self.growth or self.limit is not None or self.cpu

    @property
    def only_asks(self) -> bool:
        """Whether the request changes nothing."""
        return not (self.names_devices or self.settings != NOTHING or self.reset_peak or self.workers)

    @property
    def line(self) -> str:
        """The magic line with the same meaning.

        >>> DeviceRequest((0, 1), limit=Size("4G", 4 * 2**30)).line
        '%tfgpu 0,1 --limit 4G'
        """
        words = ["%tfgpu"]
        if self.freest:
            words.append(FREEST)
        elif self.indices is not None:
            words.append(",".join(map(str, self.indices)))
        words += ["--growth"] * self.growth + (["--limit", self.limit.text] if self.limit else [])
        words += ["--cpu"] * self.cpu + (["--split", str(self.split)] if self.split > 1 else [])
        words += [*self.settings.words, *["--require"] * self.require]
        return " ".join([*words, *(self.workers.words if self.workers else ())])


def read_request(
    indices: int | str | Sequence[int] | None,
    *,
    growth: bool,
    limit: str | int | float | None,
    cpu: bool,
    split: int | None,
    require: bool,
    settings: RuntimeSettings,
    reset_peak: bool,
    workers: Membership | None = None,
) -> DeviceRequest:
    """Return the arguments of `devices()` as a request; raise `DeviceError` for what no machine could do."""
    if growth and limit is not None:
        raise DeviceError(
            "growth and limit exclude each other, since TensorFlow drops growth on every GPU as soon as one"
            " has a limit: keep one of the two."
        )
    if cpu:
        gpu_words = {
            "a GPU index": indices is not None,
            "growth": growth,
            "limit": limit is not None,
            "allocator": settings.allocator is not None,
            "reset_peak": reset_peak,
            "require": require,
        }
        for word, given in gpu_words.items():
            if given:
                raise DeviceError(
                    f"cpu hides every GPU, so {word} has nothing to apply to: leave one of them out."
                )
    freest = isinstance(indices, str) and indices == FREEST
    return DeviceRequest(
        indices=None if freest else _read_indices(indices),
        freest=freest,
        growth=bool(growth),
        limit=None if limit is None else read_size(limit),
        cpu=bool(cpu),
        split=_read_split(split, cpu, limit is not None),
        require=bool(require),
        settings=settings,
        reset_peak=bool(reset_peak),
        workers=workers,
    )


def _read_indices(indices: int | str | Sequence[int] | None) -> tuple[int, ...] | None:
    if indices is None:
        return None
    several: Sequence[object] = (indices,) if isinstance(indices, int) else indices
    if isinstance(several, str) or not isinstance(several, Sequence):
        raise DeviceError(
            f"GPUs are named by their index or freest, not by {shorten(repr(indices))}: write 0, or 0 and 1"
            " as [0, 1]."
        )
    if not several:
        raise DeviceError(
            "No GPU is named in the empty list: write cpu=True (%tfgpu --cpu) to hide every GPU."
        )
    read = []
    for index in several:
        # True is an int in Python, and devices(True) is surely a slip.
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise DeviceError(
                f"GPUs are named by their index from 0 up, not by {shorten(repr(index))}: write 0, or 0 and"
                " 1 as [0, 1]."
            )
        if several.count(index) > 1:
            raise DeviceError(
                f"GPU {shorten(str(index))} is named {several.count(index)} times: name each GPU once."
            )
        read.append(index)
    return tuple(sorted(read))


def _read_split(split: int | None, cpu: bool, limited: bool) -> int:
    if split is None:
        return 1
    if not isinstance(split, int) or isinstance(split, bool) or split < 1:
        raise DeviceError(
            f"split {shorten(repr(split))} is no number of logical devices: write a whole number from 1 up."
        )
    if not cpu and not limited:
        number = shorten(str(split))
        raise DeviceError(
            f"split {number} needs a limit, since TensorFlow splits a GPU only into parts of a given size:"
            f" write --limit 2G --split {number}, or --cpu --split {number} for logical CPUs."
        )
    return split
