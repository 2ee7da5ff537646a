"""A matrix → what of it is drawn: few cells, each the most telling of the elements that it covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display import numbers
from tape_magic.display.document import HeatMap, Span

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
