"""A document as text, within 80 columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Curve, Document, HeatMap, Line, Table, Verdict, plain_text
from tape_magic.display.content.width import one_line, pad, width, wrap
from tape_magic.display.text.columns import Layout, blocks, join_cells
from tape_magic.display.text.heat import heat_lines

WIDTH = 80


def to_text(document: Document) -> str:
    """Return the document as text, with the fields and the order of the HTML, in aligned columns."""
    parts = [_RENDERERS[type(part)](part) for part in document.parts]
    if document.footer:
        parts.append(_wrapped(document.footer))
    return "\n".join(part for part in parts if part)


def _wrapped(parts: Sequence[str], indent: str = "") -> str:
    """Return parts with dots between them; a part that fits on a line is not broken."""
    lines: list[str] = []
    texts = [one_line(part) for part in parts if part]
    for index, text in enumerate(texts):
        text += " ·" if index < len(texts) - 1 else ""
        if lines and width(lines[-1]) + 1 + width(text) <= WIDTH:
            lines[-1] += f" {text}"
        else:
            first = f"{indent}  " if lines else indent
            lines += [
                (f"{indent}  " if i else first) + line
                for i, line in enumerate(wrap(text, WIDTH - len(indent) - 2))
            ]
    return "\n".join(lines)


def _verdict(verdict: Verdict) -> str:
    lines = [_wrapped([verdict.headline, *verdict.details])]
    lines += [
        _wrapped([plain_text(sentence) for sentence in line.sentences], "  ") for line in verdict.reasons
    ]
    return "\n".join(lines)


def _line(line: Line) -> str:
    return _wrapped([plain_text(sentence) for sentence in line.sentences])


def _curve(curve: Curve) -> str:
    """Return a curve as a line of block characters between its start and its end; two below each other."""
    own, other = ([math.log10(y) if curve.log else y for y in ys] for ys in (curve.y, curve.other[1]))
    scale = " (logarithmic)" if curve.log else ""
    first = _drawn(own, other, curve.first, curve.last)
    if not curve.other_name:
        return " ".join(first) + scale
    second = _drawn(other, own, curve.other[1][0], curve.other[1][-1])
    rows = ("training", *first), (curve.other_name, *second)
    wide = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{pad(name, wide[0])}  {pad(start, wide[1], right=True)} {pad(line, wide[2])} {end}{scale}"
        for name, start, line, end in rows
    )


def _drawn(
    heights: Sequence[float], beside: Sequence[float], first: float, last: float
) -> tuple[str, str, str]:
    """Return the start of a curve, the curve in block characters, and its end."""
    size = min(40, len(heights))
    picked = [heights[round(i * (len(heights) - 1) / max(size - 1, 1))] for i in range(size)]
    start, end = numbers.pair(first, last)
    return start, blocks(picked, beside), end


def _heat_map(heat: HeatMap) -> str:
    return "\n".join(heat_lines(heat, WIDTH))


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    shown = table.rows[: table.shown]
    layout = Layout(table.columns, shown, WIDTH)
    lines = [join_cells(layout.head())]
    for row, cells in layout.lines():
        lines += map(join_cells, cells)
        lines += [
            _wrapped([plain_text(sentence) for sentence in row[i].sentences], "    ")
            for i in layout.below
            if row[i].sentences
        ]
    folded = len(table.rows) - len(shown)
    return "\n".join([*lines, *([f"… {folded:,} more"] if folded else [])])


_RENDERERS: dict[type, Callable[[Any], str]] = {
    Verdict: _verdict,
    Line: _line,
    Curve: _curve,
    HeatMap: _heat_map,
    Table: _table,
}
