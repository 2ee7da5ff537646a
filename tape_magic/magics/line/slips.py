"""Values that a line breaks into words: ``0,1``, ``5 min``, a phrase without its quotes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from tape_magic.errors import LineError, shorten
from tape_magic.magics.line.option import Option


def refuse_commas(options: Sequence[Option], line: str) -> None:
    """Raise :class:`LineError` for a number with a comma in it, which would be the end of a word.

    So is ``1.000`` as a whole number: some languages write a thousand so.
    """
    outside = re.sub(r"""(["']).*?\1""", "", line)
    single = _single(options)
    for flag, number in re.findall(r"(?<!\S)(--[\w-]+)[ =]+([1-9]\d{0,2}(?:\.\d{3})+)(?!\S)", outside):
        if flag in single and single[flag].convert is int:
            whole = number.replace(".", "")
            raise LineError(f"{flag} {number} has a point, and a whole number has none: write {flag} {whole}")
    for flag, number, rest in re.findall(r"(?<!\S)(--?[\w-]+)[ =]+(\d+(?:,\d+)+)([\w.]*)", outside):
        if flag in single:
            thousands = re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+", number)
            meant = number.replace(",", "" if thousands else ".") + rest
            raise LineError(f"{flag} {number}{rest} has a comma, which ends a word: write {flag} {meant}")


def _single(options: Sequence[Option]) -> dict[str, Option]:
    """Return the options that take one value, by their flags."""
    return {flag: one for one in options for flag in one.flags if one.metavar and not one.many}


def refuse_strays(options: Sequence[Option], words: Sequence[str]) -> None:
    """Raise :class:`LineError` for a word that goes on with the value before it: ``5 min``."""
    single = _single(options)
    for at, word in enumerate(words):
        flag, sign, value = word.partition("=")
        if flag not in single:
            continue
        value, behind = (
            (value, words[at + 1 :]) if sign else ("".join(words[at + 1 : at + 2]), words[at + 2 :])
        )
        more = list(itertools.takewhile(lambda one: one and not one.startswith("-"), behind))
        if not more:
            continue
        if single[flag].phrase:
            if meant := _phrase([value, *more]):
                raise LineError(f'{flag} takes a phrase in quotes: write {flag} "{meant}"')
        elif _goes_on(single[flag], value, more[0]):
            unit = re.sub(r"(?<=[KMGT])B$", "", more[0], flags=re.IGNORECASE)  # 4GB may be of 1000 or 1024
            raise LineError(f"{flag} takes one value, without spaces: write {flag} {value}{unit}")
        elif re.match(r"\.?\d", more[0]):
            if then := single[flag].then:
                written = f"{flag} {shorten(value)} {then} {shorten(more[0])}"
                raise LineError(f"{flag} takes one value: write {written}")
            raise LineError(f"{flag} takes one value, and {shorten(more[0])} stands behind {shorten(value)}")


def _phrase(words: Sequence[str]) -> str:
    """Return the phrase that words without quotes were meant to be; empty where they are none."""
    if "in" in words[1:-1]:
        middle = words.index("in", 1)
        return f"{', '.join(words[:middle])} in {', '.join(words[middle + 1 :])}"
    return ", ".join(words) if all("=" in word for word in words) else ""


def _goes_on(option: Option, value: str, word: str) -> bool:
    """Return whether a word goes on with the value before it: a unit, or three more digits."""
    unit = len(word) > 1 and word.isalpha() and option.metavar in ("TIME", "SIZE")
    if not value[:1].isdigit() or not (unit or re.fullmatch(r"\d{3}", word)):
        return False
    try:
        return option.convert(value + word) is not None
    except (LineError, ValueError):
        return False


def whole_number(word: str) -> int:
    """Read a whole number, also as ``10_000``, ``1e4`` or ``10k``. Raises ``ValueError`` for anything else.

    >>> whole_number("10k"), whole_number("1e4"), whole_number("1.5M")
    (10000, 10000, 1500000)
    """
    scale = {"k": 1_000, "m": 1_000_000}.get(word[-1:].lower(), 1)
    digits = word[:-1] if scale > 1 else word
    if scale == 1 and digits.lstrip("+-").replace("_", "").isdecimal():
        return int(digits)
    value = float(digits) * scale
    if not value.is_integer() or not digits[:1].isdigit():
        raise ValueError(word)
    return int(value)
