"""The report of ``%tfgpu --doctor``: the chain from the wheel to a computation, and its first broken link."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tape_magic.results import views
from tape_magic.results.devices import report_json

ON_CPU = "%tfgpu --cpu"
"""The line with which a user asks for the CPU."""


class Link(enum.Enum):
    """The things that TensorFlow needs for a GPU, in the order of need; the value is the name in words."""

    WHEEL = "wheel with CUDA"
    DRIVER = "driver"
    FILES = "device files"
    LIBRARIES = "CUDA libraries"
    VISIBLE = "seen by TensorFlow"
    SETTINGS = "settings as asked"
    COMPUTATION = "small computation"


class LinkState(enum.Enum):
    """The state of a link; the value is the state in words."""

    OK = "ok"
    MISSING = "missing"
    FAILS = "fails"
    UNNEEDED = "not needed"
    UNTRIED = "not looked at"


@dataclass(frozen=True)
class Examined:
    """One examined link: its state, and the evidence for it.

    `parts` are the parts of the link, each with its name, its state, and the place where it is or the reason
    why it is missing.
    """

    link: Link
    finding: LinkState
    evidence: tuple[str, ...] = ()
    parts: tuple[tuple[str, LinkState, str], ...] = ()

    @property
    def broken(self) -> bool:
        """Whether the chain ends here."""
        return self.finding in (LinkState.MISSING, LinkState.FAILS)


@dataclass(frozen=True)
class DoctorReport(views.Shown):
    """The links in order, those after the first broken one not tried, and the remedy.

    `cause` is the meaning of the broken link, None where all is well. `advice` begins the sentence that
    `command`, the one thing to run or to do, ends. `tensorflow` is TensorFlow's version, empty without it.

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
        """Whether a GPU computes."""
        return self.cause is None

    @property
    def broken(self) -> Examined | None:
        """The first broken link."""
        return next((one for one in self.links if one.broken), None)

    @property
    def harmless(self) -> bool:
        """Whether there is nothing to repair: the machine has no GPU, and TensorFlow computes on the CPU."""
        broken = self.broken
        return broken is not None and broken.finding is LinkState.MISSING and self.command == ON_CPU

    @property
    def headline(self) -> str:
        """The report in one line."""
        if self.cause is None:
            return "The GPU works"
        broken = self.broken
        sees = broken is not None and broken.link in (Link.SETTINGS, Link.COMPUTATION)
        return f"{'The GPU is there, but' if sees else 'No GPU:'} {self.cause}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"

    def to_json(self) -> str:
        """Return the report as JSON; enumerations are their names in small letters."""
        return report_json(self)
