"""A derivative compared with central differences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """How far a derivative is from central differences.

    Attributes
    ----------
    key
        The derivative as typed on the line, ``dy/dx``.
    error
        The largest relative error over the elements compared, |d − c| / max(|d|, |c|, s), where s is
        the scale below which a difference is rounding.
    place
        Where it is: the index within the derivative; empty for a scalar.
    derivative, difference
        The two values there.
    tolerance
        The error up to which they agree; it follows from the dtype that the cell computes in.
    compared, elements
        How many elements were compared, and how many there are.
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
    def agrees(self) -> bool:
        """Whether the two are the same but for rounding."""
        return self.error <= self.tolerance
