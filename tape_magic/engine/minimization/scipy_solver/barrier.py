"""The point that a search of SciPy's is given in the place of one where the loss is not finite.

A search cannot compute with NaN or infinity: its interpolations become NaN, too, and it takes a step that it
should shorten, or gives up (seen in SciPy 1.18). So it is given a loss and a slope that it takes for
a wall, from which it turns back.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tape_magic.engine.minimization.scipy_solver.points import Point

SHARE = 0.1
"""How much of a step to a point that is not finite a search is led to try next."""

_LARGEST = 1e100
"""More than this is no help to a search, and its square is infinite."""


class Barrier:
    """Gives a search finite numbers at points where the loss is not finite, each a wall to turn back from."""

    def __init__(self) -> None:
        self._highest = self._lowest = math.nan

    def seen(self, point: Point, base: Point) -> Point:
        """Return a point itself where it is finite, and else what a search is given there.

        Parameters
        ----------
        point
            A point that a search tries.
        base
            The last iterate, which is finite.
        """
        if point.finite:
            self._highest = np.fmax(self._highest, point.loss)
            self._lowest = np.fmin(self._lowest, point.loss)
            return point
        step = point.x - base.x
        length = float(np.linalg.norm(step))
        if not 0.0 < length < _LARGEST:
            return replace(point, loss=self._above(base.loss, 1.0), gradient=np.zeros_like(point.x))
        if base.gradient is None:
            # Higher than all so far, and rising with the distance, so that no interpolation leads on.
            spread = max(self._highest - self._lowest, abs(base.loss), 1.0)
            return replace(point, loss=self._above(self._highest, spread * (1.0 + length)))
        # The parabola that falls from the iterate as the loss does, with its minimum after SHARE of the step.
        fall = min(abs(float(base.gradient @ step)), _LARGEST) or length
        rise = fall / SHARE
        gradient = (rise - fall) / length * (step / length)
        return replace(point, loss=self._above(base.loss, rise / 2 - fall), gradient=gradient)

    @staticmethod
    def _above(loss: float, much: float) -> float:
        """Return a loss that is higher by so much, and higher in any case."""
        return float(max(loss + min(much, _LARGEST), np.nextafter(loss, math.inf)))
