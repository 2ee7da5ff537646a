"""A derivative and the differences along one direction: which of them agree, and which cannot be told."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.engine.check.finite_differences import Array, Estimate

SAFETY = 4.0
"""How many times its estimate an error may be."""

_HIDES = 0.1
"""Where differences may be off by more than this share, they cannot tell right from wrong."""

_SMALL = 0.01
"""What is smaller than this share of the largest element need not be told that well."""


class Skipped(enum.Enum):
    """Why something is not compared."""

    NOT_FINITE = "it is not finite nearby"
    KINK = "a kink"
    JUMP = "a jump"
    UNSETTLED = "the differences do not settle"
    UNSURE = "it differs at first sight"


@dataclass(frozen=True)
class Judgement:
    """A derivative along one direction, as it came again, as reported, and by differences.

    The one that the tape gives in the precision of the differences is held against them strictly, and
    the one that was reported as strictly as its own precision allows: ε^(1/3) of either dtype, 6·10⁻⁶ in
    float64 and 5·10⁻³ in float32.
    """

    estimate: Estimate
    again: Array
    reported: Array
    difference: Array
    largest: float
    strict: float
    loose: float

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """Of the derivative again, and of the one reported; each relative."""
        # What is much smaller than the rest of a derivative may be nothing but its rounding.
        floor = self.largest * self.loose if self.loose > self.strict else 0.0
        return self._errors(self.again, self.strict, 0.0), self._errors(self.reported, self.loose, floor)

    def _errors(self, derivative: Array, tolerance: float, floor: float) -> Array:
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(derivative), np.abs(self.difference))
            size = np.fmax(np.fmax(size, floor), self._bound / tolerance)
            error = np.abs(derivative - self.difference) / np.where(size == 0, 1.0, size)
        return np.where(np.isfinite(derivative), error, np.inf)

    @cached_property
    def ratios(self) -> Array:
        """The worse of the two, in units of its tolerance."""
        again, reported = self.errors
        return np.asarray(np.fmax(again / self.strict, reported / self.loose))

    @property
    def severity(self) -> float:
        """How much it asks for a second look; at most 1 where all agrees, and is sure."""
        doubt = self.estimate.broken | self._hidden | ~np.isfinite(self.difference)
        return float(np.max(np.where(doubt, np.fmax(self.ratios, 1.0) * 2, self.ratios), initial=0.0))

    @property
    def _bound(self) -> Array:
        """How far the differences may be off."""
        return np.where(np.isfinite(self.estimate.error), SAFETY * self.estimate.error, 0.0)

    @cached_property
    def _hidden(self) -> Array:
        """Where the differences may be off by too much to tell right from wrong."""
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(self.again), np.abs(self.difference))
            hidden: Array = (self._bound > _HIDES * size) & (size > _SMALL * self.largest) & (size > 0)
        return hidden

    def left_out(self, sure: bool) -> Array:
        """Why each number is not compared, ``None`` where it is."""
        wrong = self.ratios > 1
        # Wrong is called only what stays so, or is not finite, or has been lost to rounding.
        stays = self.estimate.lasting | ~np.isfinite(self.again) | (self.errors[0] <= self.strict)
        jump = np.abs(self.estimate.gap) > 1e3 * np.fmax(np.abs(self.difference), 1.0)
        reasons = np.full(self.difference.shape, None, object)
        for where, reason in (
            (wrong & ~stays, Skipped.UNSETTLED),
            (wrong & (not sure), Skipped.UNSURE),
            (self._hidden, Skipped.UNSETTLED),
            (self.estimate.broken, Skipped.KINK),
            (self.estimate.broken & jump, Skipped.JUMP),
            (~np.isfinite(self.difference), Skipped.NOT_FINITE),
        ):
            reasons[where] = reason
        return reasons

    def sides(self, number: int, reason: Skipped) -> str:
        """The slopes to both sides of a kink."""
        if reason is not Skipped.KINK:
            return ""
        middle, gap = (float(np.real(one[number])) for one in (self.difference, self.estimate.gap))
        both = (middle - gap / 2, middle + gap / 2)
        # What is that much smaller than the other side is its rounding.
        below, above = (side if abs(side) > 1e-6 * abs(gap) else 0.0 for side in both)
        return f", {below:.4g} from below and {above:.4g} from above".replace("-", "−")

    def finding(self, number: int, unit: complex) -> dict[str, Any]:
        """What a check says of the worse of the two."""
        again, reported = (float(errors[number]) for errors in self.errors)
        strictly = again / self.strict >= reported / self.loose
        error, tolerance = (again, self.strict) if strictly else (reported, self.loose)
        derivative = (self.again if strictly else self.reported)[number] * unit
        difference = self.difference[number] * unit
        if error > tolerance and np.isfinite(derivative):  # no longer relative to what could be rounding
            error = float(abs(derivative - difference) / max(abs(derivative), abs(difference)))
        values = {"derivative": _plain(derivative), "difference": _plain(difference)}
        return {"error": error, "tolerance": tolerance, **values}


def _plain(value: complex) -> complex:
    return complex(value) if np.iscomplexobj(value) and value.imag != 0 else float(np.real(value))
