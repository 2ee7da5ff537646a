"""A heat map as a picture: one pixel of an embedded PNG for each cell, with names and a scale around it.

Magnitude is opacity, so that 0 has the page's own colour, be it light or dark.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT, GREY, SECOND, HeatMap, Span
from tape_magic.display.content.width import one_line, width
from tape_magic.display.pictures.png import Colour, png
from tape_magic.display.pictures.svg import (
    LETTER,
    LINE,
    PICTURE,
    drawing,
    hairlines,
    image,
    label,
    labels,
)

_LEVELS = 100
_CELL, _WIDE, _HIGH, _THIN = 24, 400, 300, 24
"""The most pixels of a cell and of the whole, and the least pixels of one side."""

_NAME = 16
_SCALE_HEIGHT = 110


def heat_picture(heat: HeatMap) -> str:
    """Return the matrix with the names of its blocks and the scale of its colours."""
    rows, columns = heat.cells.shape
    cell = min(_CELL, _WIDE / columns, _HIGH / rows)
    wide, high = max(_THIN, round(cell * columns)), max(_THIN, round(cell * rows))
    names = [one_line(span.name, _NAME, middle=True) for span in heat.rows]
    left = round(8 + LETTER * max(map(width, names))) if names else 1
    top = 18 if heat.columns else 8
    scale, scale_width = _scale(heat, left + wide + 18, top)
    body = (
        f'<image x="{left}" y="{top}" width="{wide}" height="{high}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{_cells(heat)}"/>'
        f'<rect x="{left - 0.5}" y="{top - 0.5}" width="{wide + 1}" height="{high + 1}" fill="none" '
        f'stroke="{LINE}"/>'
        f"{_block_lines(heat, left, top, wide, high)}"
        f"{labels(*_row_labels(heat, names, left, top, high), *_column_labels(heat, left, top, wide))}{scale}"
    )
    size = left + wide + 18 + scale_width, top + max(high, _SCALE_HEIGHT + 24) + 6
    return image(drawing(*size, body), *size, in_words(heat), PICTURE)


def in_words(heat: HeatMap) -> str:
    """Return the description of the picture for a screen reader."""
    limit = numbers.rounded(heat.scale, 3)
    blocks = f", by {', '.join(span.name for span in heat.rows)}" if heat.rows else ""
    return f"{heat.name}, {numbers.shape(heat.shape)}{blocks}, from {numbers.MINUS}{limit} to {limit}"


def tint(value: float, scale: float) -> str:
    """Return the colour of a cell, light enough that a number on it is readable."""
    if not np.isfinite(value):
        return "rgba(138,143,152,0.5)"
    red, green, blue = _rgb(ACCENT if value > 0 else SECOND)
    share = abs(value) / scale if scale else 0.0
    return f"rgba({red},{green},{blue},{0.6 * share:.2g})"


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _cells(heat: HeatMap) -> str:
    """Return the cells as a PNG in base64.

    The palette runs from the least value over 0 to the greatest, with the colour of NaN at its end.
    """
    finite = np.isfinite(heat.cells)
    shares = np.where(finite, heat.cells, 0.0) / (heat.scale or 1.0)
    places: np.ndarray[Any, Any] = np.rint(shares * _LEVELS) + _LEVELS
    palette: list[Colour] = [
        (*_rgb(ACCENT if level > 0 else SECOND), round(255 * abs(level) / _LEVELS))
        for level in range(-_LEVELS, _LEVELS + 1)
    ]
    places[~finite] = len(palette)
    return base64.b64encode(png(places.astype(np.uint8), [*palette, (*_rgb(GREY), 255)])).decode()


def _block_lines(heat: HeatMap, left: int, top: int, wide: int, high: int) -> str:
    """Return hairlines between neighbouring blocks."""
    rows, columns = heat.shape
    across = [top + high * span.start / rows for span in heat.rows if span.start]
    down = [left + wide * span.start / columns for span in heat.columns if span.start]
    return hairlines(*((left, y, left + wide, y) for y in across), *((x, top, x, top + high) for x in down))


def _row_labels(heat: HeatMap, names: list[str], left: int, top: int, high: int) -> list[str]:
    return [
        label(left - 6, top + high * (span.start + span.stop) / 2 / heat.shape[0] + 4, "end", name)
        for span, name in zip(heat.rows, names, strict=True)
        if _pixels(span, high, heat.shape[0]) >= 11
    ]


def _column_labels(heat: HeatMap, left: int, top: int, wide: int) -> list[str]:
    texts = []
    for span in heat.columns:
        room = int(_pixels(span, wide, heat.shape[1]) / LETTER)
        if room >= min(3, width(span.name)):
            x = left + wide * (span.start + span.stop) / 2 / heat.shape[1]
            texts.append(label(x, top - 6, "middle", one_line(span.name, min(room, _NAME), middle=True)))
    return texts


def _pixels(span: Span, pixels: int, elements: int) -> float:
    return pixels * (span.stop - span.start) / elements


def _scale(heat: HeatMap, x: int, top: int) -> tuple[str, int]:
    """Return the scale of colours from the greatest value to the least, and its width in pixels."""
    limit = numbers.rounded(heat.scale, 3)
    texts = [limit, "0", f"{numbers.MINUS}{limit}"] if heat.scale else ["0"]
    stops = ((0, ACCENT, 1), (0.5, ACCENT, 0), (0.5, SECOND, 0), (1, SECOND, 1))
    gradient = "".join(
        f'<stop offset="{offset}" stop-color="{colour}" stop-opacity="{opacity}"/>'
        for offset, colour, opacity in stops
    )
    body = (
        f'<linearGradient id="s" x2="0" y2="1">{gradient}</linearGradient>'
        f'<rect x="{x}" y="{top}" width="10" height="{_SCALE_HEIGHT}" fill="url(#s)" stroke="{LINE}"/>'
    )
    step = _SCALE_HEIGHT / 2
    drawn = [label(x + 16, top + 4 + step * i, "start", text) for i, text in enumerate(texts)]
    if not np.isfinite(heat.cells).all():
        y = top + _SCALE_HEIGHT + 10
        body += f'<rect x="{x}" y="{y}" width="10" height="10" fill="{GREY}"/>'
        drawn.append(label(x + 16, y + 9, "start", texts_not_finite := "not finite"))
        texts.append(texts_not_finite)
    return body + labels(*drawn), 20 + round(LETTER * max(map(width, texts)))
