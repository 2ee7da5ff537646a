"""Curves and matrices reduced to what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Curve, HeatMap, Span

CURVE_POINTS = 300


def loss_curve(
    name: str, steps: np.ndarray[Any, Any], history: np.ndarray[Any, Any], points: int
) -> Curve | None:
    """The curve of losses, on a logarithmic axis where they span decades; nothing of a flat one."""
    x, y = decimated(steps.astype(float), history, points)
    if len(y) < 3 or y.min() == y.max():
        return None
    # A last exact 0 has no place on a logarithmic axis, and must not keep the curve from having one.
    positive = y[y > 0]
    log = bool((y >= 0).all() and positive.size > y.size / 2 and positive.max() / positive.min() >= 1e3)
    if log:
        x, y = x[y > 0], y[y > 0]
    return Curve(
        tuple(x.tolist()),
        tuple(y.tolist()),
        log,
        "steps",
        name,
        history[0],
        history[-1],
        int(steps[-1]),
    )


def decimated(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], points: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """At most about `points` points that keep the least and the greatest of each stretch."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(y) <= points:
        return x, y
    # Stretches of two lengths, the longer ones first, each kind as the rows of a matrix.
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
"""A matrix of up to so many rows and columns is written out."""

CELLS = 128
"""At most so many rows and columns are drawn."""


def heat_map(
    matrix: np.ndarray[Any, Any],
    name: str,
    rows: Sequence[Span] = (),
    columns: Sequence[Span] = (),
    labels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> HeatMap:
    """A heat map of a matrix; of a complex one, of its magnitudes.

    `labels` are of each row and each column, for a matrix that is written out.
    """
    cells = reduced(matrix, CELLS)
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


def reduced(matrix: np.ndarray[Any, Any], cells: int) -> np.ndarray[Any, Any]:
    """At most `cells` rows and columns; of the elements under a cell, the one of the greatest magnitude.

    A cell with an element that is not finite is NaN. Of a complex matrix, the magnitudes.

    >>> reduced(np.array([[1.0, -3.0], [2.0, 0.0]]), 1).tolist()
    [[-3.0]]
    """
    rows, columns = (math.ceil(size / cells) for size in matrix.shape)
    # A row of cells at a time, since a large matrix in float64 may not fit into memory a second time.
    bands = (matrix[start : start + rows] for start in range(0, len(matrix), rows))
    return np.stack([_band(band, columns) for band in bands])


def _band(band: np.ndarray[Any, Any], columns: int) -> np.ndarray[Any, Any]:
    """One row of cells."""
    values = np.abs(band) if np.iscomplexobj(band) else band
    starts = np.arange(0, band.shape[1], columns)
    least = np.minimum.reduceat(values.min(axis=0), starts).astype(np.float64)
    greatest = np.maximum.reduceat(values.max(axis=0), starts).astype(np.float64)
    strongest = np.where(-least > greatest, least, greatest)
    return np.where(np.isfinite(least) & np.isfinite(greatest), strongest, np.nan)
