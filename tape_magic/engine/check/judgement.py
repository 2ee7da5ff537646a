"""`Judgement`: how a derivative compares with the differences along one direction."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.engine.check.finite_differences import Array, Estimate

SAFETY = 4.0
"""Factor by which an error may exceed its estimate."""

_HIDING_SHARE = 0.1
"""Relative error of the differences above which they cannot show that a derivative is right."""

_COARSE_SHARE = 0.25
"""The same in a coarse precision, in which only gross errors count."""

_SMALL_SHARE = 0.01
"""Size, relative to the largest element, below which an element need not be known that well."""

_GROSS = 0.5
"""Relative error from which on a derivative counts as wrong in a coarse precision."""


class Skipped(enum.Enum):
    """Why an element is not compared; each member carries its sentence."""

    NOT_FINITE = "it is not finite nearby"
    KINK = "a kink"
    JUMP = "a jump"
    UNSETTLED = "the differences do not settle"
    UNSURE = "it differs at first sight"
    COARSE = "its rounding is too large to tell"


@dataclass(frozen=True)
class Judgement:
    """A derivative along one direction: recomputed, as reported, and by differences.

    The recomputed derivative has the precision of the differences, the reported one its own. Each is
    compared with the differences up to ε^(1/3) of its precision: 6·10⁻⁶ in float64, 5·10⁻³ in float32.

    Attributes
    ----------
    estimate
        Estimate of the recomputed derivative's residual.
    recomputed, reported, difference
        The slope along the direction, by either derivative and by differences.
    largest
        Magnitude of the largest finite element of the reported derivative.
    strict, loose
        Relative tolerances of the recomputed and of the reported derivative.
    fine, rough
        Slopes that the rounding of the value alone can make, in the precision of the differences and in that
        of the reported derivative: what is smaller is 0 as far as anyone can tell.
    coarse
        Whether the differences were taken in a precision whose steps are that large that a derivative counts
        as wrong only where the error is gross.
    """

    estimate: Estimate
    recomputed: Array
    reported: Array
    difference: Array
    largest: float
    strict: float
    loose: float
    fine: Array
    rough: Array
    coarse: bool = False

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """Relative errors of the recomputed and of the reported derivative."""
        # An element that is much smaller than the largest may consist of rounding alone.
        floor = self.largest * self.loose if self.loose > self.strict else 0.0
        return (
            self._errors(self.recomputed, self.strict, self.fine / self.strict),
            self._errors(self.reported, self.loose, np.fmax(floor, self.rough / self.loose)),
        )

    def _errors(self, derivative: Array, tolerance: float, floor: Array) -> Array:
        """Return the errors relative to the larger value, or to `floor` or the differences' own error."""
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(derivative), np.abs(self.difference))
            size = np.fmax(np.fmax(size, floor), self._bound / tolerance)
            error = np.abs(derivative - self.difference) / np.where(size == 0, 1.0, size)
        return np.where(np.isfinite(derivative), error, np.inf)

    @cached_property
    def ratios(self) -> Array:
        """The larger of the two errors, each divided by its tolerance."""
        recomputed, reported = self.errors
        return np.asarray(np.fmax(recomputed / self.strict, reported / self.loose))

    @property
    def severity(self) -> float:
        """Priority of a thorough estimate; at most 1 where all elements surely agree."""
        doubt = self.estimate.broken | self._hidden | ~np.isfinite(self.difference)
        return float(np.max(np.where(doubt, np.fmax(self.ratios, 1.0) * 2, self.ratios), initial=0.0))

    @property
    def _bound(self) -> Array:
        """Bound of the differences' error."""
        return np.where(np.isfinite(self.estimate.error), SAFETY * self.estimate.error, 0.0)

    @cached_property
    def _hidden(self) -> Array:
        """Elements at which the differences' error is too large to show that the derivative is right."""
        with np.errstate(all="ignore"):
            size = np.fmax(np.abs(self.recomputed), np.abs(self.difference))
            unknown: Array = self._bound > (_COARSE_SHARE if self.coarse else _HIDING_SHARE) * size
            unknown &= np.fmax(size, self._bound) > self.rough
            hidden: Array = unknown & (size > _SMALL_SHARE * self.largest) & (size > 0)
        return hidden

    def skipped(self, sure: bool) -> Array:
        """Return why each element is not compared, ``None`` where it is.

        `sure` says whether the estimate is a thorough one; without it, no element is called wrong.
        """
        wrong = self.ratios > 1
        # An element is called wrong only if its residual lasts, if it is not finite, or if the recomputed
        # derivative is right, so that the reported one lost it to rounding.
        stays = self.estimate.lasting | ~np.isfinite(self.recomputed) | (self.errors[0] <= self.strict)
        jump = np.abs(self.estimate.gap) > 1e3 * np.fmax(np.abs(self.difference), 1.0)
        reasons = np.full(self.difference.shape, None, object)
        unsettled = Skipped.COARSE if self.coarse else Skipped.UNSETTLED
        gross = self.coarse & (np.fmax(*self.errors) >= _GROSS)
        broken, settled = self.estimate.broken, self.estimate.settled
        for where, reason in (
            (wrong & ~stays, unsettled),
            (wrong & (not sure), Skipped.UNSURE),
            ((self._hidden & ~gross) | (wrong & self.coarse & ~gross) | (broken & ~settled), unsettled),
            (broken & settled, Skipped.KINK),
            (broken & ~settled & jump, Skipped.JUMP),
            (~np.isfinite(self.difference), Skipped.NOT_FINITE),
        ):
            reasons[where] = reason
        return reasons

    def slopes_beside(self, number: int, reason: Skipped) -> str:
        """Return a clause with the slopes to both sides of a kink; empty for any other reason."""
        if reason is not Skipped.KINK:
            return ""
        middle_of = self.difference - self.estimate.residual + self.estimate.beside
        middle, gap = (float(np.real(one[number])) for one in (middle_of, self.estimate.gap))
        both = (middle - gap / 2, middle + gap / 2)
        # A slope that is so much smaller than the other one consists of rounding.
        least = max(1e-6, self.strict**1.5)
        below, above = (side if abs(side) > least * abs(gap) else 0.0 for side in both)
        return f", {below:.4g} from below and {above:.4g} from above".replace("-", "−")

    def finding(self, number: int, unit: complex) -> dict[str, Any]:
        """Return the fields of a ``Check`` for one element: those of the derivative with the larger error."""
        recomputed, reported = (float(errors[number]) for errors in self.errors)
        strictly = recomputed / self.strict >= reported / self.loose
        error, tolerance = (recomputed, self.strict) if strictly else (reported, self.loose)
        derivative = (self.recomputed if strictly else self.reported)[number] * unit
        difference = self.difference[number] * unit
        if error > tolerance and np.isfinite(derivative):  # relative to the values, not to their rounding
            error = float(abs(derivative - difference) / max(abs(derivative), abs(difference)))
        values = {"derivative": _plain(derivative), "difference": _plain(difference)}
        return {"error": error, "tolerance": tolerance, **values}


def _plain(value: complex) -> complex:
    return complex(value) if np.iscomplexobj(value) and value.imag != 0 else float(np.real(value))
