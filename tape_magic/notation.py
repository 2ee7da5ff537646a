"""Derivatives in writing: ``d2y/dx2``, ``∂²y/∂x∂a`` or ``∇loss`` becomes a :class:`Target`.

Pure text: nothing here knows TensorFlow or the notebook. Where a text has several readings
(``d2y/dxda``), the caller says which names exist.
"""

from __future__ import annotations

import enum
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tape_magic.errors import LineError, shorten
from tape_magic.syntax import first_name, is_place, place, unbracketed

LAST_EXPRESSION = "_"
"""The name of the value of a cell's last expression."""

MAX_ORDER = 20
"""The highest order: each order doubles the work, and a higher one is a typing error."""

MAX_WORD = 200
"""The most characters of a word: the time to read a glued form grows with the cube of its length."""

_FROM_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_TO_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_DELTAS = "d∂"
_POWERS = [str(power) for power in range(2, MAX_ORDER + 1)]


class Kind(enum.Enum):
    """The kind of derivative that is computed."""

    GRADIENT = "gradient"
    JACOBIAN = "jacobian"
    BATCH_JACOBIAN = "batch jacobian"
    HESSIAN = "hessian"
    JVP = "jvp"
    HVP = "hvp"
    VJP = "vjp"
    LAPLACIAN = "laplacian"
    DIVERGENCE = "divergence"
    PER_EXAMPLE = "per example"


@dataclass(frozen=True)
class Target:
    """One requested derivative.

    Attributes
    ----------
    name
        The output: a name, or a place such as ``losses['total']``; ``_`` for the last expression's value.
    wrt
        The sources in the order of differentiation, one entry an order (``("x", "x")`` for
        ``d2y/dx2``); empty for the derivatives by every source.

    >>> target = Target("y", ("x", "x", "a"))
    >>> target.key, target.label, target.binding
    ('d3y/dx2da', '∂³y/∂x²∂a', 'd3y_dx2da')
    """

    name: str
    wrt: tuple[str, ...] = ()

    @property
    def order(self) -> int:
        """The number of differentiations; 0 where no source is named."""
        return len(self.wrt)

    @property
    def key(self) -> str:
        """The ASCII spelling of the magic line: ``d2y/dx2``; a bare ``y`` without sources."""
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
    """Return a power as mathematics writes it: ``²`` for 2, and nothing for 1."""
    return "" if power == 1 else str(power).translate(_TO_SUPERSCRIPT)


def denominator(wrt: Sequence[str]) -> str:
    """Return the denominator of a derivative: ``∂x²∂a`` for ``("x", "x", "a")``."""
    return "".join(f"∂{_bracketed(name)}{superscript(count)}" for name, count in _powers(wrt))


def _bracketed(name: str) -> str:
    """Return a name, in brackets where it is a variable's path: ``dense/kernel`` would read as a fraction."""
    return name if is_place(name) else f"({name})"


def _powers(wrt: Sequence[str]) -> list[tuple[str, int]]:
    """Return each run of equal neighbouring names with its length; ``x, a, x`` has three runs."""
    return [(name, len(list(run))) for name, run in itertools.groupby(wrt)]


def read_targets(words: Sequence[str], exists: Callable[[str], bool]) -> tuple[Target, ...]:
    """Return the targets that the words of a line name, in their order.

    Parameters
    ----------
    words
        The words, as :func:`split` returns them. ``d2y/dx`` and a following ``da`` belong together,
        since the order says that two denominators follow, and so do the words of ``d loss / d w``.
    exists
        Whether a name exists, which decides between two readings of a form.

    Raises :class:`LineError` when a form cannot be read, or can be read in two ways.

    >>> read_targets(["d2y/dx", "da", "loss"], {"x", "a"}.__contains__)
    (Target(name='y', wrt=('x', 'a')), Target(name='loss', wrt=()))
    """
    targets: list[Target] = []
    queue = [_normal(word) for word in words]
    while queue:
        word, taken = _joined(queue[:5], exists)
        del queue[:taken]
        if len(word) > MAX_WORD:
            raise LineError(f"{shorten(word)!r} is {len(word)} characters long; {MAX_WORD} is the most.")
        numerator, slash, glued = _fraction(word)
        if not slash:
            name = word.removeprefix("∇")
            place(name)
            targets.append(Target(name))
            continue
        order, name = _numerator(numerator, word)
        following = _following(queue, order - 1)
        wrt, count = _denominators([glued, *(text for text, _ in following)], order, word, exists)
        del queue[: sum(size for _, size in following[: count - 1])]
        targets.append(Target(name or _operand(queue, word), wrt))
    return tuple(targets)


def _joined(words: Sequence[str], exists: Callable[[str], bool]) -> tuple[str, int]:
    """Return the first word, joined to those that spaces within a fraction cut off, and their number.

    ``d loss / d w`` has five words, ``dloss/ dw`` two. Raises :class:`LineError` where the words can also be
    read as an output called ``d`` and a fraction.
    """
    word, count = words[0], 1
    if word == "∇" and len(words) > 1:
        return word + words[1], 2
    starts = [text.startswith("/") for text in (*words[1:], "", "")]
    spaced = _is_bare(word) and len(words) > 1 and not starts[0]
    if spaced and (_fraction(words[1])[1] or starts[1]) and _belongs(word, words[1], exists):
        word, count = word + words[1], 2
    if not _fraction(word)[1] and starts[count - 1]:
        word, count = word + words[count], count + 1
    _, slash, rest = _fraction(word)
    while slash and (not rest or rest in _DELTAS) and count < len(words) and not _fraction(words[count])[1]:
        word, rest, count = word + words[count], rest + words[count], count + 1
    return word, count


def _is_bare(word: str) -> bool:
    """Return whether a word is a sign of differentiation without an output: ``d``, ``d2`` or ``∂``."""
    return word[:1] != "" and word[0] in _DELTAS and (word[1:] == "" or word[1:].isdecimal())


def _belongs(bare: str, word: str, exists: Callable[[str], bool]) -> bool:
    """Return whether a word belongs to the ``d`` before it; if not, ``d`` is an output by itself."""
    output, _, glued = _fraction(word)
    inner = re.fullmatch(rf"[{_DELTAS}][0-9]*(.+)", output, re.DOTALL)
    if inner is None or not is_place(inner[1]) or not is_place(bare):
        return True
    joined = exists(first_name(output))
    apart = exists(bare) and exists(first_name(inner[1]))
    if joined and apart:
        raise LineError(
            f"{shorten(f'{bare} {word}')!r} can be read as a derivative of {shorten(output)}, or as {bare} "
            f"and a derivative of {shorten(inner[1])}; write it without spaces."
        )
    return joined or not (apart or glued)


def _operand(queue: list[str], word: str) -> str:
    """Take the output that follows ``d/dx`` from the words. Raises :class:`LineError` where none does."""
    if not queue or _fraction(queue[0])[1]:
        raise LineError(f"{shorten(word)!r} is not a derivative of anything; write dy/dx, or d/dx y.")
    name = _unbracketed(queue.pop(0))
    place(name)
    return name


def _following(queue: Sequence[str], most: int) -> list[tuple[str, int]]:
    """Return up to `most` further denominators that the words begin with, each with its number of words."""
    found: list[tuple[str, int]] = []
    at = 0
    while at < len(queue) and len(found) < most:
        word, size = queue[at], 1
        after = [*queue[at + 1 : at + 3], ""]
        if word in _DELTAS and after[0] and not _fraction(after[0])[1]:
            word, size = word + after[0], 2
        if not _may_follow(word) or after[size - 1].startswith("/"):
            break
        found.append((word, size))
        at += size
    return found


def _may_follow(word: str) -> bool:
    """Return whether a word can be a further denominator of the fraction before it."""
    return word.startswith(tuple(_DELTAS)) and len(word) <= MAX_WORD and not _fraction(word)[1]


def _normal(word: str) -> str:
    """Return a word in Python's spelling of identifiers (NFKC), with superscripts, ``^2``, ``**2`` as digits.

    Raises :class:`LineError` for a formula of LaTeX's.
    """
    word = word.translate(_FROM_SUPERSCRIPT)
    if re.search(r"[\\$].*[{$]", word):
        raise LineError(f"{shorten(word)!r} is a formula of LaTeX's; write dy/dx or d2y/dx2.")
    outside = set(unbracketed(word)) if re.search(r"(\^|\*\*)\d", word) else set()
    word = re.sub(r"(\^|\*\*)(?=\d)", lambda sign: "" if sign.start() in outside else sign[0], word)
    return unicodedata.normalize("NFKC", word)


def _fraction(word: str) -> tuple[str, str, str]:
    """Split a word at the slash of its fraction, which stands outside quotes and brackets."""
    index = next((index for index in unbracketed(word) if word[index] == "/"), len(word))
    return word[:index], word[index : index + 1], word[index + 1 :]


def _numerator(text: str, word: str) -> tuple[int, str]:
    """Return the order and the output of ``d2y``, none for ``d2``; `word` is what an error quotes."""
    match = re.fullmatch(rf"[{_DELTAS}]([0-9]*+)(.*)", text, re.DOTALL)
    if match is None:
        raise LineError(f"{shorten(word)!r} is not a derivative; write dy/dx or d2y/dx2.")
    order = int(match[1][:4] or "1")
    if not 1 <= order <= MAX_ORDER:
        raise LineError(f"{shorten(word)!r} asks for order {order}; orders 1 to {MAX_ORDER} can be computed.")
    name = _unbracketed(match[2])
    if name:
        place(name)
    return order, name


def _unbracketed(name: str) -> str:
    return name[1:-1] if name[:1] == "(" and name[-1:] == ")" else name


Factors = Sequence[Sequence[tuple[int, str, int]]]
"""For each position of a text, the denominators that can start there: end, name and power of each."""


def _factors(text: str, order: int) -> Factors:
    """Return the denominators that a glued text can hold at each of its positions."""
    table: list[list[tuple[int, str, int]]] = [[] for _ in range(len(text) + 1)]
    starts = [index for index in unbracketed(text) if text[index] in _DELTAS]
    for start in starts:
        for end in [*(index for index in starts if index > start), len(text)]:
            table[start] += [(end, *factor) for factor in _powers_in(text[start + 1 : end], order)]
    return table


def _whole(text: str, order: int) -> Factors:
    """Return the denominators that take up the whole text."""
    factors = _powers_in(text[1:], order) if text[:1] in _DELTAS else []
    return [[(len(text), *factor) for factor in factors], *([] for _ in text)]


def _powers_in(text: str, order: int) -> list[tuple[str, int]]:
    """Return the readings of a factor as name and power: ``x2`` is the name ``x2``, or ``x`` squared."""
    found = [(text, 1), *((text[:-n], int(text[-n:])) for n in (1, 2) if text[-n:] in _POWERS[: order - 1])]
    return [(name, power) for text, power in found if is_place(name := _unbracketed(text))]


def _readings(
    tables: Sequence[Factors], order: int, exists: Callable[[str], bool], most: int
) -> list[tuple[str, ...]]:
    """Return up to `most` ways to read the words as `order` denominators whose names exist."""
    partial: dict[int, list[tuple[str, ...]]] = {0: [()]}
    for table in tables:
        at: list[dict[int, list[tuple[str, ...]]]] = [{} for _ in table]
        at[0] = partial
        for start, factors in enumerate(table):
            for end, name, power in factors if at[start] else ():
                if not exists(first_name(name)):
                    continue
                for total, heads in at[start].items():
                    if total + power <= order:
                        found = at[end].setdefault(total + power, [])
                        found += [(*head, *[name] * power) for head in heads]
                        del found[most:]
        partial = at[-1]
    return partial.get(order, [])


def _denominators(
    words: Sequence[str], order: int, word: str, exists: Callable[[str], bool]
) -> tuple[tuple[str, ...], int]:
    """Return the denominators after the slash of `word`, and the number of `words` that they take."""
    # Where it fits, each separate word is one denominator.
    whole = [_whole(text, order) for text in words]
    found = {
        reading: n
        for n in range(1, len(words) + 1)
        for reading in _readings(whole[:n], order, exists, most=2)
    }
    if max(found.values(), default=1) == 1:
        tables: list[Factors] = []
        for text in words:
            tables.append(_factors(text, order))
            if _readings(tables, order, _anything, most=1):
                break
        readings = _readings(tables, order, exists, most=2)
        # Where no name exists, the plain reading is taken, so that a later error names the missing name.
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
    """Return a reading spelled with a word for each denominator, which has no other reading."""
    return f"{_fraction(word)[0]}/{' '.join(f'd{name}' for name in reading)}"
