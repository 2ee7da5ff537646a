"""Hessians, and what their eigenvalues say."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.errors import closest


class Curvature(enum.Enum):
    """What the signs of a Hessian's eigenvalues say; each member carries its sentence."""

    MINIMUM = "positive definite: a minimum wherever the gradient is 0"
    MAXIMUM = "negative definite: a maximum wherever the gradient is 0"
    SADDLE = "indefinite: a saddle wherever the gradient is 0"
    SINGULAR = "singular: the second derivatives do not decide"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return str(self.value)


@dataclass(frozen=True, eq=False, repr=False)
class Hessian:
    """All second derivatives of one output by some sources.

    Attributes
    ----------
    target
        The output's name; ``_`` is the value of the last expression.
    names
        The sources in order; an array inside a structure or a model by its path.
    shapes
        Their shapes.
    blocks
        ``blocks["x", "a"]`` is ∂²y/∂x∂a, of the shape of x followed by that of a.
    matrix
        All blocks as one symmetric matrix, of as many rows as the sources have elements; ``None`` past
        512 elements.
    eigenvalues
        In ascending order; empty without a matrix, and where it is not finite.
    gradient_norm
        The norm of the gradient by all sources, where the Hessian was taken.
    """

    target: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    blocks: Mapping[tuple[str, str], Any]
    matrix: np.ndarray[Any, Any] | None
    eigenvalues: tuple[float, ...]
    gradient_norm: float

    def __getitem__(self, key: str | tuple[str, str]) -> Any:
        first, second = key if isinstance(key, tuple) else (key, key)
        if (first, second) not in self.blocks:
            missing = first if first not in self.names else second
            has = ", ".join(self.names[:8])
            raise KeyError(f"no {missing!r} in this Hessian{closest(missing, self.names)}; it has {has}")
        return self.blocks[first, second]

    def __repr__(self) -> str:
        return f"<Hessian of {self.target} by {', '.join(self.names[:6])}>"

    @property
    def size(self) -> int:
        """Rows of the matrix: the elements of all sources."""
        return int(sum(np.prod(shape, dtype=np.int64) for shape in self.shapes))

    @property
    def condition(self) -> float | None:
        """The greatest absolute eigenvalue over the least; infinite for a singular matrix."""
        if not self.eigenvalues:
            return None
        magnitudes = np.abs(self.eigenvalues)
        least = float(magnitudes.min())
        return float(magnitudes.max()) / least if least else float("inf")

    @property
    def curvature(self) -> Curvature | None:
        """The verdict; ``None`` where there are no eigenvalues.

        An eigenvalue counts as 0 below the rounding error of a symmetric eigenvalue problem, the
        size of the matrix times machine epsilon times the greatest absolute eigenvalue
        (Golub and Van Loan, Matrix Computations, 8.1).
        """
        if not self.eigenvalues or self.matrix is None:
            return None
        values = np.asarray(self.eigenvalues)
        zero = self.size * np.finfo(self.matrix.dtype).eps * np.abs(values).max()
        if (values < -zero).any() and (values > zero).any():
            return Curvature.SADDLE
        if (np.abs(values) <= zero).any():
            return Curvature.SINGULAR
        return Curvature.MINIMUM if values[0] > 0 else Curvature.MAXIMUM
