"""A document as text, within 80 columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Curve, Document, HeatMap, Line, Table, Verdict, spoken
from tape_magic.display.content.width import shown, width, wrap
from tape_magic.display.text.columns import Layout, blocks, joined
from tape_magic.display.text.heat import heat_lines

WIDTH = 80


def to_text(document: Document) -> str:
    """The same fields in the same order as the HTML, aligned."""
    parts = [_RENDERERS[type(part)](part) for part in document.parts]
    if document.footer:
        parts.append(_wrapped(document.footer))
    return "\n".join(part for part in parts if part)


def _wrapped(parts: Sequence[str], indent: str = "") -> str:
    """Parts with dots between them; one that fits on a line stays whole."""
    lines: list[str] = []
    texts = [shown(part) for part in parts if part]
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
    lines += [_wrapped([spoken(sentence) for sentence in line.sentences], "  ") for line in verdict.reasons]
    return "\n".join(lines)


def _line(line: Line) -> str:
    return _wrapped([spoken(sentence) for sentence in line.sentences])


def _curve(curve: Curve) -> str:
    """A line of blocks: the loss, with its start and its end."""
    heights = [math.log10(value) for value in curve.y] if curve.log else list(curve.y)
    size = min(40, len(heights))
    picked = [heights[round(i * (len(heights) - 1) / max(size - 1, 1))] for i in range(size)]
    start, end = numbers.pair(curve.first, curve.last)
    return f"{start} {blocks(picked)} {end}{' (logarithmic)' if curve.log else ''}"


def _heat_map(heat: HeatMap) -> str:
    return "\n".join(heat_lines(heat, WIDTH))


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    shown = table.rows[: table.shown]
    layout = Layout(table.columns, shown, WIDTH)
    lines = [joined(layout.head())]
    for row, cells in layout.lines():
        lines += map(joined, cells)
        lines += [
            _wrapped([spoken(sentence) for sentence in row[i].sentences], "    ")
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
