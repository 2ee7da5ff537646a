"""Numbers as text for readers: a true minus, narrow spaces before units, few digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tape_magic.errors import size_text

MINUS = "−"
NARROW = "\u202f"
"""The space between a number and its unit: narrow, and no line breaks there."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: complex, digits: int = 4) -> str:
    """Return a number to `digits` significant digits, or to more if it would else look like a whole number.

    >>> number(-2.0), number(0.99999857), number(2.861e-6), number(1234567.0), number(1234.5678)
    ('−2', '0.9999986', '2.861e−6', '1,234,567', '1,234.57')
    """
    if isinstance(value, complex):
        sign = MINUS if value.imag < 0 or (value.imag == 0 and math.copysign(1, value.imag) < 0) else "+"
        return f"{number(value.real, digits)} {sign} {number(abs(value.imag), digits)}j"
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else f"{MINUS}inf"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", MINUS) if abs(value) < 1e7 else _general(value, digits)
    return _general(value, _digits_needed(value, digits))


def _digits_needed(value: float, digits: int) -> int:
    """Return the number of digits that shows that a number is not whole: 0.9999986 must not read 1."""
    for more in range(digits, 17):
        if not float(f"{value:.{more}g}").is_integer() or abs(value) >= 10**more:
            return more if more == digits else more + 1
    return 17


def measure(value: float, digits: int) -> str:
    """Return a norm or the like to `digits` digits, however near it is to a whole number.

    >>> measure(1.967, 2), measure(29.38, 2), measure(3.0, 2)
    ('2.0', '29', '3')
    """
    if not math.isfinite(value) or value == int(value):
        return number(value, digits)
    return _short(f"{value:#,.{digits}g}")


def rounded(value: complex, digits: int = 4) -> str:
    """Return a result of arithmetic, such as an eigenvalue, to `digits` digits, also near a whole number.

    >>> rounded(1.00004), rounded(0.5), rounded(2.0), rounded(12678.9)
    ('1.000', '0.5', '2', '12,680')
    """
    if isinstance(value, complex) or not math.isfinite(value):
        return number(value, digits)
    near = float(f"{value:.{digits}g}")
    if value == int(value) or not near.is_integer():
        return number(value, digits)
    return measure(value, digits) if abs(near) < 10**digits else number(near, digits)


def _general(value: float, digits: int) -> str:
    return _short(f"{value:,.{digits}g}")


def _short(text: str) -> str:
    """Return a number in Python's notation without its plus sign, leading zeros and trailing point."""
    mantissa, e, exponent = text.partition("e")
    text = f"{mantissa}e{int(exponent)}" if e else mantissa.rstrip(".")
    return text.replace("-", MINUS)


def pair(start: complex, end: complex, write: Callable[[complex, int], str] = number) -> tuple[str, str]:
    """Return two numbers with the digits that tell them apart; `write` is `number` or `rounded`.

    >>> pair(1.00001, 1.00002)
    ('1.00001', '1.00002')
    """
    for digits in range(4, 18):
        shown = write(start, digits), write(end, digits)
        if shown[0] != shown[1] or start == end:
            break
    return shown


def spread(least: float, greatest: float) -> str:
    """Return the range of an array, from the least to the greatest element.

    >>> spread(-1.124, 0.9999974)
    '−1.124 to 1.000'
    """
    return " to ".join(pair(least, greatest, rounded))


def count(value: int) -> str:
    """Return a whole number with commas: ``1234567`` → ``1,234,567``."""
    return f"{value:,}"


def rate(value: float) -> str:
    r"""Return a number per second to three digits: ``125``, ``12.3 k``, ``1.23 M``.

    >>> rate(125.4), rate(12345), rate(1234567)
    ('125', '12.3\u202fk', '1.23\u202fM')
    """
    for letter, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 9.995 * (scale if letter == "k" else scale / 10):
            return f"{_three_digits(value / scale)}{NARROW}{letter}"
    return number(float(f"{value:.3g}"))


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def duration(seconds: float) -> str:
    r"""Return a time in seconds with the unit that suits: ``1.2 ms``, ``0.19 s``, ``3 min 20 s``.

    >>> duration(0.0012), duration(0.4), duration(200)
    ('1.2\u202fms', '0.40\u202fs', '3\u202fmin\u202f20\u202fs')
    """
    if seconds == 0:
        return f"0{NARROW}s"
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 99.5:
            return f"{_two_digits(max(seconds * scale, 0.1))}{NARROW}{unit}"
    if seconds < 59.5:
        return f"{_two_digits(seconds)}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{count(round(hours / 24))}{NARROW}days"
    if hours:
        return f"{hours}{NARROW}h{NARROW}{minutes}{NARROW}min"
    return f"{minutes}{NARROW}min{NARROW}{rest}{NARROW}s"


def _two_digits(value: float) -> str:
    """Return a number to two digits, also a round one: ``0.40``, ``2.4``, ``24``."""
    return f"{value:#.2g}".rstrip(".") if value < 99.5 else f"{value:.0f}"


def percent(share: float) -> str:
    r"""Return a share from 0 to 1 in percent; only an exact 0 reads 0 %, and only an exact 1 reads 100 %.

    >>> percent(0.999), percent(1.0)
    ('99.9\u202f%', '100\u202f%')
    """
    points = 100 * share
    if 0 < points < 1 or 99 < points < 100:
        return f"{min(max(points, 0.1), 99.9):.1f}{NARROW}%"
    return f"{points:.0f}{NARROW}%"


def shape(sizes: Sequence[int]) -> str:
    """Return a shape as text: ``(784, 128)`` → ``784×128``, ``()`` → ``scalar``."""
    return "×".join(str(size) for size in sizes) if sizes else "scalar"


def power_of_ten(exponent: int) -> str:
    """Return the label of a tick on a logarithmic axis: ``1``, ``10``, ``10⁻⁴``."""
    if exponent == 0:
        return "1"
    return "10" if exponent == 1 else f"10{str(exponent).translate(_SUPERSCRIPT)}"


def memory(size: int) -> str:
    r"""Return a number of bytes in binary units, to one decimal so that a column of them is aligned.

    >>> memory(46600 * 2**20), memory(512)
    ('45.5\u202fGiB', '512\u202fB')
    """
    return size_text(size, ".1f", NARROW, "B")
