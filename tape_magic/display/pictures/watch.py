"""The last minute of one device as a picture: memory as a filled curve, load as a line."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT, GREY
from tape_magic.display.pictures.svg import drawing, hairlines, image, label, labels

SECONDS = 60
"""The seconds that the picture covers."""

_WIDTH, _HEIGHT = 560, 84
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 104, 8, 20
_APART = 13
"""The least pixels between two labels."""

Points = Sequence[tuple[float, float]]


def watch_picture(name: str, memory: Points, load: Points) -> str:
    """Return the picture of two curves: shares from 0 to 1 over seconds before now, which are 0 or less."""
    across = (_WIDTH - _LEFT - _RIGHT) / SECONDS
    tall = _HEIGHT - _TOP - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        seconds, share = point
        x = _LEFT + (max(seconds, -SECONDS) + SECONDS) * across
        return x, _TOP + tall * (1 - min(max(share, 0.0), 1.0))

    end, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    scale = [(share, _TOP + tall * (1 - share)) for share in (0.0, 0.5, 1.0)]
    axis = [label(_LEFT - 6, y + 4, "end", f"{100 * share:.0f}{numbers.NARROW}%") for share, y in scale]
    axis += [
        label(_LEFT + (SECONDS - ago) * across, _HEIGHT - 4, "middle", text)
        for ago, text in ((60, f"{numbers.MINUS}60{numbers.NARROW}s"), (30, f"{numbers.MINUS}30"), (0, "now"))
    ]
    held, busy = list(map(place, memory)), list(map(place, load))
    body = hairlines(*((_LEFT, y, end, y) for _, y in scale)) + labels(*axis)
    if held:
        outline = f"{held[0][0]:.5g},{floor} {_joined(held)} {held[-1][0]:.5g},{floor}"
        body += f'<polygon points="{outline}" fill="{ACCENT}" fill-opacity="0.22"/>{_line(held, ACCENT, 1.8)}'
    if busy:
        body += _line(busy, GREY, 1.4)
    body += _ends(held, busy, memory, load, end)
    values = [f"{what} {numbers.percent(points[-1][1])}" for what, points in _named(memory, load) if points]
    svg = drawing(_WIDTH, _HEIGHT, body)
    return image(
        svg, _WIDTH, _HEIGHT, f"{name}: {', '.join(values)}", "display:block;max-width:100%;height:auto;"
    )


def _named(memory: Points, load: Points) -> tuple[tuple[str, Points], tuple[str, Points]]:
    return ("memory", memory), ("load", load)


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.5g},{y:.5g}" for x, y in places)


def _line(places: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    # A single point would not be drawn.
    drawn = [*places, (places[-1][0] + 0.5, places[-1][1])]
    return (
        f'<polyline points="{_joined(drawn)}" fill="none" stroke="{colour}" stroke-width="{width}" '
        'stroke-linejoin="round"/>'
    )


def _ends(held: Points, busy: Points, memory: Points, load: Points, end: float) -> str:
    """Return the names and present values of the curves beside their ends, clear of each other."""
    curves = zip(_named(memory, load), (held, busy), (ACCENT, GREY), strict=True)
    found = [
        (places[-1][1] + 4, f"{what} {numbers.percent(points[-1][1])}", colour)
        for (what, points), places, colour in curves
        if points
    ]
    heights = [height for height, _, _ in found]
    if len(heights) == 2 and abs(heights[0] - heights[1]) < _APART:
        middle = min(max(sum(heights) / 2, _TOP + 10), _HEIGHT - _BOTTOM - 3)
        half = _APART / 2 if heights[0] > heights[1] else -_APART / 2
        heights = [middle + half, middle - half]
    return "".join(
        f'<g fill="{colour}" font-family="sans-serif" font-size="11">{label(end + 6, y, "start", text)}</g>'
        for y, (_, text, colour) in zip(heights, found, strict=True)
    )
