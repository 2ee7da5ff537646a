"""The report of a minimisation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import (
    Column,
    Curve,
    Document,
    Field,
    Line,
    Table,
    Tone,
    Verdict,
    say,
)
from tape_magic.display.content.reduction import CURVE_POINTS, VALIDATION, loss_curve
from tape_magic.display.describe.common import is_better, line_of, lines, nested_pair, shown_name
from tape_magic.results.epochs import Epochs
from tape_magic.results.findings import Finding
from tape_magic.results.minimum import EARLY, MinimizeResult, StopReason, VariableChange

TRACKED_POINTS = 64

FINDINGS = 3
"""The most findings in a report; all of them are in ``minimum.findings``."""


def minimum_document(result: MinimizeResult) -> Document:
    """Return the outcome, the curve of the loss, and the start and end of each variable."""
    notes = list(result.notes)
    if result.optimizer_reason:
        notes.insert(0, result.optimizer_reason)
    if result.engine_reason and result.engine_reason != EARLY:
        notes.insert(0, f"{result.engine}: {result.engine_reason}")
    found = [_finding_line(finding) for finding in result.findings[:FINDINGS]]
    tables = _changes_table(result), _tracked_table(result)
    parts = _minimum_verdict(result), *found, _loss_curve(result), *tables, *lines(notes)
    return Document(tuple(part for part in parts if part is not None))


def _finding_line(finding: Finding) -> Line:
    """Return what was found and its cure, which is not broken where it fits on a line: ``--lr 5e-05``."""
    return Line(tuple(say(part) for part in (finding.sentence, finding.cure) if part))


def _minimum_verdict(result: MinimizeResult) -> Verdict:
    name = shown_name(result.loss_name, "loss")
    lost = result.divergence
    if lost is not None:
        became = "became" if lost.step else "is"
        what = (
            f"the loss {became} {numbers.number(lost.loss)}"
            if lost.what == "loss"
            else "the gradient is not finite"
        )
        details = [lost.cause] if lost.cause else []
        if not lost.step:
            details.append("no step was applied")
            return Verdict(Tone.BAD, f"not finite at the start: {what}", tuple(details))
        details.append(_put_back(result, lost.values_of))
        if result.learning_rate and not lost.cause and not result.findings:
            details.append(f"try a rate below {numbers.number(result.learning_rate)}")
        return Verdict(Tone.BAD, f"diverged at step {numbers.count(lost.step)}: {what}", tuple(details))
    engine = "XLA" if result.engine == "xla" else result.engine
    where = f" on {result.devices} devices" if result.devices > 1 else ""
    compiling = f", of it compiling {numbers.duration(result.compile_seconds)}" if engine != "eager" else ""
    ended = _ended(result)
    if result.stepless:
        of_this_run = " of this run" if result.first_step else ""
        begin = f"{ended} before the first step{of_this_run}: {name} = {numbers.number(result.loss)}"
        took = f"{numbers.duration(result.seconds)}{compiling}"
        same = all(np.array_equal(one.start, one.end, equal_nan=True) for one in result.variables.values())
        left = "all variables are at their start values" if same else "no step was applied"
        again = "run it again to go on" if result.first_step else "run it again to begin"
        return Verdict(Tone.WARNING, begin, (left, again, took, engine + where, result.optimizer))
    details = [
        ended,
        f"{numbers.duration(result.seconds)}{compiling}",
        engine + where,
        result.optimizer,
    ]
    rose = _rose(result)
    if validated := _validated(result):
        details.insert(0, validated)
    if rose:
        details.insert(0, f"above the start, {numbers.number(result.start_loss)}")
    elif validated:
        pass  # it says which epoch is the best
    elif result.kept_best and result.loss == result.best_loss:
        details.insert(0, _kept(result))
    elif is_better(result.best_loss, result.loss):
        best = numbers.pair(result.best_loss, result.loss)[0]
        details.insert(0, f"best {best} {_best_place(result)}")
    step = result.best_step if result.kept_best and result.loss == result.best_loss else result.steps
    mean = f" ({_mean_of(result.means, _shown_mean(result))})" if result.means else ""
    headline = f"{name} = {numbers.number(result.loss)}{mean} at step {numbers.count(step)}"
    return Verdict(_tone(result, rose=rose), headline, tuple(details))


def _put_back(result: MinimizeResult, step: int) -> str:
    """Return which values a run that diverged has put back."""
    if step == result.best_step:
        what = "the best"
    elif step == result.steps:
        what = "the last finite values"
    else:
        what = "the best that was kept"
    return f"put back to {what}, step {numbers.count(step)}"


def _rose(result: MinimizeResult) -> bool:
    """Return whether the loss ended above its start."""
    means = result.drawn_means
    if means is None:
        return result.loss > result.start_loss
    if result.kept_best:
        return False
    # The first batch may be below the others by luck, within their scatter, which few of them tell badly.
    first = result.history[result.history_steps < means.steps[0]]
    with np.errstate(over="ignore", invalid="ignore"):
        scatter = float(np.std(first)) * (1 + 8 / len(first))
    return bool(means.loss[-1] > max(means.loss[0], result.start_loss + 3 * scatter))


def _ended(result: MinimizeResult) -> str:
    """Return why the run ended, in words."""
    epochs = result.epochs
    if result.reason is not StopReason.PATIENCE or epochs is None or epochs.best_val is None:
        return result.reason.sentence
    return f"no better validation since epoch {numbers.count(epochs.epoch[epochs.best_val])} (--patience)"


def _validated(result: MinimizeResult) -> str:
    """Return what the validation has found, in words; empty where there was none."""
    epochs = result.epochs
    if epochs is None or epochs.val_loss is None or epochs.best_val is None:
        return ""
    best, last = float(epochs.val_loss[epochs.best_val]), float(epochs.val_loss[-1])
    if epochs.best_val == len(epochs) - 1:
        return f"validation {numbers.number(best)}" + (", its best" if len(epochs) > 1 else "")
    if math.isnan(last):
        return (
            f"validation best {numbers.number(best)} in epoch {numbers.count(epochs.epoch[epochs.best_val])}"
        )
    where = f"epoch {numbers.count(epochs.epoch[epochs.best_val])}"
    shown = numbers.pair(best, last)
    if result.kept_best:
        return f"validation {shown[0]}, the best of {numbers.count(len(epochs))} epochs: {where} was kept"
    return f"validation {shown[1]}, best {shown[0]} in {where}"


def _kept(result: MinimizeResult) -> str:
    means = result.means
    if means is None:
        return f"the lowest of {numbers.count(result.steps)} steps was kept"
    return f"the values after it were kept, the best of {numbers.count(len(means))} epochs"


def _best_place(result: MinimizeResult) -> str:
    means = result.means
    if means is None or not means.whole:
        return f"at step {numbers.count(result.best_step)}"
    return f"in epoch {numbers.count(means.epoch[means.best])}"


def _shown_mean(result: MinimizeResult) -> int:
    """Return the place of the mean that is the loss of the report."""
    if result.means is None or not result.kept_best:
        return -1
    best = result.means.best_val
    return result.means.best if best is None else best


def _mean_of(means: Epochs, place: int) -> str:
    """Return what one of the means is of: ``mean of epoch 7``."""
    return f"mean of {_part(means, place)}"


def _part(means: Epochs, place: int) -> str:
    """Return which part of a run one of the means is of."""
    if means.whole:
        return f"epoch {numbers.count(means.epoch[place])}"
    which = "last" if place else "first"
    return f"the {which} {numbers.count(means.lengths[place])} batches"


def _tone(result: MinimizeResult, *, rose: bool) -> Tone:
    """Return good for a run that converged, a warning for one that went wrong, and plain for a mere end."""
    if result.faulty or rose or result.reason is StopReason.METHOD_FAILED:
        return Tone.WARNING
    return Tone.GOOD if result.converged else Tone.PLAIN


def _loss_curve(result: MinimizeResult) -> Curve | None:
    name = shown_name(result.loss_name, "loss")
    means = line_of(result.drawn_means)
    other = None if result.epochs is None else result.epochs.validated
    return loss_curve(name, result.history_steps, result.history, CURVE_POINTS, means, other, to_zero=True)


def _changes_table(result: MinimizeResult) -> Table:
    start = Column("start", True, spare=True)
    columns = Column("variable"), start, Column("end", True), Column("gradient", True)
    rows = [_change_row(variable, change) for variable, change in result.variables.items()]
    return Table(columns, tuple(rows))


def _tracked_table(result: MinimizeResult) -> Table:
    """Return a row for each tracked scalar: its start, its end, and a small curve.

    With a validation there are two for each, those of the loss first.
    """
    heads = "start", "end"
    if result.means is not None and result.drawn_means is not None:
        ends = _part(result.drawn_means, 0), _part(result.means, _shown_mean(result))
        heads = ends[0].removeprefix("the "), ends[1].removeprefix("the ")
    rows = [_tracked_row(name, result) for name in result.tracked]
    epochs, title = result.epochs, "tracked"
    if epochs is not None and epochs.validated is not None and epochs.val_loss is not None:
        title, loss = "", shown_name(result.loss_name, "loss")
        rows = [_loss_row(result), _validated_row(loss, epochs.val_loss, result)]
        for name, values in epochs.val_tracked.items():
            rows += [_tracked_row(name, result), _validated_row(name, values, result)]
    start, end = heads
    columns = Column(title), Column(start, True, spare=True), Column(end, True), Column("", spare=True)
    return Table(columns, tuple(rows))


def _loss_row(result: MinimizeResult) -> tuple[Field, ...]:
    """Return the row of the loss over the data that are minimised over."""
    name, means, drawn = shown_name(result.loss_name, "loss"), result.means, result.drawn_means
    at, values, last = result.history_steps, result.history, float(result.history[-1])
    if means is not None and drawn is not None:
        at, values, last = drawn.middles, drawn.loss, float(means.loss[_shown_mean(result)])
    return _data_row(Field(name, code=True), at, values, float(values[0]), last)


def _validated_row(name: str, values: Any, result: MinimizeResult) -> tuple[Field, ...]:
    """Return the row of the loss, or of a tracked scalar, over the data of the validation."""
    epochs, place = result.epochs, _shown_mean(result)
    assert epochs is not None
    if result.means is None and result.kept_best and epochs.best_val is not None:
        place = epochs.best_val
    whole = result.drawn_means is None or result.drawn_means.whole
    first = float(values[0]) if whole else math.nan
    head, last = Field(name, code=True, aside=VALIDATION), float(values[place])
    head, start, end, curve = _data_row(head, epochs.steps, values, first, last)
    start = Field() if math.isnan(first) else start
    end = Field("–", Tone.MUTED) if math.isnan(last) else end
    return head, start, end, replace(curve, second=True)


def _data_row(name: Field, at: Any, values: Any, first: float, last: float) -> tuple[Field, ...]:
    start, end = numbers.pair(first, last)
    curve = loss_curve(name.text, at, values, CURVE_POINTS)
    tone = Tone.PLAIN if np.isfinite(last) else Tone.BAD
    return name, Field(start), Field(end, tone), Field(line=_heights(curve))


def _tracked_row(name: str, result: MinimizeResult) -> tuple[Field, ...]:
    values, steps = result.tracked[name], result.tracked_steps.get(name)
    if not len(values):
        return Field(name, code=True), Field(), Field(), Field()
    at = np.arange(len(values)) if steps is None else steps
    first, last = float(values[0]), float(values[-1])
    if result.means is not None and result.drawn_means is not None:
        at, values = result.drawn_means.middles, result.drawn_means.tracked[name]
        first, last = float(values[0]), float(result.means.tracked[name][_shown_mean(result)])
    return _data_row(Field(name, code=True), at, values, first, last)


def _heights(curve: Curve | None) -> tuple[float, ...]:
    """Return the heights of a small curve at equal distances.

    The history of a long run is denser at its beginning, so that it is interpolated.
    """
    if curve is None:
        return ()
    y = np.log10(curve.y) if curve.log else np.array(curve.y)
    at = np.linspace(curve.x[0], curve.x[-1], TRACKED_POINTS)
    return tuple(np.interp(at, curve.x, y).tolist())


def _change_row(name: str, change: VariableChange) -> tuple[Field, ...]:
    start, end = change.start_summary, change.end_summary
    if end.shape == () and isinstance(start.values[0], float):
        shown = numbers.pair(start.values[0], end.values[0].real)
    elif end.values and len(end.values) <= 3:
        shown = nested_pair(start.values, end.values, end.shape)
    else:
        before, after = numbers.pair(start.norm, end.norm, numbers.rounded)
        shown = f"norm {before}", f"norm {after}"
    gradient = change.gradient_norm
    return (
        Field(name, code=True, aside=f"({numbers.shape(end.shape)})" if end.shape else ""),
        Field(shown[0]),
        Field(shown[1], Tone.BAD if end.nonfinite else Tone.PLAIN),
        Field("none", Tone.MUTED) if gradient is None else Field(numbers.measure(gradient, 2)),
    )
