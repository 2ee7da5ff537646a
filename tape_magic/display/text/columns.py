"""A table as text in columns, for a terminal and for long lists in HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tape_magic.display.content.document import Column, Field, plain_text
from tape_magic.display.content.width import NAME, clip, one_line, pad, width

_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR = 10
_LINE = 16
"""The characters of a small curve."""

_GAP = "  "
_NAME, _SHORT, _LEAST = 24, 12, 8
"""The width to which names are narrowed first, and at last, and the least width of any column."""


def blocks(values: Sequence[float], beside: Sequence[float] = ()) -> str:
    """Return heights as block characters, scaled from the least to the greatest, those `beside` counted.

    >>> blocks([0, 1, 2])
    '▁▅█'
    """
    low, high = min(*values, *beside, math.inf), max(*values, *beside, -math.inf)
    # Halves, since the distance between -1.7e308 and 1.7e308 is infinite.
    height = high / 2 - low / 2
    shares = [(value / 2 - low / 2) / height if height else 0.0 for value in values]
    return "".join(_BLOCKS[round((len(_BLOCKS) - 1) * share)] for share in shares)


def field_lines(field: Field) -> tuple[str, ...]:
    """Return a field as lines of text."""
    if field.strip:
        # Two bins in each character, so that a histogram takes 12 columns.
        pairs = [float(sum(field.strip[i : i + 2])) for i in range(0, len(field.strip), 2)]
        return (blocks([0.0, *pairs])[1:],)
    if field.line:
        size = min(_LINE, len(field.line))
        places = [round(i * (len(field.line) - 1) / max(size - 1, 1)) for i in range(size)]
        return (blocks([field.line[place] for place in places]),)
    if field.bar is not None:
        whole, half = divmod(round(2 * _BAR * field.bar), 2)
        drawn = "━" * whole + "╸" * (half or bool(field.bar and not whole))
        behind = round(_BAR * (field.behind or 0.0)) - len(drawn)
        return (drawn + "╌" * behind,)
    if field.matrix:
        return matrix_lines(field.matrix)
    if field.sentences:
        return (" · ".join(one_line(plain_text(sentence)) for sentence in field.sentences),)
    text = one_line(field.text, NAME, middle=True) if field.code else one_line(field.text)
    return (f"{text} {one_line(field.aside)}".rstrip(),)


def matrix_lines(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a matrix as lines, its numbers aligned to the right in columns of their own widths."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return tuple(
        _GAP.join(pad(text, columns, right=True) for text, columns in zip(row, widths, strict=True))
        for row in rows
    )


@dataclass(frozen=True)
class TextCell:
    """The padded text of one column in one line, and its `field`, ``None`` for a heading."""

    text: str
    field: Field | None


class Layout:
    """The widths of a table's columns: wide enough for every row, or narrowed to fit a width.

    Parameters
    ----------
    columns, rows
        The columns and the rows of the table.
    fit
        The width of a terminal in characters; with ``None``, no column is narrowed.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Field]], fit: int | None) -> None:
        self._columns = columns
        self._heads = [one_line(column.heading) for column in columns]
        texts = [[field_lines(field) for field in row] for row in rows]
        self._rows = list(zip(rows, texts, strict=True))
        self._widths = self._natural()
        self._used = [i for i, _ in enumerate(columns) if self._widths[i]]
        prose = [i for i in self._used if columns[i].prose]
        self.below = prose if fit is not None and self._total() > fit else []
        self._used = [i for i in self._used if i not in self.below]
        if fit is not None:
            self._narrow(fit)

    def _natural(self) -> list[int]:
        widths = [width(head) for head in self._heads]
        for row, texts in self._rows:
            for i, (field, lines) in enumerate(zip(row, texts, strict=True)):
                if not field.wide:
                    widths[i] = max(widths[i], *map(width, lines))
        for row, texts in self._rows:
            for i, (field, lines) in enumerate(zip(row, texts, strict=True)):
                if field.wide:
                    missing = max(map(width, lines)) - widths[i] - len(_GAP) - widths[i + 1]
                    widths[i + 1] += max(0, missing)
        return widths

    def _total(self) -> int:
        return sum(self._widths[i] for i in self._used) + len(_GAP) * (len(self._used) - 1)

    def _narrow(self, fit: int) -> None:
        """Narrow the names while these stay readable, leave out what may be, and narrow what is widest."""
        code = [any(row[i].code for row, _ in self._rows) for i, _ in enumerate(self._columns)]

        def narrow(some: Sequence[int], least: int) -> None:
            while self._total() > fit and any(self._widths[i] > least for i in some):
                self._widths[max(some, key=lambda i: self._widths[i])] -= 1

        names = [i for i in self._used if code[i]]
        narrow(names, _NAME)
        # What is drawn tells least, and then the columns from the right.
        spare = [i for i in self._used if self._columns[i].spare]
        for i in sorted(spare, key=lambda i: (not self._is_drawn(i), -i)):
            if self._total() > fit:
                self._leave_out(i)
        # A number that is cut would be another number.
        narrow([i for i in self._used if any(row[i].text.startswith("[") for row, _ in self._rows)], _NAME)
        narrow([i for i in names if i in self._used], _SHORT)
        narrow(self._used, _LEAST)

    def _is_drawn(self, i: int) -> bool:
        return any(row[i].strip or row[i].line or row[i].bar is not None for row, _ in self._rows)

    def _leave_out(self, i: int) -> None:
        if not any(row[j].wide for row, _ in self._rows for j in (i - 1, i)):
            self._used = [j for j in self._used if j != i]

    def head(self) -> list[TextCell]:
        """Return the headings."""
        return [TextCell(self._padded(self._heads[i], i, self._columns[i].right), None) for i in self._used]

    def lines(self) -> Iterator[tuple[Sequence[Field], list[list[TextCell]]]]:
        """Yield each row with its lines, more than one for a row with a matrix."""
        for row, texts in self._rows:
            height = max(len(lines) for i, lines in enumerate(texts) if i in self._used or not self._used)
            yield row, [self._line(row, texts, level) for level in range(height)]

    def _line(self, row: Sequence[Field], texts: Sequence[Sequence[str]], level: int) -> list[TextCell]:
        cells, skip = [], False
        for place, i in enumerate(self._used):
            if skip:
                skip = False
                continue
            text = texts[i][level] if level < len(texts[i]) else ""
            if row[i].aside and width(text) > self._widths[i]:
                text = one_line(row[i].text)
            if row[i].wide and place + 1 < len(self._used):
                columns = self._widths[i] + len(_GAP) + self._widths[self._used[place + 1]]
                cells.append(TextCell(pad(clip(text, columns), columns), row[i]))
                skip = True
            else:
                right = self._columns[i].right
                cells.append(TextCell(self._padded(text, i, right, name=place == 0), row[i]))
        return cells

    def _padded(self, text: str, i: int, right: bool, *, name: bool = False) -> str:
        return pad(clip(text, self._widths[i], middle=name), self._widths[i], right=right)


def join_cells(cells: Sequence[TextCell]) -> str:
    """Return a line as plain text."""
    return _GAP.join(cell.text for cell in cells).rstrip()
