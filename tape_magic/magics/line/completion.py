"""Completion of the magics' options with Tab, on old and new shells.

IPython 8.6 and later call *matchers*; earlier versions call a hook for each command.
"""

from __future__ import annotations

from typing import Any

from tape_magic.magics.line.options import MAGICS

_BY_SIGN = {magic.sign: magic for magic in MAGICS}


def candidates(line: str) -> tuple[str, list[str]]:
    """Return the word at the end of a line, and its completions."""
    sign, _, rest = line.lstrip().partition(" ")
    magic = _BY_SIGN.get(sign)
    if magic is None or (not rest and not line.endswith(" ")):
        return "", []
    *before, word = rest.split(" ")
    return word, magic.completions([one for one in before if one], word)


def tape_magic_matcher(context: Any) -> Any:
    """Return completions for IPython's completer (API version 2); they suppress those of other matchers."""
    from IPython.core.completer import SimpleCompletion

    word, found = candidates(context.text_until_cursor)
    return {
        "completions": [SimpleCompletion(text=one, type="option") for one in found],
        "matched_fragment": word,
        "suppress": bool(found),
    }


tape_magic_matcher.matcher_api_version = 2  # type: ignore[attr-defined]
tape_magic_matcher.matcher_identifier = "tape_magic"  # type: ignore[attr-defined]
tape_magic_matcher.matcher_priority = 100  # type: ignore[attr-defined]


def _matchers(shell: Any) -> list[Any] | None:
    """Return the completer's list of matchers; ``None`` where it has no API version 2."""
    from IPython.core import completer

    known = hasattr(completer, "CompletionContext")
    return getattr(getattr(shell, "Completer", None), "custom_matchers", None) if known else None


def install_completion(shell: Any) -> None:
    """Add the magics' options to the shell's completer."""
    matchers = _matchers(shell)
    if matchers is not None:
        if tape_magic_matcher not in matchers:
            matchers.append(tape_magic_matcher)
        return
    for sign in _BY_SIGN:
        shell.set_hook("complete_command", _complete_command, str_key=sign)


def remove_completion(shell: Any) -> None:
    """Take the magics' options out of the shell's completer."""
    matchers = _matchers(shell)
    if matchers is not None:
        while tape_magic_matcher in matchers:
            matchers.remove(tape_magic_matcher)
        return
    hooks = shell.strdispatchers.get("complete_command")
    for sign in _BY_SIGN:
        chain = hooks.strs.get(sign) if hooks is not None else None
        if chain is not None:
            chain.chain[:] = [
                entry for entry in chain.chain if getattr(entry[1], "__func__", None) is not _complete_command
            ]
            if not chain.chain:
                del hooks.strs[sign]


def _complete_command(shell: Any, event: Any) -> list[str]:
    """Return the completions, as the hook of IPython before 8.6 does; raise ``TryNext`` without any."""
    from IPython.core.error import TryNext

    found = candidates(event.text_until_cursor)[1]
    if not found:
        raise TryNext
    return found
