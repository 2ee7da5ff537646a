"""The comparison with central differences → one line."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.display import numbers
from tape_magic.display.document import Line, Tone, Verdict, say
from tape_magic.results.check import Check

_SAID = 3
"""So many further disagreements are spelled out."""


def checks_verdict(checks: Sequence[Check]) -> Verdict | None:
    """Whether all agree, how well, and where one does not."""
    if not checks:
        return None
    wrong = sorted((check for check in checks if not check.agrees), key=lambda check: -check.error)
    details = tuple(dict.fromkeys(part for check in wrong or checks for part in _circumstances(check)))
    if not wrong:
        largest = max(check.error for check in checks)
        who = "agrees" if len(checks) == 1 else f"all {len(checks):,} agree"
        error = f"largest relative error {numbers.number(largest, 2)}"
        return Verdict(Tone.GOOD, f"{who} with central differences ({error})", details)
    who = "disagrees" if len(checks) == 1 else f"{len(wrong):,} of {len(checks):,} disagree"
    headline = f"{who} with central differences: {_place(wrong[0])}"
    error = f"relative error {numbers.number(wrong[0].error, 2)}"
    others = tuple(Line((say(_place(check)),)) for check in wrong[1 : 1 + _SAID])
    return Verdict(Tone.WARNING, headline, (error, *details), others)


def _place(check: Check) -> str:
    """Where the error is the largest, and the two values there."""
    index = f" at [{', '.join(map(str, check.place))}]" if check.place else ""
    values = " against ".join(numbers.pair(check.derivative, check.difference))
    return f"{check.key}{index}: {values}"


def _circumstances(check: Check) -> list[str]:
    part = f"{numbers.count(check.compared)} of {numbers.count(check.elements)} elements compared"
    return [
        f"in {check.dtype}",
        *([part] if check.compared < check.elements else []),
        *([check.note] if check.note else []),
    ]
