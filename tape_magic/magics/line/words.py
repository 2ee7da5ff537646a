"""The words on the line of ``%%minimize``, each as what an option takes."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.distribution.strategies import WORDS as STRATEGIES
from tape_magic.engine.minimization.settings import AUTO, FIND, SCHEDULES
from tape_magic.errors import LineError, shorten
from tape_magic.magics.line.parser import is_expression, place_name
from tape_magic.syntax import place, split, unwarned

Bound = tuple[str, str, str]
"""A place, and the expressions of its lower and upper bound; an empty expression for no bound."""


Pattern = tuple[Any, ...]
"""The names of a batch's parts, in tuples as the line nests them."""


@dataclass(frozen=True)
class DataOption:
    """``(x, z), y in train``: the names of a batch's parts, how they nest, and the expression of the data."""

    names: tuple[str, ...]
    pattern: Pattern
    data: str


def data(word: str, example: str = '--for takes "xb, yb in train"') -> DataOption:
    """Read ``xb, yb in train``. Raises :class:`LineError` for anything else."""
    try:
        with unwarned():
            (loop,) = ast.parse(f"for {word.removeprefix('for ')}: pass").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise LineError(f"{example}, not {shorten(word)!r}.") from None
    if not isinstance(loop, ast.For):
        raise LineError(f"{example}, not {shorten(word)!r}.")
    names: list[str] = []

    def nested(target: ast.expr) -> Any:
        if isinstance(target, ast.Tuple | ast.List) and target.elts:
            return tuple(nested(part) for part in target.elts)
        if not isinstance(target, ast.Name) or target.id in names:
            raise LineError(f"{example}: plain names, each once, not {shorten(ast.unparse(loop.target))!r}.")
        names.append(target.id)
        return target.id

    pattern = nested(loop.target)
    pattern = pattern if isinstance(pattern, tuple) else (pattern,)
    return DataOption(tuple(names), pattern, ast.unparse(loop.iter))


def validation(word: str) -> DataOption:
    """Read ``xb, yb in valid``. Raises :class:`LineError` for anything else."""
    return data(word, '--val takes "xb, yb in valid"')


def loss(word: str) -> str:
    """Read the place of a loss. Raises :class:`LineError` for anything else, with the option of a number."""
    if re.fullmatch(r"[\d.]+(e[-+]?\d+)?", word):
        flag = "--steps" if word.isdecimal() else "--lr"
        raise LineError(f"{shorten(word)!r} is not a name; did you mean {flag} {shorten(word)}?")
    return place_name(word)


def source(word: str) -> str:
    """Read a place, or an expression that gives variables. Raises :class:`LineError` for anything else."""
    try:
        return place_name(word)
    except LineError:
        if is_expression(word) and not word[:1].isdigit():
            return word
        raise


def bounds(word: str) -> tuple[Bound, ...]:
    """Read ``x=0:1, w=0:``. Raises :class:`LineError` for anything else."""
    found: list[Bound] = []
    for part in split(re.sub(r"\s*([=:])\s*", r"\1", word)):
        name, sign, span = part.partition("=")
        low, colon, high = span.partition(":")
        if not sign or not colon or not (low.strip() or high.strip()):
            meant = ", ".join(map(_span, [word] if _span(word) else word.split(",")))
            raise LineError(
                f'--bounds "{shorten(word)}" is written --bounds "{meant}".'
                if re.fullmatch(r"[^,]+(, [^,]+)*", meant)
                else f'--bounds takes "x=0:1, w=0:", not {shorten(part)!r}.'
            )
        place(name)
        if name in [other for other, _, _ in found]:
            raise LineError(f"--bounds gives two spans for {shorten(name)}.")
        found.append((name, low.strip(), high.strip()))
    return tuple(found)


_NAME, _NUMBER, _BELOW, _ABOVE = r"([^\W\d][\w.]*)", r"([-+]?[\d.]+(?:e[-+]?\d+)?)", "(?:<=?|≤)", "(?:>=?|≥)"
_SPANS = [
    (re.compile(pattern.replace(" ", r"\s*"), re.IGNORECASE), meant)
    for pattern, meant in (
        (f" {_NUMBER} {_BELOW} {_NAME} {_BELOW} {_NUMBER} ", r"\2=\1:\3"),
        (f" {_NUMBER} {_ABOVE} {_NAME} {_ABOVE} {_NUMBER} ", r"\2=\3:\1"),
        (f" {_NAME} {_ABOVE} {_NUMBER} ", r"\1=\2:"),
        (f" {_NAME} {_BELOW} {_NUMBER} ", r"\1=:\2"),
        (f" {_NUMBER} {_BELOW} {_NAME} ", r"\2=\1:"),
        (f" {_NUMBER} {_ABOVE} {_NAME} ", r"\2=:\1"),
        (rf" {_NAME} (?:=|\bin\b|∈) [\[(] {_NUMBER} [,;] {_NUMBER} [\])] ", r"\1=\2:\3"),
    )
]
"""Bounds as mathematics writes them, and as the line does."""


def _span(text: str) -> str:
    """Return what to write for ``0<x<1``, ``x>=0`` or ``x in [0, 1]``; empty for anything else.

    >>> _span("0 < x <= 1"), _span("x >= 0"), _span("x in [0, 1]")
    ('x=0:1', 'x=0:', 'x=0:1')
    """
    found = ((pattern.fullmatch(text), meant) for pattern, meant in _SPANS)
    return next((match.expand(meant) for match, meant in found if match), "")


def rate(word: str) -> float | str:
    """Read a rate, or a word for one that is to be found."""
    return word if word in (FIND, AUTO) else float(word)


def schedule(word: str) -> str:
    """Read the name of a schedule. Raises ``ValueError`` for what may be an expression."""
    name = re.sub(r"[_ ]", "-", word.partition(":")[0].lower())
    if name in SCHEDULES or not is_expression(word):
        return word
    raise ValueError(word)


def strategy(word: str) -> str:
    """Read a word for a strategy. Raises ``ValueError`` for what may be an expression."""
    if word in STRATEGIES or not is_expression(word):
        return word
    raise ValueError(word)


_UNITS = {"ms": 1e-3} | {
    unit: seconds
    for seconds, units in {
        1.0: ("", "s", "sec", "secs", "second", "seconds"),
        60.0: ("m", "min", "mins", "minute", "minutes"),
        3600.0: ("h", "hr", "hrs", "hour", "hours"),
    }.items()
    for unit in units
}


def seconds(word: str) -> float:
    """Read ``30s``, ``5m``, ``1.5h`` or a number of seconds. Raises ``ValueError`` for anything else."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", word.lower())
    if not match or match[2] not in _UNITS:
        raise ValueError(word)
    return float(match[1]) * _UNITS[match[2]]
