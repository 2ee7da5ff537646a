"""What a report consists of, whatever it reports; the accent colours."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np


class Tone(enum.Enum):
    """How something is meant; words say it first, and the colour second."""

    PLAIN = "plain"
    MUTED = "muted"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Words:
    """A stretch of a sentence; code stands in monospace."""

    text: str
    code: bool = False


Sentence = tuple[Words, ...]


def say(text: str) -> Sentence:
    """A sentence without code."""
    return (Words(text),) if text else ()


def spoken(sentence: Sentence) -> str:
    """Its text alone."""
    return "".join(words.text for words in sentence)


@dataclass(frozen=True)
class Line:
    """Sentences with dots between them; one that fits on a line stays whole."""

    sentences: tuple[Sentence, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Verdict:
    """The line that says what happened: a headline, what goes with it, and the reasons below."""

    tone: Tone
    headline: str
    details: tuple[str, ...] = ()
    reasons: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Field:
    """One place in a table.

    Attributes
    ----------
    text
        What it says.
    tone
        How it is meant.
    code
        Whether it is a name or code.
    aside
        Said beside it in a muted tone.
    bar
        A length from 0 to 1, drawn in place of the text.
    behind
        A greater length from 0 to 1, drawn in grey behind the bar.
    strip
        Counts of a histogram, drawn in place of the text.
    line
        Heights of a small curve, drawn in place of the text.
    matrix
        Numbers in rows, in place of the text.
    sentences
        In a column of prose, in place of the text; with dots between them.
    wide
        It takes the place of the next field, which is empty, too.
    """

    text: str = ""
    tone: Tone = Tone.PLAIN
    code: bool = False
    aside: str = ""
    bar: float | None = None
    behind: float | None = None
    strip: tuple[int, ...] = ()
    line: tuple[float, ...] = ()
    matrix: tuple[tuple[str, ...], ...] = ()
    sentences: tuple[Sentence, ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Column:
    """A heading, and how what stands below it is laid out.

    Attributes
    ----------
    heading
        Empty where the fields speak for themselves.
    right
        Aligned to the right, as numbers are.
    prose
        Sentences, beside their row where there is room, and below it where there is not.
    """

    heading: str
    right: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows; past `shown` rows, the rest is folded."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Field, ...], ...]
    shown: int = 20


@dataclass(frozen=True)
class Curve:
    """A curve over the steps of a run.

    Attributes
    ----------
    x, y
        Points, few enough to draw all.
    log
        Whether the vertical axis is logarithmic.
    unit
        Of the horizontal axis.
    name
        Of what is drawn.
    first, last
        The values at both ends; a logarithmic axis has no place for a last 0.
    steps
        How long the run was; the points may end before, where the last ones have no place.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    log: bool
    unit: str
    name: str
    first: float
    last: float
    steps: int


@dataclass(frozen=True)
class Span:
    """Neighbouring rows or columns that go by one name, from `start` to before `stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A matrix in two colours around 0.

    Attributes
    ----------
    cells
        Few enough to draw all; each stands for the element of the greatest magnitude among those
        that it covers, and is not finite if one of them is not.
    shape
        Of the matrix itself.
    scale
        The greatest finite magnitude that is drawn.
    rows, columns
        Their names; empty where they have none.
    name
        Of what is drawn.
    written
        The elements as text, where there is room for them.
    labels
        Of each row and each column, where the elements are written; empty otherwise.
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
    """A report: what happened, the picture, the table, what else to know, and the small print."""

    parts: tuple[Part, ...]
    footer: tuple[str, ...] = ()

    def first(self, kind: type[_Kind]) -> _Kind | None:
        """The first part of a kind."""
        return next((part for part in self.parts if isinstance(part, kind)), None)


ACCENT = "#3b82c4"

GREY = "#757a83"
FAINT = "rgba(138,143,152,0.14)"
