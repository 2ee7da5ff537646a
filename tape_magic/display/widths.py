"""Text on a terminal: how many columns it takes, and nothing in it that moves the cursor."""

from __future__ import annotations

import unicodedata

_BREAKS = "\t\n\r\v\f\u2028\u2029"


def clean(text: str) -> str:
    """`text` on one line, without control characters and marks that turn the writing direction."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if char in _BREAKS else char
        for char in text
        if char in _BREAKS or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )


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
