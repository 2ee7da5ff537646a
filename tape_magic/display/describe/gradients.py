"""The report of derivatives."""

from __future__ import annotations

import math

from tape_magic.display.content import numbers
from tape_magic.display.content.document import (
    Column,
    Document,
    Field,
    Part,
    Sentence,
    Table,
    Tone,
    Verdict,
    say,
)
from tape_magic.display.describe.checks import checks_verdict
from tape_magic.display.describe.common import lines, matrix, nested, shown_name, without_empty
from tape_magic.display.describe.curvature import hessian_parts
from tape_magic.display.describe.examples import examples_table, examples_verdict
from tape_magic.display.describe.states import WITHOUT_VALUE, RowState, RowStates, not_finite
from tape_magic.display.describe.variables import BAR_SCALE, variables_table
from tape_magic.notation import Kind
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.summary import Summary

_WHOLE = 6
"""The most elements of an array that is shown whole, and the most rows and columns of such a matrix."""


def gradients_document(report: GradReport) -> Document:
    """Return the verdict, the picture of a Hessian, a row for each derivative, and the times."""
    states = RowStates.of(report)
    of_model = any(row.of_model for row in report)
    parts: list[Part] = [part for part in (_verdict(report, states), checks_verdict(report.checks)) if part]
    parts += [part for hessian in report.hessians for part in hessian_parts(hessian)]
    parts += [part for part in map(examples_verdict, report.examples) if part]
    footer = _common_type(report)
    if of_model and report.kind is Kind.GRADIENT:
        parts.append(variables_table(states))
        footer = (_over(report), *footer, BAR_SCALE)
    elif report.kind is Kind.PER_EXAMPLE:
        parts.append(examples_table(states))
    elif not _written(report, states):
        parts.append(_derivatives_table(report, states))
    times = (
        f"forward {numbers.duration(report.forward_seconds)}",
        f"backward {numbers.duration(report.backward_seconds)}",
    )
    return Document((*parts, *lines(report.notes)), (*footer, *times))


def _verdict(report: GradReport, states: RowStates) -> Verdict | None:
    gradients = report.kind is Kind.GRADIENT and all(row.order == 1 for row in report)
    of_model = any(row.of_model for row in report)
    judged: tuple[RowState, ...] = () if report.hessians else (RowState.NOT_FINITE,)
    if of_model:
        judged = tuple(RowState)[:-1]
    elif _folds(states):
        judged = WITHOUT_VALUE
    return states.verdict(judged, "gradients" if gradients else "derivatives", named=of_model)


def _folds(states: RowStates) -> bool:
    """Return whether a table of all rows shows only the first ones."""
    return len(states.rows) > Table.shown


def _over(report: GradReport) -> str:
    parameters = sum(math.prod(row.shape) for row in report)
    targets = dict.fromkeys(shown_name(row.target) for row in report)
    return f"∇{', ∇'.join(targets)} over {numbers.count(parameters)} parameters"


def _written(report: GradReport, states: RowStates) -> bool:
    """Return whether the Hessians above show every element, so that a table of their blocks adds nothing."""
    whole = all(hessian.matrix is not None and len(hessian.matrix) <= _WHOLE for hessian in report.hessians)
    return bool(report.hessians) and whole and all(row.reason is None for row, _ in states.rows)


def _derivatives_table(report: GradReport, states: RowStates) -> Table:
    columns = [
        Column("derivative"),
        Column("value", right=True),
        Column("", spare=True),
        Column("", prose=True),
    ]
    mixed = not _common_type(report)
    rows = [
        (
            Field(row.key if row.elementwise else row.label, code=True, aside=_shape_aside(row)),
            _value_field(row, state),
            Field() if _whole(row) or row.summary is None else Field(strip=row.summary.histogram),
            _note(row, states.reason(row, state), mixed),
        )
        for row, state in (states.ordered(WITHOUT_VALUE) if _folds(states) else states.rows)
    ]
    return without_empty(columns, rows)


def _whole(row: Derivative) -> bool:
    """Return whether an array is shown by its elements, and not by its norm and range."""
    return row.summary is None or row.summary.size <= _WHOLE or _is_small_matrix(row)


def _is_small_matrix(row: Derivative) -> bool:
    summary = row.summary
    if row.kind is not Kind.JACOBIAN or summary is None or len(summary.shape) != 2:
        return False
    return summary.size > 0 and max(summary.shape) <= _WHOLE


def _common_type(report: GradReport) -> tuple[str, ...]:
    """Return the type of the arrays that are not shown whole, if all have the same."""
    types = {row.dtype for row in report if not _whole(row)}
    return (types.pop(),) if len(types) == 1 else ()


def _shape_aside(row: Derivative) -> str:
    summary = row.summary
    if summary is not None and row.elementwise:
        return f"at {numbers.count(summary.size)} points"
    return "" if summary is None or _whole(row) else f"({numbers.shape(summary.shape)})"


def _value_field(row: Derivative, state: RowState) -> Field:
    summary = row.summary
    if state is RowState.NONE:
        return Field("none", Tone.BAD)
    if state is RowState.NOT_CONNECTED or summary is None:
        return Field("none" if summary is None else "0", Tone.MUTED)
    tone = Tone.BAD if state is RowState.NOT_FINITE else Tone.PLAIN
    if _is_small_matrix(row):
        return Field(tone=tone, matrix=matrix(summary.values, summary.shape))
    if _whole(row):
        return Field(nested(summary.values, summary.shape), tone)
    return Field(f"norm {numbers.rounded(summary.norm)}", tone)


def _note(row: Derivative, reason: tuple[Sentence, ...], mixed: bool) -> Field:
    """Return the field of sentences on a derivative: its reason, its figures, a type if these are `mixed`."""
    summary = None if _whole(row) else row.summary
    broken = () if summary is None or not summary.nonfinite else (say(not_finite(summary)),)
    figures = () if summary is None else _figures(summary, mixed)
    sums = "" if row.elementwise else row.sum_note
    facts = tuple(say(part) for part in (*figures, sums) if part)
    tone = Tone.PLAIN if reason or broken else Tone.MUTED
    sentences = *broken, *reason, *facts
    return Field(tone=tone, sentences=sentences) if sentences else Field()


def _figures(summary: Summary, mixed: bool) -> tuple[str, ...]:
    """Return the range, the share of zeros and the type of an array that is not shown whole."""
    low, high = summary.minimum, summary.maximum
    type_ = summary.dtype if mixed else ""
    if low is not None and low == high and not summary.nonfinite:
        return f"all {numbers.number(low)}", type_
    return (
        numbers.spread(low, high) if low is not None and high is not None else "",
        f"{numbers.percent(summary.zeros)} zeros",
        type_,
    )
