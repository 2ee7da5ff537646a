"""The means of a run over data, summed up as its steps come: the history itself is thinned later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.results.epochs import Epochs, shown_means

STRETCHES, FEWEST = 16, 4
"""The most stretches of a run that has not finished its second epoch, and the fewest steps of one."""

_FINE = 4096
"""The most pieces that stretches are put together from."""

_BACK = 2
"""So many of the last steps can be taken back."""

_STEP, _EPOCH, _INDEX, _ROWS = range(4)
"""The columns of a step before its values: its number, the epoch and place of its batch, and the rows."""

_ID, _END, _LAST, _WEIGHT = range(4)
"""The columns of a group of steps before its sums: number, steps at its end, last place, rows."""

_Array = np.ndarray[Any, Any]


class RunningMeans:
    """Sums up the steps of a run over data, by epochs, and by pieces of equal length while epochs are few.

    Steps are added in float64 and one after the other, so that the means are the same bits wherever the
    chunks of a run end, and wherever it was cut and resumed.

    Parameters
    ----------
    names
        What is tracked beside the loss.
    steps_per_epoch
        Batches in an epoch; ``None`` where only its end tells.

    Attributes
    ----------
    over
        Whether the data are over, so that the last epoch is finished.
    """

    def __init__(self, names: Sequence[str], steps_per_epoch: int | None) -> None:
        self._names, self._length = names, steps_per_epoch
        # Both kinds of rows have four columns before the values.
        self._epochs, self._pieces, self._last = (np.zeros((0, 5 + len(names))) for _ in range(3))
        self.over = False

    def extend(self, steps: _Array, places: _Array, values: _Array) -> None:
        """Add some steps.

        Parameters
        ----------
        steps
            Their numbers; the same and later steps are replaced.
        places
            The epoch of each batch, its place in it, and its rows, (steps, 3).
        values
            The loss and what is tracked, (steps, 1 + names).
        """
        if not len(steps):
            return
        self.drop_from(int(steps[0]))
        rows = np.column_stack([steps, places, values]).astype(np.float64)
        if steps[0] != self._end:
            # A run that went back, or goes on from one that kept no sums, begins them with its next epoch.
            first = np.flatnonzero(rows[:, _INDEX] == 0)
            rows = rows[first[0] if len(first) else len(rows) :]
        rows = np.concatenate([self._last, rows])
        settled, self._last = rows[:-_BACK], rows[-_BACK:]
        self._epochs, self._pieces = self._with(settled)

    def drop_from(self, step: int) -> None:
        """Forget a step and all after it; beyond the last two, whole epochs go."""
        if step < self._end:
            self.over = False
        self._last = self._last[self._last[:, _STEP] < step]
        if step < self._end:
            self._epochs, self._pieces = (one[one[:, _END] <= step] for one in (self._epochs, self._pieces))

    @property
    def _end(self) -> int:
        """The number of steps so far."""
        ends = self._last[-1:, _STEP] + 1, self._epochs[-1:, _END]
        return int(max(map(float, np.concatenate(ends)), default=0))

    @property
    def arrays(self) -> list[_Array]:
        """All sums, as :meth:`restore` takes them."""
        return [self._epochs, self._pieces, self._last]

    def restore(self, arrays: Sequence[_Array], columns: Sequence[int | None]) -> None:
        """Go on from what an earlier run summed up.

        `columns` has the place of each series there; ``None`` for one that only this run has, whose means
        are not known before its next epoch.
        """
        if arrays:
            self._epochs, self._pieces, self._last = (_picked(array, columns) for array in arrays)

    def shown(self) -> tuple[Epochs | None, Epochs | None]:
        """Return the means to show in numbers and in pictures; ``None`` where each is that of one step."""
        if self._length == 1:
            return None, None
        epochs, stretches = self.read()
        return shown_means(epochs), shown_means(stretches or epochs)

    def mean_at(self, step: int) -> float:
        """Return the mean of the epoch that ends at a step; an infinity where none does."""
        epochs, _ = self.read()
        ends = epochs.whole and len(epochs) and epochs.steps[-1] == step
        return float(epochs.loss[-1]) if ends else math.inf

    def read(self) -> tuple[Epochs, Epochs | None]:
        """Return the means of epochs, and the means of equal stretches where fewer than two are finished.

        Where none is finished, both are those of stretches.
        """
        groups, pieces = self._with(self._last)
        finished = len(groups)
        if finished and not self.over and groups[-1, _LAST] + 1 != self._length:
            finished -= 1  # the last one goes on
        epochs = _means(groups[:finished], groups[:finished, _ID] + 1, self._names)
        if finished > 1 or not len(pieces):
            return epochs, None
        stretches = _stretches(pieces)
        ones = np.ones(len(stretches))
        first = ones if self._length is None else (stretches[:, _END] - 1) // self._length + 1
        drawn = _means(stretches, first, self._names, whole=False)
        return (epochs if finished else drawn), drawn

    def _with(self, rows: _Array) -> tuple[_Array, _Array]:
        """Return the epochs and the pieces with more steps."""
        epochs, pieces = _added(self._epochs, rows[:, _EPOCH], rows), self._pieces
        if len(epochs) > 2:  # two are finished
            return epochs, pieces[:0]
        # The length of a piece follows from the number of steps, and not from where a chunk ends.
        width = _width(int(pieces[-1, _END]) if len(pieces) else 0)
        while len(rows):
            fitting = rows[:, _STEP] < _FINE * width
            pieces = _added(pieces, rows[fitting, _STEP] // width, rows[fitting])
            rows = rows[~fitting]
            if len(rows):
                width *= 2
                pieces = _joined(pieces, pieces[:, _ID] // 2)
        return epochs, pieces


def _width(steps: int) -> int:
    """Return the steps of a piece after some steps: the least power of two that there is room for."""
    return 1 << (max(steps - 1, 0) // _FINE).bit_length()


def _added(groups: _Array, ids: _Array, rows: _Array) -> _Array:
    """Return groups with steps added to those of some numbers, which never fall."""
    if not len(rows):
        return groups
    new = np.diff(ids, prepend=groups[-1, _ID] if len(groups) else -1) != 0
    place = len(groups) - 1 + np.cumsum(new)
    groups = np.concatenate([groups, np.zeros((np.count_nonzero(new), groups.shape[1]))])
    groups[place, _ID], groups[place, _END], groups[place, _LAST] = ids, rows[:, _STEP] + 1, rows[:, _INDEX]
    weights = rows[:, _ROWS]
    with np.errstate(over="ignore", invalid="ignore"):  # what is tracked may be anything
        for column, values in ((_WEIGHT, weights), *enumerate((rows[:, 4:] * weights[:, None]).T, 4)):
            np.add.at(groups[:, column], place, values)
    return groups


def _joined(groups: _Array, ids: _Array) -> _Array:
    """Return neighbouring groups of one number as one."""
    if not len(groups):
        return groups
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    ends = np.append(starts[1:], len(groups)) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(groups[:, _WEIGHT:], starts)
    return np.column_stack([ids[starts], groups[ends, _END], groups[ends, _LAST], sums])


def _stretches(pieces: _Array) -> _Array:
    """Return the pieces as stretches of a length."""
    number = len(pieces)
    steps = int(pieces[-1, _END])
    return _joined(pieces, np.arange(number) * min(STRETCHES, max(1, steps // FEWEST)) // number)


def _means(groups: _Array, epoch: _Array, names: Sequence[str], *, whole: bool = True) -> Epochs:
    with np.errstate(invalid="ignore"):  # batches without a row have no mean
        loss, *tracked = groups[:, 4:].T / groups[:, _WEIGHT]
    means = dict(zip(names, tracked, strict=True))
    return Epochs(epoch.astype(np.int64), groups[:, _END].astype(np.int64), loss, means, whole)


def _picked(rows: _Array, columns: Sequence[int | None]) -> _Array:
    """Return rows with some of their series, in an order; NaN for a series that they have not."""
    unknown = np.full(len(rows), np.nan)
    values = [unknown if column is None else rows[:, 4 + column] for column in columns]
    return np.column_stack([rows[:, :4], *values])
