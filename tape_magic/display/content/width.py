"""Text made safe and short enough to be shown: its width in columns, cleaning, clipping, wrapping."""

from __future__ import annotations

import unicodedata

MOST = 400
"""The most columns of one sentence or value, since a text of the user's may have any length."""

NAME = 160
"""The most columns of a name in a table, such as the path of a variable."""

LABEL = 24
"""The most columns of a name beside a row or above a column of numbers."""

_MARKS = 4
"""The most marks that one letter carries in any script; a tower of marks would cover the lines above."""

_BREAKS = "\t\n\r\v\f\x85\u2028\u2029"


def clean(text: str) -> str:
    """Return `text` on one line, without control characters and marks that turn the writing direction."""
    if text.isascii() and text.isprintable():
        return text
    kept: list[str] = []
    marks = 0
    for char in text:
        kind = unicodedata.category(char)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if char in _BREAKS:
            kept.append(" ")
        elif kind not in ("Cc", "Cf", "Cs") and marks <= _MARKS:
            kept.append(char)
    return "".join(kept)


def one_line(text: str, columns: int = MOST, *, middle: bool = False) -> str:
    """Return `text` cleaned, on one line of at most `columns` columns, cut at its end or its middle."""
    return clip(clean(text), columns, middle=middle)


def width(text: str) -> int:
    """Return the columns that a terminal gives `text`: two for a wide character, none for a mark on a letter.

    >>> width("loss"), width("损失"), width("e\u0301")
    (4, 4, 1)
    """
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def clip(text: str, columns: int, *, middle: bool = False) -> str:
    """Return `text` in at most that many columns, with an ellipsis where it is cut: at its end or its middle.

    >>> clip("a_long_name/kernel", 12), clip("a_long_name/kernel", 12, middle=True)
    ('a_long_name…', 'a_lon…kernel')
    """
    if width(text) <= columns:
        return text
    tail = _start(text[::-1], columns // 2)[::-1] if middle else ""
    while tail and not width(tail[0]):
        tail = tail[1:]  # a mark whose letter is cut off
    return f"{_start(text, columns - 1 - width(tail))}…{tail}"


def _start(text: str, columns: int) -> str:
    """Return as much of the beginning of `text` as fits into `columns`."""
    if columns < 1:
        return ""
    # Cleaned text has at most `_MARKS` marks on each letter, so that no more characters can fit.
    return next(iter(_chopped(text[: columns * (1 + _MARKS)], columns)), "")


def _chopped(text: str, columns: int) -> list[str]:
    """Return `text` cut into pieces of at most `columns` columns, which are at least one."""
    from rich.cells import chop_cells

    return chop_cells(text, columns)


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return `text` filled up with spaces, which stand in front of it when it stands to the right."""
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def wrap(text: str, columns: int) -> list[str]:
    """Return lines of at most that many columns, broken between words, and inside a word that is wider.

    >>> wrap("one two three", 8)
    ['one two', 'three']
    """
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += f" {word}"
        elif width(word) > columns:
            lines += _chopped(word, columns)
        else:
            lines.append(word)
    return lines
