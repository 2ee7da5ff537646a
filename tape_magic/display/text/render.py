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
from tape_magic.display.content.width import one_line, pad, width, wrap
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
    """Return a curve as a line of block characters between its start and its end; two below each other."""
    own, other = ([math.log10(y) if curve.log else y for y in ys] for ys in (curve.y, curve.other[1]))
    scale = f" from step {numbers.count(curve.steps)} on" if curve.unit == THEN_ZERO else ""
    if curve.log:
        scale += " (logarithmic)" if columns >= WIDTH or not scale else " (log)"
    ends = [numbers.pair(curve.first, curve.last)]
    if curve.other_name:
        ends.append(numbers.pair(curve.other[1][0], curve.other[1][-1]))
    names = ["training", curve.other_name] if curve.other_name else [""]
    taken = max(
        width(f"{name}  {start}  {end}{scale}") for name, (start, end) in zip(names, ends, strict=True)
    )
    size = min(_CURVE, max(columns - taken, _SHORTEST))
    drawn = [blocks(_picked(own, size), other)]
    if not curve.other_name:
        (start, end), (line,) = ends[0], drawn
        if curve.mark is None:
            return f"{start} {line} {end}{scale}"
        at, text = curve.mark
        place = width(start) + 1 + round(at / (curve.steps or 1) * (width(line) - 1))
        return f"{start} {line} {end}{scale}\n{' ' * place}▲ {text}"
    drawn.append(blocks(_picked(other, size), own))
    rows = [(name, start, line, end) for name, (start, end), line in zip(names, ends, drawn, strict=True)]
    wide = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{pad(name, wide[0])}  {pad(start, wide[1], right=True)} {pad(line, wide[2])} {end}{scale}"
        for name, start, line, end in rows
    )


def _picked(heights: Sequence[float], most: int) -> Sequence[float]:
    """Return at most so many of some heights, at equal distances."""
    size = min(most, len(heights))
    return [heights[round(i * (len(heights) - 1) / max(size - 1, 1))] for i in range(size)]


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
