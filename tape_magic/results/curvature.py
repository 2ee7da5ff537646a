"""Hessians, and the verdict on a point that their eigenvalues give."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.errors import closest, in_one_line

MOST_ROWS = 512
"""The most rows of a Hessian whose eigenvalues are computed: those of a larger one take seconds."""

_EPSILONS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23}


class Curvature(enum.Enum):
    """The signs of a Hessian's eigenvalues.

    Each member carries the name of the matrix, and the name of a point where the gradient is 0.
    """

    MINIMUM = ("positive definite", "a minimum")
    MAXIMUM = ("negative definite", "a maximum")
    SADDLE = ("indefinite", "a saddle")
    SINGULAR = ("singular", "")

    @property
    def matrix(self) -> str:
        """The name of such a matrix."""
        return self.value[0]

    @property
    def point(self) -> str:
        """The name of a point where the gradient is 0; empty where the second derivatives do not decide."""
        return self.value[1]

    @property
    def sentence(self) -> str:
        """The statement that holds at every point, in words."""
        if not self.point:
            return f"{self.matrix}: the second derivatives do not decide"
        return f"{self.matrix}: {self.point} wherever the gradient is 0"


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
        The shapes of the sources.
    blocks
        ``blocks["x", "a"]`` is ∂²y/∂x∂a, of the shape of x followed by the shape of a, as TensorFlow
        gave it; zeros where y is at most linear in x and a.
    gradient_norm
        The norm of the gradient by all sources, where the Hessian was taken.
    source_norm
        The norm of all sources together.
    dtype
        The least precise of the sources' dtypes, by its name; the rounding error follows from it.

    Examples
    --------
    >>> bowl = Hessian("y", ("x",), ((2,),), {("x", "x"): np.diag([2.0, 8.0])}, 0.0)
    >>> bowl.eigenvalues, bowl.condition, bowl.verdict
    ((2.0, 8.0), 4.0, 'a minimum: positive definite, and the gradient is 0')
    """

    target: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    blocks: Mapping[tuple[str, str], Any]
    gradient_norm: float
    source_norm: float = 0.0
    dtype: str = "float32"

    def __getitem__(self, key: str | tuple[str, str]) -> Any:
        first, second = key if isinstance(key, tuple) and len(key) == 2 else (key, key)
        if (first, second) not in self.blocks:
            missing = str(first if first not in self.names else second)
            has = ", ".join(self.names[:8])
            said = f"no {missing!r} in this Hessian{closest(missing, self.names)}; it has {has}"
            raise in_one_line(KeyError(said))
        return self.blocks[first, second]

    def __repr__(self) -> str:
        return f"<Hessian of {self.target} by {', '.join(self.names[:6])}>"

    @property
    def size(self) -> int:
        """The number of rows of the matrix: the elements of all sources."""
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)

    @cached_property
    def matrix(self) -> np.ndarray[Any, Any] | None:
        """All blocks as one symmetric matrix in float64; ``None`` past 512 rows."""
        if self.size > MOST_ROWS:
            return None
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        rows = [
            np.concatenate(
                [
                    np.asarray(self.blocks[first, second]).astype(np.float64).reshape(height, width)
                    for second, width in zip(self.names, sizes, strict=True)
                ],
                axis=1,
            )
            for first, height in zip(self.names, sizes, strict=True)
        ]
        matrix = np.concatenate(rows, axis=0)
        symmetric: np.ndarray[Any, Any] = (matrix + matrix.T) / 2  # the halves differ by rounding only
        return symmetric

    @cached_property
    def eigenvalues(self) -> tuple[float, ...]:
        """The eigenvalues in ascending order, in float64; computed at the first access.

        Empty past 512 rows, and where the matrix is not finite.
        """
        if self.matrix is None or not np.isfinite(self.matrix).all():
            return ()
        return tuple(np.linalg.eigvalsh(self.matrix).tolist())

    @property
    def condition(self) -> float | None:
        """The largest absolute eigenvalue over the smallest; infinite for a singular matrix."""
        if not self.eigenvalues:
            return None
        magnitudes = np.abs(self.eigenvalues)
        least = float(magnitudes.min())
        return float(magnitudes.max()) / least if least > self._rounding else float("inf")

    @property
    def curvature(self) -> Curvature | None:
        """The signs of the eigenvalues; ``None`` where there are no eigenvalues."""
        if not self.eigenvalues:
            return None
        values = np.asarray(self.eigenvalues)
        zero = self._rounding
        if (values < -zero).any() and (values > zero).any():
            return Curvature.SADDLE
        if (np.abs(values) <= zero).any():
            return Curvature.SINGULAR
        return Curvature.MINIMUM if values[0] > 0 else Curvature.MAXIMUM

    @property
    def stationary(self) -> bool:
        """Whether the gradient is 0 but for rounding.

        A change of the sources in their last digit, of relative size epsilon, changes the gradient by at
        most the largest absolute eigenvalue times epsilon times the sources' norm.
        """
        return self.gradient_norm <= 4 * self._rounding * self.source_norm

    @property
    def verdict(self) -> str:
        """The verdict of the eigenvalues and the gradient together, in words; empty without eigenvalues."""
        curvature = self.curvature
        if curvature is None:
            return ""
        if not curvature.point:
            return curvature.sentence
        if self.stationary:
            return f"{curvature.point}: {curvature.matrix}, and the gradient is 0"
        norm = f"{self.gradient_norm:.3g}"
        norm = f"{float(norm):,.0f}" if 1e3 <= self.gradient_norm < 1e7 else norm
        return f"{curvature.matrix}, but no stationary point: the gradient's norm is {norm}"

    @property
    def _rounding(self) -> float:
        """The rounding error of the eigenvalues of a symmetric matrix.

        The size of the matrix times epsilon times the largest absolute eigenvalue (Golub and Van
        Loan, Matrix Computations, 8.1), with the epsilon of the dtype of the computation.
        """
        epsilon = _EPSILONS.get(self.dtype, 2.0**-52)
        return float(self.size * epsilon * np.abs(self.eigenvalues).max(initial=0.0))
