"""Text that can be shown: how wide it is, and nothing in it that moves a cursor or fills a page."""

from __future__ import annotations

import unicodedata

MOST = 400
"""The columns of one sentence or value; texts of the user's can be of any length."""

NAME = 160
"""The columns of a name in a table, such as the path of a variable."""

LABEL = 24
"""The columns of a name beside a row or above a column of numbers."""

_MARKS = 4
"""So many marks stand on one letter in any script; a tower of them would cover the lines above."""

_BREAKS = "\t\n\r\v\f\x85\u2028\u2029"


def clean(text: str) -> str:
    """`text` on one line, without control characters and marks that turn the writing direction."""
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


def shown(text: str, columns: int = MOST, *, middle: bool = False) -> str:
    """`text` on one line, and no longer than somebody reads: cut at the end, or in the middle."""
    return clip(clean(text), columns, middle=middle)


def width(text: str) -> int:
    """The columns that a terminal gives it: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def clip(text: str, columns: int, *, middle: bool = False) -> str:
    """At most that many columns, with an ellipsis where something is cut: at the end or in the middle.

    >>> clip("a_long_name/kernel", 12), clip("a_long_name/kernel", 12, middle=True)
    ('a_long_name…', 'a_lon…kernel')
    """
    if width(text) <= columns:
        return text
    tail = _fitting(text[::-1], columns // 2)[::-1] if middle else ""
    return f"{_fitting(text, columns - 1 - width(tail))}…{tail}"


def _fitting(text: str, columns: int) -> str:
    """As much of the beginning as fits."""
    taken = 0
    for place, char in enumerate(text):
        taken += width(char)
        if taken > columns:
            return text[:place]
    return text


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Filled up with spaces, in front of it when it stands to the right."""
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most that many columns, broken between words, and inside those that are wider.

    >>> wrap("one two three", 8)
    ['one two', 'three']
    """
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += f" {word}"
            continue
        while width(word) > columns:
            lines.append(_fitting(word, columns))
            word = word[len(lines[-1]) :]
        lines.append(word)
    return lines
