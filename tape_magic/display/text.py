"""A document as text, within 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tape_magic.display import numbers
from tape_magic.display.document import Curve, Document, Field, Table
from tape_magic.display.widths import clean, clip, pad, width, wrap

WIDTH = 80
_NAME, _LEAST = 24, 8
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


def _wrapped(parts: Sequence[str], indent: str = "") -> str:
    """Parts with dots between them; one that fits on a line stays whole."""
    lines: list[str] = []
    texts = [clean(part) for part in parts if part]
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


def blocks(values: Sequence[float]) -> str:
    """Heights as block characters, the least to the greatest.

    >>> blocks([0, 1, 2])
    '▁▅█'
    """
    low, high = min(values), max(values)
    # Halves, since the distance between -1.7e308 and 1.7e308 is infinite.
    height = high / 2 - low / 2
    shares = [(value / 2 - low / 2) / height if height else 0.0 for value in values]
    return "".join(_BLOCKS[round((len(_BLOCKS) - 1) * share)] for share in shares)


def _curve(curve: Curve) -> str:
    """A line of blocks: the loss, with its start and its end."""
    heights = [math.log10(value) for value in curve.y] if curve.log else list(curve.y)
    size = min(40, len(heights))
    picked = [heights[round(i * (len(heights) - 1) / max(size - 1, 1))] for i in range(size)]
    start, end = numbers.pair(curve.first, curve.last)
    return f"{start} {blocks(picked)} {end}{' (logarithmic)' if curve.log else ''}"


def _table(table: Table) -> str:
    shown = table.rows[: table.shown]
    columns = list(enumerate(table.columns))
    texts = [[clean(_text(field)) for field in row] for row in shown]
    heads = [clean(column.heading) for column in table.columns]
    widths = [max(width(row[i]) for row in [heads, *texts]) for i, _ in columns]
    used = [i for i, _ in columns if widths[i]]
    below = [i for i, column in columns if column.prose] if _total(widths, used) > WIDTH else []
    used = [i for i in used if i not in below]
    _narrow(widths, used, [any(row[i].code for row in shown) for i, _ in columns])
    lines = []
    for row in [heads, *texts]:
        cells = [_cell(row[i], widths[i], table.columns[i].right, code=i == used[0]) for i in used]
        lines.append("  ".join(cells).rstrip())
        lines += [_wrapped(row[i].split(" · "), "    ") for i in below if row[i]]
    folded = len(table.rows) - len(shown)
    return "\n".join([*lines, *([f"… {folded:,} more"] if folded else [])])


def _total(widths: Sequence[int], used: Sequence[int]) -> int:
    return sum(widths[i] for i in used) + 2 * (len(used) - 1)


def _narrow(widths: list[int], used: Sequence[int], code: Sequence[bool]) -> None:
    """Narrow the columns of names first, down to what still tells, and then the widest."""
    while _total(widths, used) > WIDTH:
        names = [i for i in used if code[i] and widths[i] > _NAME]
        widest = max(names or used, key=lambda i: widths[i])
        if widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def _cell(text: str, columns: int, right: bool, *, code: bool) -> str:
    return pad(clip(text, columns, middle=code), columns, right=right)


def _text(field: Field) -> str:
    if field.strip:
        # Two bins a character, so that a histogram takes 12 columns.
        pairs = [float(sum(field.strip[i : i + 2])) for i in range(0, len(field.strip), 2)]
        return blocks([0.0, *pairs])[1:]
    if field.bar is not None:
        return "█" * round(10 * field.bar) or ("▏" if field.bar else "")
    return f"{field.text} {field.aside}".rstrip()
