"""Small pictures as SVG in a data URI.

An ``<img>`` survives in an untrusted notebook, where inline SVG is taken out; it cannot see the
page's theme, so its colours read on white and on near-black.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape

from tape_magic.display import numbers
from tape_magic.display.document import Curve
from tape_magic.display.widths import clean

ACCENT = "#3b82c4"
GREY = "#8a8f98"
_FAINT = "rgba(138,143,152,0.14)"
_LINE = "rgba(138,143,152,0.4)"

_CURVE_WIDTH, _CURVE_HEIGHT = 560, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 24


def image(svg: str, width: int, height: int, alt: str, style: str = "") -> str:
    """An ``<img>`` that holds the picture; `alt` says in words what it shows."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<img src="data:image/svg+xml;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(clean(alt), quote=True)}" style="{style}">'
    )


def _svg(width: int, height: int, body: str, *, stretches: bool = False) -> str:
    ratio = ' preserveAspectRatio="none"' if stretches else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"{ratio}>{body}</svg>'
    )


def bar(share: float, width: int = 110, height: int = 8) -> str:
    """A length from 0 to 1 on a faint track."""
    filled = round(width * min(max(share, 0.0), 1.0), 1)
    body = f'<rect width="{width}" height="{height}" fill="{_FAINT}"/>'
    body += f'<rect width="{filled:g}" height="{height}" fill="{ACCENT}"/>'
    return image(
        _svg(width, height, body, stretches=True),
        width,
        height,
        f"{100 * share:.0f} %",
        _inline(width, height),
    )


def strip(counts: Sequence[int], width: int = 96, height: int = 18) -> str:
    """A histogram as a strip of columns."""
    most = max(counts)
    step = width / len(counts)
    columns = "".join(
        f'<rect x="{i * step:.4g}" y="{height - (h := max(1.0, height * n / most)):.4g}" '
        f'width="{step - 0.8:.4g}" height="{h:.4g}"/>'
        for i, n in enumerate(counts)
        if n
    )
    body = f'<g fill="{ACCENT}" fill-opacity="0.75">{columns}</g>'
    return image(
        _svg(width, height, body, stretches=True), width, height, "histogram", _inline(width, height)
    )


def _inline(width: int, height: int) -> str:
    """Inside a table: narrower where the table has no room, down to a third."""
    size = f"width:100%;min-width:{width // 3}px;max-width:{width}px;height:{height}px;"
    return f"vertical-align:middle;{size}"


def curve(picture: Curve) -> str:
    """A curve with hairlines and readable axes."""
    heights = [math.log10(value) for value in picture.y] if picture.log else list(picture.y)
    ticks = log_ticks(min(heights), max(heights)) if picture.log else linear_ticks(min(heights), max(heights))
    low, high = min(*heights, ticks[0][0]), max(*heights, ticks[-1][0])
    # A wide label, such as −1.25e−12, needs room of its own.
    margin = max(_LEFT, 8 + 7 * max(len(label) for _, label in ticks))
    end = _CURVE_WIDTH - _RIGHT
    across = (end - margin) / (picture.steps or 1)
    # In halves, since the distance between −1.7e308 and 1.7e308 is infinite.
    span = (high / 2 - low / 2) or 1.0

    def down(height: float) -> float:
        return _TOP + (_CURVE_HEIGHT - _TOP - _BOTTOM) * ((high / 2 - height / 2) / span)

    lines, labels = [], []
    for value, label in ticks:
        y = down(value)
        lines.append(f'<line x1="{margin}" x2="{end}" y1="{y:.5g}" y2="{y:.5g}"/>')
        labels.append(_label(margin - 6, y + 4, "end", label))
    for step, label in step_ticks(picture.steps, picture.unit):
        x = margin + step * across
        labels.append(_label(x, _CURVE_HEIGHT - 6, "end" if step == picture.steps else "middle", label))
    points = " ".join(
        f"{margin + x * across:.5g},{down(y):.5g}" for x, y in zip(picture.x, heights, strict=True)
    )
    body = (
        f'<g stroke="{_LINE}" stroke-width="1">{"".join(lines)}</g>'
        f'<g fill="{GREY}" font-family="sans-serif" font-size="11">{"".join(labels)}</g>'
        f'<polyline points="{points}" fill="none" stroke="{ACCENT}" stroke-width="1.6" '
        'stroke-linejoin="round"/>'
    )
    drawing = _svg(_CURVE_WIDTH, _CURVE_HEIGHT, body)
    return image(drawing, _CURVE_WIDTH, _CURVE_HEIGHT, _in_words(picture), "display:block;max-width:100%;")


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.5g}" y="{y:.5g}" text-anchor="{anchor}">{escape(text)}</text>'


def _in_words(picture: Curve) -> str:
    first, last = numbers.pair(picture.first, picture.last)
    return f"{picture.name} from {first} to {last} over {numbers.count(picture.steps)} {picture.unit}"


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Whole powers of ten around a range of exponents, five at the most."""
    first, last = math.floor(low), math.ceil(high)
    every = max(1, math.ceil((last - first) / 4))
    first = last - every * math.ceil((last - first) / every)
    return [(float(e), numbers.power_of_ten(e)) for e in range(first, last + 1, every)]


def linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers around a range, five at the most."""
    if not 1e-300 < high - low < math.inf:
        return [(low, numbers.number(low)), *([(high, numbers.number(high))] if high != low else [])]
    rough = (high - low) / 3
    base = 10.0 ** math.floor(math.log10(rough))
    size = next(base * k for k in (1, 2, 2.5, 5, 10) if base * k >= rough * 0.999)
    first, last = math.floor(low / size), math.ceil(high / size)
    # A range too narrow for its place on the axis, or whose round numbers are past what a float holds.
    if last - first > 8 or not math.isfinite(first * size) or not math.isfinite(last * size):
        return [(low, numbers.number(low, 6)), (high, numbers.number(high, 6))]
    return [
        (k * size, numbers.number(round(k * size, 12) if abs(size) > 1e-9 else k * size))
        for k in range(first, last + 1)
    ]


def step_ticks(steps: int, unit: str) -> list[tuple[float, str]]:
    """Round places along the run, and its end with the unit.

    >>> step_ticks(1000, "steps")
    [(0.0, '0'), (250.0, '250'), (500.0, '500'), (750.0, '750'), (1000.0, '1,000 steps')]
    """
    base = 10 ** max(0, len(str(steps // 4)) - 1)
    sizes = [round(base * k) for k in (1, 2, 2.5, 5, 10) if base > 1 or k != 2.5]
    size = next(size for size in sizes if 4 * size >= steps)
    # The label at the end, with its unit, needs room: about 6 pixels a character, of some 500.
    room = 1 - (6 * len(f"{steps:,} {unit}") + 3 * len(f"{steps:,}") + 8) / 500
    places = [place for place in range(0, steps, size) if place <= room * steps]
    return [*((float(place), numbers.count(place)) for place in places), (float(steps), f"{steps:,} {unit}")]
