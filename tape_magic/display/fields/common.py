"""What the fields of several reports have in common."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.display import numbers
from tape_magic.display.document import Column, Field, Line, Table, say
from tape_magic.display.widths import shown
from tape_magic.notation import LAST_EXPRESSION

_NAME = 60
"""Columns of a name within a sentence."""


def shown_name(name: str, unnamed: str = "output") -> str:
    """A name as long as a sentence bears it, or a word for the value of the last expression."""
    return unnamed if name == LAST_EXPRESSION else shown(name, _NAME, middle=True)


def lines(notes: Sequence[str]) -> tuple[Line, ...]:
    """Notes, each on a line of its own."""
    return tuple(Line((say(note),)) for note in notes if note)


def is_(number: int) -> str:
    """``is`` for one, ``are`` for more."""
    return "is" if number == 1 else "are"


def nested(values: Sequence[complex], shape: tuple[int, ...]) -> str:
    """A small array as nested brackets: ``[[1, 2], [3, 4]]``."""
    if not shape:
        return numbers.number(values[0])
    size = len(values) // shape[0] if shape[0] else 0
    parts = [nested(values[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
    return f"[{', '.join(parts)}]"


def matrix(values: Sequence[complex], shape: tuple[int, ...], digits: int = 4) -> tuple[tuple[str, ...], ...]:
    """The rows of a matrix as text."""
    rows, columns = shape
    return tuple(
        tuple(numbers.number(value, digits) for value in values[i * columns : (i + 1) * columns])
        for i in range(rows)
    )


def without_empty(columns: Sequence[Column], rows: Sequence[tuple[Field, ...]]) -> Table:
    """A table of the columns in which anything stands."""
    wide = {i + 1 for row in rows for i, field in enumerate(row) if field.wide}
    kept = [i in wide or any(row[i] != Field() for row in rows) for i in range(len(columns))]
    return Table(
        tuple(column for column, keep in zip(columns, kept, strict=True) if keep),
        tuple(tuple(one for one, keep in zip(row, kept, strict=True) if keep) for row in rows),
    )
