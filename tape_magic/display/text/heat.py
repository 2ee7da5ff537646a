"""A heat map as text: numbers for a small matrix, shades for a large one."""

from __future__ import annotations

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import HeatMap, Span
from tape_magic.display.content.reduction import reduce_matrix
from tape_magic.display.content.width import LABEL, one_line, pad, width
from tape_magic.display.text.columns import matrix_lines

_SHADES = "░▒▓█"
_NAMES = 12
"""The columns for the names beside the cells."""


def heat_lines(heat: HeatMap, columns: int) -> list[str]:
    """Return the lines of a matrix, at most `columns` wide."""
    if heat.written:
        lines = _written(heat)
        if max(map(width, lines)) <= columns:
            return lines
    return _shaded(heat, (columns - _NAMES - 2) // 2)


def _written(heat: HeatMap) -> list[str]:
    rows, across = heat.labels
    if not rows:
        return list(matrix_lines(heat.written))
    names = [one_line(name, LABEL, middle=True) for name in rows]
    room = max(map(width, names))
    lines = matrix_lines([[one_line(name, _NAMES, middle=True) for name in across], *heat.written])
    return [f"{pad(name, room)}  {line}" for name, line in zip([" " * room, *names], lines, strict=True)]


def _shaded(heat: HeatMap, cells: int) -> list[str]:
    """Return lines with two characters for each cell: its sign, and a shade for each quarter of the scale."""
    matrix = reduce_matrix(heat.cells, cells)
    names = _beside(heat.rows, heat.shape[0], len(matrix))
    room = max(map(width, names))
    gap = "  " if room else ""
    lines = [
        pad(name, room) + gap + "".join(_cell(float(value), heat.scale) for value in row)
        for name, row in zip(names, matrix, strict=True)
    ]
    words = [f"█ up to {numbers.rounded(heat.scale, 3)}", "▓ ▒ ░ a quarter less each", "− negative", "· zero"]
    if not np.isfinite(matrix).all():
        words.append("! not finite")
    return [*(line.rstrip() for line in lines), ", ".join(words)]


def _beside(spans: tuple[Span, ...], size: int, cells: int) -> list[str]:
    """Return the names beside the lines: a block's name at its first line."""
    names = [""] * cells
    for span in spans:
        place = span.start * cells // max(size, 1)
        if place < cells and not names[place]:
            names[place] = one_line(span.name, _NAMES, middle=True)
    return names


def _cell(value: float, scale: float) -> str:
    if not np.isfinite(value):
        return " !"
    if value == 0 or scale == 0:
        return " ·"
    shade = _SHADES[min(int(len(_SHADES) * abs(value) / scale), len(_SHADES) - 1)]
    return f"{'−' if value < 0 else ' '}{shade}"
