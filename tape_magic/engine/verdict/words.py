"""Numbers in the sentences of findings."""

from __future__ import annotations

import math

from tape_magic.notation import superscript


def number(value: float, digits: int = 3) -> str:
    """Return a number as people write it.

    >>> number(-0.0012345), number(2.5e-9), number(1e-4), number(1234567.0)
    ('−0.00123', '2.5·10⁻⁹', '10⁻⁴', '1.23·10⁶')
    """
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e6:
        shown = f"{value:.{digits}g}"
        return (f"{value:,.0f}" if abs(value) >= 1000 else shown).replace("-", "−")
    front, _, power = f"{value:.{digits - 1}e}".partition("e")
    front = front.rstrip("0").rstrip(".") if "." in front else front
    times = "" if front in ("1", "-1") else f"{front}·"
    sign = "−" if front == "-1" else ""
    return f"{sign}{times}10{superscript(int(power)).replace('-', '⁻')}".replace("-", "−")


def rounded_down(value: float, digits: int = 1) -> float:
    """Return a positive number with so many digits, rounded down but for its last 0.2 %.

    >>> rounded_down(0.0478), rounded_down(0.1613, 2)
    (0.04, 0.16)
    """
    places = digits - 1 - math.floor(math.log10(value))
    return float(f"{math.floor(value * 10**places * 1.002) / 10**places:.{digits}g}")
