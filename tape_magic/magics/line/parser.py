"""Parser, help and completion of a magic's line, all made from one table of options."""

from __future__ import annotations

import argparse
import ast
import itertools
import keyword
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from tape_magic.errors import LineError, closest, closest_of, shorten
from tape_magic.magics.line.actions import Collect, Once, Several
from tape_magic.magics.line.option import Expression, Option
from tape_magic.magics.line.slips import refuse_commas, refuse_strays, whole_number
from tape_magic.magics.line.typed import refuse_power, typed
from tape_magic.syntax import elements, place, split, unwarned

HELP_FLAGS = "-h", "--help"


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
    negative
        What to write for a name with a minus, which would be an option.
    """

    name: str
    cell: bool
    summary: str
    options: tuple[Option, ...]
    examples: tuple[tuple[str, str], ...]
    options_class: type
    meant: Mapping[str, str] = field(default_factory=dict, hash=False)
    negative: str = ""

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
        lines = [self.summary, "", "Usage::", "", *_wrapped(usage), "", "Options::", ""]
        shown.append((", ".join(HELP_FLAGS), "show this help"))
        for flags, text in shown:
            begin, behind = f"    {flags:<{width}}  ", " " * (width + 6)
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=begin, subsequent_indent=behind, break_on_hyphens=False
            )
        for title, example in self.examples:
            lines += ["", f"{title}::", "", *(f"    {row}" for row in example.splitlines())]
        return "\n".join(lines) + "\n"

    @property
    def completed_flags(self) -> list[str]:
        """The flags that completion offers."""
        return [*(flag for option in self.options for flag in option.flags), *HELP_FLAGS]

    def asks_for_help(self, line: str) -> bool:
        """Return whether a line asks for the help instead of anything else."""
        return bool(set(line.split()).intersection(HELP_FLAGS)) or line.strip() in ("help", "-help", "?")

    def instead_of(self, word: str, value: str = "") -> str:
        """Return what to write for a word that is no option as it stands: ``cpu``, ``--rate``, ``adam``.

        `value` goes behind an option that takes one. Empty where nothing is like it.
        """
        plain = plain_word(word)
        for option in self.options:
            if plain in map(plain_word, option.flags) and len(plain) > 1:
                return f"{option.flags[0]} {value}".rstrip() if option.metavar else option.flags[0]
        if plain in self.meant:
            meant = self.meant[plain]
            takes = any(meant in option.flags and option.metavar for option in self.options)
            return f"{meant} {value}".rstrip() if takes else meant
        chosen = [
            f"{option.flags[0]} {choice}"
            for option in self.options
            if option.flags
            for choice in option.choices
            if plain_word(choice) == plain
        ]
        return chosen[0] if len(chosen) == 1 else ""


@lru_cache(maxsize=256)
def _parsed(magic: Magic, line: str) -> Any:
    # Cached, since making the parser takes longer than a small gradient; options are frozen.
    parser = _Parser(prog=magic.sign, add_help=False, allow_abbrev=False)
    parser.magic, parser.words = magic, {}
    line = typed(line)
    refuse_commas(magic.options, line)
    for option in magic.options:
        parser.add(option)
    words = split(line)
    refuse_strays(magic.options, words)
    values = vars(parser.parse_args([_guarded(word) for word in words]))
    own = {one.name: values.pop(one.name) for one in fields(magic.options_class) if one.name in values}
    return magic.options_class(**own, arguments=MappingProxyType(values))


def _usage(option: Option) -> str:
    more = " ..." if option.many else ""
    if not option.flags:
        return f"[{option.metavar}{more}]"
    return f"[{' '.join([option.flags[0], option.metavar]).rstrip()}{more}]"


def _wrapped(words: Sequence[str]) -> list[str]:
    """Return the usage in lines that a narrow terminal shows, none of its words broken."""
    lines = [f"    {words[0]}"]
    for word in words[1:]:
        fits = len(lines[-1]) + len(word) < _WIDTH
        lines = [*lines[:-1], f"{lines[-1]} {word}"] if fits else [*lines, f"{' ' * 8}{word}"]
    return lines


_WIDTH = 80
"""The most characters of a line of the help, which a page and most terminals show whole."""

_ESCAPE = "\0"


def _guarded(word: str) -> str:
    """Return a word so that argparse takes it for a value, unless it begins with a minus."""
    return word if word.startswith("-") else _ESCAPE + word


class _Parser(argparse.ArgumentParser):
    """``argparse`` whose errors are one sentence, with the option that is meant, or the closest."""

    magic: Magic
    words: dict[str, list[str]]
    """The words that were read for each option, as they are written."""

    def add(self, option: Option) -> None:
        """Add an option."""
        names = option.flags or (option.name,)
        if option.flags and not option.metavar:
            self.add_argument(*names, dest=option.name, action="store_true", default=argparse.SUPPRESS)
            return
        arguments: dict[str, Any] = {"type": self._converter(option), "metavar": _takes(option)}
        if option.flags:
            # An option that is not written leaves its default to the engine.
            arguments |= {"dest": option.name, "default": argparse.SUPPRESS}
            arguments["nargs"] = "+" if option.many else None
        else:
            arguments["nargs"] = "*"
        arguments["action"] = Collect if option.many or not option.flags else Once
        self.add_argument(*names, **arguments)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in itertools.takewhile(lambda word: word != "--", args or ()):
            # Before the values of such an option are taken for something else.
            head = word.partition("=")[0]
            if word.startswith("--") and head not in flags:
                raise self._unknown(word, flags)
            if re.fullmatch(r"-\w\w+", head) and (
                f"-{head}" in flags or plain_word(head) in self.magic.meant
            ):
                raise self._unknown(word, flags)  # which argparse would read as -o ver
        known, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            word = unknown[0].removeprefix(_ESCAPE)
            if word.startswith("-"):
                raise self._unknown(word, flags)
            raise LineError(
                f"{self.prog} cannot place {shorten(word)!r} on its line; {self.prog}? shows the options"
            )
        return known

    def _converter(self, option: Option) -> Callable[[str], Any]:
        """Return the function that reads a word for an option, and whose errors name the option."""
        label = option.flags[-1] if option.flags else option.metavar

        def convert(word: str) -> Any:
            word = word.removeprefix(_ESCAPE)
            self.words.setdefault(option.name, []).append(word)
            if option.many or not option.flags:
                parts = _parts(word)
                if parts != [word]:
                    return Several(map(convert, parts))
            if option.closed and word not in option.choices:
                known = ", ".join(option.choices)
                raise LineError(f"{label} {shorten(word)} is none of {known}{closest(word, option.choices)}")
            refuse_power(label, word)
            try:
                return whole_number(word) if option.convert is int else option.convert(word)
            except ValueError:
                if option.evaluated and is_expression(word):
                    return Expression(word)
                raise LineError(f"{label} takes {_takes(option)}, not {shorten(word)!r}") from None
            except LineError as error:
                self._refuse_assignment(word)
                meant = "" if option.flags else _lead(self.magic.instead_of(word))
                raise LineError(str(error).partition("; ")[0] + meant) if meant else error from None

        return convert

    def _refuse_assignment(self, word: str) -> None:
        """Raise :class:`LineError` for ``lr=0.1``, an option as a function takes it."""
        name, sign, value = word.partition("=")
        meant = self.magic.instead_of(name, shorten(value)) if sign and value and name.isidentifier() else ""
        if meant:
            raise LineError(f"{shorten(word)!r} is no option{_lead(meant)}")

    def _unknown(self, word: str, flags: Sequence[str]) -> LineError:
        word = word.partition("=")[0]
        meant, like = self.magic.instead_of(word), [flag[2:] for flag in _spelled(flags)]
        flag = closest_of(word.lstrip("-"), like)
        near = f"; did you mean --{flag}?" if flag else ""
        begun = [flag for flag in _spelled(flags) if flag.startswith(word) and len(word) > 2]
        begun += [flag for flag in flags if begun and f"-{flag}" == word]
        if begun:
            listed = ", ".join(begun[:-1])
            near = f"; did you mean {f'{listed} or ' if listed else ''}{begun[-1]}?"
        negative = re.fullmatch(r"-([^\W\d]\w*)", word) and self.magic.negative
        if negative and not begun and (not meant or meant.startswith(self.prog)):
            near = f": {negative.format(word[1:])}."
        elif meant:
            near = _lead(meant)
        return LineError(f"{self.prog} has no option {shorten(word)}{near}")

    def error(self, message: str) -> NoReturn:
        message = message.replace(_ESCAPE, "").replace("argument ", "", 1)
        switch, found, value = message.partition(": ignored explicit argument ")
        if found:
            raise LineError(f"{switch} is a switch, and takes no value such as {shorten(value)}")
        flag, found, _ = message.partition(": expected ")
        if found:
            takes = next(action.metavar for action in self._actions if flag in action.option_strings)
            raise LineError(f"{flag} takes {takes}, and nothing follows it")
        raise LineError(shorten(message, 200))


def _takes(option: Option) -> str:
    """Return what an option takes, as a sentence says it."""
    if option.convert in (int, float):
        return "a whole number" if option.convert is int else "a number"
    return option.metavar


def _lead(meant: str) -> str:
    """Return the end of a sentence that says what to write; empty where that is."""
    if not meant:
        return ""
    return f"; did you mean {meant}?" if meant.startswith("-") and '"' not in meant else f": write {meant}."


def plain_word(word: str) -> str:
    """Return an option's word without hyphens, in small letters: ``maxiter`` of ``--max-iter``."""
    return re.sub(r"[-_]", "", word).lower()


def _spelled(flags: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("--")]


def _parts(word: str) -> list[str]:
    """Return the words that a word stands for, without what may stand around or between names."""
    if word in ("and", "&"):
        return []
    return [re.sub(r"(?<=[\w)\]])[.:?]$", "", one) for one in elements(word)]


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
