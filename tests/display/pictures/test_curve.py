"""The curve of a run: few points, honest ones, on axes with round numbers."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tape_magic.display.content.document import Curve
from tape_magic.display.content.reduction import CURVE_POINTS, decimate
from tape_magic.display.describe import describe
from tape_magic.display.pictures.curve import curve, inline_curve, linear_ticks, log_ticks, rooms, step_ticks
from tests.support.reports import change, minimum


def drawn(report):
    return describe(report).first(Curve)


def test_few_points_are_all_kept():
    x, y = decimate(np.arange(5.0), np.array([3.0, 1.0, 4.0, 1.0, 5.0]), 300)
    assert y.tolist() == [3.0, 1.0, 4.0, 1.0, 5.0]
    assert x.tolist() == [0, 1, 2, 3, 4]


@given(arrays("float64", st.integers(1, 3000), elements=st.floats(allow_infinity=True, allow_nan=True)))
def test_the_ends_the_least_and_the_greatest_stay(history):
    x, y = decimate(np.arange(len(history), dtype=float), history, CURVE_POINTS)
    finite = history[np.isfinite(history)]
    assert len(y) <= CURVE_POINTS + 2
    assert (np.diff(x) > 0).all()
    if finite.size:
        assert (y.min(), y.max(), y[0], y[-1]) == (finite.min(), finite.max(), finite[0], finite[-1])
        assert (history[x.astype(int)] == y).all()


@settings(max_examples=30)
@given(arrays("float64", st.integers(301, 2000), elements=st.integers(-9, 9).map(float)))
@example(np.cos(np.arange(600.0)))
def test_of_each_stretch_the_first_least_and_the_first_greatest_stay(history):
    kept = {0, len(history) - 1}
    for stretch in np.array_split(np.arange(len(history)), CURVE_POINTS // 2):
        kept |= {int(stretch[history[stretch].argmin()]), int(stretch[history[stretch].argmax()])}
    x, _ = decimate(np.arange(len(history), dtype=float), history, CURVE_POINTS)
    assert x.astype(int).tolist() == sorted(kept)


def test_one_spike_in_a_million_steps_is_seen():
    history = np.linspace(2.0, 1.0, 1_000_001)
    history[654_321] = 9.0
    curve = drawn(minimum(history, {"x": change(0.0, 1.0)}))
    assert max(curve.y) == 9.0
    assert curve.x[curve.y.index(9.0)] == 654_321


def test_the_axis_is_logarithmic_when_the_loss_spans_decades():
    assert drawn(minimum([1.0, 0.1, 1e-4], {})).log
    assert drawn(minimum([1.0, 0.1, 0.01], {})).log
    assert not drawn(minimum([1.0, 0.5, 0.02], {})).log
    assert not drawn(minimum([1.0, 0.5, -1e4], {})).log


@pytest.mark.parametrize("zeros", [2, 500])
def test_the_axis_ends_where_the_loss_is_zero_for_good_and_says_so(zeros):
    curve = drawn(minimum([1.0, 0.1, 1e-4, *[0.0] * zeros], {}))
    assert (curve.steps, curve.x[-1], curve.unit) == (3, 2.0, "steps, then 0")
    once = drawn(minimum([1.0, 0.1, 1e-4, 0.0], {}))
    assert (once.steps, once.unit) == (3, "steps")
    again = drawn(minimum([1.0, 0.0, 0.0, 1.0, 0.5], {}))
    assert (again.steps, again.unit) == (4, "steps")


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        (1, ["0", "1 steps"]),
        (3, ["0", "1", "2", "3 steps"]),
        (50, ["0", "20", "40", "50 steps"]),
        (1000, ["0", "250", "500", "750", "1,000 steps"]),
        (47_917, ["0", "20,000", "47,917 steps"]),
        (1_000_000, ["0", "250,000", "500,000", "750,000", "1,000,000 steps"]),
    ],
)
def test_steps_on_the_axis(steps, labels):
    assert [label for _, label in step_ticks(steps, "steps")] == labels


@given(st.integers(1, 10**12), st.integers(100, 510))
@example(1000, 208)
@example(47_917, 130)
def test_labels_of_steps_never_touch_one_another(steps, wide):
    """Whatever the width of the picture; the two ends apart, which a narrow one is told as well."""
    ticks = step_ticks(steps, "steps")
    edges = [0.0, 6 / 2]
    for (step, text), room in zip(ticks[1:-1], rooms(ticks), strict=True):
        if wide >= room:
            middle, half = wide * step / steps, 6 * len(text) / 2
            edges += [middle - half, middle + half]
    if edges[2:]:
        edges.append(wide - 6 * len(ticks[-1][1]))
    assert edges == sorted(edges)


@pytest.mark.parametrize("steps", [3, 50, 1000, 1_000_000])
def test_a_wide_page_shows_every_label(steps):
    assert all(room < 500 for room in rooms(step_ticks(steps, "steps")))


def test_losses_on_the_axis():
    assert [label for _, label in log_ticks(-5.8, 0.0)] == ["10⁻⁶", "10⁻⁴", "10⁻²", "1"]
    assert [label for _, label in linear_ticks(0.3, 121.7)] == ["0", "50", "100", "150"]
    assert [label for _, label in linear_ticks(-0.37, -0.29)] == ["−0.4", "−0.35", "−0.3", "−0.25"]
    assert [label for _, label in linear_ticks(503.161, 503.168)][1:4] == [
        "503.1625",
        "503.165",
        "503.1675",
    ]
    # Nothing is drawn above a start that is round, however it is written in binary.
    high = [label for _, label in linear_ticks(-1.274e300, -1e300)]
    assert high == ["−1.3e300", "−1.2e300", "−1.1e300", "−1e300"]
    # A loss that has hardly moved.
    assert [label for _, label in linear_ticks(6.86597, 6.86601)] == [
        "6.86596",
        "6.86598",
        "6.866",
        "6.86602",
    ]


@given(
    arrays("float64", st.integers(2, 50), elements=st.floats(allow_nan=False, allow_infinity=False)),
    st.integers(1, 10**9),
)
def test_any_curve_can_be_drawn(values, steps):
    points = tuple(values.tolist())
    along = tuple(np.linspace(0, steps, len(points)).tolist())
    image = curve(Curve(along, points, False, "steps", "y", points[0], points[-1], steps))
    drawing = base64.b64decode(re.search('base64,([^"]+)', image)[1]).decode()
    (polyline,) = re.findall('polyline points="([^"]+)"', drawing)
    wide, tall = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawing)[0])
    places = [tuple(map(float, place.split(","))) for place in polyline.split()]
    assert 0 < wide < 560
    assert tall < 160
    assert all(0 <= x <= wide + 0.01 and 0 <= y <= tall for x, y in places)


@pytest.mark.parametrize("losses", [[2.0, 1.5, 1.0], [123_456.0, 123_400.0, 123_000.5], [1.0, 1e-99, 1e-300]])
def test_where_the_style_is_not_known_the_whole_curve_fits_on_a_narrow_page(losses):
    """In WebKit it is a share of the width, which must leave room for what stands beside it."""
    page = inline_curve(drawn(minimum(losses, {})))
    found = re.search(r'<foreignObject x="([\d.]+)" y="\d+" width="([\d.]+)%"', page)
    left, share = float(found[1]), float(found[2]) / 100
    assert left + share * 280 <= 280
    assert share > 0.6
