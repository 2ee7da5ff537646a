"""One table for each magic: from it come the parser of its line, its help and its completion."""

from __future__ import annotations

import argparse
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from tape_magic.errors import LineError, closest, shorten
from tape_magic.notation import place, split


@dataclass(frozen=True)
class Option:
    """One option of a magic, as its table of options shows it.

    Attributes
    ----------
    flags
        ``("-o",)`` or ``("--wrt",)``; empty for the words without an option.
    help
        One sentence without a full stop.
    metavar
        What stands for the value; empty for a switch.
    convert
        A word → its value; raises ``LineError`` or ``ValueError``.
    many
        Whether several words may stand there.
    choices
        Values offered for completion; the only ones allowed when `closed`.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    convert: Callable[[str], Any] = str
    many: bool = False
    choices: tuple[str, ...] = ()
    closed: bool = False


@dataclass(frozen=True)
class Magic:
    """What a magic is called, does, and takes."""

    name: str
    cell: bool
    summary: str
    options: tuple[Option, ...]
    examples: tuple[tuple[str, str], ...]
    options_class: type

    @property
    def sign(self) -> str:
        """``%%grad``, or ``%tfgpu``."""
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
        """What ``%%name?`` shows: usage, options, three examples."""
        usage = [self.sign, *(_usage(option) for option in self.options)]
        rows = [(", ".join([*option.flags] or [option.metavar]), option) for option in self.options]
        shown = [(f"{flags} {o.metavar}".rstrip() if o.flags else flags, o.help) for flags, o in rows]
        width = max(len(flags) for flags, _ in shown)
        lines = [self.summary, "", "Usage::", "", f"    {' '.join(usage)}", "", "Options::", ""]
        lines += [f"    {flags:<{width}}  {text}" for flags, text in shown]
        for title, example in self.examples:
            lines += ["", f"{title}::", "", *(f"    {row}" for row in example.splitlines())]
        return "\n".join(lines) + "\n"

    def completions(self, words: Sequence[str], word: str) -> list[str]:
        """What may stand at `word`, after `words`: values of the option before it, or options."""
        before = words[-1] if words else ""
        by_flag = {flag: option for option in self.options for flag in option.flags}
        if before in by_flag and by_flag[before].choices:
            found: Sequence[str] = by_flag[before].choices
        elif word.startswith("-"):
            found = [flag for flag in by_flag if flag not in words]
        else:
            found = []
        return [candidate for candidate in found if candidate.startswith(word)]


@lru_cache(maxsize=256)
def _parsed(magic: Magic, line: str) -> Any:
    # Kept, since making argparse's parser takes longer than a small tape; options are frozen.
    parser = _Parser(prog=magic.sign, add_help=False, allow_abbrev=False)
    for option in magic.options:
        parser.add(option)
    values = vars(parser.parse_args([_guarded(word) for word in split(line)]))
    own = {one.name: values.pop(one.name) for one in fields(magic.options_class) if one.name in values}
    return magic.options_class(**own, arguments=MappingProxyType(values))


def _usage(option: Option) -> str:
    more = " ..." if option.many else ""
    if not option.flags:
        return f"[{option.metavar}{more}]"
    return f"[{' '.join([option.flags[0], option.metavar]).rstrip()}{more}]"


_ESCAPE = "\0"


def _guarded(word: str) -> str:
    """A word that begins with a minus but is no option (``-0.1``) must not look like one."""
    return word if word.startswith("-") else _ESCAPE + word


class _Parser(argparse.ArgumentParser):
    """``argparse`` with our errors: one sentence, and the closest option."""

    def add(self, option: Option) -> None:
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
        known, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            word = unknown[0].removeprefix(_ESCAPE)
            if word.startswith("-"):
                word = word.partition("=")[0]
                raise LineError(f"{self.prog} has no option {shorten(word)}{closest(word, _spelled(flags))}")
            raise LineError(
                f"{self.prog} cannot place {shorten(word)!r} on its line; {self.prog}? shows the options"
            )
        return known

    def error(self, message: str) -> NoReturn:
        message = message.replace(_ESCAPE, "").replace("argument ", "", 1)
        switch, said, value = message.partition(": ignored explicit argument ")
        if said:
            raise LineError(f"{switch} is a switch, and takes no value such as {shorten(value)}")
        raise LineError(shorten(message, 200))


def _spelled(flags: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("--")]


class _Collect(argparse.Action):
    """Words given in several places of the line are one tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest, None) or ()
        setattr(namespace, self.dest, (*before, *values))


def _converter(option: Option) -> Callable[[str], Any]:
    label = option.flags[-1] if option.flags else option.metavar

    def convert(word: str) -> Any:
        word = word.removeprefix(_ESCAPE)
        if option.closed and word not in option.choices:
            known = ", ".join(option.choices)
            raise LineError(f"{label} {shorten(word)} is none of {known}{closest(word, option.choices)}")
        try:
            return option.convert(word)
        except ValueError:
            raise LineError(f"{label} takes {option.metavar}, not {shorten(word)!r}") from None

    return convert


def identifier(word: str) -> str:
    """A name that something can be bound to."""
    if not word.isidentifier() or keyword.iskeyword(word):
        raise LineError(f"{shorten(word)!r} is not a name that a result can be bound to.")
    return word


def place_name(word: str) -> str:
    """A place such as ``x``, ``layer.kernel`` or ``p['w']``, as it was written."""
    place(word)
    return word


def assignment(flag: str) -> Callable[[str], tuple[str, str]]:
    """``x=v``: a source, and the expression of a vector of the notebook."""

    def convert(word: str) -> tuple[str, str]:
        name, sign, text = word.partition("=")
        if not sign or not text.strip():
            raise LineError(f"{flag} takes NAME=V, such as {flag} x=v, not {shorten(word)!r}.")
        place(name)
        return name, text

    return convert


QUIET = Option("quiet", ("-q",), "shows nothing")
NAME = Option("name", ("-o",), "the name that the report is bound to", "NAME", identifier)
