"""What the inspector shows."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Document, HeatMap, Line, Part, Sentence, Words, say
from tape_magic.display.content.reduction import heat_map
from tape_magic.display.describe.states import RowState, not_finite, sentences, state
from tape_magic.display.html.render import to_html
from tape_magic.display.pictures.points import histogram, scatter
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.summary import Summary, as_array

POINTS = 2000
"""So many points are drawn of a value against its gradient."""

_DIGIT_WIDE = "\u2007"
"""A space as wide as a digit: lists have no columns."""


class Order(enum.Enum):
    """How the derivatives are sorted; each member carries its words."""

    ASKED = "order asked"
    NORM = "norm, largest first"
    ZEROS = "zeros, most first"
    NAME = "name"


class View(enum.Enum):
    """What is drawn of one derivative; each member carries its words."""

    HISTOGRAM = "Histogram"
    HEAT_MAP = "Heat map"
    AGAINST_VALUE = "Against value"


def listed(report: GradReport, called: Sequence[str], part: str, order: Order) -> list[tuple[str, int]]:
    """The derivatives whose name holds `part`, each as a line with its place in the report."""
    places = [i for i, name in enumerate(called) if part.strip().casefold() in name.casefold()]
    rows = report.rows
    if order is Order.NAME:
        places.sort(key=lambda i: called[i].casefold())
    elif order is not Order.ASKED:
        places.sort(key=lambda i: _rank(rows[i].summary, order), reverse=True)
    if order not in (Order.NORM, Order.ZEROS):
        return [(called[i], i) for i in places]
    figures = [_figure(rows[i], order) for i in places]
    room = max(map(len, figures), default=0)
    return [
        (f"{figure.rjust(room, _DIGIT_WIDE)}  {called[i]}", i)
        for figure, i in zip(figures, places, strict=True)
    ]


def _rank(summary: Summary | None, order: Order) -> float:
    """What is broken comes first, and what is missing last."""
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
    """What can be drawn of a derivative."""
    summary = row.summary
    if summary is None or not summary.size:
        return ()
    found = [View.HISTOGRAM] if summary.histogram else []
    found += [View.HEAT_MAP] if summary.shape else []
    known = row.source is not None and tuple(getattr(row.source, "shape", ())) == summary.shape
    return (*found, *([View.AGAINST_VALUE] if known and summary.size > 1 else []))


def inspector_page(row: Derivative, name: str, view: View | None) -> str:
    """One derivative as HTML: its figures, why it is as it is, and one picture."""
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
    summary, found = row.summary, state(row)
    if summary is None:
        return (say("none" if found is RowState.NONE else "0 (not connected)"), say(numbers.shape(row.shape)))
    low, high = summary.minimum, summary.maximum
    said = [numbers.shape(summary.shape), summary.dtype]
    if summary.size == 1:
        said.append(f"value {numbers.number(summary.values[0])}")
    else:
        said.append(f"‖·‖ {numbers.rounded(summary.norm)}")
        said += [numbers.spread(low, high)] if low is not None and high is not None else []
        said.append(f"{numbers.percent(summary.zeros)} zeros")
    said += [not_finite(summary)] if summary.nonfinite else []
    said += [row.sum_note] if row.sum_note else []
    return tuple(map(say, said))


def _histogram(row: Derivative, summary: Summary) -> str:
    if summary.minimum is not None and summary.maximum is not None:
        return histogram(summary.histogram, summary.minimum, summary.maximum, "gradient")
    magnitudes = np.abs(as_array(row.value))
    finite = magnitudes[np.isfinite(magnitudes)]
    return histogram(summary.histogram, float(finite.min()), float(finite.max()), "|gradient|")


def _heat(row: Derivative, name: str) -> tuple[HeatMap, Sentence]:
    """A matrix as it is, a vector as a strip, and more axes folded into the rows."""
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
    picked = _picked(len(gradient))
    x, y = _real(value[picked]), _real(gradient[picked])
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return ""
    changing = hasattr(row.source, "assign")
    return scatter(x[finite], y[finite], "value now" if changing else "value", "gradient")


def _real(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.abs(values) if np.iscomplexobj(values) else values.astype(np.float64)


def _picked(size: int) -> np.ndarray[Any, Any]:
    """All places, or so many spread evenly, each moved a little so that no period of the array shows."""
    if size <= POINTS:
        return np.arange(size)
    width = size / POINTS
    moved = np.random.default_rng(0).random(POINTS)
    return ((np.arange(POINTS) + moved) * width).astype(np.intp)
