"""The summary of an array: norm, range, share of zeros, histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

KEPT = 36
"""The most elements of an array whose values a summary holds: a matrix of 6 by 6."""

BINS = 24

_SPREAD = 6
"""The most elements of an array without a histogram."""

_PIECE = 1 << 16
"""The number of elements in one piece: as float64, they fit into a processor's cache."""

_SAFE_SQUARES = 1e-280, 1e280
"""The range of a sum of squares that neither overflow nor underflow has changed noticeably."""


@dataclass(frozen=True)
class Summary:
    """An array in a few numbers.

    Attributes
    ----------
    shape, dtype
        The shape and the dtype of the array; `dtype` by its name, such as ``float32``.
    values
        The elements, flat, when there are at most 36; otherwise empty.
    norm
        The Euclidean norm of all elements, in float64.
    minimum, maximum
        The range of the finite elements; ``None`` for complex arrays and where no element is finite.
    zeros
        The share of the elements that are exactly 0, from 0 to 1.
    nonfinite
        The number of elements that are NaN or infinite.
    histogram
        Counts of the finite elements (their absolute values when complex) in 24 equal bins from
        the least to the greatest; empty where all are equal, and for up to six elements.
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
        return math.prod(self.shape)


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """Return a value as an array; the rows that a lookup's sparse gradient names twice are summed."""
    if not hasattr(value, "indices"):
        return np.asarray(value)
    rows = np.asarray(value.values)
    dense = np.zeros(tuple(value.dense_shape.numpy()), rows.dtype)
    np.add.at(dense, np.asarray(value.indices), rows)
    return dense


def summarize(array: Any) -> Summary:
    """Return the summary of a numeric array, in two passes over pieces that fit into a cache.

    >>> summarize(np.array([0.0, 3.0, 4.0])).norm
    5.0
    """
    original = as_array(array)
    is_complex = np.iscomplexobj(original)
    flat = original.reshape(-1)
    size = flat.size
    extent = _extent(flat)
    known = extent.finite > 0 and not is_complex
    spread = size > _SPREAD and extent.finite > 0 and extent.least < extent.greatest
    return Summary(
        shape=original.shape,
        dtype=str(original.dtype),
        values=tuple(_wide(flat).tolist()) if size <= KEPT else (),
        norm=_norm(flat, extent),
        minimum=extent.least if known else None,
        maximum=extent.greatest if known else None,
        zeros=extent.zeros / size if size else 0.0,
        nonfinite=size - extent.finite,
        histogram=_histogram(flat, extent) if spread else (),
    )


@dataclass(frozen=True)
class _Extent:
    """The result of one pass; `least` and `greatest` are of the finite elements, or of their magnitudes."""

    least: float
    greatest: float
    squares: float
    zeros: int
    finite: int


def _wide(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # In half precision NumPy's sums overflow, and for bfloat16 there are none.
    return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64, copy=False)


def _pieces(flat: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the pieces in float64; complex numbers as their magnitudes."""
    for start in range(0, flat.size, _PIECE):
        piece = _wide(flat[start : start + _PIECE])
        yield np.abs(piece) if np.iscomplexobj(piece) else piece


def _extent(flat: np.ndarray[Any, Any]) -> _Extent:
    least, greatest, squares, zeros, finite = math.inf, -math.inf, 0.0, 0, 0
    for piece in _pieces(flat):
        squares += float(np.einsum("i,i", piece, piece))
        zeros += piece.size - int(np.count_nonzero(piece))
        low, high = float(piece.min()), float(piece.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            piece = piece[np.isfinite(piece)]
            if not piece.size:
                continue
            low, high = float(piece.min()), float(piece.max())
        finite += piece.size
        least, greatest = min(least, low), max(greatest, high)
    return _Extent(least, greatest, squares, zeros, finite)


def _norm(flat: np.ndarray[Any, Any], extent: _Extent) -> float:
    if extent.finite < flat.size:
        nan = any(bool(np.isnan(piece).any()) for piece in _pieces(flat))
        return math.nan if nan else math.inf
    low, high = _SAFE_SQUARES
    if low < extent.squares < high or not flat.size:
        return math.sqrt(extent.squares)
    # Scaled, since squares of large numbers are infinite, and squares of small numbers are zero.
    largest = max(-extent.least, extent.greatest)
    if not largest:
        return 0.0
    scaled = (piece / largest for piece in _pieces(flat))
    return largest * math.sqrt(sum(float(np.einsum("i,i", piece, piece)) for piece in scaled))


def _histogram(flat: np.ndarray[Any, Any], extent: _Extent) -> tuple[int, ...]:
    # Halved where the range is too wide for float64, as from -1e308 to 1e308.
    scale = 1.0 if math.isfinite(extent.greatest - extent.least) else 0.5
    least = extent.least * scale
    width = extent.greatest * scale - least
    counts = np.zeros(BINS, np.int64)
    for piece in _pieces(flat):
        finite = piece if extent.finite == flat.size else piece[np.isfinite(piece)]
        # Division comes first, since 24 over the width of a tiny range is infinite.
        places = (finite * scale - least) / width * BINS
        counts += np.bincount(np.minimum(places.astype(np.intp), BINS - 1), minlength=BINS)
    return tuple(counts.tolist())
