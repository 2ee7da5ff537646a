"""A line as hands and pages write it: the characters of word processors, and a comment at its end."""

from __future__ import annotations

import re

from tape_magic.errors import LineError
from tape_magic.syntax import unbracketed

_CHARACTERS = str.maketrans(
    {"‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "⁄": "/", "∕": "/", "／": "/"}
    | {"，": ",", "、": ",", "；": ";", "：": ":", "＝": "=", "（": "(", "）": ")", "［": "[", "］": "]"}
    | {"％": "%", "’": "'", "‘": "'", "\u200b": "", "\u2060": "", "\ufeff": ""}
)
"""Characters that no name and no number of Python's has → those of a keyboard that look like them."""

_QUOTED = re.compile(r""" ("[^"]*" | '[^']*') | [“”„«] ([^“”„»]*) [“”»] | ‘ ([^‘’]*) ’ """, re.VERBOSE)
_DASHES = re.compile(r"(?<!\S)[-‐‑‒–—―−]*[‐‑‒–—―−][-‐‑‒–—―−]*(?=([^\W\d]\w?))")


def uncommented(line: str) -> str:
    """Return a line without the comment at its end.

    >>> uncommented("loss --over w  # all of them"), uncommented("y --checkpoint 'a #1'")
    ('loss --over w  ', "y --checkpoint 'a #1'")
    """
    comments = (at for at in unbracketed(line) if line[at] == "#" and not line[:at][-1:].strip())
    return line[: next(comments, len(line))]


def typed(line: str) -> str:
    """Return a line in the characters of a keyboard, without its comment; what is quoted stays as it is.

    >>> typed("loss –over w --lr 1e−3 # slow"), typed("“xb, yb in train”"), typed("dy∕dx; dz/dx;")
    ('loss --over w --lr 1e-3', '"xb, yb in train"', 'dy/dx, dz/dx,')
    """
    pieces, at = [], 0
    for found in _QUOTED.finditer(line):
        pieces += [_keyed(line[at : found.start()]), _requoted(found)]
        at = found.end()
    return uncommented("".join([*pieces, _keyed(line[at:])])).rstrip()


def _requoted(found: re.Match[str]) -> str:
    straight, double, single = found.groups()
    if straight is not None:
        return straight
    text = double if single is None else single
    return f"'{text}'" if '"' in text else f'"{text}"'


def _keyed(text: str) -> str:
    """Return what is not quoted in the characters of a keyboard: one dash that was two is two again."""
    text = _DASHES.sub(lambda dashes: "--" if len(dashes[1]) > 1 else "-", text).translate(_CHARACTERS)
    return re.sub(r";(?=\s|$)", ",", text)


def refuse_power(flag: str, word: str) -> None:
    """Raise :class:`LineError` for ``10^-3``, which Python reads as -9."""
    found = re.fullmatch(r"([\d.]+)\s*\^\s*([-+]?\d+)", word)
    if found:
        raise LineError(f"{flag} {word} is no power in Python: write {flag} {found[1]}**{found[2]}")
