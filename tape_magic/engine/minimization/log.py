"""`RunLog`: the series of a run in bounded memory, the step that a display sees, the final result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.values.leaves import Leaf
from tape_magic.results.steps import Step

EXACT = 10_000
"""Every step up to this one is kept."""

THINNED = 10_000
"""Of all later steps, at most so many."""

_Array = np.ndarray[Any, Any]


class Series:
    """One number a step: all of the first steps, then the least and the greatest of each stretch.

    >>> series = Series()
    >>> series.extend(np.arange(3), np.array([4.0, 1.0, 2.0]))
    >>> series.steps.tolist(), series.values.tolist()
    ([0, 1, 2], [4.0, 1.0, 2.0])
    """

    def __init__(self, steps: _Array | None = None, values: _Array | None = None) -> None:
        self.steps: _Array = np.zeros(0, np.int64) if steps is None else steps
        self.values: _Array = np.zeros(0) if values is None else values
        self._width = 1

    def __len__(self) -> int:
        return len(self.steps)

    def extend(self, steps: _Array, values: _Array) -> None:
        """Add what came at later steps, in their order."""
        self.steps = np.concatenate([self.steps, steps.astype(np.int64)])
        self.values = np.concatenate([self.values, values.astype(np.float64)])
        if len(self.steps) > EXACT + 1 + 2 * THINNED:
            self._thin()

    def drop_from(self, step: int) -> None:
        """Forget a step and all after it."""
        count = int(np.searchsorted(self.steps, step))
        self.steps, self.values = self.steps[:count], self.values[:count]

    def thinned(self) -> tuple[_Array, _Array]:
        """Steps and values, at most :data:`EXACT` + 1 + :data:`THINNED` of them."""
        if len(self.steps) > EXACT + 1 + THINNED:
            self._thin()
        return self.steps, self.values

    def _thin(self) -> None:
        head = int(np.searchsorted(self.steps, EXACT, side="right"))
        steps, values = self.steps[head:], self.values[head:]
        # Two of each stretch, and the last. Stretches grow only where those of now are too many: what has
        # come since the last time is denser than they are.
        keep = _extremes(steps // self._width, values)
        while len(keep) > THINNED:
            self._width *= 2
            keep = _extremes(steps // self._width, values)
        steps, values = steps[keep], values[keep]
        self.steps = np.concatenate([self.steps[:head], steps])
        self.values = np.concatenate([self.values[:head], values])


def _extremes(stretch: _Array, values: _Array) -> _Array:
    """The places of the first least and the first greatest value of each stretch, and the last place."""
    starts = np.flatnonzero(np.diff(stretch, prepend=stretch[0] - 1))
    counts = np.diff(np.append(starts, len(stretch)))
    keep = {len(stretch) - 1}
    for extreme in (np.minimum, np.maximum):
        least = np.repeat(extreme.reduceat(values, starts), counts)
        places = np.flatnonzero(values == least)
        keep.update(places[np.unique(stretch[places], return_index=True)[1]].tolist())
    return np.array(sorted(keep))


SMALL, SHOWN = 12, 8
"""A display shows the variables of so few elements, and of these so many."""


def array_of(value: Any) -> np.ndarray[Any, Any]:
    """A copy of what a tensor or variable holds."""
    return np.array(value.numpy())


def norm_of(value: Any) -> float:
    """The Euclidean norm, in float64, since the squares of half precision overflow."""
    array = array_of(value).astype(np.float64)
    with np.errstate(over="ignore"):
        # By NumPy's own sum: for so little, BLAS would wake its threads.
        norm = math.sqrt(np.square(array).sum())
    if 1e-140 < norm < math.inf or not array.size:
        return norm
    # Scaled, since the squares of large numbers are infinite and those of small ones zero.
    largest = float(np.abs(array).max())
    return largest * math.sqrt(np.square(array / largest).sum()) if 0 < largest < math.inf else largest


def watched(
    step: Step,
    loss_name: str,
    first_step: int,
    series: Sequence[Series],
    names: Sequence[str],
    leaves: Sequence[Leaf],
) -> Step:
    """The step with the history, the last value of what is tracked, and a way to read the variables."""
    loss, *tracked = series
    small = [leaf for leaf in leaves if math.prod(leaf.shape) <= SMALL][:SHOWN]
    return replace(
        step,
        loss_name=loss_name,
        first_step=first_step,
        tracked={name: float(one.values[-1]) for name, one in zip(names, tracked, strict=True) if len(one)},
        more_variables=len(leaves) - len(small),
        read_history=lambda: (loss.steps, loss.values),
        read_variables=lambda: {leaf.name: array_of(leaf.value) for leaf in small},
    )
