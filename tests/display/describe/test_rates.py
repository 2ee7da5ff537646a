"""The report of a range test: the rate, why, the curve, the line to use."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.display.content.document import Curve
from tape_magic.display.describe import describe
from tape_magic.display.html.render import to_html
from tape_magic.display.text.render import to_text
from tape_magic.results.rates import RangeEnd, RateReport

RATES = 1e-7 * 10 ** (np.arange(200) / 25)
FALLS = np.concatenate([np.full(100, 4.0), np.linspace(4, 1, 80), np.geomspace(1, 1e5, 20)])


def report(losses: Any = FALLS, **more: Any) -> RateReport:
    facts: dict[str, Any] = {
        "rates": RATES,
        "losses": losses,
        "smoothed": losses,
        "suggestion": 0.1,
        "lowest": 1.4,
        "ended": RangeEnd.BLEW_UP,
        "loss_name": "loss",
        "optimizer": "Adam",
        "by_name": True,
        "of_data": False,
        "seconds": 1.5,
        "engine": "graph",
    }
    return RateReport(**{**facts, **more})


def test_the_text_names_the_rate_the_reason_and_the_line() -> None:
    lines = to_text(describe(report())).splitlines()
    assert lines[0] == "learning rate 0.1 · a tenth of 1.4, where loss was lowest ·"
    assert lines[1].startswith("  200 steps, rates from 1e−7 to 9.1 · 1.5")
    assert lines[-1] == "--lr 0.1 runs with it · nothing was trained: all is as it was before"
    # The mark stands below the place of the rate on the curve.
    drawn, marked = lines[2], lines[3]
    begin = drawn.index(" ") + 1
    share = (marked.index("▲") - begin) / (len(drawn.rsplit(" ", 1)[0]) - 1 - begin)
    curve = describe(report()).first(Curve)
    assert curve is not None
    assert abs(share - 150 / curve.steps) < 0.02
    assert marked.endswith("▲ 0.1")


def test_the_picture_has_powers_of_ten_and_the_mark() -> None:
    html = to_html(describe(report()))
    (data,) = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    svg = base64.b64decode(data).decode()
    labels = re.findall(r">([^<>]+)</text>", svg)
    assert {"10⁻⁷", "10⁻⁵", "10⁻³", "rate", "0.1"} <= set(labels)
    assert 'alt="loss over rates from 1e−7 to' in html
    curve = describe(report()).first(Curve)
    assert curve is not None
    assert max(curve.y) <= 4.0 + 0.25 * 3  # what blew up would hide the rest


def test_without_a_rate_it_says_so() -> None:
    flat = replace(report(np.full(200, 2.0)), suggestion=None, lowest=None, ended=RangeEnd.RANGE)
    text = to_text(describe(flat))
    assert text.startswith("no rate found · loss fell at none of them")
    assert "runs with it" not in text
    stopped = replace(flat, ended=RangeEnd.STOPPED)
    assert to_text(describe(stopped)).startswith("stopped before a rate was found")
    nothing = replace(stopped, rates=RATES[:0], losses=FALLS[:0], smoothed=FALLS[:0])
    assert "nothing was trained" in to_text(describe(nothing))


def test_a_loss_without_a_name_and_the_users_own_optimizer() -> None:
    text = to_text(describe(report(loss_name="_", by_name=False)))
    assert "where the loss was lowest" in text
    assert "learning_rate=0.1 runs with it" in text
    assert report().to_dict()["ended"] == "blew_up"
    assert report().to_frame().index.name == "rate"
