"""A derivative compared with central differences."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class CheckOutcome(enum.Enum):
    """What came of a comparison; each member carries its sentence, in words for a heading."""

    AGREES = "agrees with central differences"
    DIFFERS = "differs from central differences"
    NOT_COMPARED = "not compared with central differences"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return str(self.value)


@dataclass(frozen=True)
class Check:
    """How far a derivative is from central differences.

    Attributes
    ----------
    key
        The derivative as typed on the line, ``dy/dx``.
    error
        The largest relative error over the elements compared, |d − c| / max(|d|, |c|, s), where s is
        the scale below which a difference is rounding; NaN where nothing was compared.
    place
        Where it is: the index within the derivative; empty for a scalar, and where the largest error
        is that of a whole direction.
    derivative, difference
        The two values there.
    tolerance
        The error up to which they agree; it follows from the dtype that the cell computes in.
    compared, elements
        How many elements were compared by themselves, and how many there are. Of many, a sample, and
        the whole along random directions; the note says so.
    dtype
        The dtype in which the differences were taken.
    note
        What limits the comparison, a sentence without a full stop; empty when nothing does.
    """

    key: str
    error: float
    place: tuple[int, ...]
    derivative: complex
    difference: complex
    tolerance: float
    compared: int
    elements: int
    dtype: str
    note: str = ""

    @property
    def outcome(self) -> CheckOutcome:
        """Whether the two are the same but for rounding, or were not compared at all."""
        if math.isnan(self.error):
            return CheckOutcome.NOT_COMPARED
        return CheckOutcome.AGREES if self.error <= self.tolerance else CheckOutcome.DIFFERS

    @property
    def agrees(self) -> bool:
        """Whether the two are the same but for rounding."""
        return self.outcome is CheckOutcome.AGREES
