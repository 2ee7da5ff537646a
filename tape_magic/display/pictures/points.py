"""A histogram and a cloud of points, with axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT
from tape_magic.display.pictures.curve import linear_ticks
from tape_magic.display.pictures.svg import LETTER, PICTURE, columns, drawing, hairlines, image, label, labels

_WIDTH, _HEIGHT = 440, 240
_RIGHT, _TOP, _BOTTOM = 14, 10, 38
_MIDDLE = (_TOP + _HEIGHT - _BOTTOM) / 2


def histogram(counts: Sequence[int], least: float, greatest: float, name: str) -> str:
    """Return a histogram of equal bins from the least to the greatest value; `name` stands below the axis."""
    most = max(counts)
    frame = _Frame((least, greatest), (0.0, float(most)), exact=True)
    top = round(float(frame.down(np.array(float(most)))))  # the axis ends at a round number above it
    wide, high = frame.right - frame.left, _HEIGHT - _BOTTOM - top
    bars = (
        f'<svg x="{frame.left}" y="{top}" width="{wide}" height="{high}" '
        f'viewBox="0 0 {len(counts)} {high}" preserveAspectRatio="none">'
        f'<path d="{columns(counts, high)}" stroke="{ACCENT}" stroke-width="0.9"/></svg>'
    )
    ends = numbers.spread(least, greatest)
    words = f"histogram of {name}, {ends}, at most {numbers.count(most)} in each of {len(counts)} bins"
    return image(drawing(_WIDTH, _HEIGHT, frame.axes(name, "") + bars), _WIDTH, _HEIGHT, words, PICTURE)


def scatter(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], x_name: str, y_name: str) -> str:
    """Return a scatter plot of finite points, with the names of both axes."""
    frame = _Frame((float(x.min()), float(x.max())), (float(y.min()), float(y.max())))
    across, down = frame.across(x), frame.down(y)
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(across.tolist(), down.tolist(), strict=True))
    width = 3 if len(x) < 500 else 2
    body = frame.axes(x_name, y_name) + (
        f'<path d="{dots}" stroke="{ACCENT}" stroke-opacity="0.6" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )
    words = f"{y_name} against {x_name}, {numbers.count(len(x))} points"
    return image(drawing(_WIDTH, _HEIGHT, body), _WIDTH, _HEIGHT, words, PICTURE)


class _Frame:
    """The axes of a picture, which map values to pixels and end at round numbers.

    With `exact`, the horizontal axis ends at the least and the greatest value, which label it.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, exact: bool = False) -> None:
        self._x_ticks, self._y_ticks = linear_ticks(*x), linear_ticks(*y)
        if exact:
            near = (x[1] / 2 - x[0] / 2) * 0.4
            between = [tick for tick in self._x_ticks if x[0] + near < tick[0] < x[1] - near]
            self._x_ticks = [*between, *zip(x, numbers.pair(*x, numbers.rounded), strict=True)]
        self._x, self._y = _range(x, self._x_ticks), _range(y, self._y_ticks)
        self.left = round(26 + LETTER * max(len(text) for _, text in self._y_ticks))
        self.right = _WIDTH - _RIGHT

    def across(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the distances of values from the left edge, in pixels."""
        return self.left + (self.right - self.left) * _share(x, self._x)

    def down(self, y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the distances of values from the top edge, in pixels."""
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * _share(y, self._y)

    def axes(self, x_name: str, y_name: str) -> str:
        """Return the hairlines, the labels of the ticks and the names."""
        lines, texts = [], []
        for value, text in self._y_ticks:
            y = float(self.down(np.array(value)))
            lines.append((self.left, y, self.right, y))
            texts.append(label(self.left - 6, y + 4, "end", text))
        for value, text in self._x_ticks:
            x = float(self.across(np.array(value)))
            if self.left - 1 <= x <= self.right + 1:
                room = x + LETTER * len(text) / 2 < _WIDTH
                texts.append(
                    label(x if room else _WIDTH - 2, _HEIGHT - 22, "middle" if room else "end", text)
                )
        texts.append(label((self.left + self.right) / 2, _HEIGHT - 6, "middle", x_name))
        side = f'<g transform="rotate(-90 10 {_MIDDLE:g})">{label(10, _MIDDLE, "middle", y_name)}</g>'
        return hairlines(*lines) + labels(*texts, *([side] if y_name else []))


def _range(ends: tuple[float, float], ticks: list[tuple[float, str]]) -> tuple[float, float]:
    values = [*ends, *(value for value, _ in ticks)]
    return min(values), max(values)


def _share(values: np.ndarray[Any, Any], ends: tuple[float, float]) -> np.ndarray[Any, Any]:
    """Return the places of values between the ends, from 0 to 1.

    The computation is in halves, since the difference between -1e308 and 1e308 is infinite.
    """
    low, high = ends[0] / 2, ends[1] / 2
    return (values / 2 - low) / (high - low) if high > low else np.full_like(values, 0.5, np.float64)
