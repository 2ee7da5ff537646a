"""Reports drawn with Matplotlib, in the format of the notebook's figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT, GREY
from tape_magic.display.content.reduction import loss_curve
from tape_magic.display.content.width import LABEL, one_line
from tape_magic.display.describe.common import names, shown_name
from tape_magic.results.curvature import Hessian
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.summary import as_array

POINTS = 2000
_MOST_BARS = 40

_DASHES = "-", "--", ":", "-."

_AS_WRITTEN = {"parse_math": False, "usetex": False}
"""The options that keep Matplotlib from reading dollars and backslashes in a name as a formula."""


def _axes(ax: Any) -> Any:
    """Return `ax`, or the axes of a new figure; raise `ImportError` without Matplotlib."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError('plot() needs Matplotlib: pip install "tape_magic[plot]"') from None
    return pyplot.subplots()[1]


def plot_minimum(result: MinimizeResult, ax: Any = None) -> Any:
    """Draw the loss over the steps and mark its lowest value; return the axes.

    The axis of the loss is logarithmic where the loss spans three decades. Tracked scalars are drawn in grey,
    on an axis on the right.
    """
    ax = _axes(ax)
    name = shown_name(result.loss_name, "loss")
    curve = loss_curve(name, result.history_steps, result.history, POINTS)
    x, y = (curve.x, curve.y) if curve is not None else (result.history_steps, result.history)
    ax.plot(x, y, color=ACCENT)
    if curve is not None and curve.log:
        ax.set_yscale("log")
    if result.best_step < result.steps and (curve is None or not curve.log or result.best_loss > 0):
        label = f"best, {numbers.number(result.best_loss)}"
        ax.plot([result.best_step], [result.best_loss], "o", color=ACCENT, label=label)
        ax.legend(frameon=False)
    ax.set_xlabel("steps")
    ax.set_ylabel(name, **_AS_WRITTEN)
    if result.tracked:
        _tracked(ax.twinx(), result)
    return ax


def _tracked(ax: Any, result: MinimizeResult) -> None:
    """Draw the tracked scalars, several with different dashes."""
    curves = {
        name: loss_curve(name, result.tracked_steps[name], values, POINTS)
        for name, values in result.tracked.items()
    }
    for index, (name, curve) in enumerate(curves.items()):
        x, y = (curve.x, curve.y) if curve else (result.tracked_steps[name], result.tracked[name])
        ax.plot(x, y, color=GREY, linestyle=_DASHES[index % len(_DASHES)], label=shown_name(name))
    drawn = [curve for curve in curves.values() if curve is not None]
    if drawn and all(curve.log for curve in drawn):
        ax.set_yscale("log")
    if len(curves) == 1:
        ax.set_ylabel(shown_name(*curves), color=GREY, **_AS_WRITTEN)
        return
    for text in ax.legend(frameon=False).get_texts():
        text.set(**_AS_WRITTEN)


def plot_gradients(report: GradReport, ax: Any = None) -> Any:
    """Draw a Hessian's matrix, curves of derivatives over their source, or norms as bars; return the axes."""
    ax = _axes(ax)
    matrices = [hessian for hessian in report.hessians if hessian.matrix is not None]
    curves = [row for row in report.rows if _is_curve(row)]
    if matrices:
        _matrix(ax, matrices[0])
    elif curves:
        _curves(ax, curves)
    else:
        _norms(ax, report)
    return ax


def _is_curve(row: Derivative) -> bool:
    """Return whether the derivative and its source are vectors of one length."""
    if row.value is None or row.source is None or len(row.shape) != 1 or row.shape[0] < 2:
        return False
    arrays = as_array(row.value), as_array(row.source)
    return arrays[0].shape == arrays[1].shape and not any(map(np.iscomplexobj, arrays))


def _curves(ax: Any, rows: list[Derivative]) -> None:
    for row in rows:
        x, y = as_array(row.source), as_array(row.value)
        order = np.argsort(x, kind="stable")
        ax.plot(x[order], y[order], label=shown_name(row.label))
    sources = dict.fromkeys(row.wrt[-1] for row in rows)
    ax.set_xlabel(shown_name(", ".join(sources)), **_AS_WRITTEN)
    for text in ax.legend(frameon=False).get_texts():
        text.set(**_AS_WRITTEN)


def _norms(ax: Any, report: GradReport) -> None:
    """Draw the norms of the first rows as bars, empty for a row without a finite norm."""
    rows = list(zip(names(report), report.rows, strict=True))[:_MOST_BARS]
    norms = [row.summary.norm if row.summary is not None else 0.0 for _, row in rows]
    norms = [norm if np.isfinite(norm) else 0.0 for norm in norms]
    places = np.arange(len(rows))
    ax.barh(places, norms, color=ACCENT)
    ax.set_yticks(places, [shown_name(name) for name, _ in rows], **_AS_WRITTEN)
    ax.invert_yaxis()
    positive = [norm for norm in norms if norm > 0]
    if positive and max(positive) >= 1e3 * min(positive):
        ax.set_xscale("log")
    ax.set_xlabel("norm")


def _matrix(ax: Any, hessian: Hessian) -> None:
    """Draw the matrix, purple for positive elements, orange for negative ones, white at 0."""
    matrix = hessian.matrix
    assert matrix is not None
    finite = matrix[np.isfinite(matrix)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0
    image = ax.imshow(matrix, cmap="PuOr", vmin=-scale, vmax=scale)
    ax.figure.colorbar(image, ax=ax)
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in hessian.shapes]
    ends = np.cumsum(sizes)
    middles = ends - np.array(sizes) / 2 - 0.5
    ticks = [one_line(name, LABEL, middle=True) for name in hessian.names]
    ax.set_xticks(middles, ticks, **_AS_WRITTEN)
    ax.set_yticks(middles, ticks, **_AS_WRITTEN)
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color="grey", linewidth=0.5)
        ax.axvline(end - 0.5, color="grey", linewidth=0.5)
    ax.set_title(f"Hessian of {shown_name(hessian.target)}", **_AS_WRITTEN)
