"""What a report is made of, whatever it reports: one set of pieces for text and HTML."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Tone(enum.Enum):
    """How something is meant; words say it first, and the colour second."""

    PLAIN = "plain"
    MUTED = "muted"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Verdict:
    """The line that says what happened: a headline, and what goes with it."""

    tone: Tone
    headline: str
    details: tuple[str, ...] = ()


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
        A length from 0 to 1, drawn in place of the text in HTML.
    strip
        Counts of a histogram, drawn in place of the text in HTML.
    """

    text: str = ""
    tone: Tone = Tone.PLAIN
    code: bool = False
    aside: str = ""
    bar: float | None = None
    strip: tuple[int, ...] = ()


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
        Sentences, which may take several lines.
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
class Document:
    """A report: what happened, the picture, the table, what else to know, and the small print."""

    verdict: Verdict | None = None
    curve: Curve | None = None
    table: Table | None = None
    notes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()
