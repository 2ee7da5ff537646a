"""?

A message says what happened, with the offending name, shape or value, and what to do about it.
The user's own exceptions are never wrapped in these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TapeMagicError(Exception):
    """What the user asked for cannot be done; the message is one line and says why."""


class LineError(TapeMagicError):
    """A magic line, or an argument of the Python function, that cannot be read."""


class ArgumentError(LineError):
    """An argument out of its range, or one that does not go with the others.

    Parameters
    ----------
    name
        The name of the argument, which is also the name of the option that gives it.
    predicate
        The sentence after its subject.
    subject
        The subject of the sentence, where it is another than `name`.

    Examples
    --------
    >>> error = ArgumentError("seed", "is -1; give a whole number.", "the seed")
    >>> str(error), str(error.on_line("--seed"))
    ('the seed is -1; give a whole number.', '--seed is -1; give a whole number.')
    """

    def __init__(self, name: str, predicate: str, subject: str = "") -> None:
        super().__init__(f"{subject or name} {predicate}")
        self.name, self._predicate = name, predicate

    def on_line(self, flag: str) -> LineError:
        """Return the same error with the flag of a magic line as its subject."""
        return LineError(f"{flag} {self._predicate}")


class SourceError(TapeMagicError):
    """A name that cannot be differentiated by, or minimised over."""


class TargetError(TapeMagicError):
    """An output that cannot be differentiated, or a loss that cannot be minimised."""


class CompileError(TapeMagicError):
    """A cell that the engine asked for cannot compile."""


class CheckError(TapeMagicError):
    """A comparison with differences that cannot be made."""


class DeviceError(TapeMagicError):
    """Devices that cannot be set up as asked."""


def closest(name: str, candidates: Iterable[str]) -> str:
    """The end of an error sentence: the candidate that looks most like `name`, if any does.

    >>> closest("modle", ["model", "x"])
    '; did you mean model?'
    >>> closest("q", ["model"])
    ''
    """
    # A list first, since other threads may add names to a namespace meanwhile.
    known = [candidate for candidate in list(candidates) if not candidate.startswith("_")]
    folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    matches = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[matches[0]]}?" if matches else ""


def a_kind(value: object) -> str:
    """What a sentence calls an object by its type.

    >>> a_kind(3), a_kind(2.0), a_kind(None)
    ('an int', 'a float', 'None')
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeio" else f"a {name}"


def said(error: BaseException) -> str:
    """The kind of an exception of the user's, and the first line of what it says if it can say anything."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def shorten(text: str, width: int = 60) -> str:
    """`text` in at most `width` characters, so that an error stays one line."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
