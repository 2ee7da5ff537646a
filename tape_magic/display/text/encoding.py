"""Text for streams that lack characters, such as a pipe on Windows."""

from __future__ import annotations

import sys

# Longer texts come before their parts. "∂y/∂x" becomes "dy/dx", which is how it is typed in a cell, and one
# character becomes one character where a matrix or a curve must keep its columns.
_INSTEAD = {
    "‖·‖": "norm",
    "‖": "|",
    "∇²": "Hessian of ",
    "∇": "grad ",
    "∂": "d",
    "Σ": "sum ",
    "·": "|",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "±": "+-",
    "∞": "inf",
    "ε": "eps",
    "°": "",
    **dict(zip("−×µ\u202f\u2003\u2007", "-xu   ", strict=True)),
    **dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)),
    **dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True)),
    **dict(zip("▓▒░━╸╌", "%+:==-", strict=True)),
}


def writable(text: str, encoding: str | None = None) -> str:
    """Return `text` with substitutes for the characters that an encoding lacks.

    Without an `encoding`, the encoding of standard output counts.
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    if _fits(text, encoding):
        return text
    for part, instead in _INSTEAD.items():
        if part in text and not _fits(part, encoding):
            text = text.replace(part, instead)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    except LookupError:  # a stream of the user's may name an encoding that does not exist
        return True
    return True
