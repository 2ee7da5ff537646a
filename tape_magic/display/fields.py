"""A result → its labelled strings, once; text and HTML only lay them out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np

from tape_magic.display import numbers
from tape_magic.display.document import Column, Curve, Document, Field, Table, Tone, Verdict
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.results.devices import Device, DeviceReport, Outcome, PolicyKind
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import MinimizeResult, StopReason, VariableChange
from tape_magic.results.reasons import Cause
from tape_magic.results.summary import Summary

CURVE_POINTS = 300

_SHORT = 8
"""Longer names stay out of a table's heading."""


@singledispatch
def describe(result: Any) -> Document:
    """The document of any of the three reports."""
    raise TypeError(f"no report: {type(result).__name__}")


# -- gradients ---------------------------------------------------------------------------------------


@describe.register
def _grad(report: GradReport) -> Document:
    times = (
        f"forward {numbers.duration(report.forward_seconds)}",
        f"backward {numbers.duration(report.backward_seconds)}",
    )
    over: tuple[str, ...] = ()
    if any(row.of_model for row in report):
        parameters = sum(math.prod(row.shape) for row in report)
        targets = dict.fromkeys(_shown_name(row.target) for row in report)
        over = (f"∇{', ∇'.join(targets)} over {numbers.count(parameters)} parameters",)
        table = _variables_table(report)
    else:
        table = _derivatives_table(report)
    over += _common_type(report)
    return Document(_grad_verdict(report), None, table, report.notes, (*over, *times))


def _large(summary: Summary | None) -> bool:
    """Whether an array is shown by a few numbers in place of its elements."""
    return summary is not None and not summary.values and summary.size > 0


def _common_type(report: GradReport) -> tuple[str, ...]:
    """The type of the arrays that are not shown whole, said once where it is one."""
    types = {row.dtype for row in report if _large(row.summary)}
    return (types.pop(),) if len(types) == 1 else ()


def _shown_name(name: str, unnamed: str = "output") -> str:
    return unnamed if name == LAST_EXPRESSION else name


def _grad_verdict(report: GradReport) -> Verdict | None:
    kind = "gradients" if all(row.order == 1 for row in report) else "derivatives"
    of = f"of {len(report)} {kind}"
    nonfinite = sum(1 for row in report if row.summary is not None and row.summary.nonfinite)
    if nonfinite:
        return Verdict(Tone.BAD, f"{nonfinite} {of} {_is(nonfinite)} not finite")
    dead = sum(1 for row in report if row.of_model and (row.summary is None or row.summary.zeros == 1))
    if dead:
        return Verdict(Tone.WARNING, f"{dead} {of} {_is(dead)} all zero")
    return None


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _derivatives_table(report: GradReport) -> Table:
    columns = [Column("derivative"), Column("value", right=True), Column(""), Column("", prose=True)]
    mixed = not _common_type(report)
    rows = [
        (
            Field(row.label, code=True, aside=_shape_aside(row)),
            _value_field(row),
            _strip(row.summary),
            _note(row, mixed),
        )
        for row in report
    ]
    return _without_empty(columns, rows)


def _without_empty(columns: Sequence[Column], rows: Sequence[tuple[Field, ...]]) -> Table:
    """A table of the columns in which anything stands."""
    kept = [any(row[i] != Field() for row in rows) for i in range(len(columns))]
    return Table(
        tuple(column for column, keep in zip(columns, kept, strict=True) if keep),
        tuple(tuple(one for one, keep in zip(row, kept, strict=True) if keep) for row in rows),
    )


def _shape_aside(row: Derivative) -> str:
    return numbers.shape(row.shape) if _large(row.summary) else ""


def _value_field(row: Derivative) -> Field:
    summary = row.summary
    if summary is None and row.reason is not None and row.reason.cause is not Cause.NOT_READ:
        return Field("none", Tone.BAD)
    if not row.connected or summary is None:
        return Field("0 (not connected)", Tone.MUTED)
    tone = Tone.BAD if summary.nonfinite else Tone.PLAIN
    if summary.values or summary.size == 0:
        return Field(_nested(summary.values, summary.shape), tone)
    return Field(f"‖·‖ {numbers.number(summary.norm)}", tone)


def _nested(values: tuple[complex, ...], shape: tuple[int, ...]) -> str:
    """A small array as nested brackets: ``[[1, 2], [3, 4]]``."""
    if not shape:
        return numbers.number(values[0])
    size = len(values) // shape[0] if shape[0] else 0
    parts = [_nested(values[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
    return f"[{', '.join(parts)}]"


def _strip(summary: Summary | None) -> Field:
    return Field(strip=summary.histogram) if summary is not None else Field()


def _note(row: Derivative, mixed: bool = False) -> Field:
    """Why there is no derivative, or what goes with one; its type where the report has `mixed` types."""
    if row.why:
        return Field(row.why)
    parts = [*(_figures(row.summary, mixed) if row.summary is not None else ()), row.sum_note]
    return Field(" · ".join(part for part in parts if part), Tone.MUTED if any(parts) else Tone.PLAIN)


def _figures(summary: Summary, mixed: bool) -> list[str]:
    """What is said of an array beside its norm, when it is not shown whole."""
    if not _large(summary):
        return []
    low, high = summary.minimum, summary.maximum
    type_ = summary.dtype if mixed else ""
    if low is not None and low == high and not summary.nonfinite:
        return [f"all {numbers.number(low)}", type_]
    return [
        " to ".join(numbers.pair(low, high)) if low is not None and high is not None else "",
        f"{numbers.percent(summary.zeros)} zeros",
        f"{numbers.count(summary.nonfinite)} not finite" if summary.nonfinite else "",
        type_,
    ]


def _variables_table(report: GradReport) -> Table:
    columns = Column("variable"), Column("shape", True), Column("norm", True), Column("")
    several = len({row.target for row in report}) > 1 or any(row.order > 1 for row in report)
    norms = [
        row.summary.norm for row in report if row.summary is not None and math.isfinite(row.summary.norm)
    ]
    largest = max(norms, default=0.0)
    rows: list[tuple[Field, ...]] = []
    notes = False
    for row in report:
        name = Field(row.label if several else row.wrt[-1], code=True)
        shape = Field(numbers.shape(row.shape))
        summary = row.summary
        if summary is None or not row.connected:
            rows.append((name, shape, _value_field(row), Field(), Field(), _note(row)))
            notes = notes or bool(row.why)
            continue
        tone = Tone.BAD if summary.nonfinite else Tone.WARNING if summary.zeros == 1 else Tone.PLAIN
        rows.append(
            (
                name,
                shape,
                Field(numbers.number(summary.norm, 3), tone),
                Field(bar=_log_share(summary.norm, largest)),
                Field(numbers.percent(summary.zeros)),
                _strip(summary),
            )
        )
    return Table((*columns, Column("zeros", True), Column("values", prose=notes)), tuple(rows))


def _log_share(norm: float, largest: float) -> float:
    """Where a norm lies on the last four decades below the largest, so that vanishing ones show."""
    if not 0 < norm <= largest or not math.isfinite(largest):
        return 0.0
    return max(0.02, 1 + math.log10(norm / largest) / 4)


# -- minima ------------------------------------------------------------------------------------------


@describe.register
def _minimum(result: MinimizeResult) -> Document:
    notes = list(result.notes)
    if result.engine_reason:
        notes.insert(0, f"{result.engine}: {result.engine_reason}")
    return Document(_minimum_verdict(result), _loss_curve(result), _changes_table(result), tuple(notes))


def _minimum_verdict(result: MinimizeResult) -> Verdict:
    name = _shown_name(result.loss_name, "loss")
    lost = result.divergence
    if lost is not None:
        what = (
            f"the {lost.what} became {numbers.number(lost.loss)}"
            if lost.what == "loss"
            else "the gradient is not finite"
        )
        details = [f"last finite values put back (step {numbers.count(result.steps)})"] if lost.step else []
        if lost.step and result.learning_rate:
            details.append(f"try a rate below {numbers.number(result.learning_rate)}")
        if not lost.step:
            return Verdict(Tone.BAD, f"not finite at the start: {what}", ("no step was applied",))
        return Verdict(Tone.BAD, f"diverged at step {numbers.count(lost.step)}: {what}", tuple(details))
    engine = "XLA" if result.engine == "xla" else result.engine
    compiling = f", of it compiling {numbers.duration(result.compile_seconds)}" if engine != "eager" else ""
    details = [
        result.reason.sentence,
        f"{numbers.duration(result.seconds)}{compiling}",
        engine,
        result.optimizer,
    ]
    rose = result.loss > result.start_loss
    if rose:
        details.insert(0, f"above the start, {numbers.number(result.start_loss)}")
    elif result.best_loss < result.loss:
        best = numbers.pair(result.best_loss, result.loss)[0]
        details.insert(0, f"best {best} at step {numbers.count(result.best_step)}")
    good = result.reason is not StopReason.INTERRUPTED and not rose
    headline = f"{name} = {numbers.number(result.loss)} at step {numbers.count(result.steps)}"
    return Verdict(Tone.GOOD if good else Tone.WARNING, headline, tuple(details))


def _loss_curve(result: MinimizeResult) -> Curve | None:
    history = result.history
    x, y = decimated(np.arange(len(history), dtype=float), history, CURVE_POINTS)
    if len(y) < 3 or y.min() == y.max():
        return None
    # A last exact 0 has no place on a logarithmic axis, and must not keep the curve from having one.
    positive = y[y > 0]
    log = bool((y >= 0).all() and positive.size > y.size / 2 and positive.max() / positive.min() >= 1e3)
    if log:
        x, y = x[y > 0], y[y > 0]
    return Curve(
        tuple(x.tolist()),
        tuple(y.tolist()),
        log,
        "steps",
        _shown_name(result.loss_name, "loss"),
        history[0],
        history[-1],
        len(history) - 1,
    )


def decimated(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], points: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """At most about `points` points that keep the least and the greatest of each stretch."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(y) <= points:
        return x, y
    keep = {0, len(y) - 1}
    for stretch in np.array_split(np.arange(len(y)), points // 2):
        keep |= {int(stretch[y[stretch].argmin()]), int(stretch[y[stretch].argmax()])}
    index = np.array(sorted(keep))
    return x[index], y[index]


def _changes_table(result: MinimizeResult) -> Table:
    name = _shown_name(result.loss_name, "loss")
    gradient = f"|∂{name}|" if len(name) <= _SHORT else "|gradient|"
    columns = Column("variable"), Column("start", True), Column("end", True), Column(gradient, True)
    rows = [_change_row(variable, change) for variable, change in result.variables.items()]
    return Table(columns, tuple(rows))


def _change_row(name: str, change: VariableChange) -> tuple[Field, ...]:
    start, end = change.start_summary, change.end_summary
    if end.shape == () and isinstance(start.values[0], float):
        shown = numbers.pair(start.values[0], end.values[0].real)
    elif end.values and len(end.values) <= 3:
        shown = _nested(start.values, start.shape), _nested(end.values, end.shape)
    else:
        before, after = numbers.pair(start.norm, end.norm)
        sign = f"‖{name}‖" if len(name) <= 2 else "‖·‖"
        shown = f"{sign} {before}", f"{sign} {after}"
    gradient = change.gradient_norm
    return (
        Field(name, code=True, aside=numbers.shape(end.shape) if end.shape else ""),
        Field(shown[0]),
        Field(shown[1], Tone.BAD if end.nonfinite else Tone.PLAIN),
        Field("0 (not connected)", Tone.MUTED) if gradient is None else Field(numbers.number(gradient, 2)),
    )


# -- devices -----------------------------------------------------------------------------------------


@describe.register
def _devices(report: DeviceReport) -> Document:
    versions = [f"TensorFlow {report.tensorflow}"]
    versions += [f"CUDA {report.cuda}"] if report.cuda else []
    versions += [f"cuDNN {report.cudnn}"] if report.cudnn else []
    headline = report.headline.rstrip(".")
    verdict = None
    if report.outcome is Outcome.NO_GPU:
        verdict = Verdict(Tone.WARNING, "No GPU: TensorFlow continues on the CPU", (report.why_no_gpu or "",))
    elif report.outcome is not Outcome.ASKED:
        outcome, _, setup = headline.partition(": ")
        verdict = Verdict(Tone.GOOD, setup, (outcome.lower(),))
    notes = list(report.notes)
    if report.outcome is Outcome.ASKED and report.why_no_gpu:
        notes.insert(0, f"No GPU ({report.why_no_gpu}).")
    state = "TensorFlow has started" if report.started else "TensorFlow has not started yet"
    return Document(verdict, None, _devices_table(report), tuple(notes), (*versions, state))


def _devices_table(report: DeviceReport) -> Table:
    rows = [_device_row(device) for device in report.devices]
    used = any(row[3].text for row in rows)
    columns = [
        Column("device"),
        Column(""),
        Column(""),
        Column("used here", True),
        Column("peak", True),
        Column("of" if used else "memory", True),
        Column("policy", True),
    ]
    return _without_empty(columns, rows)


def _device_row(device: Device) -> tuple[Field, ...]:
    tone = Tone.PLAIN if device.visible else Tone.MUTED
    names = ", ".join(device.logical_names)
    name = Field(names, code=True) if names else Field(device.name, tone)
    capability = device.compute_capability
    product = device.product or "unknown product"
    if capability:
        product += f" ({capability[0]}.{capability[1]})"
    share = device.memory_used / device.memory_total if device.memory_used and device.memory_total else None
    return (
        name,
        Field(product, tone),
        Field(bar=share),
        Field() if device.memory_used is None else Field(numbers.bytes_(device.memory_used)),
        Field() if device.memory_peak is None else Field(numbers.bytes_(device.memory_peak)),
        Field() if device.memory_total is None else Field(numbers.bytes_(device.memory_total), tone),
        Field() if device.policy.kind is PolicyKind.HOST else Field(device.policy.text, tone),
    )
