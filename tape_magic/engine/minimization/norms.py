"""Norms of values of any dtype and size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]


def norm_of(value: Any) -> float:
    """Return the Euclidean norm, in float64, since the squares of half precision overflow."""
    flat = np.asarray(value.numpy()).reshape(-1)
    pieces = [flat[at : at + _PIECE] for at in range(0, flat.size, _PIECE)]
    norm = math.sqrt(_sum_of_squares(pieces, 1.0))
    if 1e-140 < norm < math.inf or not flat.size:
        return norm
    # The squares of large numbers are infinite, and those of small ones zero: scale first.
    largest = float(np.max([np.abs(piece.astype(np.float64)).max() for piece in pieces]))
    return largest * math.sqrt(_sum_of_squares(pieces, largest)) if 0 < largest < math.inf else largest


_PIECE = 1 << 16


def _sum_of_squares(pieces: Sequence[_Array], scale: float) -> float:
    with np.errstate(over="ignore"):
        # NumPy's own sum, since BLAS would wake its threads for so little.
        return float(sum(np.square(piece.astype(np.float64) / scale).sum() for piece in pieces))
