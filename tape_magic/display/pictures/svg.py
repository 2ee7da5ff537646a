"""The elements of SVG pictures, and the small marks in tables.

An ``<img>`` survives in an untrusted notebook, where inline SVG is taken out; it cannot see the
page's theme, so its colours read on white and on near-black.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from tape_magic.display.content.document import ACCENT, FAINT, GREY
from tape_magic.display.content.width import one_line

LINE = "rgba(138,143,152,0.4)"

PICTURE = "display:block;max-width:100%;height:auto;margin:4px 0;"
"""The style of a picture that is scaled as a whole on a narrow page."""

LETTER = 6.4
"""The pixels of a character in a label, roughly."""


def image(svg: str, width: int, height: int, alt: str, style: str = "") -> str:
    """Return an ``<img>`` that holds the picture; `alt` describes it in words."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<img src="data:image/svg+xml;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(one_line(alt), quote=True)}" style="{style}">'
    )


def drawing(width: int, height: int, body: str, *, stretches: bool = False) -> str:
    """Return a picture of that size in pixels; with `stretches`, it follows any change of its shape."""
    ratio = ' preserveAspectRatio="none"' if stretches else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"{ratio}>{body}</svg>'
    )


def bar(share: float, width: int = 110, height: int = 8, *, behind: float | None = None) -> str:
    """Return a bar with a length from 0 to 1 on a faint track, before a longer bar in grey."""
    filled = round(width * min(max(share, 0.0), 1.0), 1)
    body = f'<rect width="{width}" height="{height}" fill="{FAINT}"/>'
    if behind is not None:
        more = round(width * min(max(behind, 0.0), 1.0), 1)
        body += f'<rect width="{more:g}" height="{height}" fill="{GREY}" fill-opacity="0.55"/>'
    body += f'<rect width="{filled:g}" height="{height}" fill="{ACCENT}"/>'
    return image(
        drawing(width, height, body, stretches=True),
        width,
        height,
        f"{100 * share:.0f} %" + (f" of {100 * behind:.0f} %" if behind is not None else ""),
        _inline(width, height),
    )


def strip(counts: Sequence[int], width: int = 96, height: int = 18) -> str:
    """Return a histogram as a strip of columns."""
    body = f'<path d="{columns(counts, height)}" stroke="{ACCENT}" stroke-opacity="0.75" stroke-width="0.8"/>'
    box = f'viewBox="0 0 {len(counts)} {height}" preserveAspectRatio="none"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {box}>{body}</svg>'
    return image(svg, width, height, "histogram", _inline(width, height))


def line(heights: Sequence[float], colour: str = ACCENT, width: int = 96, height: int = 18) -> str:
    """Return a small curve without axes, from its least to its greatest height."""
    low, high = min(heights), max(heights)
    across, room = (width - 2) / max(len(heights) - 1, 1), height - 4
    # In halves, since the distance between −1.7e308 and 1.7e308 is infinite.
    span = high / 2 - low / 2
    shares = [(high / 2 - one / 2) / span if span else 0.5 for one in heights]
    points = " ".join(f"{1 + i * across:.5g},{2 + room * share:.5g}" for i, share in enumerate(shares))
    drawn = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
    body = drawing(width, height, drawn, stretches=True)
    return image(body, width, height, "curve", _inline(width, height))


def columns(counts: Sequence[int], height: int) -> str:
    """Return the path of one column for each count, a unit apart; a count above 0 is visible."""
    most = max(counts)
    heights = [max(1, round(height * count / most)) if count else 0 for count in counts]
    return "".join(f"M{i + 0.5:g} {height}v-{h}" for i, h in enumerate(heights) if h)


def _inline(width: int, height: int) -> str:
    """Return the style of a picture inside a table, which may shrink to a fifth of its width."""
    size = f"width:100%;min-width:{width // 5}px;max-width:{width}px;height:{height}px;"
    return f"vertical-align:middle;{size}"


def label(x: float | str, y: float, anchor: str, text: str, style: str = "") -> str:
    """Return a text in a picture; `anchor` is ``start``, ``middle`` or ``end``."""
    styled = f' style="{style}"' if style else ""
    return f'<text{styled} x="{_place(x)}" y="{y:.5g}" text-anchor="{anchor}">{escape(one_line(text))}</text>'


def labels(*parts: str) -> str:
    """Return a group of labels in one style."""
    return f'<g fill="{GREY}" font-family="sans-serif" font-size="11">{"".join(parts)}</g>'


def hairlines(*lines: tuple[float, float, float | str, float]) -> str:
    """Return faint lines, each from x, y to x, y."""
    drawn = "".join(
        f'<line x1="{x1:.5g}" y1="{y1:.5g}" x2="{_place(x2)}" y2="{y2:.5g}"/>' for x1, y1, x2, y2 in lines
    )
    return f'<g stroke="{LINE}" stroke-width="1">{drawn}</g>'


def _place(x: float | str) -> str:
    """Return a place in pixels as text, and a share of the width unchanged."""
    return x if isinstance(x, str) else f"{x:.5g}"
