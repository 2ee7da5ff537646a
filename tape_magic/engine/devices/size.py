"""Caps on a GPU's memory, read from a line or an argument, and computed for a device."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tape_magic.errors import DeviceError, shorten, size_text

MIB = 2**20

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*(%|[KMGT](?:iB)?)?", re.IGNORECASE)
_HOW_TO_WRITE = "write 512M, 4G or 4GiB (units of 1024), or a part of the memory as 0.5 or 50%"


@dataclass(frozen=True)
class Size:
    """A cap: `bytes`, or a `part` of the device's memory with 0 < part ≤ 1; `text` is its form in a line."""

    text: str
    bytes: int | None = None
    part: float | None = None

    def on(self, device: str, total: int | None) -> int:
        """Return the cap in bytes on a device that has `total` bytes, rounded down to whole MiB.

        TensorFlow takes memory limits in MiB.

        Raises `DeviceError` for a part of an unknown total, for more than the total, and for less than 1 MiB.

        >>> Size("50%", part=0.5).on("GPU 0", 8 * 2**30) == 4 * 2**30
        True
        """
        text = shorten(self.text)
        if self.part is not None and total is None:
            raise DeviceError(
                f"The limit {text} is a part of {device}'s memory, and neither CUDA nor NVML tells"
                " how much that is: write the size itself, for example 4G."
            )
        size = self.bytes if self.bytes is not None else int((self.part or 0.0) * (total or 0))
        if total is not None and size > total:
            raise DeviceError(f"The limit {text} is more than {device} has: {size_text(total)}.")
        if size < MIB:
            raise DeviceError(
                f"The limit {text} is less than 1 MiB on {device}, the least TensorFlow can cap:"
                " write more, for example 512M."
            )
        return size // MIB * MIB


def read_size(limit: str | int | float) -> Size:
    """Return a cap from "512M", "4G", "4GiB", "0.5", "50%", an int of bytes, or a float as a part.

    Raises `DeviceError` for anything else, for zero, a negative number, and a part above the whole.

    >>> read_size("1.5G").bytes == 1536 * 2**20, read_size("50%").part, read_size(0.25).text
    (True, 0.5, '25%')
    """
    if isinstance(limit, bool) or not isinstance(limit, str | int | float):
        raise DeviceError(f"limit {limit!r} is not a size: {_HOW_TO_WRITE}.")
    if isinstance(limit, int):
        _check_positive(limit, str(limit))
        return Size(_line_text(limit), bytes=limit)
    if isinstance(limit, float):
        _check_positive(limit, repr(limit))
        return _part(f"{100 * limit:.6g}%" if limit <= 1 else repr(limit), limit)
    text = limit.strip()
    match = _SIZE.fullmatch(text)
    if match is None:
        raise DeviceError(f"limit {shorten(limit)!r} is not a size: {_HOW_TO_WRITE}.")
    number, unit = float(match[1]), (match[2] or "")
    _check_positive(number, text)
    if unit == "%":
        return _part(text, number / 100)
    if unit:
        return Size(text.replace(" ", ""), bytes=int(number * _UNITS[unit[0].upper()]))
    # A bare "1" is as likely a forgotten unit as a whole device.
    if number >= 1 and "." not in text:
        raise DeviceError(f"limit {shorten(text)} has no unit: {_HOW_TO_WRITE}.")
    return _part(text, number)


def _line_text(size: int) -> str:
    if size < MIB:
        return f"{size} bytes"  # less than any cap, so that only an error shows it
    return f"{size >> 30}G" if size % 2**30 == 0 else f"{size // MIB}M"


def _check_positive(number: float, text: str) -> None:
    if not (math.isfinite(number) and number > 0):
        raise DeviceError(f"limit {shorten(text)} leaves no memory to work with: {_HOW_TO_WRITE}.")


def _part(text: str, part: float) -> Size:
    if part <= 1:
        return Size(text, part=part)
    if text.endswith("%"):
        raise DeviceError(f"limit {shorten(text)} is more than the device has: write 100% or less.")
    raise DeviceError(
        f"limit {shorten(text)} has no unit and is more than the whole device as a part: {_HOW_TO_WRITE}."
    )
