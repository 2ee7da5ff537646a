"""How a number of a batch follows from those of its pieces, told from one evaluation, whole and in pieces."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
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

    def shown(self, count: int) -> str:
        """Return the two numbers in words; the gradients differ where they look the same.

        >>> Told(Reduction.MEAN, False, 3.05, 2.4).shown(2)
        '3.05 whole, 2.4 in 2 parts'
        """
        whole, pieces = f"{self.whole:.4g}", f"{self.pieces:.4g}"
        return f"{whole} whole, {pieces} in {count} parts" if whole != pieces else "its gradients differ"


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


def cuts_of(rows: Sequence[bool], of_batch: Sequence[bool]) -> Iterator[Sequence[bool]]:
    """Yield which parts of a batch may be cut: all that have rows; then all but one, other than the first.

    A part may have as many rows as the batch by chance, such as a weight for each class.

    Parameters
    ----------
    rows, of_batch
        For each part, whether its spec has rows, and whether it has as many as the others in a batch.

    >>> list(cuts_of([True, True, False], [True, True, False]))
    [[True, True, False], [True, False, False]]
    """
    yield rows
    _, *others = [at for at, has in enumerate(rows) if has] or [0]
    for other in others:
        if of_batch[other]:
            yield [has and at != other for at, has in enumerate(rows)]


def kept_whole(labels: Iterable[str], rows: Iterable[bool], cut: Iterable[bool]) -> list[str]:
    """Return the labels of the parts of a batch that might have been cut, and are not."""
    return [label for label, has, is_cut in zip(labels, rows, cut, strict=True) if has > is_cut]


DRAWS = "each part draws random numbers of its own"

_CAUSES = {
    "moving_mean": "BatchNormalization normalises each part by itself, with synchronized=True, too",
    "seed_generator_state": DRAWS,
    "StateVar": DRAWS,
}
"""What a part does otherwise than the whole batch, by the name of a variable that it assigns.

The names are those of Keras 3.15 and of TensorFlow 2.21's ``tf.random.Generator``.
"""


def causes_of(written: Iterable[str]) -> list[str]:
    """Return what keeps numbers of parts from those of the whole, by the names of what a program assigns.

    >>> causes_of(["dropout/seed_generator_state:0", "count:0"])
    ['each part draws random numbers of its own']
    """
    names = list(written)
    found = (said for word, said in _CAUSES.items() if any(word in name for name in names))
    return list(dict.fromkeys(found))


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
