"""A document as text, within the columns of a terminal, or 80."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Curve, Document, HeatMap, Line, Table, Verdict, plain_text
from tape_magic.display.content.reduction import THEN_ZERO
from tape_magic.display.content.width import one_line, width, wrap
from tape_magic.display.text.columns import Layout, blocks, join_cells
from tape_magic.display.text.heat import heat_lines

WIDTH = 80
NARROWEST, WIDEST = 40, 120
"""The columns of a terminal that reports follow."""

_CURVE, _SHORTEST = 40, 8
"""The most and the fewest characters of a curve."""


def to_text(document: Document, columns: int = WIDTH) -> str:
    """Return the document as text, with the fields and the order of the HTML, in aligned columns.

    No line is wider than `columns`, but for figures that cannot be made narrower.
    """
    parts = [_RENDERERS[type(part)](part, columns) for part in document.parts]
    if document.footer:
        parts.append(_wrapped(document.footer, columns))
    return "\n".join(part for part in parts if part)


def terminal_columns() -> int | None:
    """Return the columns of the terminal, from 40 to 120; ``None`` where standard output is no terminal."""
    try:
        if not sys.stdout.isatty():
            return None
    except (AttributeError, ValueError):  # there is none, or it is closed
        return None
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, NARROWEST), WIDEST)


def _wrapped(parts: Sequence[str], columns: int, indent: str = "") -> str:
    """Return parts with dots between them; a part that fits on a line is not broken."""
    lines: list[str] = []
    texts = [one_line(part) for part in parts if part]
    for index, text in enumerate(texts):
        text += " ·" if index < len(texts) - 1 else ""
        if lines and width(lines[-1]) + 1 + width(text) <= columns:
            lines[-1] += f" {text}"
        else:
            first = f"{indent}  " if lines else indent
            lines += [
                (f"{indent}  " if i else first) + line
                for i, line in enumerate(wrap(text, columns - len(indent) - 2))
            ]
    return "\n".join(lines)


def _verdict(verdict: Verdict, columns: int) -> str:
    lines = [_wrapped([verdict.headline, *verdict.details], columns)]
    lines += [
        _wrapped([plain_text(sentence) for sentence in line.sentences], columns, "  ")
        for line in verdict.reasons
    ]
    return "\n".join(lines)


def _line(line: Line, columns: int) -> str:
    return _wrapped([plain_text(sentence) for sentence in line.sentences], columns)


def _curve(curve: Curve, columns: int) -> str:
    """Return a curve as a line of block characters between its start and its end."""
    heights = [math.log10(value) for value in curve.y] if curve.log else list(curve.y)
    start, end = numbers.pair(curve.first, curve.last)
    scale = f" from step {numbers.count(curve.steps)} on" if curve.unit == THEN_ZERO else ""
    if curve.log:
        scale += " (logarithmic)" if columns >= WIDTH or not scale else " (log)"
    room = columns - width(f"{start}  {end}{scale}")
    size = min(_CURVE, max(room, _SHORTEST), len(heights))
    picked = [heights[round(i * (len(heights) - 1) / max(size - 1, 1))] for i in range(size)]
    drawn = f"{start} {blocks(picked)} {end}{scale}"
    if curve.mark is None:
        return drawn
    at, text = curve.mark
    return f"{drawn}\n{' ' * (width(start) + 1 + round(at / (curve.steps or 1) * (size - 1)))}▲ {text}"


def _heat_map(heat: HeatMap, columns: int) -> str:
    return "\n".join(heat_lines(heat, columns))


def _table(table: Table, columns: int) -> str:
    if not table.rows:
        return ""
    shown = table.rows[: table.shown]
    layout = Layout(table.columns, shown, columns)
    lines = [join_cells(layout.head())]
    for row, cells in layout.lines():
        lines += map(join_cells, cells)
        lines += [
            _wrapped([plain_text(sentence) for sentence in row[i].sentences], columns, "    ")
            for i in layout.below
            if row[i].sentences
        ]
    folded = len(table.rows) - len(shown)
    return "\n".join([*lines, *([f"… {folded:,} more"] if folded else [])])


_RENDERERS: dict[type, Callable[[Any, int], str]] = {
    Verdict: _verdict,
    Line: _line,
    Curve: _curve,
    HeatMap: _heat_map,
    Table: _table,
}
