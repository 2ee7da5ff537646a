"""The table of a model's variables, in which missing, broken and vanishing gradients show at a glance."""

from __future__ import annotations

import math

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Column, Field, Sentence, Table, Tone, say
from tape_magic.display.describe.common import without_empty
from tape_magic.display.describe.states import WITHOUT_VALUE, RowState, RowStates, not_finite
from tape_magic.results.gradients import Derivative

DECADES = 4
"""The decades below the largest norm that a bar covers."""

BAR_SCALE = f"bars over {DECADES} decades"


def variables_table(states: RowStates) -> Table:
    """Return the columns path, shape, norm with its bar, share of zeros, histogram, and reason.

    Gradients that are missing or not finite come first, and those that are all zero if rows are folded; all
    others keep the model's order.
    """
    rows = [row for row, _ in states.rows]
    several = len({row.target for row in rows}) > 1 or any(row.order > 1 for row in rows)
    norms = [row.summary.norm for row in rows if row.summary is not None]
    largest = max((norm for norm in norms if math.isfinite(norm)), default=0.0)
    first = (*WITHOUT_VALUE, RowState.ZERO) if len(rows) > Table.shown else WITHOUT_VALUE
    fields = tuple(
        _row(row, state, states.reason(row, state), largest, row.label if several else row.wrt[-1])
        for row, state in states.ordered(first)
    )
    columns = (
        Column("variable"),
        Column("shape", right=True, spare=True),
        Column("norm", right=True),
        Column("", spare=True),
        Column("zeros", right=True, spare=True),
        Column("values", spare=True),
        Column("", prose=True),
    )
    return without_empty(columns, fields)


def _row(
    row: Derivative, state: RowState, reason: tuple[Sentence, ...], largest: float, name: str
) -> tuple[Field, ...]:
    head = Field(name, code=True), Field(numbers.shape(row.shape))
    summary = row.summary
    if state is RowState.NONE:
        return *head, Field("none", Tone.BAD), Field(), Field(), Field(), Field(sentences=reason)
    if state is RowState.NOT_CONNECTED or summary is None:
        missing = Field("none" if summary is None else "0", Tone.MUTED)
        return *head, missing, Field(), Field(), Field(), Field(sentences=reason)
    broken = state is RowState.NOT_FINITE
    tone = Tone.BAD if broken else Tone.WARNING if state is RowState.ZERO else Tone.PLAIN
    return (
        *head,
        Field(numbers.measure(summary.norm, 3), tone),
        Field() if broken else Field(bar=_log_share(summary.norm, largest)),
        Field(numbers.percent(summary.zeros)),
        Field(strip=summary.histogram),
        Field(sentences=(say(not_finite(summary)), *reason) if broken else reason),
    )


def _log_share(norm: float, largest: float) -> float:
    """Return the length of a norm's bar on a logarithmic scale, on which vanishing norms show."""
    if not 0 < norm <= largest:
        return 0.0
    return max(0.02, 1 + math.log10(norm / largest) / DECADES)
