"""`Singular`: an operation that gave inf or NaN, as those see it who look for a cure."""

from __future__ import annotations

from dataclasses import dataclass

from tape_magic.engine.diagnosis.first_not_finite import FirstNotFinite
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.frames import gradient_of

EPSILON = "1e-12"
"""What is added to a number that must not be 0."""

VALUE_PRESERVING = frozenset({"Reshape", "Squeeze", "ExpandDims", "Identity", "Cast", "BroadcastTo"})


@dataclass(frozen=True, eq=False)
class Singular:
    """An operation that gave inf or NaN, and where it stands.

    Attributes
    ----------
    first, flow
        The operation, as the search found it, and the record.
    text
        The user's line.
    """

    first: FirstNotFinite
    flow: DataFlow
    text: str

    @property
    def entry(self) -> Entry:
        """The operation."""
        return self.flow.entries[self.first.index]

    @property
    def kind(self) -> str:
        """The type of the operation, or of that whose gradient it is a part of."""
        return gradient_of(self.entry.frames) or self.entry.type

    @property
    def value(self) -> float | None:
        """The element of the operation's own first input; ``None`` where it is not known."""
        if not self.first.inputs or gradient_of(self.entry.frames):
            return None
        return self.first.inputs[0]


def behind(flow: DataFlow, key: int) -> Entry | None:
    """Return the entry that a tensor comes from, behind those that keep its values."""
    entry = flow.makers.get(key)
    while entry is not None and entry.type in VALUE_PRESERVING:
        entry = flow.makers.get(entry.inputs[0])
    return entry
