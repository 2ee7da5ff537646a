"""The errors that users see, and the words that their messages are made of.

A message says what happened, with the offending name, shape or value, and what to do about it.
The user's own exceptions are never wrapped in these.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TypeVar

Raised = TypeVar("Raised", bound=Exception)

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class TapeMagicError(Exception):
    """A request that cannot be carried out; the message is one line and says why."""


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


class NoTensor(TargetError):
    """A loss that is no tensor, since nothing that was computed led through TensorFlow."""


class CompileError(TapeMagicError):
    """A cell that the engine asked for cannot compile."""


class CheckError(TapeMagicError):
    """A comparison with differences that cannot be made."""


class DeviceError(TapeMagicError):
    """Devices that cannot be set up as asked."""


class ClusterError(TapeMagicError):
    """Workers that do not compute together, or no longer do."""


def closest(name: str, candidates: Iterable[str]) -> str:
    """Return the end of an error sentence: the candidate most like `name`, or nothing where none is like it.

    >>> closest("modle", ["model", "x"])
    '; did you mean model?'
    >>> closest("q", ["model"])
    ''
    """
    near = closest_of(name, candidates)
    return f"; did you mean {near}?" if near else ""


def closest_of(name: str, candidates: Iterable[str]) -> str:
    """Return the candidate that is most like a name, or nothing where none is like it."""
    # A list first, since other threads may add names to a namespace meanwhile.
    known = [candidate for candidate in list(candidates) if not candidate.startswith("_")]
    folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    matches = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else ""


_LISTED = 4
_OPTIONS = {"over": "--over", "wrt": "--wrt", "by": "--wrt"}
"""Words that people write on the line without the dashes of the option."""


def never_assigns(name: str, assigned: Iterable[str]) -> str:
    """Return the sentence that a cell does not assign a name, with the name that is meant or those there are.

    >>> never_assigns("los", ["loss"]), never_assigns("y", ["z"])
    ('the cell never assigns los; did you mean loss?', 'the cell never assigns y; it assigns z')
    >>> never_assigns("wrt", ["y"])
    'the cell never assigns wrt; did you mean --wrt?'
    """
    known = sorted(one for one in assigned if one.isidentifier() and not one.startswith("_"))
    if name in _OPTIONS:
        near = f"; did you mean {_OPTIONS[name]}?"
    elif not (near := closest(name, known)) and known:
        near = f"; it assigns {', '.join(known[:_LISTED])}{' …' if len(known) > _LISTED else ''}"
    return f"the cell never assigns {name}{near}"


def a_kind(value: object) -> str:
    """Return the type of an object with its article, as a sentence uses it.

    >>> a_kind(3), a_kind(2.0), a_kind(None)
    ('an int', 'a float', 'None')
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeio" else f"a {name}"


def no_tensor(name: str, value: object) -> str:
    """Return the sentence that an output is no tensor, and what to write instead.

    >>> no_tensor("f", len)
    'f is a function: write y = f(…) in the cell, and y on the line'
    >>> no_tensor("y", 3.0)
    'y is a float, not a tensor: compute it with TensorFlow'
    """
    if callable(value) and not isinstance(value, type):
        return f"{name} is a function: write y = {name}(…) in the cell, and y on the line"
    return f"{name} is {a_kind(value)}, not a tensor: compute it with TensorFlow"


def describe_error(error: BaseException) -> str:
    """Return the class of an exception and the line of its message that tells most, mostly the first.

    The exception may be the user's own: one whose ``str()`` fails gives its class alone.

    >>> describe_error(OSError("no such file"))
    'OSError: no such file'
    """
    try:
        text = telling_line(str(error))
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}".removesuffix(": ")


_OF_TENSORFLOW = re.compile(
    r'Graph execution error|Detected at node|File "|<stack|\[\[\{\{|\d+ root error\(s\) found'
)
"""The beginnings of those lines in TensorFlow's errors that speak of its own code."""

_NODES = re.compile(r"^\(\d+\) [A-Z_]+: +|\{\{[^}]*\}\} *|(?: \[Op:\w+\](?: name:)?)$")
"""What stands around the sentence of such an error: the name of a node, and of the operation."""


def telling_line(message: str) -> str:
    r"""Return the first line of a message that does not speak of TensorFlow's own code, else the first.

    >>> telling_line("Graph execution error:\n\nDetected at node Gather\nindices[3] = 9 is not in [0, 3)")
    'indices[3] = 9 is not in [0, 3)'
    >>> telling_line("{{function_node f}} indices = 5 is not in [0, 2) [Op:Gather] name: ")
    'indices = 5 is not in [0, 2)'
    """
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    telling = (line for line in lines if not _OF_TENSORFLOW.match(line))
    return _NODES.sub("", next(telling, lines[0] if lines else ""))


def in_one_line(error: Raised) -> Raised:
    """Return an exception that a notebook shows without a traceback; elsewhere it is as any other.

    For what a user's own call asks too much of, where the frames of this package would tell nothing.
    """
    line = describe_error(error)
    error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]
    return error


def shorten(text: str, width: int = 60) -> str:
    """Return `text` on one line, cut to at most `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def size_text(size: int, form: str = ".4g", gap: str = " ", byte: str = "bytes") -> str:
    """Return a number of bytes in the largest unit of 1024 that keeps it at one or more.

    Parameters
    ----------
    size
        The number of bytes, not negative.
    form
        How the number is written in units above the byte.
    gap
        The space between the number and its unit.
    byte
        The name of the smallest unit.

    >>> size_text(4 * 2**30), size_text(1536 * 2**20), size_text(256)
    ('4 GiB', '1.5 GiB', '256 bytes')
    >>> size_text(1024 * 2**20 - 1)
    '1 GiB'
    """
    if size < 1024:
        return f"{size}{gap}{byte}"
    value, text = size / 1024, ""
    for unit in _UNITS:
        text = f"{value:{form}}{gap}{unit}"
        if float(f"{value:{form}}") < 1024:
            break
        value /= 1024
    return text
