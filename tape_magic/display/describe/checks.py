"""The verdict on a comparison with central differences."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Line, Tone, Verdict, Words, say
from tape_magic.results.check import Check, CheckOutcome

_LISTED = 3
"""The most further disagreements, and the most remarks, that are listed."""


def checks_verdict(checks: Sequence[Check]) -> Verdict | None:
    """Return the verdict: how many agree and how well, the worst disagreement, and what was not compared."""
    if not checks:
        return None
    wrong, right, left = (
        [check for check in checks if check.outcome is outcome]
        for outcome in (CheckOutcome.DIFFERS, CheckOutcome.AGREES, CheckOutcome.NOT_COMPARED)
    )
    compared = _compared(checks) if right or wrong else ()
    details = [*dict.fromkeys(f"in {check.dtype}" for check in checks), *compared]
    if left and (wrong or right):
        details.append(f"{len(left):,} not compared")
    common, lines = _remarks(checks)
    reasons = _reasons(checks)
    if wrong:
        wrong.sort(key=lambda check: -check.error)
        who = "disagrees" if len(checks) == 1 else f"{len(wrong):,} of {len(checks):,} disagree"
        headline = f"{who} with central differences: {''.join(_place(wrong[0]))}"
        error = f"relative error {numbers.rounded(wrong[0].error, 2)}"
        others = [_other(check) for check in wrong[1 : 1 + _LISTED]]
        return Verdict(Tone.WARNING, headline, (error, *details, *common), (*others, *reasons, *lines))
    if not right:
        who = "" if len(checks) == 1 else f"none of {len(checks):,} "
        headline = f"{who}{'compared' if who else 'not compared'} with central differences"
        return Verdict(Tone.WARNING, headline, (*details, *common), (*reasons, *lines))
    some = f"{len(right):,} of {len(checks):,} agree" if left else f"all {len(checks):,} agree"
    who = "agrees" if len(checks) == 1 else some
    error = f"largest relative error {numbers.rounded(max(check.error for check in right), 2)}"
    return Verdict(
        Tone.GOOD, f"{who} with central differences ({error})", (*details, *common), (*reasons, *lines)
    )


def _other(check: Check) -> Line:
    name, values = _place(check)
    return Line(((Words(name, code=True), Words(values)),))


def _place(check: Check) -> tuple[str, str]:
    """Return the place of the largest error in a derivative, and the two values there."""
    index = f" at [{', '.join(map(str, check.place))}]" if check.place else ""
    values = " against ".join(numbers.pair(check.derivative, check.difference, numbers.rounded))
    return f"{check.key}{index}", f": {values}"


def _compared(checks: Sequence[Check]) -> tuple[str, ...]:
    compared, elements = (
        sum(counts) for counts in zip(*((c.compared, c.elements) for c in checks), strict=True)
    )
    if compared == elements:
        return ()
    return (f"{numbers.count(compared)} of {numbers.count(elements)} elements compared by themselves",)


def _remarks(checks: Sequence[Check]) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """Return the remarks that all checks share, and a line for each remark on some."""
    remarks: dict[str, list[str]] = {}
    for check in checks:
        for remark in check.note.split("; ") if check.note else ():
            remarks.setdefault(remark, []).append(check.key)
    common = [remark for remark, keys in remarks.items() if len(keys) == len(checks)]
    special = [(remark, keys) for remark, keys in remarks.items() if len(keys) < len(checks)]
    lines = [
        Line(((Words(keys[0], code=True), Words(f"{_more(keys)}: {remark}")),))
        for remark, keys in special[:_LISTED]
    ]
    if len(special) > _LISTED:
        lines.append(Line((say(f"and {len(special) - _LISTED:,} more remarks, in report.checks"),)))
    return tuple(common), tuple(lines)


def _reasons(checks: Sequence[Check]) -> tuple[Line, ...]:
    """Return a line for each reason; of many, some."""
    keys: dict[str, list[str]] = {}
    for check in checks:
        if check.reason:
            keys.setdefault(check.reason, []).append(check.key)
    lines = []
    for reason, some in list(keys.items())[:_LISTED]:
        alone = len(some) == len(checks)
        who = () if alone else (Words(some[0], code=True), Words(f"{_more(some)}: "))
        lines.append(Line(((*who, Words(reason)),)))
    return tuple(lines)


def _more(keys: Sequence[str]) -> str:
    return f" and {len(keys) - 1:,} more" if len(keys) > 1 else ""
