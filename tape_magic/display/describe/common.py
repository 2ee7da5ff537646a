"""Names, lines and small arrays as several reports show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Column, Field, Line, Table, Tone, say
from tape_magic.display.content.width import NAME, one_line
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.results.epochs import Epochs
from tape_magic.results.gradients import GradReport


def names(report: GradReport) -> tuple[str, ...]:
    """Return the name of each derivative: the path of a model's variable, or else the derivative's label."""
    plain = len({row.target for row in report}) == 1 and all(row.order == 1 for row in report)
    found = (row.wrt[-1] if row.of_model and plain else row.label for row in report)
    return tuple(one_line(name, NAME, middle=True) for name in found)


_NAME = 60
"""The most columns of a name within a sentence."""


def shown_name(name: str, unnamed: str = "output") -> str:
    """Return a name cut for a sentence, or the word `unnamed` for the value of the last expression."""
    return unnamed if name == LAST_EXPRESSION else one_line(name, _NAME, middle=True)


def line_of(means: Epochs | None, name: str = "") -> tuple[Any, Any, str] | None:
    """Return the line of a picture through means, of the loss or of a tracked scalar: steps, values, of what.

    ``None`` where there are too few for a line.
    """
    if means is None or len(means) < 2:
        return None
    what = f"{numbers.count(len(means))} {'epochs' if means.whole else 'stretches'}"
    return means.middles, means.tracked[name] if name else means.loss, what


_WORTH = 1e-3
"""By how much of a loss a lower one is worth a word."""


def is_better(best: float, loss: float) -> bool:
    """Return whether a loss is lower than another by more than one part in a thousand."""
    return loss - best > _WORTH * max(abs(loss), abs(best))


def lines(notes: Sequence[str]) -> tuple[Line, ...]:
    """Return the notes, each on a line of its own."""
    return tuple(Line((say(note),)) for note in notes if note)


def is_(number: int) -> str:
    """Return ``is`` for one, ``are`` for more."""
    return "is" if number == 1 else "are"


def nested(values: Sequence[complex], shape: tuple[int, ...]) -> str:
    """Return a small array as nested brackets: ``[[1, 2], [3, 4]]``."""
    return _bracketed([numbers.number(value) for value in values], shape)


def nested_pair(start: Sequence[complex], end: Sequence[complex], shape: tuple[int, ...]) -> tuple[str, str]:
    """Return two small arrays of one shape, each pair of elements with the digits that tell them apart.

    >>> nested_pair([1.00001, 2.0], [1.00002, 3.0], (2,))
    ('[1.00001, 2]', '[1.00002, 3]')
    """
    pairs = [numbers.pair(*both) for both in zip(start, end, strict=True)]
    before, after = ([pair[i] for pair in pairs] for i in (0, 1))
    return _bracketed(before, shape), _bracketed(after, shape)


def _bracketed(texts: Sequence[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return texts[0]
    size = len(texts) // shape[0] if shape[0] else 0
    parts = [_bracketed(texts[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
    return f"[{', '.join(parts)}]"


def matrix(values: Sequence[complex], shape: tuple[int, ...], digits: int = 4) -> tuple[tuple[str, ...], ...]:
    """Return the rows of a matrix as text."""
    rows, columns = shape
    return tuple(
        tuple(numbers.number(value, digits) for value in values[i * columns : (i + 1) * columns])
        for i in range(rows)
    )


def without_empty(columns: Sequence[Column], rows: Sequence[tuple[Field, ...]]) -> Table:
    """Return a table without the columns that are empty in every row."""
    wide = {i + 1 for row in rows for i, field in enumerate(row) if field.wide}
    kept = [
        i in wide or any(replace(row[i], tone=Tone.PLAIN) != Field() for row in rows)
        for i in range(len(columns))
    ]
    return Table(
        tuple(column for column, keep in zip(columns, kept, strict=True) if keep),
        tuple(tuple(one for one, keep in zip(row, kept, strict=True) if keep) for row in rows),
    )
