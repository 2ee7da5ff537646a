"""What `%tfgpu --doctor` answers: the chain from the wheel to a computation, and where it is broken."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tape_magic.results.devices import report_json

ON_CPU = "%tfgpu --cpu"
"""The line that says that the CPU is meant."""


class Link(enum.Enum):
    """What TensorFlow needs for a GPU, in the order in which it needs it; the value says it in words."""

    WHEEL = "wheel with CUDA"
    DRIVER = "driver"
    FILES = "device files"
    LIBRARIES = "CUDA libraries"
    VISIBLE = "seen by TensorFlow"
    SETTINGS = "settings as asked"
    COMPUTATION = "small computation"


class Finding(enum.Enum):
    """How a link was found; the value says it in words."""

    OK = "ok"
    MISSING = "missing"
    FAILS = "fails"
    UNNEEDED = "not needed"
    UNTRIED = ""


@dataclass(frozen=True)
class Examined:
    """One link as it was found, with the evidence: what was looked at and what was seen.

    `parts` are what it consists of, each with its name, how it was found, and where it is or why it is not.
    """

    link: Link
    finding: Finding
    evidence: tuple[str, ...] = ()
    parts: tuple[tuple[str, Finding, str], ...] = ()

    @property
    def broken(self) -> bool:
        """Whether the chain ends here."""
        return self.finding in (Finding.MISSING, Finding.FAILS)


@dataclass(frozen=True)
class DoctorReport:
    """The links in order, those after the first broken one not tried, and what to do.

    `cause` is what the broken link means, None where all is well. `advice` is a sentence that leads up to
    `command`, the one thing to run or to do. `tensorflow` is its version, empty
    without it.

    >>> report = DoctorReport((), "libcudnn.so.9 is missing", "Run", "pip install x", "2.21.0")
    >>> report.headline
    'No GPU: libcudnn.so.9 is missing'
    """

    links: tuple[Examined, ...]
    cause: str | None
    advice: str
    command: str
    tensorflow: str

    @property
    def well(self) -> bool:
        """Whether a GPU computes, as it was asked to."""
        return self.cause is None

    @property
    def broken(self) -> Examined | None:
        """The first broken link."""
        return next((one for one in self.links if one.broken), None)

    @property
    def harmless(self) -> bool:
        """Whether nothing is to be mended: there is no GPU, and TensorFlow computes on the CPU."""
        broken = self.broken
        return broken is not None and broken.finding is Finding.MISSING and self.command == ON_CPU

    @property
    def headline(self) -> str:
        """One line."""
        if self.cause is None:
            return "The GPU works"
        broken = self.broken
        sees = broken is not None and broken.link in (Link.SETTINGS, Link.COMPUTATION)
        return f"{'The GPU is there, but' if sees else 'No GPU:'} {self.cause}"

    def to_json(self) -> str:
        """The report as JSON, enumerations by their names in small letters."""
        return report_json(self)
