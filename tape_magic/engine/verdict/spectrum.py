"""Curvatures of a function whose Hessian is known by its products with directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tape_magic.engine.verdict.facts import Array

FEWEST, PRODUCTS = 4, 12
"""The fewest and the most products with the Hessian for the extreme curvatures."""

DESCENT_PRODUCTS = 24
"""The most for the way down, which lies along small curvatures, too."""

SAME = 0.02
"""By how much of itself, at most, two more products change what is known well enough."""

SKEW = 0.1
"""By which share of the largest a Hessian is not symmetric."""

Product = Callable[[Array], Array]
"""Takes a direction of length 1, and returns the Hessian times it."""


class Unclear(Exception):
    """The loss has no curvature that differences of gradients show: kinks, noise, or rounding."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Curvatures along directions of length 1 that are at right angles to each other.

    Attributes
    ----------
    values, vectors
        The curvatures, the least first, and the directions as columns.
    slopes
        The slope of the loss along each.
    error
        Curvatures below this share of the largest are rounding.
    """

    values: Array
    vectors: Array
    slopes: Array
    error: float

    @property
    def largest(self) -> float:
        """The curvature that is farthest from zero."""
        return float(np.abs(self.values).max())

    @property
    def gains(self) -> Array:
        """By how much the loss falls along each direction, to second order."""
        return np.asarray(self.slopes**2 / (2 * self._sizes))

    @property
    def newton(self) -> Array:
        """The step to the minimum of the second-order model, with all curvatures taken as positive."""
        return np.asarray(-self.vectors @ (self.slopes / self._sizes))

    @property
    def _sizes(self) -> Array:
        return np.maximum(np.abs(self.values), max(self.error * self.largest, 1e-300))


def whole(product: Product, gradient: Array, free: Array, error: float) -> Spectrum:
    """Return all curvatures in the space of the numbers that are free, a mask.

    Raises :class:`Unclear` where nothing is free, or where the Hessian is not symmetric.
    """
    unit = np.eye(free.size)[free]
    if not len(unit):
        raise Unclear
    hessian = np.stack([product(direction)[free] for direction in unit])
    if np.abs(hessian - hessian.T).max() > SKEW * np.abs(hessian).max():
        raise Unclear
    values, inner = np.linalg.eigh((hessian + hessian.T) / 2)
    vectors = unit.T @ inner
    return Spectrum(values, vectors, vectors.T @ gradient, error)


def lanczos(product: Product, gradient: Array, first: Array, most: int, error: float) -> Spectrum:
    """Return a spectrum by Lanczos's method with full orthogonalisation, from a first direction.

    It has enough directions once the extreme curvatures stay, and what the function would fall by does.
    """
    basis = [first / np.linalg.norm(first)]
    diagonal: list[float] = []
    beside: list[float] = []
    before = [np.zeros(3)] * 2
    while True:
        image = product(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        known = np.stack(basis)
        for _ in range(2):
            image = image - known.T @ (known @ image)
        rest = float(np.linalg.norm(image))
        values, inner = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        vectors = known.T @ inner
        found = Spectrum(values, vectors, vectors.T @ gradient, error)
        now = np.array([values[0], values[-1], found.gains.sum()])
        scale = np.array([found.largest, found.largest, now[2]])
        stays = len(basis) >= FEWEST and all(np.all(np.abs(now - one) <= SAME * scale) for one in before)
        if stays or rest <= 10 * error * found.largest or len(basis) == min(most, first.size):
            return found
        before = [before[1], now]
        basis.append(image / rest)
        beside.append(rest)
