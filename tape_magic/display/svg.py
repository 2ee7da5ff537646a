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
        f'alt="{escape(alt, quote=True)}" style="max-width:100%;{style}">'
    )


def _svg(width: int, height: int, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{body}</svg>'
    )


def bar(share: float, width: int = 110, height: int = 8) -> str:
    """A length from 0 to 1 on a faint track."""
    filled = round(width * min(max(share, 0.0), 1.0), 1)
    body = f'<rect width="{width}" height="{height}" fill="{_FAINT}"/>'
    body += f'<rect width="{filled:g}" height="{height}" fill="{ACCENT}"/>'
    return image(_svg(width, height, body), width, height, f"{100 * share:.0f} %", "vertical-align:middle;")


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
    return image(_svg(width, height, body), width, height, "histogram", "vertical-align:middle;")


def curve(picture: Curve) -> str:
    """A curve with hairlines and readable axes."""
    scale = [math.log10(value) for value in picture.y] if picture.log else list(picture.y)
    ticks = log_ticks(min(scale), max(scale)) if picture.log else linear_ticks(min(scale), max(scale))
    low, high = min(scale[scale.index(min(scale))], ticks[0][0]), max(max(scale), ticks[-1][0])
    left, right = picture.x[0], picture.x[-1]
    # A wide label, such as −1.25e−12, needs room of its own.
    margin = max(_LEFT, 8 + 7 * max(len(label) for _, label in ticks))
    across = (_CURVE_WIDTH - margin - _RIGHT) / ((right - left) or 1.0)
    down = (_CURVE_HEIGHT - _TOP - _BOTTOM) / ((high - low) or 1.0)

    def at(x: float, y: float) -> tuple[float, float]:
        return margin + (x - left) * across, _TOP + (high - y) * down

    lines = "".join(
        f'<line x1="{margin}" x2="{_CURVE_WIDTH - _RIGHT}" y1="{at(left, y)[1]:.5g}" y2="{at(left, y)[1]:.5g}"/>'
        for y, _ in ticks
    )
    labels = "".join(
        f'<text x="{margin - 6}" y="{at(left, y)[1] + 4:.5g}" text-anchor="end">{escape(label)}</text>'
        for y, label in ticks
    )
    labels += "".join(_step_label(at(x, low)[0], label) for x, label in _step_ticks(left, right, picture.unit))
    points = " ".join(
        f"{px:.5g},{py:.5g}" for px, py in (at(x, y) for x, y in zip(picture.x, scale, strict=True))
    )
    body = (
        f'<g stroke="{_LINE}" stroke-width="1">{lines}</g>'
        f'<g fill="{GREY}" font-family="sans-serif" font-size="11">{labels}</g>'
        f'<polyline points="{points}" fill="none" stroke="{ACCENT}" stroke-width="1.6" stroke-linejoin="round"/>'
    )
    first, last = numbers.pair(picture.first, picture.last)
    alt = f"{picture.name} from {first} to {last} over {numbers.count(int(right - left))} {picture.unit}"
    return image(_svg(_CURVE_WIDTH, _CURVE_HEIGHT, body), _CURVE_WIDTH, _CURVE_HEIGHT, alt, "display:block;")


def _step_label(x: float, label: str) -> str:
    anchor = "end" if x > _CURVE_WIDTH - 60 else "middle"
    return f'<text x="{x:.5g}" y="{_CURVE_HEIGHT - 6}" text-anchor="{anchor}">{escape(label)}</text>'


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Whole powers of ten around a range of exponents, five at the most."""
    first, last = math.floor(low), math.ceil(high)
    every = max(1, math.ceil((last - first) / 4))
    first = last - every * math.ceil((last - first) / every)
    return [(float(e), numbers.power_of_ten(e)) for e in range(first, last + 1, every)]


def linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers around a range, five at the most."""
    if not math.isfinite(high - low) or high == low:
        return [(low, numbers.number(low)), *([(high, numbers.number(high))] if high != low else [])]
    rough = (high - low) / 3
    base = 10.0 ** math.floor(math.log10(rough))
    size = next(base * k for k in (1, 2, 2.5, 5, 10) if base * k >= rough * 0.999)
    first, last = math.floor(low / size), math.ceil(high / size)
    if last - first > 8:  # a range too narrow for its place on the axis
        return [(low, numbers.number(low, 6)), (high, numbers.number(high, 6))]
    return [(k * size, numbers.number(round(k * size, 12) if abs(size) > 1e-9 else k * size)) for k in range(first, last + 1)]


def _step_ticks(left: float, right: float, unit: str) -> list[tuple[float, str]]:
    """Four places along the run, the last one with the unit."""
    count = min(4, max(1, int(right - left)))
    places = [round(left + (right - left) * k / count) for k in range(count + 1)]
    labels = [numbers.count(place) for place in places]
    labels[-1] += f" {unit}"
    return list(zip([float(place) for place in places], labels, strict=True))
