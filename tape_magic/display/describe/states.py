"""The state of each derivative and its reason, which stands beside its row or once for all that share it."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Line, Sentence, Tone, Verdict, Words, say
from tape_magic.display.describe.common import is_, shown_name
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause, Reason
from tape_magic.results.summary import Summary

SHARED = 3
"""The least number of derivatives with one reason for which the reason stands once, above the table."""

_NAMED = 2
"""The most variables that a headline names."""


class RowState(enum.Enum):
    """The state of a derivative, the worst first; each member carries its words and its tone."""

    NOT_FINITE = "not finite", Tone.BAD
    NONE = "none", Tone.BAD
    NOT_CONNECTED = "not connected", Tone.WARNING
    ZERO = "all zero", Tone.WARNING
    FINE = "", Tone.PLAIN

    @property
    def words(self) -> str:
        """The words in "3 of 160 gradients are not connected"."""
        return self.value[0]

    @property
    def tone(self) -> Tone:
        """The tone of a verdict on this state."""
        return self.value[1]


def state(row: Derivative) -> RowState:
    """Return the state of a derivative."""
    summary = row.summary
    if summary is None and row.reason is not None and row.reason.cause is not Cause.NOT_READ:
        return RowState.NONE
    if summary is None or not row.connected:
        return RowState.NOT_CONNECTED
    if summary.nonfinite:
        return RowState.NOT_FINITE
    return RowState.ZERO if summary.zeros == 1 else RowState.FINE


def sentences(reason: Reason) -> tuple[Sentence, ...]:
    """Return the reason, with the user's line as code, and the cure."""
    code = reason.where.text if reason.where is not None else ""
    before, found, after = reason.text.partition(code) if code else (reason.text, "", "")
    parts = Words(before), Words(found, code=True), Words(after)
    whole = tuple(words for words in parts if words.text)
    return tuple(sentence for sentence in (whole, say(reason.cure)) if sentence)


def not_finite(summary: Summary) -> str:
    """Return the clause on the elements of an array that are NaN or infinite."""
    return f"{numbers.count(summary.nonfinite)} of {numbers.count(summary.size)} not finite"


WITHOUT_VALUE = (RowState.NOT_FINITE, RowState.NONE, RowState.NOT_CONNECTED)
"""The states of a derivative that gives no number to go on with."""


@dataclass(frozen=True)
class RowStates:
    """The states of all derivatives of a report, and the reasons that many of them share."""

    rows: tuple[tuple[Derivative, RowState], ...]
    shared: frozenset[tuple[RowState, Reason]]

    @classmethod
    def of(cls, rows: Iterable[Derivative]) -> RowStates:
        """Return the states of the rows of a report."""
        pairs = tuple((row, state(row)) for row in rows)
        groups = Counter(
            (found, row.reason)
            for row, found in pairs
            if row.reason is not None and found is not RowState.FINE
        )
        return cls(pairs, frozenset(group for group, number in groups.items() if number >= SHARED))

    def ordered(self, first: Sequence[RowState]) -> list[tuple[Derivative, RowState]]:
        """Return the rows with those of some states in front, so that a folded table shows them."""
        return sorted(self.rows, key=lambda pair: first.index(pair[1]) if pair[1] in first else len(first))

    def reason(self, row: Derivative, found: RowState) -> tuple[Sentence, ...]:
        """Return the reason beside a row, empty if the reason stands once above the table."""
        if row.reason is None or (found, row.reason) in self.shared:
            return ()
        return sentences(row.reason)

    def names(self, found: RowState) -> list[str]:
        """Return the names of the derivatives in a state."""
        return [shown_name(row.wrt[-1]) for row, one in self.rows if one is found]

    def verdict(self, judged: Sequence[RowState], kind: str, *, named: bool) -> Verdict | None:
        """Return the verdict: the worst state in the headline, the others beside it, shared reasons below.

        Parameters
        ----------
        judged
            The states worth a verdict, to which the states of shared reasons are added.
        kind
            The word for the derivatives, ``gradients`` or ``derivatives``.
        named
            Whether the headline names the variables if they are few.
        """
        counts = Counter(found for _, found in self.rows)
        about = [
            found
            for found in RowState
            if counts[found] and (found in judged or any(found is one for one, _ in self.shared))
        ]
        if not about:
            return None
        worst = about[0]
        names = self.names(worst) if named and counts[worst] <= _NAMED else []
        several = f"{counts[worst]:,} of {len(self.rows):,} {kind} {is_(counts[worst])}"
        headline = f"{several if len(self.rows) > 1 else f'the {kind[:-1]} is'} {worst.words}"
        headline += f": {', '.join(names)}" if names else ""
        details = tuple(f"{counts[found]:,} {is_(counts[found])} {found.words}" for found in about[1:])
        return Verdict(worst.tone, headline, details, self._shared_lines(worst, counts))

    def _shared_lines(self, worst: RowState, counts: Counter[RowState]) -> tuple[Line, ...]:
        lines = []
        groups = Counter((found, row.reason) for row, found in self.rows)
        for found, reason in dict.fromkeys((one, row.reason) for row, one in self.rows):
            if reason is None or (found, reason) not in self.shared:
                continue
            number = groups[found, reason]
            first, *rest = sentences(reason)
            whole = found is worst and number == counts[worst]
            who = () if whole else say(f"{number:,} {is_(number)} {found.words}: ")
            lines.append(Line(((*who, *first), *rest)))
        return tuple(lines)
