"""A derivative compared with central differences."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class CheckOutcome(enum.Enum):
    """The outcome of a comparison; each member carries its sentence, in words for a heading."""

    AGREES = "agrees with central differences"
    DIFFERS = "differs from central differences"
    NOT_COMPARED = "not compared with central differences"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return str(self.value)


@dataclass(frozen=True)
class Check:
    """The distance of a derivative from central differences.

    Attributes
    ----------
    key
        The derivative as typed on the line, ``dy/dx``.
    error
        The largest relative error over the elements compared, |d − c| / max(|d|, |c|, s), where s is
        the scale below which a difference is rounding; NaN where nothing was compared.
    place
        The index of the largest error within the derivative; empty for a scalar, and where the error
        is the error along a whole direction.
    derivative, difference
        The values of the derivative and of the difference at that index.
    tolerance
        The largest error of a derivative that agrees; it follows from the dtype of the computation.
    compared, elements
        The number of elements that were compared one by one, and the number of all elements. A large
        derivative is compared at a sample, and as a whole along random directions; the note says so.
    dtype
        The dtype in which the differences were taken.
    note
        The limits of the comparison, a sentence without a full stop; empty where there are none.
    reason
        What explains the comparison, with the user's line: the cause of a difference, where it was tried and
        found right (`tf.stop_gradient`, `tape.stop_recording()`, a variable's state, a custom gradient, an
        operation that rounds), or which value of a variable the derivative is by; a sentence without a full
        stop, empty where nothing is known.
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
    reason: str = ""

    @property
    def outcome(self) -> CheckOutcome:
        """The outcome: the same but for rounding, different, or not compared."""
        if math.isnan(self.error):
            return CheckOutcome.NOT_COMPARED
        return CheckOutcome.AGREES if self.error <= self.tolerance else CheckOutcome.DIFFERS

    @property
    def agrees(self) -> bool:
        """Whether derivative and difference are the same but for rounding."""
        return self.outcome is CheckOutcome.AGREES
