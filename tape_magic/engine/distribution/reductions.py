"""How a number of a batch follows from those of its pieces, told from one evaluation, whole and in pieces."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-4
"""The relative difference that rounding in float32 explains; measured were 8e-6, for a convolution."""

LOW_PRECISION = 2e-2
"""The same for float16 and bfloat16."""


class Reduction(enum.Enum):
    """How a number of a batch follows from those of its pieces."""

    MEAN = "a mean over the rows"
    SUM = "a sum over the rows"


@dataclass(frozen=True)
class Told:
    """What an evaluation tells of one number.

    Attributes
    ----------
    reduction
        The reduction that fits better.
    fits
        Whether it fits up to rounding.
    whole, pieces
        The number of the batch, and what comes out of its pieces by that reduction.
    """

    reduction: Reduction
    fits: bool
    whole: float
    pieces: float


def reduction_of(
    whole: Sequence[Any], parts: Sequence[Sequence[Any]], rows: Sequence[int], *, low: bool = False
) -> Told:
    """Tell how arrays of a batch, the first of which is its number, follow from those of its pieces.

    Parameters
    ----------
    whole
        Arrays of the batch: the loss, and parts of its gradients, which tell where the loss is 0.
    parts
        The same arrays for each piece.
    rows
        The rows of each piece.
    low
        Whether they are computed in less than float32.

    Examples
    --------
    The squares of 1 and 3, their sum, and the sums of the pieces:

    >>> reduction_of([10.0], [[1.0], [9.0]], [1, 1]).reduction
    <Reduction.SUM: 'a sum over the rows'>
    >>> told = reduction_of([3.05], [[2.0], [2.8]], [1, 1])
    >>> told.reduction, told.fits, told.pieces
    (<Reduction.MEAN: 'a mean over the rows'>, False, 2.4)
    """
    flat, pieces = _flat(whole), np.stack([_flat(part) for part in parts])
    counts = np.asarray(rows, np.float64)
    weights = {Reduction.MEAN: counts / counts.sum(), Reduction.SUM: (counts > 0).astype(float)}
    combined = {reduction: weight @ pieces for reduction, weight in weights.items()}
    distances = {reduction: _distance(found, flat, pieces) for reduction, found in combined.items()}
    reduction = min(distances, key=lambda one: distances[one])  # the mean, if both fit
    fits = distances[reduction] <= (LOW_PRECISION if low else TOLERANCE)
    return Told(reduction, fits, float(flat[0]), float(combined[reduction][0]))


def _flat(arrays: Sequence[Any]) -> Any:
    return np.concatenate([np.ravel(np.asarray(array, np.float64)) for array in arrays])


def _distance(found: Any, whole: Any, pieces: Any) -> float:
    """Return the larger of the relative distances of the number, which is the first, and of the gradients."""
    distances = [0.0]
    for part in (slice(0, 1), slice(1, None)):
        size = max(np.linalg.norm(whole[part]), *(np.linalg.norm(piece[part]) for piece in pieces))
        if size > 0:
            distances.append(float(np.linalg.norm(found[part] - whole[part]) / size))
    return max(distances)
