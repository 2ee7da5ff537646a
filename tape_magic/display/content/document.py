"""The parts of a report, whatever it reports, and the colours of its pictures."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np


class Tone(enum.Enum):
    """The meaning of a text: its words tell it first, its colour second."""

    PLAIN = "plain"
    MUTED = "muted"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Words:
    """A part of a sentence; code is shown in monospace."""

    text: str
    code: bool = False


Sentence = tuple[Words, ...]


def say(text: str) -> Sentence:
    """Return `text` as a sentence without code."""
    return (Words(text),) if text else ()


def plain_text(sentence: Sentence) -> str:
    """Return the text of a sentence."""
    return "".join(words.text for words in sentence)


@dataclass(frozen=True)
class Line:
    """Sentences with dots between them; a sentence that fits on a line is not broken."""

    sentences: tuple[Sentence, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Verdict:
    """The line about the outcome: a headline, details beside it, and reasons below."""

    tone: Tone
    headline: str
    details: tuple[str, ...] = ()
    reasons: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Field:
    """One field of a table.

    Attributes
    ----------
    text
        The text of the field.
    tone
        The meaning of the text.
    code
        Whether the text is a name or code.
    aside
        A text beside it in a muted tone.
    bar
        A length from 0 to 1, drawn in place of the text.
    behind
        A greater length from 0 to 1, drawn in grey behind the bar.
    strip
        Counts of a histogram, drawn in place of the text.
    line
        Heights of a small curve, drawn in place of the text.
    second
        Whether that curve is in the second colour.
    matrix
        Numbers in rows, in place of the text.
    sentences
        Sentences with dots between them, in place of the text, in a column of prose.
    wide
        Whether the field also takes the place of the next one, which is empty.
    """

    text: str = ""
    tone: Tone = Tone.PLAIN
    code: bool = False
    aside: str = ""
    bar: float | None = None
    behind: float | None = None
    strip: tuple[int, ...] = ()
    line: tuple[float, ...] = ()
    second: bool = False
    matrix: tuple[tuple[str, ...], ...] = ()
    sentences: tuple[Sentence, ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Column:
    """The heading and the alignment of a column.

    Attributes
    ----------
    heading
        The heading, empty where the fields need none.
    right
        Whether the fields are aligned to the right, as numbers are.
    prose
        Whether the fields hold sentences, which stand beside their row if there is room and else below it.
    spare
        Whether the column may be left out where there is no room for all.
    """

    heading: str
    right: bool = False
    prose: bool = False
    spare: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows; rows beyond the first `shown` are folded."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Field, ...], ...]
    shown: int = 20


Band = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
"""The area between two curves: coordinates, the lower and the upper heights."""


@dataclass(frozen=True)
class Curve:
    """A curve over the steps of a run.

    Attributes
    ----------
    x, y
        Coordinates of the points, few enough to draw all.
    log
        Whether the vertical axis is logarithmic.
    unit
        The unit of the horizontal axis.
    name
        The name of the quantity.
    first, last
        The values at both ends, also for a last 0, which a logarithmic axis cannot show.
    steps
        The length of the run; the last points may be missing where the axis cannot show them.
    pale
        The values themselves, behind a curve that goes through their means: coordinates, the lowest and the
        highest value at each, the same where all can be drawn; empty for any other curve.
    means
        What these are means of, as in "20 epochs"; else empty.
    ticks
        Places and labels of the horizontal axis, for one that is not that of steps.
    mark
        The place of a vertical line across the curve, and its label.
    words
        The curve in words, where its ends do not tell.
    other, other_name
        The coordinates and the heights of a second curve on the same axes, and its name; else empty.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    log: bool
    unit: str
    name: str
    first: float
    last: float
    steps: int
    pale: Band = ((), (), ())
    means: str = ""
    ticks: tuple[tuple[float, str], ...] = ()
    mark: tuple[float, str] | None = None
    words: str = ""
    other: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    other_name: str = ""


@dataclass(frozen=True)
class Span:
    """Neighbouring rows or columns with one name, from `start` to before `stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A matrix in two colours around 0.

    Attributes
    ----------
    cells
        The cells, few enough to draw all. Each is the element of the greatest magnitude among the elements
        that it covers, and is NaN if one of these is not finite.
    shape
        The shape of the matrix itself.
    scale
        The greatest finite magnitude in a cell.
    rows, columns
        The names of blocks of rows and columns; empty where they have none.
    name
        The name of the matrix.
    written
        The elements as text, for a small matrix.
    labels
        The names of each row and of each column, for a small matrix; empty otherwise.
    """

    cells: np.ndarray[Any, Any]
    shape: tuple[int, int]
    scale: float
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    name: str
    written: tuple[tuple[str, ...], ...] = ()
    labels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


Part = Verdict | Line | Curve | HeatMap | Table
_Kind = TypeVar("_Kind", Verdict, Line, Curve, HeatMap, Table)


@dataclass(frozen=True)
class Document:
    """A report: the outcome, the picture, the table, notes, and the small print."""

    parts: tuple[Part, ...]
    footer: tuple[str, ...] = ()

    def first(self, kind: type[_Kind]) -> _Kind | None:
        """Return the first part of a kind, ``None`` if there is none."""
        return next((part for part in self.parts if isinstance(part, kind)), None)


ACCENT = "#3b82c4"
SECOND = "#d97b29"
"""The colour of a second curve and of the other sign, which differs from the accent for all colour vision."""

GREY = "#757a83"
FAINT = "rgba(138,143,152,0.14)"
