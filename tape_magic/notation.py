"""?

Pure text: nothing here knows TensorFlow or the notebook. Where a text has several readings
(``d2y/dxda``), the caller says which names exist.
"""

from __future__ import annotations

import ast
import enum
import itertools
import keyword
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from tape_magic.errors import LineError, shorten

LAST_EXPRESSION = "_"
"""The name that the value of a cell's last expression goes by."""

MAX_ORDER = 20
"""Past this, a derivative is a slip of the finger: each order doubles the work."""

MAX_WORD = 200
"""No name is longer; reading a glued form takes time that grows with the cube of its length."""

_FROM_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_TO_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_DELTAS = "d∂"
_POWERS = [str(power) for power in range(2, MAX_ORDER + 1)]
_OPENING, _CLOSING = "([{", ")]}"


class Kind(enum.Enum):
    """What is computed of an output and its sources."""

    GRADIENT = "gradient"
    JACOBIAN = "jacobian"
    BATCH_JACOBIAN = "batch jacobian"
    HESSIAN = "hessian"
    JVP = "jvp"
    HVP = "hvp"


@dataclass(frozen=True)
class Target:
    """One derivative asked for.

    Parameters
    ----------
    name
        The output: a name, or a place such as ``out.loss`` or ``losses['total']``;
        ``_`` is the value of the cell's last expression.
    wrt
        The sources in the order of differentiation, one entry an order (``("x", "x")`` for
        ``d2y/dx2``). Empty: by every source.

    >>> target = Target("y", ("x", "x", "a"))
    >>> target.key, target.label, target.binding
    ('d3y/dx2da', '∂³y/∂x²∂a', 'd3y_dx2da')
    """

    name: str
    wrt: tuple[str, ...] = ()

    @property
    def order(self) -> int:
        """How many times the output is differentiated; 0 when no source is named."""
        return len(self.wrt)

    @property
    def key(self) -> str:
        """The ASCII spelling, as typed on the line: ``d2y/dx2``; a bare ``y`` without sources."""
        if not self.wrt:
            return self.name
        power = str(self.order) if self.order > 1 else ""
        return f"d{power}{self.name}/" + "".join(
            f"d{_bracketed(name)}{count if count > 1 else ''}" for name, count in _powers(self.wrt)
        )

    @property
    def label(self) -> str:
        """The mathematical spelling: ``∂²y/∂x²``; ``∇y`` without sources."""
        if not self.wrt:
            return f"∇{self.name}"
        return f"∂{superscript(self.order)}{self.name}/{denominator(self.wrt)}"

    @property
    def binding(self) -> str:
        """The notebook's name for the value, made of the key's identifiers: ``d2y_dx2``."""
        return "_".join("".join(c if f"_{c}".isidentifier() else " " for c in self.key).split())


def superscript(power: int) -> str:
    """``2`` → ``²``; nothing for 1, as in mathematics."""
    return "" if power == 1 else str(power).translate(_TO_SUPERSCRIPT)


def denominator(wrt: Sequence[str]) -> str:
    """``("x", "x", "a")`` → ``∂x²∂a``."""
    return "".join(f"∂{_bracketed(name)}{superscript(count)}" for name, count in _powers(wrt))


def _bracketed(name: str) -> str:
    """A variable's path, ``dense/kernel``, would read as a fraction without brackets."""
    return name if _is_place(name) else f"({name})"


def _powers(wrt: Sequence[str]) -> list[tuple[str, int]]:
    """Neighbouring equal names with their count; ``x, a, x`` stays three factors."""
    runs: list[tuple[str, int]] = []
    for name in wrt:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return runs


def split(text: str) -> list[str]:
    r"""The words of a magic line: separated by spaces or commas outside brackets and quotes.

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
        raise LineError(f"{shorten(text)!r} never closes its {quote or closers[-1]!r}.")
    return [_unquoted(word) for word in [*words, word] if word]


def _unquoted(word: str) -> str:
    whole = len(word) > 1 and word[0] in "'\"" and word.find(word[0], 1) == len(word) - 1
    return word[1:-1] if whole else word


@contextmanager
def unwarned() -> Iterator[None]:
    """Python warns of numbers such as ``1if``, with lines of its own; a line's words are judged here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        yield


@lru_cache(maxsize=1024)
def place(text: str) -> tuple[str, ast.expr]:
    """A name, optionally dotted or subscripted with constants: its first name, and its syntax tree.

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
    if tree is None or not isinstance(node, ast.Name):
        raise LineError(f"{shorten(text)!r} is not a name; write a name such as x, layer.kernel or p['w'].")
    return node.id, tree


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant)


def read_targets(words: Sequence[str], exists: Callable[[str], bool]) -> tuple[Target, ...]:
    """The targets that the words of a line name, in their order.

    Parameters
    ----------
    words
        As :func:`split` gives them. ``d2y/dx`` and a following ``da`` belong together, since the
        order says that two denominators follow.
    exists
        Whether a source of that name exists; decides between two readings of a glued form.

    Raises :class:`LineError` when a form cannot be read, or can be read in two ways.

    >>> read_targets(["d2y/dx", "da", "loss"], {"x", "a"}.__contains__)
    (Target(name='y', wrt=('x', 'a')), Target(name='loss', wrt=()))
    """
    targets: list[Target] = []
    queue = [_normal(word) for word in words]
    while queue:
        word = queue.pop(0)
        if len(word) > MAX_WORD:
            raise LineError(f"{shorten(word)!r} is {len(word)} characters long; {MAX_WORD} is the most.")
        numerator, slash, glued = _fraction(word)
        if not slash:
            name = word.removeprefix("∇")
            place(name)
            targets.append(Target(name))
            continue
        order, name = _numerator(numerator, word)
        following = itertools.takewhile(_may_follow, queue[: order - 1])
        wrt, count = _denominators([glued, *following], order, word, exists)
        del queue[: count - 1]
        targets.append(Target(name, wrt))
    return tuple(targets)


def _may_follow(word: str) -> bool:
    """Whether a word may be a further denominator of the fraction before it."""
    return word.startswith(tuple(_DELTAS)) and len(word) <= MAX_WORD and not _fraction(word)[1]


def _normal(word: str) -> str:
    """Python's own spelling of identifiers (NFKC), with superscripts as digits."""
    return unicodedata.normalize("NFKC", word.translate(_FROM_SUPERSCRIPT))


def _fraction(word: str) -> tuple[str, str, str]:
    """Split at the slash that is the fraction's, not one within quotes or brackets."""
    index = next((index for index in _outside(word) if word[index] == "/"), len(word))
    return word[:index], word[index : index + 1], word[index + 1 :]


def _outside(text: str) -> Iterator[int]:
    """The positions that are not within quotes or brackets."""
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


def _numerator(text: str, word: str) -> tuple[int, str]:
    match = re.fullmatch(rf"[{_DELTAS}]([0-9]*)(.+)", text, re.DOTALL)
    if match is None:
        raise LineError(f"{shorten(word)!r} is not a derivative; write dy/dx or d2y/dx2.")
    order = int(match[1][:4] or "1")
    if not 1 <= order <= MAX_ORDER:
        raise LineError(f"{shorten(word)!r} asks for order {order}; orders 1 to {MAX_ORDER} can be computed.")
    place(match[2])
    return order, match[2]


Factors = Sequence[Sequence[tuple[int, str, int]]]
"""For each position of a text, the denominators that may start there: (its end, its name, its power)."""


def _factors(text: str, order: int) -> Factors:
    table: list[list[tuple[int, str, int]]] = [[] for _ in range(len(text) + 1)]
    starts = [index for index in _outside(text) if text[index] in _DELTAS]
    for start in starts:
        for end in [*(index for index in starts if index > start), len(text)]:
            table[start] += [(end, *factor) for factor in _powers_in(text[start + 1 : end], order)]
    return table


def _whole(text: str, order: int) -> Factors:
    """Only the denominators that are all of the text."""
    factors = _powers_in(text[1:], order) if text[:1] in _DELTAS else []
    return [[(len(text), *factor) for factor in factors], *([] for _ in text)]


def _powers_in(text: str, order: int) -> list[tuple[str, int]]:
    """``x2`` is the name ``x2``, or ``x`` squared."""
    found = [(text, 1), *((text[:-n], int(text[-n:])) for n in (1, 2) if text[-n:] in _POWERS[: order - 1])]
    return [(name, power) for name, power in found if _is_place(name)]


@lru_cache(maxsize=4096)
def _is_place(text: str) -> bool:
    if text.isidentifier():
        return not keyword.iskeyword(text)
    if not (text[:1].isalpha() or text[:1] == "_") or not set(text) & set(".["):
        return False
    try:
        place(text)
    except LineError:
        return False
    return True


def _readings(
    tables: Sequence[Factors], order: int, exists: Callable[[str], bool], most: int
) -> list[tuple[str, ...]]:
    """Up to `most` ways to read the words as `order` denominators whose names exist."""
    partial: dict[int, list[tuple[str, ...]]] = {0: [()]}
    for table in tables:
        at: list[dict[int, list[tuple[str, ...]]]] = [{} for _ in table]
        at[0] = partial
        for start, factors in enumerate(table):
            for end, name, power in factors if at[start] else ():
                if not exists(_first_name(name)):
                    continue
                for total, heads in at[start].items():
                    if total + power <= order:
                        found = at[end].setdefault(total + power, [])
                        found += [(*head, *[name] * power) for head in heads]
                        del found[most:]
        partial = at[-1]
    return partial.get(order, [])


def _first_name(name: str) -> str:
    return re.split(r"[.\[]", name, maxsplit=1)[0]


def _denominators(
    words: Sequence[str], order: int, word: str, exists: Callable[[str], bool]
) -> tuple[tuple[str, ...], int]:
    """The denominators that follow the slash of `word`, and how many of `words` they take."""
    # Words apart are a denominator each, where that fits.
    whole = [_whole(text, order) for text in words]
    counts = range(1, len(words) + 1)
    found = {reading: n for n in counts for reading in _readings(whole[:n], order, exists, most=2)}
    if max(found.values(), default=1) == 1:
        tables: list[Factors] = []
        for text in words:
            tables.append(_factors(text, order))
            if _readings(tables, order, _anything, most=1):
                break
        readings = _readings(tables, order, exists, most=2)
        # Nothing of that name exists: the plain reading goes on, so that the error names the missing name.
        found = dict.fromkeys(readings or _readings(tables, order, _anything, most=1), len(tables))
    shown = shorten(" ".join([word, *words[1 : max(found.values(), default=1)]]))
    if not found:
        times = "once" if order == 1 else f"{order} times"
        raise LineError(
            f"{shown!r} differentiates {times}, but its denominators do not add up to {order}; "
            "write dy/dx, d2y/dx2 or d2y/dx da."
        )
    if len(found) > 1:
        both = " or ".join(shorten(_apart(word, reading)) for reading in found)
        raise LineError(f"{shown!r} can be read as {both}; write it with spaces.")
    return next(iter(found.items()))


def _anything(name: str) -> bool:
    return True


def _apart(word: str, reading: Iterable[str]) -> str:
    """A reading with a word for each denominator, which can be read in no other way."""
    return f"{_fraction(word)[0]}/{' '.join(f'd{name}' for name in reading)}"
