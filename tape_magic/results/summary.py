"""An array in a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

SMALL = 6
"""Arrays of up to this many elements are shown whole."""

BINS = 24


@dataclass(frozen=True)
class Summary:
    """What a report says of an array without showing all of it.

    Attributes
    ----------
    shape, dtype
        Of the array; `dtype` by its name, such as ``float32``.
    values
        The elements, flat, when there are at most six; otherwise empty.
    norm
        The Euclidean norm of all elements, in float64.
    minimum, maximum
        Over the finite elements; ``None`` for complex arrays and where no element is finite.
    zeros
        Share of the elements that are exactly 0, from 0 to 1.
    nonfinite
        How many elements are NaN or infinite.
    histogram
        Counts of the finite elements (their absolute values when complex) in 24 equal bins from
        the least to the greatest; empty when they are all equal.
    """

    shape: tuple[int, ...]
    dtype: str
    values: tuple[complex, ...]
    norm: float
    minimum: float | None
    maximum: float | None
    zeros: float
    nonfinite: int
    histogram: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


def summarize(array: Any) -> Summary:
    """Summarize anything that NumPy reads as a numeric array.

    >>> summarize(np.array([0.0, 3.0, 4.0])).norm
    5.0
    """
    original = np.asarray(array)
    is_complex = np.iscomplexobj(original)
    # NumPy's sums in half precision overflow, and bfloat16 has no norm.
    wide = original.astype(np.complex128 if is_complex else np.float64).ravel()
    size = wide.size
    finite = wide[np.isfinite(wide)]
    magnitudes = np.abs(finite) if is_complex else finite
    spread = size > SMALL and finite.size > 0 and magnitudes.min() < magnitudes.max()
    return Summary(
        shape=original.shape,
        dtype=str(original.dtype),
        values=tuple(wide.tolist()) if size <= SMALL else (),
        norm=_norm(wide),
        minimum=None if is_complex or not finite.size else float(finite.min()),
        maximum=None if is_complex or not finite.size else float(finite.max()),
        zeros=float(np.count_nonzero(wide == 0)) / size if size else 0.0,
        nonfinite=size - finite.size,
        histogram=_histogram(magnitudes) if spread else (),
    )


def _norm(values: np.ndarray[Any, Any]) -> float:
    # Scaled, since the squares of large numbers are infinite and those of small ones zero.
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.linalg.norm(values / largest)) if 0 < largest < math.inf else largest


def _histogram(values: np.ndarray[Any, Any]) -> tuple[int, ...]:
    # Halved first: the width of a range such as -1e308 to 1e308 is infinite.
    halves = values / 2
    counts, _ = np.histogram(halves, bins=BINS, range=(halves.min(), halves.max()))
    return tuple(int(count) for count in counts)
