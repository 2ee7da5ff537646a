"""The norms of the examples' gradients: which example has the largest, and a row for each variable."""

from __future__ import annotations

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Column, Field, Table, Tone, Verdict, say
from tape_magic.display.describe.common import nested, shown_name, without_empty
from tape_magic.display.describe.states import RowState, RowStates, not_finite
from tape_magic.results.examples import ExampleNorms, largest
from tape_magic.results.gradients import Derivative

_WHOLE = 6
"""The most norms that are shown one by one."""


def examples_verdict(examples: ExampleNorms) -> Verdict | None:
    """Return the verdict that names the example with the largest gradient; ``None`` without examples."""
    if not examples.norms.size:
        return None
    first, name = examples.largest, shown_name(examples.target)
    count = f"{numbers.count(examples.norms.size)} examples"
    if first is None and np.isnan(examples.norms).all():
        return None  # which the verdict on the derivatives says
    if first is None:
        norm = numbers.rounded(float(examples.norms[0]))
        return Verdict(Tone.PLAIN, f"the gradients of all {count} have the norm {norm}", _over(examples))
    finite = examples.norms[np.isfinite(examples.norms)]
    broken = examples.norms.size - finite.size
    median = (f"median {numbers.rounded(float(np.median(finite)))}",) if finite.size else ()
    norm = numbers.rounded(float(examples.norms[first]))
    headline = f"{name}[{first}] has the largest gradient of {count}: norm {norm}"
    if broken:
        headline = (
            f"{numbers.count(broken)} of {count} have a gradient that is not finite, first {name}[{first}]"
        )
    return Verdict(Tone.PLAIN, headline, (*median, *_over(examples)))


def _over(examples: ExampleNorms) -> tuple[str, ...]:
    return (f"over {numbers.count(examples.parameters)} parameters",)


def examples_table(states: RowStates) -> Table:
    """Return the columns variable, norms, histogram, example with the largest, and reason."""
    several = len({row.target for row, _ in states.rows}) > 1
    columns = (
        Column("variable"),
        Column("norms", right=True),
        Column("", spare=True),
        Column("largest at", right=True),
        Column("", prose=True),
    )
    rows = []
    for row, state in states.rows:
        summary, reason = row.summary, states.reason(row, state)
        broken = () if summary is None or not summary.nonfinite else (say(not_finite(summary)),)
        first = None if summary is None else largest(row.value)
        rows.append(
            (
                Field(row.label if several else row.wrt[-1], code=True),
                _norms(row, state),
                Field(strip=summary.histogram) if summary is not None else Field(),
                Field("" if first is None else f"[{first}]"),
                Field(sentences=(*broken, *reason)),
            )
        )
    return without_empty(columns, rows)


def _norms(row: Derivative, state: RowState) -> Field:
    """Return the norms by one variable, or their range."""
    summary = row.summary
    if state is RowState.NONE:
        return Field("none", Tone.BAD)
    if state is RowState.NOT_CONNECTED or summary is None:
        return Field("none" if summary is None else "0", Tone.MUTED)
    tone = Tone.BAD if state is RowState.NOT_FINITE else Tone.PLAIN
    low, high = summary.minimum, summary.maximum
    if summary.size <= _WHOLE or low is None or high is None:
        return Field(nested(summary.values[:_WHOLE], (min(summary.size, _WHOLE),)), tone)
    return Field(f"all {numbers.rounded(low)}" if low == high else numbers.spread(low, high), tone)
