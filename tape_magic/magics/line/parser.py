"""Parser, help and completion of a magic's line, all made from one table of options."""

from __future__ import annotations

import argparse
import ast
import enum
import itertools
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from tape_magic.errors import LineError, closest, shorten
from tape_magic.syntax import place, split, unwarned


class Completed(enum.Enum):
    """The names that complete the values of an option."""

    SOURCES = "what can be minimised over"
    CELL_SOURCES = "what can be differentiated by, which the cell may assign"
    OUTPUTS = "what the cell assigns"
    TARGETS = "derivatives of what the cell assigns"
    FOR = "the parts of a batch, and the data"
    OPTIMIZERS = "optimizers"
    NUMBERS = "numbers"


HELP_FLAGS = "-h", "--help"


@dataclass(frozen=True)
class Option:
    """One option of a magic: a row of its table.

    Attributes
    ----------
    name
        The attribute of the options' class, or else the argument of the engine, that the value is given to.
    flags
        ``("-o",)`` or ``("--wrt",)``; empty for the words without a flag.
    help
        One sentence without a full stop.
    metavar
        The placeholder of the value; empty for a switch.
    convert
        A function of a word that returns its value, and raises ``LineError`` or ``ValueError``.
    many
        Whether the option takes several words.
    choices
        The values that completion offers.
    closed
        Whether other values than `choices` are refused here; for most options, the engine refuses them.
    evaluated
        Whether a word that `convert` refuses may be an expression, whose value in the notebook is meant.
    names
        The names that completion offers.
    phrase
        Whether the value is a quoted phrase of several words, each of which is completed.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    convert: Callable[[str], Any] = str
    many: bool = False
    choices: tuple[str, ...] = ()
    closed: bool = False
    evaluated: bool = False
    names: Completed | None = None
    phrase: bool = False


@dataclass(frozen=True)
class Expression:
    """An expression that stands where the line could have a value: ``rate``, ``10*n``."""

    text: str


@dataclass(frozen=True)
class Magic:
    """The name, the summary and the options of a magic.

    Attributes
    ----------
    cell
        Whether it is a cell magic.
    examples
        Titles and cells, for the help.
    options_class
        A dataclass for the options that the engine does not know; its attribute `arguments` takes the others.
    meant
        Options that other libraries have, by their words without hyphens, and what to write here instead.
    """

    name: str
    cell: bool
    summary: str
    options: tuple[Option, ...]
    examples: tuple[tuple[str, str], ...]
    options_class: type
    meant: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def sign(self) -> str:
        """The name with its signs: ``%%grad``, or ``%tfgpu``."""
        return f"{'%%' if self.cell else '%'}{self.name}"

    def parse(self, line: str) -> Any:
        """Return the options of a line. Raises :class:`LineError`, in one sentence."""
        return _parsed(self, line)

    @property
    def flags(self) -> Mapping[str, str]:
        """The flag of each option by its name, which is also the name of the engine's argument."""
        return {option.name: option.flags[0] for option in self.options if option.flags}

    @property
    def help(self) -> str:
        """The text of ``%%name?``: usage, options, examples."""
        usage = [self.sign, *(_usage(option) for option in self.options)]
        rows = [(", ".join([*option.flags] or [option.metavar]), option) for option in self.options]
        shown = [(f"{flags} {o.metavar}".rstrip() if o.flags else flags, o.help) for flags, o in rows]
        width = max(len(flags) for flags, _ in shown)
        lines = [self.summary, "", "Usage::", "", f"    {' '.join(usage)}", "", "Options::", ""]
        shown.append((", ".join(HELP_FLAGS), "show this help"))
        lines += [f"    {flags:<{width}}  {text}" for flags, text in shown]
        for title, example in self.examples:
            lines += ["", f"{title}::", "", *(f"    {row}" for row in example.splitlines())]
        return "\n".join(lines) + "\n"

    @property
    def completed_flags(self) -> list[str]:
        """The flags that completion offers."""
        return [*(flag for option in self.options for flag in option.flags), *HELP_FLAGS]

    def asks_for_help(self, line: str) -> bool:
        """Return whether a line asks for the help instead of anything else."""
        return bool(set(line.split()).intersection(HELP_FLAGS))


@lru_cache(maxsize=256)
def _parsed(magic: Magic, line: str) -> Any:
    # Cached, since making the parser takes longer than a small gradient; options are frozen.
    parser = _Parser(prog=magic.sign, add_help=False, allow_abbrev=False)
    parser.meant = magic.meant
    _refuse_commas(magic, line)
    for option in magic.options:
        parser.add(option)
    values = vars(parser.parse_args([_guarded(word) for word in split(line)]))
    own = {one.name: values.pop(one.name) for one in fields(magic.options_class) if one.name in values}
    return magic.options_class(**own, arguments=MappingProxyType(values))


def _refuse_commas(magic: Magic, line: str) -> None:
    """Raise :class:`LineError` for a number with a comma in it, which would be the end of a word."""
    outside = re.sub(r"""(["']).*?\1""", "", line)
    for flag, number, rest in re.findall(r"(?<!\S)(--?[\w-]+)[ =]+(\d+(?:,\d+)+)([\w.]*)", outside):
        if any(flag in option.flags and option.metavar and not option.many for option in magic.options):
            thousands = re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+", number)
            meant = number.replace(",", "" if thousands else ".") + rest
            raise LineError(f"{flag} {number}{rest} has a comma, which ends a word: write {flag} {meant}")


def _usage(option: Option) -> str:
    more = " ..." if option.many else ""
    if not option.flags:
        return f"[{option.metavar}{more}]"
    return f"[{' '.join([option.flags[0], option.metavar]).rstrip()}{more}]"


_ESCAPE = "\0"


def _guarded(word: str) -> str:
    """Return a word so that argparse takes it for a value, unless it begins with a minus."""
    return word if word.startswith("-") else _ESCAPE + word


class _Parser(argparse.ArgumentParser):
    """``argparse`` whose errors are one sentence, with the option that is meant, or the closest."""

    meant: Mapping[str, str] = MappingProxyType({})

    def add(self, option: Option) -> None:
        """Add an option."""
        names = option.flags or (option.name,)
        if option.flags and not option.metavar:
            self.add_argument(*names, dest=option.name, action="store_true", default=argparse.SUPPRESS)
            return
        arguments: dict[str, Any] = {"type": _converter(option)}
        if option.flags:
            # An option that is not written leaves its default to the engine.
            arguments |= {"dest": option.name, "default": argparse.SUPPRESS}
            arguments["nargs"] = "+" if option.many else None
        else:
            arguments["nargs"] = "*"
        if option.many or not option.flags:
            arguments["action"] = _Collect
        self.add_argument(*names, **arguments)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in itertools.takewhile(lambda word: word != "--", args or ()):
            # Before the values of such an option are taken for something else.
            if word.startswith("--") and word.partition("=")[0] not in flags:
                raise self._unknown(word, flags)
        known, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            word = unknown[0].removeprefix(_ESCAPE)
            if word.startswith("-"):
                raise self._unknown(word, flags)
            raise LineError(
                f"{self.prog} cannot place {shorten(word)!r} on its line; {self.prog}? shows the options"
            )
        return known

    def _unknown(self, word: str, flags: Sequence[str]) -> LineError:
        word = word.partition("=")[0]
        meant, near = self.meant.get(_plain(word)), closest(word, _spelled(flags))
        if meant:
            named = meant.startswith("-") and '"' not in meant
            near = f"; did you mean {meant}?" if named else f": write {meant}."
        return LineError(f"{self.prog} has no option {shorten(word)}{near}")

    def error(self, message: str) -> NoReturn:
        message = message.replace(_ESCAPE, "").replace("argument ", "", 1)
        switch, found, value = message.partition(": ignored explicit argument ")
        if found:
            raise LineError(f"{switch} is a switch, and takes no value such as {shorten(value)}")
        raise LineError(shorten(message, 200))


def whole_number(word: str) -> int:
    """Read a whole number, also as ``10_000``, ``1e4`` or ``10k``. Raises ``ValueError`` for anything else.

    >>> whole_number("10k"), whole_number("1e4"), whole_number("1.5M")
    (10000, 10000, 1500000)
    """
    scale = {"k": 1_000, "m": 1_000_000}.get(word[-1:].lower(), 1)
    digits = word[:-1] if scale > 1 else word
    if scale == 1 and digits.lstrip("+-").replace("_", "").isdecimal():
        return int(digits)
    value = float(digits) * scale
    if not value.is_integer() or not digits[:1].isdigit():
        raise ValueError(word)
    return int(value)


def _plain(word: str) -> str:
    """Return an option's word without hyphens, in small letters: ``maxiter`` of ``--max-iter``."""
    return re.sub(r"[-_]", "", word).lower()


def _spelled(flags: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("--")]


class _Collect(argparse.Action):
    """Collects the words of an option in one tuple, also where the line gives it twice."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, None) or ()
        setattr(namespace, self.dest, (*before, *values))


def _converter(option: Option) -> Callable[[str], Any]:
    """Return the function that reads a word for an option, and whose errors name the option."""
    label = option.flags[-1] if option.flags else option.metavar

    def convert(word: str) -> Any:
        word = word.removeprefix(_ESCAPE)
        if option.closed and word not in option.choices:
            known = ", ".join(option.choices)
            raise LineError(f"{label} {shorten(word)} is none of {known}{closest(word, option.choices)}")
        try:
            return whole_number(word) if option.convert is int else option.convert(word)
        except ValueError:
            if option.evaluated and is_expression(word):
                return Expression(word)
            raise LineError(f"{label} takes {option.metavar}, not {shorten(word)!r}") from None

    return convert


def is_expression(word: str) -> bool:
    """Return whether a word is an expression of Python's that may have a value of its own."""
    try:
        with unwarned():
            tree = ast.parse(word, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return not (isinstance(tree, ast.Constant) and not isinstance(tree.value, int | float))


def identifier(word: str) -> str:
    """Return a name that can be bound. Raises :class:`LineError` for anything else."""
    if not word.isidentifier() or keyword.iskeyword(word):
        raise LineError(f"{shorten(word)!r} is not a name that a result can be bound to.")
    return word


def place_name(word: str) -> str:
    """Return a place such as ``x``, ``layer.kernel`` or ``p['w']`` as written; refuse anything else."""
    place(word)
    return word


def assignment(flag: str) -> Callable[[str], tuple[str, str]]:
    """Return the function that reads ``x=v``: a source, and the expression of its vector."""

    def convert(word: str) -> tuple[str, str]:
        name, sign, text = word.partition("=")
        if not sign or not text.strip():
            raise LineError(f"{flag} takes NAME=V, such as {flag} x=v, not {shorten(word)!r}.")
        place(name)
        return name, text

    return convert


QUIET = Option("quiet", ("-q",), "show nothing")
NAME = Option("name", ("-o",), "name of the report in the notebook", "NAME", identifier)
