"""The curve of a run as a picture that adapts to the width of the page, and the ticks of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT, SECOND, Curve
from tape_magic.display.pictures.svg import hairlines, image, label, labels

_WIDTH, _HEIGHT = 560, 160
_EXPONENTS = (1, 2, 3, 5, 10, 20, 25, 50, 100, 200)
"""The distances between two ticks on a logarithmic axis, in decades."""

_STYLE = "display:block;max-width:100%;height:{}px;"
"""The style of the picture. On a narrow page only the width shrinks: smaller labels would be illegible."""

_KEY = 20
"""Pixels above a picture of two curves, which name them."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 24

_NARROW = 280
"""Pixels of the narrowest page that holds the whole curve in WebKit, which leaves a margin on wide pages."""

_DOTS = 24
"""The most means that are marked by dots."""

_HAIR = 1e-9
_DIGIT, _GAP = 6, 8
"""Pixels of a character in the labels below the axis, roughly, and the least pixels between two labels."""


def curve(picture: Curve) -> str:
    """Return a curve with hairlines and axes, as an ``<img>``."""
    # Without a size and a viewBox of its own, the picture takes the size of the image and is not scaled.
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="100%">'
    height = _height(picture)
    words, style = _in_words(picture), _STYLE.format(height)
    return image(f"{head}{_axes_and_line(picture)}</svg>", _WIDTH, height, words, style)


def inline_curve(picture: Curve) -> str:
    """Return the same picture as an ``<svg>``, which does not flicker when it changes."""
    words = escape(_in_words(picture), quote=True)
    height = _height(picture)
    size = f'width="{_WIDTH}" height="{height}" style="{_STYLE.format(height)}"'
    head = f'<svg role="img" aria-label="{words}" {size}>'
    return f'<div style="container-type:inline-size;">{head}{_axes_and_line(picture)}</svg></div>'


def _height(picture: Curve) -> int:
    return _HEIGHT + (_KEY if picture.other_name else 0)


def _axes_and_line(picture: Curve) -> str:
    """Return the axes and the line between them; the labels keep their size in a picture of any width."""
    heights, lowest, highest = (
        [math.log10(y) if picture.log else y for y in ys] for ys in (picture.y, *picture.pale[1:])
    )
    others = [math.log10(y) if picture.log else y for y in picture.other[1]]
    least = min(*heights, *lowest, *others, math.inf)
    most = max(*heights, *highest, *others, -math.inf)
    ticks = log_ticks(least, most) if picture.log else linear_ticks(least, most)
    low, high = min(least, ticks[0][0]), max(most, ticks[-1][0])
    # A wide label, such as −1.25e−12, needs room of its own.
    left = max(_LEFT, 8 + 7 * max(len(label) for _, label in ticks))
    tall, wide = _HEIGHT - _TOP - _BOTTOM, _WIDTH - left - _RIGHT
    across = wide / (picture.steps or 1)
    # In halves, since the distance between −1.7e308 and 1.7e308 is infinite.
    span = (high / 2 - low / 2) or 1.0

    def down(height: float) -> float:
        return tall * ((high / 2 - height / 2) / span)

    levels = [(down(value), text) for value, text in ticks]
    along = list(picture.ticks) or step_ticks(picture.steps, picture.unit)
    places = [x * across for x in picture.x], [down(y) for y in heights]
    drawn = _line(*places, 'stroke-width="1.6"')
    if picture.means:
        sides = ([down(y) for y in ys] for ys in (lowest, highest))
        drawn = _behind([x * across for x in picture.pale[0]], *sides) + drawn + _dots(*places)
    top = _TOP
    if picture.other_name:
        beside = [x * across for x in picture.other[0]], [down(y) for y in others]
        drawn += _line(*beside, 'stroke-width="1.6"', SECOND) + _dots(*beside, SECOND)
        top += _KEY
    # WebKit ignores the width in the style below, and uses this share, which fits on a narrow page as well.
    share = 100 * (1 - (left + _RIGHT) / _NARROW)
    stretched = f' viewBox="0 0 {wide} {tall}" preserveAspectRatio="none"'
    return (
        # foreignObject is the only container in SVG whose width can be the whole width less the margins.
        f'{_key(picture, left)}<foreignObject x="{left}" y="{top}" width="{share:.4g}%" height="{tall}" '
        f'style="width:calc(100% - {left + _RIGHT}px);overflow:visible;">{_svg(tall)}'
        f"{hairlines(*((0, y, '100%', y) for y, _ in levels))}"
        f"{labels(*(label(-6, y + 4, 'end', text) for y, text in levels), *_steps(along, left, tall + 18))}"
        f"{_marked(picture, tall)}{_svg(tall, stretched)}{drawn}</svg></svg></foreignObject>"
    )


def _marked(picture: Curve, tall: int) -> str:
    """Return a vertical line at the mark of a curve, and its label beside the upper end."""
    if picture.mark is None:
        return ""
    at, text = picture.mark
    share = at / (picture.steps or 1)
    style = f'stroke="{SECOND}" stroke-width="1.4" stroke-dasharray="4 3"'
    side, anchor = (6, "start") if share < 0.7 else (-6, "end")
    return (
        f'<line x1="{100 * share:.5g}%" y1="0" x2="{100 * share:.5g}%" y2="{tall}" {style}/>'
        f'<text x="{100 * share:.5g}%" dx="{side}" y="9" text-anchor="{anchor}" fill="{SECOND}" '
        f'font-family="sans-serif" font-size="11" font-weight="bold">{escape(text)}</text>'
    )


def _behind(across: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    """Return pale values: a line, or the area from the lowest to the highest, since a line would scribble."""
    if low == high:
        return _line(across, low, 'stroke-width="1" stroke-opacity="0.4"')
    outline = [*zip(across, high, strict=True), *reversed([*zip(across, low, strict=True)])]
    return f'<polygon points="{_points(outline)}" fill="{ACCENT}" fill-opacity="0.22"/>'


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in places)


def _key(picture: Curve, left: float) -> str:
    """Return the names of two curves above them, each behind a piece of its line."""
    if not picture.other_name:
        return ""
    x, parts = left, []
    for name, colour in (("training", ACCENT), (picture.other_name, SECOND)):
        line = f'<line x1="{x:g}" y1="9" x2="{x + 16:g}" y2="9" stroke="{colour}" stroke-width="2"/>'
        parts += [line, label(x + 21, 13, "start", name)]
        x += 21 + _DIGIT * len(name) + 16
    return labels(*parts)


def _dots(across: Sequence[float], down: Sequence[float], colour: str = ACCENT) -> str:
    """Return a dot at each place, unless these are many."""
    if len(across) > _DOTS:
        return ""
    # Lines without a length and with round ends: circles would become ellipses.
    dots = "".join(f"M{x:.5g} {y:.5g}h0" for x, y in zip(across, down, strict=True))
    style = 'stroke-width="5" stroke-linecap="round" vector-effect="non-scaling-stroke"'
    return f'<path d="{dots}" stroke="{colour}" {style}/>'


def _line(across: Sequence[float], down: Sequence[float], style: str, colour: str = ACCENT) -> str:
    """Return a line through places; only its width does not follow that of the picture."""
    return (
        f'<polyline points="{_points(zip(across, down, strict=True))}" fill="none" stroke="{colour}" {style} '
        'stroke-linejoin="round" vector-effect="non-scaling-stroke"/>'
    )


def _svg(height: int, more: str = "") -> str:
    """Return the opening tag of a picture of full width, whose lines and labels may cross its edges."""
    style = f"display:block;width:100%;height:{height}px;overflow:visible;"
    return f'<svg width="100%" height="{height}" style="{style}"{more}>'


def _steps(ticks: Sequence[tuple[float, str]], left: float, y: float) -> list[str]:
    """Return labels at their shares of the width; a label between the ends vanishes where it has no room."""
    end = ticks[-1][0] or 1.0
    least = [0, *(math.ceil(left + _RIGHT + room) for room in rooms(ticks)), 0]
    # In an image, the container is the image itself. A style sheet could say the same, but each time that one
    # comes or goes, the browser recomputes the styles of the whole page.
    size = "font-size:clamp(0px,99*(100cqw - {}px),11px)"
    return [
        label(
            f"{100 * step / end:.5g}%",
            y,
            "end" if place == len(ticks) - 1 else "middle",
            text,
            size.format(width) if width else "",
        )
        for place, ((step, text), width) in enumerate(zip(ticks, least, strict=True))
    ]


def rooms(ticks: Sequence[tuple[float, str]]) -> list[float]:
    """Return the least pixels from end to end at which each label between the ends is shown.

    Where neighbours would touch, all of these labels vanish together.
    """
    (end, last), between = ticks[-1], ticks[1:-1]
    each = _DIGIT * max((len(text) for _, text in between), default=0) + _GAP
    return [
        max(
            each * end / between[0][0],
            (_DIGIT * (len(last) + len(text) / 2) + _GAP) / (1 - step / end),
        )
        for step, text in between
    ]


def _in_words(picture: Curve) -> str:
    if picture.words:
        return picture.words
    first, last = numbers.pair(picture.first, picture.last)
    means = f", the means of {picture.means}" if picture.means else ""
    words = f"{picture.name} from {first} to {last} over {numbers.count(picture.steps)} {picture.unit}{means}"
    if not picture.other_name:
        return words
    first, last = numbers.pair(picture.other[1][0], picture.other[1][-1])
    return f"{words}; {picture.other_name} from {first} to {last}"


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return round powers of ten within or next to a range of exponents, at most five."""
    first, last = math.floor(low), math.ceil(high)
    every = next(size for size in _EXPONENTS if 4 * size >= last - first)
    first = every * math.ceil(first / every)
    return [(float(e), numbers.power_of_ten(e)) for e in range(first, last + 1, every)]


def linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return round numbers around a range, at most five."""
    if not 1e-300 < high - low < math.inf:
        return [(low, numbers.number(low)), *([(high, numbers.number(high))] if high != low else [])]
    rough = (high - low) / 3
    base = 10.0 ** math.floor(math.log10(rough))
    size = next(base * k for k in (1, 2, 2.5, 5, 10) if base * k >= rough * 0.999)
    # Rounding puts a round start such as −1e300 slightly off a whole multiple of the size 1e299.
    first, last = math.floor(low / size + _HAIR), math.ceil(high / size - _HAIR)
    # The range is too narrow for floats to resolve, or its round numbers exceed the largest float.
    if last - first > 8 or not math.isfinite(first * size) or not math.isfinite(last * size):
        return [(low, numbers.number(low, 6)), (high, numbers.number(high, 6))]
    values = [k * size for k in range(first, last + 1)]
    rounded = [round(value, 12) if abs(size) > 1e-9 else value for value in values]
    return list(zip(values, _in_full(rounded, size), strict=True))


def _in_full(values: list[float], size: float) -> list[str]:
    """Return multiples of a size with all their digits, so that no two read alike."""
    digits = 4
    while digits < 16 and any(abs(float(f"{value:.{digits}g}") - value) > size / 1000 for value in values):
        digits += 1
    return [numbers.number(value, digits) for value in values]


def step_ticks(steps: int, unit: str) -> list[tuple[float, str]]:
    """Return round steps along the run, and its end with the unit.

    >>> step_ticks(1000, "steps")
    [(0.0, '0'), (250.0, '250'), (500.0, '500'), (750.0, '750'), (1000.0, '1,000 steps')]
    """
    base = 10 ** max(0, len(str(steps // 4)) - 1)
    sizes = [round(base * k) for k in (1, 2, 2.5, 5, 10) if base > 1 or k != 2.5]
    size = next(size for size in sizes if 4 * size >= steps)
    # The label at the end, with its unit, needs room: about 6 of some 500 pixels for each character.
    room = 1 - (6 * len(f"{steps:,} {unit}") + 3 * len(f"{steps:,}") + 8) / 500
    places = [place for place in range(0, steps, size) if place <= room * steps]
    return [*((float(place), numbers.count(place)) for place in places), (float(steps), f"{steps:,} {unit}")]
