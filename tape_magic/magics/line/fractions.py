"""The derivatives that a refused line means: ``diff(y, x)``, ``y/x``, ``dy/dx, dz``, ``dy/dx(1)``.

Nothing is read differently for it: the names of outputs and sources that the line mentions are put together
to a line that can be read, and the refusal says that one.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tape_magic.errors import ArgumentError, LineError, SourceError, TargetError, shorten
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.typed import typed
from tape_magic.notation import LAST_EXPRESSION, MAX_WORD, Target, read_targets
from tape_magic.syntax import first_name, split

_WORD = re.compile(r"(?<![.\w])[^\W\d]\w*")
_DELTA = re.compile(r"[dD∂δΔ](\d*)(?=[^\W\d])")
_POWER = re.compile(r"[dD∂]\w*(?:(?:\^|\*\*)\{?(\d)|([²³]))|^[^/]*,\s*(\d)\s*\)")
_POINT = re.compile(r"(?:\w\s*\(|[|@])\s*(?:\w+\s*=)?\s*[-+\d.]|\bat\b|\w\s*=\s*[-+]?[\d.]+(?=[\s,)]|$)")
_FRACTION = re.compile(r"/[^\s,()\[\]]+[\s,]+$")
_NABLA = re.compile(
    r"(?:\\nabla|∇|grad(?=[\s(]))\s*(\^?\{?2\}?|²)?\s*(?:_\{?(\w+?)\}?(?=[\s(]))?\s*\(?([^\W\d]\w*)\)?"
)
_PRIMES = re.compile(r"([^\W\d]\w*?)(['′″‴]+)(?:\(([^\W\d]\w*)\))?")
_MOST_ORDER = 3


@contextmanager
def leading_on(line: str, assigned: Collection[str], namespace: Mapping[str, Any]) -> Iterator[None]:
    """Have a refusal say which derivatives are meant, where the words of the line cannot be read.

    `assigned` are the names that the cell assigns.
    """
    try:
        yield
    except ArgumentError:
        raise
    except (LineError, SourceError, TargetError) as error:
        said = str(error)
        if instead := _in_fractions(line, assigned):
            raise LineError(instead) from None
        meant = _led_on(said, typed(line), assigned, namespace)
        if meant == said:
            raise
        raise LineError(meant) from None


def _led_on(said: str, line: str, assigned: Collection[str], namespace: Mapping[str, Any]) -> str:
    head = re.split(r"(?:^|\s)-{1,2}\w", line)[0]
    try:
        words = split(head)
        if head != line:
            GRAD.parse(line)  # else an option was refused
        if not words or _are_read(words, assigned, namespace):
            return said
    except LineError:
        if head != line:
            return said
        words = head.split()
    meant = _meant(head, assigned, namespace) if len(head) <= MAX_WORD else ()
    if not meant:
        bare = (word for word in words if word not in namespace and word not in assigned)
        options = [option for option in map(GRAD.instead_of, bare) if option.startswith("-")]
        return _ended(said, options[0]) if options else said
    if "; did you mean --" in said:
        return said
    keys = ", ".join(target.key for target in meant)
    if _POINT.search(head):
        (name, *_) = meant[0].wrt
        return (
            f"{shorten(head)!r} names a point, and a derivative is taken at the value of {name}: "
            f"set {name} in a cell above, and write {keys}."
        )
    return _ended(said, keys)


def _in_fractions(line: str, assigned: Collection[str]) -> str:
    """Return what to write for ``y''`` or ``∇y``, as a sentence; empty for another line.

    >>> _in_fractions("y''(x)", {"y"}).partition("; ")[2]
    'did you mean d2y/dx2?'
    """
    head = re.split(r"(?:^|\s)-{1,2}\w", line)[0].strip()
    by = re.search(r"--wrt[\s=]+([^\W\d]\w*)", line)
    if found := _NABLA.fullmatch(head):
        second, name, source = bool(found[1]), found[3], found[2] or (by and by[1])
        meant = f"{name} --wrt {{0}} --laplacian" if second else f"d{name}/d{{0}}"
    elif found := _PRIMES.fullmatch(head):
        order, name, source = sum(map(" '″‴".index, found[2].replace("′", "'"))), found[1], by and by[1]
        source = found[3] or source
        meant = f"d{order}{name}/d{{0}}{order}" if order > 1 else f"d{name}/d{{0}}"
    else:
        return ""
    if name not in assigned:
        return ""
    if source:
        return f"{shorten(head)!r} is another notation; did you mean {meant.format(source)}?"
    return f"{shorten(head)!r} does not say by what: write {meant.format('x')}, with your variable for x."


def _ended(said: str, instead: str) -> str:
    """Return a message with another advice at its end."""
    return f"{re.sub(r'[;:] (?=[^;:]*$).*', '', said)}; did you mean {instead}?"


def _are_read(words: Sequence[str], assigned: Collection[str], namespace: Mapping[str, Any]) -> bool:
    """Return whether the words are derivatives of what the cell assigns, by what there is.

    Raises :class:`LineError` where they are no derivatives.
    """
    outputs, known = {*assigned, LAST_EXPRESSION}, {*namespace, *assigned}
    return all(
        first_name(target.name) in outputs and known.issuperset(map(first_name, target.wrt))
        for target in read_targets(words, known.__contains__)
    )


def _meant(text: str, assigned: Collection[str], namespace: Mapping[str, Any]) -> tuple[Target, ...]:
    """Return the derivatives of the outputs by the sources that a text names; none where it names none."""
    outputs: list[str] = []
    sources: list[str] = []
    order = 1
    for found in _WORD.finditer(text):
        behind = text[found.end() :].lstrip(" )")
        called = text[found.end() : found.end() + 1] == "("
        of_function = re.match(r"\([^()]*\)\s*/", text[found.end() :])
        # Beside a fraction, an output lacks its source: dy/dx, dz.
        stands_alone = _FRACTION.search(text[: found.start()]) and re.match(r"[\s,]|$", text[found.end() :])
        for name, power in _readings(found.group()):
            if called and (of_function or name == found.group()):
                continue  # the name of a function
            if name in outputs:
                break
            if name in assigned and (not outputs or behind[:1] == "/" or stands_alone):
                outputs.append(name)
            elif name in assigned or _is_source(name, namespace):
                sources.append(name)
            elif both := _both(name, assigned, namespace):
                outputs, sources = [*outputs, both[0]], [*sources, both[1]]
            else:
                continue
            order = max(order, power)
            break
    for one, sign, two in _POWER.findall(text):
        order = max(order, "²³".index(sign) + 2 if sign else int(one or two))
    sources = list(dict.fromkeys(sources))
    if not 0 < len(outputs) * len(sources) <= max(len(outputs), len(sources)) or order > _MOST_ORDER:
        return ()
    return tuple(Target(output, (source,) * order) for output in outputs for source in sources)


def _readings(word: str) -> Iterator[tuple[str, int]]:
    """Yield the names that a word may mean, with the order that it may say: ``dx2`` is x2, or x squared."""
    yield word, 1
    delta = _DELTA.match(word)
    if delta:
        yield word[delta.end() :], int(delta[1] or 1)
    for name in (word, word[delta.end() :] if delta else ""):
        if name[-1:] in ("2", "3") and len(name) > 1:
            yield name[:-1], int(name[-1])


def _is_source(name: str, namespace: Mapping[str, Any]) -> bool:
    """Return whether the notebook has something of a name that may be a source."""
    none = types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, types.MethodType
    return name in namespace and not name.startswith("_") and not isinstance(namespace[name], none)


def _both(name: str, assigned: Collection[str], namespace: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the output and the source of ``dy_dx``, ``dydx`` or ``y_x``."""
    for output in assigned:
        found = re.fullmatch(rf"[dD]?{re.escape(output)}(?:_[dD]?|[dD])(.+)", name)
        if found and (found[1] in assigned or _is_source(found[1], namespace)):
            return output, found[1]
    return None
