"""The pictures of the inspector: bars and points stand where the axes say."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tape_magic.display.pictures.points import histogram, scatter

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture: str) -> ElementTree.Element:
    data = re.search(r"base64,([^\"]+)", picture)
    assert data is not None
    return ElementTree.fromstring(base64.b64decode(data[1]))


def labels(svg: ElementTree.Element) -> list[tuple[str, float, float]]:
    return [(str(one.text), float(one.attrib["x"]), float(one.attrib["y"])) for one in svg.iter(f"{SVG}text")]


@pytest.mark.parametrize("counts", [(9, 3, 0, 1), (1, 7), (200, 100, 3), (12_345, 1)])
def test_the_tallest_bar_is_as_high_as_the_axis_says(counts: tuple[int, ...]) -> None:
    svg = drawn(histogram(counts, -1.0, 1.0, "gradient"))
    ticks = [(float(text.replace(",", "")), y) for text, x, y in labels(svg) if x < 60 and y < 210]
    (low, bottom), (high, top) = min(ticks), max(ticks)
    bars = svg.find(f"{SVG}svg")
    assert bars is not None
    expected = bottom + (top - bottom) * (max(counts) - low) / (high - low)
    assert float(bars.attrib["y"]) + 4 == pytest.approx(expected, abs=1)
    assert float(bars.attrib["y"]) + float(bars.attrib["height"]) + 4 == pytest.approx(bottom, abs=1)


def test_a_histogram_says_where_it_begins_and_ends() -> None:
    texts = [text for text, _, y in labels(drawn(histogram((5, 2, 1), -0.0756, 0.0776, "gradient")))]
    assert {"−0.0756", "0", "0.0776"} <= set(texts)


def test_points_stand_where_the_axes_say() -> None:
    svg = drawn(scatter(np.array([0.0, 10.0]), np.array([-2.0, 2.0]), "value", "gradient"))
    ticks = {text: (x, y) for text, x, y in labels(svg)}
    (dots,) = [path.attrib["d"] for path in svg.iter(f"{SVG}path")]
    (x0, y0), (x1, y1) = [tuple(map(float, dot.split())) for dot in re.findall(r"M([\d. ]+)h0", dots)]
    assert (x0, x1) == pytest.approx((ticks["0"][0], ticks["10"][0]), abs=12)
    assert (y0 + 4, y1 + 4) == pytest.approx((ticks["−2"][1], ticks["2"][1]), abs=1)
