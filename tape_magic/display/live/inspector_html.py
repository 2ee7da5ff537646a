"""The contents of the inspector: its list of derivatives, and one derivative as HTML."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Document, HeatMap, Line, Part, Sentence, Words, say
from tape_magic.display.content.reduction import heat_map
from tape_magic.display.describe.states import not_finite, sentences, state
from tape_magic.display.html.render import to_html
from tape_magic.display.pictures.points import histogram, scatter
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.summary import Summary, as_array

POINTS = 2000
"""The most points in a plot of a value against its gradient."""

_DIGIT_WIDE = "\u2007"
"""A space as wide as a digit, which aligns figures in a list without columns."""


class Order(enum.Enum):
    """The orders of the list; each member carries its words."""

    ASKED = "order asked"
    NORM = "norm, largest first"
    ZEROS = "zeros, most first"
    NAME = "name"


class View(enum.Enum):
    """The pictures of one derivative; each member carries its words."""

    HISTOGRAM = "Histogram"
    HEAT_MAP = "Heat map"
    AGAINST_VALUE = "Against value"


def list_lines(report: GradReport, names: Sequence[str], part: str, order: Order) -> list[tuple[str, int]]:
    """Return the derivatives whose name contains `part`, each as a line with its place in the report."""
    places = [i for i, name in enumerate(names) if part.strip().casefold() in name.casefold()]
    rows = report.rows
    if order is Order.NAME:
        places.sort(key=lambda i: names[i].casefold())
    elif order is not Order.ASKED:
        places.sort(key=lambda i: _rank(rows[i].summary, order), reverse=True)
    if order not in (Order.NORM, Order.ZEROS):
        return [(names[i], i) for i in places]
    figures = [_figure(rows[i], order) for i in places]
    room = max(map(len, figures), default=0)
    return [
        (f"{figure.rjust(room, _DIGIT_WIDE)}  {names[i]}", i)
        for figure, i in zip(figures, places, strict=True)
    ]


def _rank(summary: Summary | None, order: Order) -> float:
    """Return the key of a derivative in the order, highest first: infinite for NaN, −1 for no derivative."""
    if summary is None:
        return -1.0
    if order is Order.ZEROS:
        return summary.zeros
    return summary.norm if math.isfinite(summary.norm) else math.inf


def _figure(row: Derivative, order: Order) -> str:
    summary = row.summary
    if summary is None:
        return state(row).words
    return numbers.percent(summary.zeros) if order is Order.ZEROS else numbers.measure(summary.norm, 3)


def views(row: Derivative) -> tuple[View, ...]:
    """Return the pictures that can be drawn of a derivative."""
    summary = row.summary
    if summary is None or not summary.size:
        return ()
    found = [View.HISTOGRAM] if summary.histogram else []
    found += [View.HEAT_MAP] if summary.shape else []
    known = row.source is not None and tuple(getattr(row.source, "shape", ())) == summary.shape
    return (*found, *([View.AGAINST_VALUE] if known and summary.size > 1 else []))


def inspector_html(row: Derivative, name: str, view: View | None) -> str:
    """Return one derivative as HTML: its figures, its reason, and one picture."""
    parts: list[Part] = [Line(((Words(name, code=True),),)), Line(_figures(row))]
    if row.reason is not None:
        parts.append(Line(sentences(row.reason)))
    if view is View.HEAT_MAP:
        heat, folded = _heat(row, name)
        parts += [heat, *([Line((folded,))] if folded else [])]
    drawn = to_html(Document(tuple(parts)))
    if view is View.HISTOGRAM and row.summary is not None:
        drawn += _histogram(row, row.summary)
    if view is View.AGAINST_VALUE:
        drawn += _against_value(row)
    return drawn


def _figures(row: Derivative) -> tuple[Sentence, ...]:
    summary = row.summary
    if summary is None:
        return (say("none"), say(numbers.shape(row.shape)))
    low, high = summary.minimum, summary.maximum
    facts = [numbers.shape(summary.shape), summary.dtype]
    if summary.size == 1:
        facts.append(f"value {numbers.number(summary.values[0])}")
    else:
        facts.append(f"norm {numbers.rounded(summary.norm)}")
        facts += [numbers.spread(low, high)] if low is not None and high is not None else []
        facts.append(f"{numbers.percent(summary.zeros)} zeros")
    facts += [not_finite(summary)] if summary.nonfinite else []
    facts += [row.sum_note] if row.sum_note else []
    return tuple(map(say, facts))


def _histogram(row: Derivative, summary: Summary) -> str:
    if summary.minimum is not None and summary.maximum is not None:
        return histogram(summary.histogram, summary.minimum, summary.maximum, "gradient")
    magnitudes = np.abs(as_array(row.value))
    finite = magnitudes[np.isfinite(magnitudes)]
    return histogram(summary.histogram, float(finite.min()), float(finite.max()), "|gradient|")


def _heat(row: Derivative, name: str) -> tuple[HeatMap, Sentence]:
    """Return the heat map of an array, with a note where further axes are folded into the rows."""
    array = as_array(row.value)
    if array.ndim == 1:
        return heat_map(array[np.newaxis], name), ()
    flat = array.reshape(-1, array.shape[-1])
    if array.ndim == 2:
        return heat_map(flat, name), ()
    axes = numbers.shape(array.shape[:-1])
    return heat_map(flat, name), say(f"rows: {axes} folded into {numbers.count(len(flat))}")


def _against_value(row: Derivative) -> str:
    value, gradient = as_array(row.source).reshape(-1), as_array(row.value).reshape(-1)
    places = _sample_places(len(gradient))
    x, y = _real(value[places]), _real(gradient[places])
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return ""
    changing = hasattr(row.source, "assign")
    return scatter(x[finite], y[finite], "value now" if changing else "value", "gradient")


def _real(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.abs(values) if np.iscomplexobj(values) else values.astype(np.float64)


def _sample_places(size: int) -> np.ndarray[Any, Any]:
    """Return all places, or `POINTS` places spread evenly with a random shift each.

    Without the shifts, a period in the array could show as a pattern.
    """
    if size <= POINTS:
        return np.arange(size)
    width = size / POINTS
    shifts = np.random.default_rng(0).random(POINTS)
    return ((np.arange(POINTS) + shifts) * width).astype(np.intp)
