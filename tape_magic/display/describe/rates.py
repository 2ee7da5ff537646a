"""The report of a range test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Curve, Document, Line, Tone, Verdict, Words, say
from tape_magic.display.content.reduction import CURVE_POINTS, loss_curve
from tape_magic.display.describe.common import lines, shown_name
from tape_magic.results.rates import RangeEnd, RateReport

_ABOVE = 0.25
"""The picture ends where the loss is above its start by this part of what it had fallen."""

_LABELS, _ROOM = 6, 0.12
"""The most powers of ten below the picture, and the share of its width that the last label takes."""


def rates_document(report: RateReport) -> Document:
    """Return the suggested rate with its reason, the curve, and the line to use."""
    parts = [_verdict(report), _curve(report)]
    return Document((*(part for part in parts if part is not None), _use(report), *lines(report.notes)))


def _verdict(report: RateReport) -> Verdict:
    name, engine = shown_name(report.loss_name, "the loss"), {"xla": "XLA"}.get(report.engine, report.engine)
    tried, rates = numbers.count(len(report.rates)), report.rates
    details = [
        f"{tried} steps, rates from {_rate(rates[0])} to {_rate(rates[-1])}" if len(rates) else "no step",
        numbers.duration(report.seconds),
        engine,
        report.optimizer,
    ]
    if report.suggestion is None:
        what = "stopped before a rate was found" if report.ended is RangeEnd.STOPPED else "no rate found"
        fell = [] if report.ended is RangeEnd.STOPPED else [f"{name} fell at none of them"]
        return Verdict(Tone.WARNING, what, (*fell, *details))
    assert report.lowest is not None
    why = f"a tenth of {_rate(report.lowest)}, where {name} was lowest"
    if report.ended is not RangeEnd.BLEW_UP:
        why += f"; {report.ended.value}"
    return Verdict(Tone.GOOD, f"learning rate {_rate(report.suggestion)}", (why, *details))


def _use(report: RateReport) -> Line:
    nothing = say("nothing was trained: all is as it was before")
    use = (Words(report.line, code=True), Words(" runs with it"))
    return Line((use, nothing) if report.line else (nothing,))


def _rate(rate: float) -> str:
    return numbers.number(float(f"{rate:.2g}"))


def _curve(report: RateReport) -> Curve | None:
    """Return the losses over the rates, up to where they leave the range that tells something."""
    smoothed = report.smoothed
    if not len(smoothed):
        return None
    lows = np.minimum.accumulate(np.where(np.isfinite(smoothed), smoothed, np.inf))
    with np.errstate(invalid="ignore"):
        beyond = ~np.isfinite(smoothed) | (smoothed > smoothed[0] + _ABOVE * (smoothed[0] - lows))
    beyond[: int(np.argmin(lows)) + 1] = False
    end = int(np.argmax(beyond)) if beyond.any() else len(smoothed)
    at, name = np.arange(end), shown_name(report.loss_name, "loss")
    means = (at.astype(float), smoothed[:end], "neighbours") if report.of_data else None
    drawn = loss_curve(name, at, report.losses[:end], CURVE_POINTS, means)
    if drawn is None:
        return None
    first, growth = np.log10(report.rates[0]), np.log10(report.rates[-1] / report.rates[0])
    per_step = growth / max(len(report.rates) - 1, 1)
    exponents = np.arange(np.ceil(first - 1e-9), first + per_step * (end - 1))
    every = -(-len(exponents) // _LABELS)
    places = [(float((e - first) / per_step), numbers.power_of_ten(int(e))) for e in exponents[::every]]
    ticks = [place for place in places if place[0] < (1 - _ROOM) * (end - 1)]
    mark, words = None, f"{name} over rates from {_rate(report.rates[0])} to {_rate(report.rates[end - 1])}"
    if report.suggestion is not None:
        mark = float((np.log10(report.suggestion) - first) / per_step), _rate(report.suggestion)
        words += f"; {mark[1]} is suggested"
    labels = (*ticks, (float(end - 1), "rate"))
    return replace(drawn, ticks=labels, mark=mark, words=words, steps=end - 1, unit="rate")
