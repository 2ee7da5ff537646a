"""Completion with Tab on the line of a magic: options, their values, and names, on old and new shells.

IPython 8.6 and later call *matchers*, which are given the cell. Earlier versions call matchers of a magic's
arguments, which are given the line; the cell is then a local variable of the caller's (seen in IPython 7.34).
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from typing import Any

from tape_magic.magics.cell.offered import NamesOffered
from tape_magic.magics.line.option import Completed, Option
from tape_magic.magics.line.options import MAGICS

# A cell magic may have one sign, too, as the first line of a cell.
_BY_SIGN = {sign: magic for magic in MAGICS for sign in (magic.sign, f"%{magic.name}")}

_SEPARATORS = re.compile(r"[\s,\"'()\[\]]+")
_DELTAS = "d∂"

_MOST_FRACTIONS = 40
"""The most derivatives that are offered at once; where there are more, outputs are offered first."""


def candidates(line: str, names: NamesOffered) -> tuple[str, list[str]]:
    """Return the word at the end of a line, and its completions; none where the line is no magic's."""
    sign, _, rest = line.lstrip().partition(" ")
    magic = _BY_SIGN.get(sign)
    if magic is None or (not rest and not line.endswith(" ")):
        return "", []
    *before, word = _SEPARATORS.split(rest)
    if re.search(r"[\w)\]]\[['\"]?$", rest[: len(rest) - len(word)]):
        return word, []  # a key of a dict, which IPython completes
    before = [one for one in before if one]
    if word.startswith("-"):
        return word, [flag for flag in magic.completed_flags if flag not in before and flag.startswith(word)]
    option, values = _option_at(magic.options, before)
    if option is None:
        return word, []
    offered = [*_offered(option, values, word, names)]
    if not word and not option.flags and (before or not magic.cell):
        # The word without a flag may be written already, and the line goes on with options.
        offered += [flag for flag in magic.completed_flags if flag not in before]
    return word, [one for one in offered if one.startswith(word)]


def _option_at(options: Sequence[Option], before: Sequence[str]) -> tuple[Option | None, Sequence[str]]:
    """Return the option that the next word is a value of, and its values so far."""
    place = next((i for i in reversed(range(len(before))) if before[i].startswith("-")), -1)
    flag, values = before[place] if place >= 0 else "", before[place + 1 :]
    found = next((one for one in options if flag in one.flags or (not flag and not one.flags)), None)
    if (
        found is not None
        and found.flags
        and not (found.many or found.phrase)
        and (values or not found.metavar)
    ):
        # The option has its value, and the words without a flag go on.
        return next((one for one in options if not one.flags), None), ()
    return found, values


def _offered(option: Option, values: Sequence[str], word: str, names: NamesOffered) -> Sequence[str]:
    """Return what an option may be given, sources first."""
    kind = Completed.NUMBERS if option.evaluated else option.names
    if "." in word and kind in (Completed.SOURCES, Completed.CELL_SOURCES):
        return names.within(word.rpartition(".")[0])
    if kind is Completed.TARGETS:
        return _targets(word, names)
    if kind is Completed.FOR:
        return names.data if "in" in values else names.unknown
    by_kind: dict[Completed | None, Sequence[str]] = {
        Completed.SOURCES: names.sources,
        Completed.CELL_SOURCES: (*names.sources, *names.assigned),
        Completed.OUTPUTS: names.assigned,
        Completed.OPTIMIZERS: names.optimizers,
        Completed.NUMBERS: names.numbers,
    }
    offered = by_kind.get(kind, ())
    return [*option.choices, *(one for one in offered if one not in values)]


def _targets(word: str, names: NamesOffered) -> list[str]:
    """Return what a word of ``%%grad`` may become: ``loss``, ``dloss/dw``, or a denominator after one."""
    outputs, sources = names.assigned, [*names.sources, *names.assigned]
    head, slash, tail = word.rpartition("/")
    if slash:
        sign = tail[:1] if tail[:1] and tail[0] in _DELTAS else "∂" if "∂" in head else "d"
        output = re.sub(rf"^[{_DELTAS}][0-9²³]*", "", head)
        return [f"{head}/{sign}{source}" for source in sources if source != output]
    if word.startswith("∇"):
        return [f"∇{output}" for output in outputs]
    begun = re.match(rf"[{_DELTAS}][0-9²³]*", word)
    start = begun.group() if begun else "d"
    power = start[1:]
    fractions = [
        f"{start}{output}/{start[0]}{source}{power}"
        for output in outputs
        for source in sources
        if source != output
    ]
    if len([one for one in fractions if one.startswith(word)]) > _MOST_FRACTIONS:
        fractions = [f"{start}{output}/{start[0]}" for output in outputs]
    return [*outputs, *fractions]


def _matches(context: Any, shell: Any) -> Any:
    """Return completions for IPython's completer (API version 2); they suppress those of other matchers."""
    from IPython.core.completer import SimpleCompletion

    word, found = candidates(context.text_until_cursor, NamesOffered(shell.user_ns, context.full_text))
    return {
        "completions": [
            SimpleCompletion(text=one, type="option" if one.startswith("-") else "instance") for one in found
        ],
        "matched_fragment": word,
        "suppress": bool(found),
        "ordered": True,
    }


def _matches_before_8(completer: Any, line: str) -> list[str]:
    """Return the completions of the token before the cursor; IPython then asks no other matcher."""
    caller = sys._getframe(1).f_locals
    text = caller.get("full_text") or line
    begun = completer.text_until_cursor
    word, found = candidates(begun, NamesOffered(completer.namespace, text))
    token = completer.splitter.split_line(begun, len(begun))
    return [token + one[len(word) :] for one in found]


def _matchers(shell: Any) -> tuple[list[Any], Any] | None:
    """Return the completer's list of matchers and what to put there; ``None`` where it has none."""
    from IPython.core import completer

    own = getattr(shell, "Completer", None)
    if hasattr(completer, "CompletionContext"):
        matcher = functools.partial(_matches, shell=shell)
        functools.update_wrapper(matcher, _matches)
        matcher.matcher_api_version = 2  # type: ignore[attr-defined]
        matcher.matcher_identifier = "tape_magic"  # type: ignore[attr-defined]
        matcher.matcher_priority = 100  # type: ignore[attr-defined]
        found = getattr(own, "custom_matchers", None)
    else:
        matcher = functools.partial(_matches_before_8, own)
        functools.update_wrapper(matcher, _matches_before_8)
        found = getattr(own, "magic_arg_matchers", None)
    return None if found is None else (found, matcher)


def install_completion(shell: Any) -> None:
    """Add the magics' completions to the shell's completer."""
    remove_completion(shell)
    place = _matchers(shell)
    if place is not None:
        place[0].append(place[1])


def remove_completion(shell: Any) -> None:
    """Take the magics' completions out of the shell's completer."""
    place = _matchers(shell)
    if place is not None:
        ours = _matches, _matches_before_8
        place[0][:] = [one for one in place[0] if getattr(one, "func", None) not in ours]
