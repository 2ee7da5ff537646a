"""The curve of a run as a picture, and the ticks of axes."""

from __future__ import annotations

import math
from html import escape

from tape_magic.display import numbers
from tape_magic.display.document import Curve
from tape_magic.display.svg import ACCENT, drawing, hairlines, image, label, labels

_WIDTH, _HEIGHT = 560, 160
_EXPONENTS = (1, 2, 3, 5, 10, 20, 25, 50, 100, 200)
"""How far apart two ticks can be on a logarithmic axis."""

_STYLE = "display:block;max-width:100%;min-width:400px;"
"""On a narrow page it is scrolled, since its labels could not be read there."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 24


def curve(picture: Curve) -> str:
    """A curve with hairlines and readable axes, as an ``<img>``."""
    return image(_drawn(picture), _WIDTH, _HEIGHT, _in_words(picture), _STYLE)


def inline_curve(picture: Curve) -> str:
    """The same as an ``<svg>``, which does not flicker when it changes."""
    words = escape(_in_words(picture), quote=True)
    head = f'<svg role="img" aria-label="{words}" style="{_STYLE}height:auto;" '
    return head + _drawn(picture).removeprefix("<svg ")


def _drawn(picture: Curve) -> str:
    heights = [math.log10(value) for value in picture.y] if picture.log else list(picture.y)
    ticks = log_ticks(min(heights), max(heights)) if picture.log else linear_ticks(min(heights), max(heights))
    low, high = min(*heights, ticks[0][0]), max(*heights, ticks[-1][0])
    # A wide label, such as −1.25e−12, needs room of its own.
    margin = max(_LEFT, 8 + 7 * max(len(label) for _, label in ticks))
    end = _WIDTH - _RIGHT
    across = (end - margin) / (picture.steps or 1)
    # In halves, since the distance between −1.7e308 and 1.7e308 is infinite.
    span = (high / 2 - low / 2) or 1.0

    def down(height: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * ((high / 2 - height / 2) / span)

    lines, texts = [], []
    for value, text in ticks:
        y = down(value)
        lines.append((margin, y, end, y))
        texts.append(label(margin - 6, y + 4, "end", text))
    for step, text in step_ticks(picture.steps, picture.unit):
        x = margin + step * across
        texts.append(label(x, _HEIGHT - 6, "end" if step == picture.steps else "middle", text))
    points = " ".join(
        f"{margin + x * across:.5g},{down(y):.5g}" for x, y in zip(picture.x, heights, strict=True)
    )
    body = (
        f"{hairlines(*lines)}{labels(*texts)}"
        f'<polyline points="{points}" fill="none" stroke="{ACCENT}" stroke-width="1.6" '
        'stroke-linejoin="round"/>'
    )
    return drawing(_WIDTH, _HEIGHT, body)


def _in_words(picture: Curve) -> str:
    first, last = numbers.pair(picture.first, picture.last)
    return f"{picture.name} from {first} to {last} over {numbers.count(picture.steps)} {picture.unit}"


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round powers of ten within or next to a range of exponents, five at the most."""
    first, last = math.floor(low), math.ceil(high)
    every = next(size for size in _EXPONENTS if 4 * size >= last - first)
    first = every * math.ceil(first / every)
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
    values = [k * size for k in range(first, last + 1)]
    rounded = [round(value, 12) if abs(size) > 1e-9 else value for value in values]
    return list(zip(values, _in_full(rounded, size), strict=True))


def _in_full(values: list[float], size: float) -> list[str]:
    """Multiples of a size with as many digits as they have: no two read alike, and none is rounded."""
    digits = 4
    while digits < 16 and any(abs(float(f"{value:.{digits}g}") - value) > size / 1000 for value in values):
        digits += 1
    return [numbers.number(value, digits) for value in values]


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
