"""The words of a magic line, and the places that they name: ``x``, ``layer.kernel`` or ``p['w']``.

Pure text: nothing here knows TensorFlow or the notebook.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from tape_magic.errors import LineError, shorten

_OPENING, _CLOSING = "([{", ")]}"


def split(text: str) -> list[str]:
    r"""Return the words of a magic line, which spaces or commas outside brackets and quotes separate.

    A word that is quoted as a whole loses its quotes, so an expression may hold spaces.
    Raises :class:`LineError` for a bracket or quote that does not close.

    >>> split("dy/dx, p['w'] \"SGD(0.1, 0.9)\"")
    ['dy/dx', "p['w']", 'SGD(0.1, 0.9)']
    """
    words: list[str] = []
    word, quote, closers = "", "", ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _OPENING:
            closers += _CLOSING[_OPENING.index(char)]
        elif char in _CLOSING:
            if not closers.endswith(char):
                raise LineError(f"{shorten(text)!r} closes a {char!r} that it never opened.")
            closers = closers[:-1]
        elif (char == "," or char.isspace()) and not closers:
            words.append(word)
            word = ""
            continue
        word += char
    if quote or closers:
        prime = re.search(r"\w'(\s|,|\(|$)", text) and quote == "'"
        hint = "; a derivative is written dy/dx" if prime else ""
        raise LineError(f"{shorten(text)!r} never closes its {quote or closers[-1]!r}{hint}.")
    return [_unquoted(word) for word in [*words, word] if word]


def _unquoted(word: str) -> str:
    whole = len(word) > 1 and word[0] in "'\"" and word.find(word[0], 1) == len(word) - 1
    return word[1:-1] if whole else word


@contextmanager
def unwarned() -> Iterator[None]:
    """Silence Python's warnings of numbers such as ``1if``: words that are no names are refused here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        yield


@lru_cache(maxsize=1024)
def place(text: str) -> tuple[str, ast.expr]:
    """Return the first name and the syntax tree of a place: a name, dotted or subscripted with constants.

    Raises :class:`LineError` for anything else.

    >>> place("p['w'].kernel")[0]
    'p'
    """
    try:
        with unwarned():
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    node = tree
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Subscript) and not _is_constant(node.slice):
            break
        node = node.value
    if re.fullmatch(r"[^\\{}$]+\\[^\\{}$]*", text):
        slashes = shorten(text.replace("\\", "/"))
        raise LineError(f"{shorten(text)} has a backslash; did you mean {slashes}?")
    if isinstance(node, ast.Call | ast.BinOp | ast.UnaryOp | ast.Compare | ast.IfExp):
        raise LineError(
            f"{shorten(text)!r} is not a name, but an expression: assign it in the cell, and write its name."
        )
    if tree is None or not isinstance(node, ast.Name):
        raise LineError(f"{shorten(text)!r} is not a name; write a name such as x, layer.kernel or p['w'].")
    return node.id, tree


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    if isinstance(node, ast.Tuple):
        return bool(node.elts) and all(map(_is_constant, node.elts))
    return isinstance(node, ast.Constant)


@lru_cache(maxsize=4096)
def is_place(text: str) -> bool:
    """Return whether a text is a place; one that is a keyword is none."""
    if text.isidentifier():
        return not keyword.iskeyword(text)
    if not (text[:1].isalpha() or text[:1] == "_") or not set(text) & set(".["):
        return False
    try:
        place(text)
    except LineError:
        return False
    return True


def first_name(name: str) -> str:
    """Return the first name of a place, without parsing it."""
    return re.split(r"[.\[]", name, maxsplit=1)[0]


def elements(word: str) -> list[str]:
    """Return the parts of a list in brackets, which commas separate; any other word as it is.

    >>> elements("[dy/dx, p['w']]"), elements("(x)"), elements("f(x)"), elements("[v for v in a]")
    (['dy/dx', "p['w']"], ['x'], ['f(x)'], ['[v for v in a]'])
    """
    if word[:1] not in tuple(_OPENING) or word[-1:] != _CLOSING[_OPENING.index(word[0])]:
        return [word]
    inner = word[1:-1]
    try:
        split(inner)
    except LineError:  # (x)(y), whose first bracket closes before its end
        return [word]
    if re.search(r"\bfor\b", inner):
        return [word]
    ends = [*(at for at in unbracketed(inner) if inner[at] == ","), len(inner)]
    parts = (inner[begin + 1 : end].strip() for begin, end in zip([-1, *ends], ends, strict=False))
    return [part for part in parts if part]


def unbracketed(text: str) -> Iterator[int]:
    """Yield the positions of a text that are outside quotes and brackets."""
    depth, quote = 0, ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
            continue
        if char in "'\"":
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        elif depth == 0:
            yield index
