"""A document as text, within 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from tape_magic.display import numbers
from tape_magic.display.document import Curve, Document, Field, Table
from tape_magic.display.widths import clean, clip, pad, width

WIDTH = 80
_BLOCKS = "▁▂▃▄▅▆▇█"


def render(document: Document) -> str:
    """The same fields in the same order as the HTML, aligned."""
    parts: list[str] = []
    if document.verdict is not None:
        parts.append(_wrapped([document.verdict.headline, *document.verdict.details]))
    if document.curve is not None:
        parts.append(_curve(document.curve))
    if document.table is not None and document.table.rows:
        parts.append(_table(document.table))
    parts += [_wrapped([note]) for note in document.notes]
    if document.footer:
        parts.append(_wrapped(document.footer))
    return "\n".join(parts)


def _wrapped(parts: Sequence[str]) -> str:
    text = " · ".join(clean(part) for part in parts if part)
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)) or ""


def blocks(values: Sequence[float]) -> str:
    """Heights as block characters, the least to the greatest.

    >>> blocks([0, 1, 2])
    '▁▅█'
    """
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high / 2 - low / 2) / 2 if high > low else 0.0
    return "".join(_BLOCKS[round((value / 2 - low / 2) * 2 * scale)] for value in values)


def _curve(curve: Curve) -> str:
    """A line of blocks: the loss, with its start and its end."""
    heights = [math.log10(value) for value in curve.y] if curve.log else list(curve.y)
    size = min(40, len(heights))
    picked = [heights[round(i * (len(heights) - 1) / max(size - 1, 1))] for i in range(size)]
    start, end = numbers.pair(curve.first, curve.last)
    return f"{start} {blocks(picked)} {end}{' (logarithmic)' if curve.log else ''}"


def _table(table: Table) -> str:
    shown = table.rows[: table.shown]
    texts = [[clean(_text(field)) for field in row] for row in shown]
    heads = [clean(column.heading) for column in table.columns]
    widths = [max(width(row[i]) for row in [heads, *texts]) for i in range(len(heads))]
    # What is too wide for the line is cut in the widest column: names stay whole if values can give.
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    used = [i for i in range(len(heads)) if widths[i]]
    lines = [
        "  ".join(pad(clip(row[i], widths[i]), widths[i], right=table.columns[i].right) for i in used).rstrip()
        for row in [heads, *texts]
    ]
    folded = len(table.rows) - len(shown)
    return "\n".join([*lines, *([f"… {folded:,} more"] if folded else [])])


def _text(field: Field) -> str:
    if field.strip:
        return blocks([float(height) for height in field.strip[::2]])
    if field.bar is not None:
        return "█" * round(10 * field.bar) or "▏"
    return f"{field.text} {field.aside}".rstrip()
