"""Text for streams that cannot write every character, such as a pipe on Windows."""

from __future__ import annotations

import sys

# The longer ones first. A derivative reads as its target is typed, and a matrix keeps its columns.
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
    """`text` for an encoding, else that of standard output; what it lacks is said in other characters."""
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    if _fits(text, encoding):
        return text
    for said, instead in _INSTEAD.items():
        if said in text and not _fits(said, encoding):
            text = text.replace(said, instead)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    except LookupError:  # a stream of the user's may name any
        return True
    return True
