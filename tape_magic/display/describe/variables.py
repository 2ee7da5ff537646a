"""The variables of a model, a row each: what is missing, broken or vanishing shows at a glance."""

from __future__ import annotations

import math

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Column, Field, Sentence, Table, Tone, say
from tape_magic.display.describe.common import without_empty
from tape_magic.display.describe.states import RowState, RowStates, not_finite
from tape_magic.results.gradients import Derivative

DECADES = 4
"""How far below the largest norm a bar still shows."""

BAR_SCALE = f"bars over {DECADES} decades"

_FIRST = (RowState.NOT_FINITE, RowState.NONE, RowState.NOT_CONNECTED)
"""What comes before the order of the model; where rows are folded, so does what is all zero."""


def variables_table(states: RowStates) -> Table:
    """Path, shape, norm and its bar, share of zeros, histogram, and what is wrong."""
    rows = [row for row, _ in states.rows]
    several = len({row.target for row in rows}) > 1 or any(row.order > 1 for row in rows)
    norms = [row.summary.norm for row in rows if row.summary is not None]
    largest = max((norm for norm in norms if math.isfinite(norm)), default=0.0)
    first = (*_FIRST, RowState.ZERO) if len(rows) > Table.shown else _FIRST
    order = sorted(states.rows, key=lambda pair: first.index(pair[1]) if pair[1] in first else len(first))
    fields = tuple(
        _row(row, state, states.reason(row, state), largest, row.label if several else row.wrt[-1])
        for row, state in order
    )
    columns = (
        Column("variable"),
        Column("shape", right=True),
        Column("norm", right=True),
        Column(""),
        Column("zeros", right=True),
        Column("values"),
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
        missing = Field("0 (not connected)", Tone.MUTED, wide=True)
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
    """Where a norm lies on the decades below the largest, so that vanishing ones show."""
    if not 0 < norm <= largest:
        return 0.0
    return max(0.02, 1 + math.log10(norm / largest) / DECADES)
