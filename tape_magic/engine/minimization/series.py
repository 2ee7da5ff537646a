"""The values of a run's steps, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np

EXACT = 10_000
"""Every step up to this one keeps its value."""

THINNED = 10_000
"""The most values that are kept of all later steps."""

_Array = np.ndarray[Any, Any]


class Series:
    """One number a step: each of the first steps, then the least and the greatest of each stretch.

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
        """Add the values of later steps, in their order."""
        self.steps = np.concatenate([self.steps, steps.astype(np.int64)])
        self.values = np.concatenate([self.values, values.astype(np.float64)])
        if len(self.steps) > EXACT + 1 + 2 * THINNED:
            self._thin()

    def drop_from(self, step: int) -> None:
        """Forget a step and all after it."""
        count = int(np.searchsorted(self.steps, step))
        self.steps, self.values = self.steps[:count], self.values[:count]

    def thinned(self) -> tuple[_Array, _Array]:
        """Return steps and values, at most :data:`EXACT` + 1 + :data:`THINNED` of them."""
        if len(self.steps) > EXACT + 1 + THINNED:
            self._thin()
        return self.steps, self.values

    def _thin(self) -> None:
        head = int(np.searchsorted(self.steps, EXACT, side="right"))
        steps, values = self.steps[head:], self.values[head:]
        # Two values of each stretch stay, and the last value. A stretch grows only where there are too many:
        # the values since the last time are denser than the thinned ones before.
        keep = _extremes(steps // self._width, values)
        while len(keep) > THINNED:
            self._width *= 2
            keep = _extremes(steps // self._width, values)
        steps, values = steps[keep], values[keep]
        self.steps = np.concatenate([self.steps[:head], steps])
        self.values = np.concatenate([self.values[:head], values])


def _extremes(stretch: _Array, values: _Array) -> _Array:
    """Return the places of the first least and first greatest value of each stretch, and the last place."""
    starts = np.flatnonzero(np.diff(stretch, prepend=stretch[0] - 1))
    counts = np.diff(np.append(starts, len(stretch)))
    keep = {len(stretch) - 1}
    for extreme in (np.minimum, np.maximum):
        least = np.repeat(extreme.reduceat(values, starts), counts)
        places = np.flatnonzero(values == least)
        keep.update(places[np.unique(stretch[places], return_index=True)[1]].tolist())
    return np.array(sorted(keep))
