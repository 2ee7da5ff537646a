"""The readings of ``%tfgpu --watch``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One device at one moment: memory in bytes, `load` from 0 to 1; None for an unknown value."""

    name: str
    product: str
    used: int | None
    total: int | None
    load: float | None

    @property
    def share(self) -> float | None:
        """The share of the memory that is in use, from 0 to 1.

        >>> Reading("GPU 0", "T4", 4, 16, 1.0).share
        0.25
        """
        return None if self.used is None or not self.total else self.used / self.total


@dataclass(frozen=True)
class Sample:
    """All devices at one moment, in seconds of a clock that only goes forward."""

    at: float
    readings: tuple[Reading, ...]
