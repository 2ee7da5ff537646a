"""Curves and matrices reduced to as many points and cells as a picture shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Band, Curve, HeatMap, Span

CURVE_POINTS = 260


VALIDATION = "validation"
"""The name of the second curve of a run."""

_Array = np.ndarray[Any, Any]
_NONE: _Array = np.zeros(0)


def loss_curve(
    name: str,
    steps: _Array,
    history: _Array,
    points: int,
    means: tuple[_Array, _Array, str] | None = None,
    other: tuple[_Array, _Array] | None = None,
    *,
    to_zero: bool = False,
) -> Curve | None:
    """Return the curve of losses, logarithmic where they span two decades; ``None`` for a flat one.

    With steps, values and a name of `means`, the curve goes through these, and the losses are pale behind it.
    With `to_zero`, the curve ends where the loss is exactly 0 from some step on, and its axis says so.
    With steps and values of an `other` curve, such as the validation, that is beside it.
    """
    reached = _up_to_zero(history) if to_zero and means is None else len(history)
    ended = reached < len(history)
    steps, history = steps[:reached], history[:reached]
    x, y = decimate(steps.astype(float), history, points)
    x2, y2 = (_NONE, _NONE) if other is None else decimate(other[0].astype(float), other[1], points)
    every = np.concatenate([y, y2])
    if len(y) < 3 or every.min() == every.max():
        return None
    # A logarithmic axis leaves the 0 out.
    positive = every[every > 0]
    most = (every >= 0).all() and positive.size > every.size / 2
    log = bool(most and positive.max() / positive.min() >= _DECADES)
    first, last, pale, of = history[0], history[-1], _NO_BAND, ""
    if means is not None and (np.isfinite(means[1]) & ((means[1] > 0) | (not log))).any():
        pale = band(steps.astype(float), history, positive=log)
        x, y = decimate(*means[:2], points)
        first, last, of = y[0], y[-1], means[2]
    if log:
        x, y, x2, y2 = x[y > 0], y[y > 0], x2[y2 > 0], y2[y2 > 0]
    return Curve(
        tuple(x.tolist()),
        tuple(y.tolist()),
        log,
        THEN_ZERO if ended else "steps",
        name,
        first,
        last,
        int(steps[-1]),
        pale,
        of,
        other=(tuple(x2.tolist()), tuple(y2.tolist())),
        other_name=VALIDATION if len(y2) else "",
    )


THEN_ZERO = "steps, then 0"
"""The unit below the axis of a curve that ends where the loss is 0 for good."""

_DECADES = 1e2
"""The ratio of the greatest to the least loss from which on an axis is logarithmic."""


def _up_to_zero(history: _Array) -> int:
    """Return the number of losses up to the first of those that are exactly 0 until the end."""
    other = np.flatnonzero(history != 0)
    return min(int(other[-1]) + 2, len(history)) if other.size else len(history)


_NO_BAND: Band = ((), (), ())

_FEW, _STRETCHES, _LEAST = 150, 100, 4
"""More values than this are drawn as a band, of at most so many stretches, each of so many values or more."""


def band(x: _Array, y: _Array, *, positive: bool) -> Band:
    """Return the least and the greatest value of each of some equal stretches; each value where they are few.

    With `positive`, all others are left out.
    """
    kept = np.isfinite(y) & ((y > 0) | (not positive))
    x, y = x[kept], y[kept]
    if len(y) > _FEW:
        place = ((x - x[0]) / (x[-1] - x[0]) * min(_STRETCHES, len(y) // _LEAST)).astype(int)
        starts = np.flatnonzero(np.diff(place[:-1], prepend=-1))  # the last value is within the last stretch
        low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
        # Each stands in the middle of its stretch, and those at the ends at the ends.
        ends = x[0], x[-1]
        x = (x[starts] + np.append(x[starts[1:]], x[-1])) / 2
        x[0], x[-1] = ends
    else:
        low = high = y
    return tuple(x.tolist()), tuple(low.tolist()), tuple(high.tolist())


def decimate(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], points: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return at most about `points` points, among them the least and the greatest of each stretch."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(y) <= points:
        return x, y
    # The stretches have two lengths; those of one length are the rows of a matrix, the longer ones first.
    stretches = points // 2
    length, longer = divmod(len(y), stretches)
    split = longer * (length + 1)
    blocks = y[:split].reshape(longer, length + 1), y[split:].reshape(stretches - longer, length)
    keep = [np.array([0, len(y) - 1])]
    for start, rows in zip((0, split), blocks, strict=True):
        firsts = start + np.arange(len(rows)) * rows.shape[1]
        keep += [firsts + rows.argmin(axis=1), firsts + rows.argmax(axis=1)]
    index = np.unique(np.concatenate(keep))
    return x[index], y[index]


WRITTEN = 6
"""The most rows and columns of a matrix whose elements are written out."""

CELLS = 128
"""The most rows and columns of cells."""


def heat_map(
    matrix: np.ndarray[Any, Any],
    name: str,
    rows: Sequence[Span] = (),
    columns: Sequence[Span] = (),
    labels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> HeatMap:
    """Return the heat map of a matrix, or of the magnitudes of a complex one.

    `labels` are the names of each row and each column, used if the elements are written out.
    """
    cells = reduce_matrix(matrix, CELLS)
    finite = cells[np.isfinite(cells)]
    small = max(matrix.shape) <= WRITTEN
    written = tuple(tuple(numbers.number(x, 3) for x in row) for row in matrix.tolist()) if small else ()
    return HeatMap(
        cells,
        (matrix.shape[0], matrix.shape[1]),
        float(np.abs(finite).max(initial=0.0)),
        tuple(rows),
        tuple(columns),
        name,
        written,
        labels if small else ((), ()),
    )


def reduce_matrix(matrix: np.ndarray[Any, Any], cells: int) -> np.ndarray[Any, Any]:
    """Return at most `cells` rows and columns of cells, each the element of the greatest magnitude below it.

    A cell with an element that is not finite is NaN. A complex matrix is reduced to its magnitudes.

    >>> reduce_matrix(np.array([[1.0, -3.0], [2.0, 0.0]]), 1).tolist()
    [[-3.0]]
    """
    rows, columns = (math.ceil(size / cells) for size in matrix.shape)
    # One row of cells at a time: a second copy of a large matrix in float64 may not fit into memory.
    bands = (matrix[start : start + rows] for start in range(0, len(matrix), rows))
    return np.stack([_band(band, columns) for band in bands])


def _band(band: np.ndarray[Any, Any], columns: int) -> np.ndarray[Any, Any]:
    """Return one row of cells."""
    values = np.abs(band) if np.iscomplexobj(band) else band
    starts = np.arange(0, band.shape[1], columns)
    least = np.minimum.reduceat(values.min(axis=0), starts).astype(np.float64)
    greatest = np.maximum.reduceat(values.max(axis=0), starts).astype(np.float64)
    strongest = np.where(-least > greatest, least, greatest)
    return np.where(np.isfinite(least) & np.isfinite(greatest), strongest, np.nan)
