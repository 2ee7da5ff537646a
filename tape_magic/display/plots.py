"""Reports drawn with Matplotlib, in the format of the notebook's figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT, GREY, SECOND
from tape_magic.display.content.reduction import VALIDATION, loss_curve
from tape_magic.display.content.width import LABEL, one_line
from tape_magic.display.describe.common import is_better, line_of, names, shown_name
from tape_magic.errors import a_kind, in_one_line
from tape_magic.results.curvature import Hessian
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.summary import as_array

POINTS = 2000

_MOST_BARS = 40

_MOST_CURVES = 10
"""The most curves that the legend names."""

_BAR_INCHES = 0.24
"""The height of a bar with its label."""

_LEGEND_COLUMNS = 70
"""The characters of the labels that fit side by side above the axes."""

_PANEL_INCHES = 1.1
"""The height of the panel of a tracked scalar."""

_CYCLE = ACCENT, SECOND, GREY
_DASHES = "-", "--", ":", "-."
"""Curves in one panel have the colours of the reports in turn, and then the next dash."""

_AS_WRITTEN = {"parse_math": False, "usetex": False}
"""The options that keep Matplotlib from reading dollars and backslashes in a name as a formula."""


def _axes(ax: Any, bars: int = 0, panels: int = 0) -> list[Any]:
    """Return `ax`, or the axes of a new figure that is as high as its bars need, and panels below it.

    The panels have the same x axis. Below an `ax` that is given, they take their room from it.

    Raises `ImportError` without Matplotlib, and `TypeError` for what is no axes.
    """
    if ax is not None and not hasattr(ax, "plot"):
        raise in_one_line(TypeError(f"plot() draws into Matplotlib's axes, and ax is {a_kind(ax)}."))
    try:
        from matplotlib import pyplot
        from mpl_toolkits.axes_grid1 import make_axes_locatable
    except ImportError:
        error = ImportError('plot() needs Matplotlib: pip install "tape_magic[plot]"')
        raise in_one_line(error) from None
    if ax is None:
        figure = pyplot.figure(layout="constrained")
        wide, high = figure.get_size_inches()
        high = max(high, 1.0 + _BAR_INCHES * bars)
        figure.set_size_inches(wide, high + _PANEL_INCHES * panels)
        shares = [high, *[_PANEL_INCHES] * panels]
        axes = list(figure.subplots(1 + panels, sharex=True, height_ratios=shares, squeeze=False)[:, 0])
    else:
        axes = [ax]
        if panels:
            divider, share = make_axes_locatable(ax), f"{60 / panels:g}%"
            axes += [divider.append_axes("bottom", share, pad=0.1, sharex=ax) for _ in range(panels)]
    for upper in axes[:-1]:
        upper.tick_params(labelbottom=False)
    return axes


def _legend(ax: Any) -> None:
    """Put the labelled curves of the axes into a legend above them, where it covers no curve."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    widest = max(map(len, labels)) + 8  # the line before the label
    columns = max(1, min(len(labels), _LEGEND_COLUMNS // widest))
    # Higher than the power of ten that Matplotlib writes above an axis.
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.05), "borderaxespad": 0.0}
    legend = ax.legend(handles, labels, ncols=columns, frameon=False, **place)
    for text in legend.get_texts():
        text.set(**_AS_WRITTEN)


def plot_minimum(result: MinimizeResult, ax: Any = None) -> Any:
    """Draw the loss over the steps and mark its lowest value where it did not end there; return the axes.

    The axis of the loss is logarithmic where the loss spans two decades. Each tracked scalar has a panel of
    its own below, over the same steps; in an `ax` that is given, the panels take their room from it. Over
    data, the lines go through means, and the losses of the batches are pale. The validation is drawn in a
    second colour, and so is what is tracked there.
    """
    ax, *panels = _axes(ax, panels=len(result.tracked))
    name = shown_name(result.loss_name, "loss")
    means = line_of(result.drawn_means)
    other = None if result.epochs is None else result.epochs.validated
    curve = loss_curve(name, result.history_steps, result.history, POINTS, means, other)
    x, y = (curve.x, curve.y) if curve is not None else (result.history_steps, result.history)
    if curve is not None and means is not None:
        ax.fill_between(*curve.pale, color=ACCENT, alpha=0.22, linewidth=1.0)
    ax.plot(x, y, color=ACCENT, label=None if other is None else "training")
    if other is not None:
        ax.plot(*other, color=SECOND, label=VALIDATION)
    if curve is not None and curve.log:
        ax.set_yscale("log")
    drawn = curve is None or not curve.log or result.best_loss > 0
    worth = other is not None or not math.isfinite(y[-1]) or is_better(result.best_loss, float(y[-1]))
    if result.best_step < result.steps and drawn and worth:
        at, best, color = float(result.best_step), result.best_loss, ACCENT
        if other is not None:
            at, best, color = *(float(one[np.argmin(other[1])]) for one in other), SECOND
        elif result.means is not None:
            at = result.means.middles[result.means.best]
        ax.plot([at], [best], "o", color=color, label=f"best, {numbers.number(best)}")
    ax.set_ylabel(name, **_AS_WRITTEN)
    _legend(ax)
    for panel, (tracked, values) in zip(panels, result.tracked.items(), strict=True):
        _tracked(panel, result, tracked, values)
    (panels or [ax])[-1].set_xlabel("steps")
    return ax


def _tracked(ax: Any, result: MinimizeResult, name: str, values: Any) -> None:
    """Draw a tracked scalar over the steps, over data through its means, and beside it the validation's."""
    means = line_of(result.drawn_means, name)
    x, y = means[:2] if means is not None else (result.tracked_steps[name], values)
    epochs = result.epochs
    other = (epochs.steps, epochs.val_tracked[name]) if epochs and name in epochs.val_tracked else None
    curve = loss_curve(name, x, y, POINTS, None, other)
    if curve is not None:
        x, y = curve.x, curve.y
    ax.plot(x, y, color=ACCENT)
    if other is not None:
        ax.plot(*other, color=SECOND)
    if curve is not None and curve.log:
        ax.set_yscale("log")
    ax.set_ylabel(shown_name(name), **_AS_WRITTEN)


def plot_gradients(report: GradReport, ax: Any = None) -> Any:
    """Draw a Hessian's matrix, curves of elementwise derivatives, or bars of norms; return the axes.

    Curves are drawn where all derivatives are elementwise, bars for each layer of a model.
    """
    matrices = [hessian for hessian in report.hessians if hessian.matrix is not None]
    if matrices:
        (ax,) = _axes(ax)
        _matrix(ax, matrices[0])
    elif report.rows and all(map(_is_curve, report.rows)):
        (ax,) = _axes(ax)
        _curves(ax, report.rows)
    else:
        bars = _folded(_bars(report))
        (ax,) = _axes(ax, len(bars))
        _norms(ax, bars)
    return ax


def _is_curve(row: Derivative) -> bool:
    """Return whether the derivative is a function of its source, element by element."""
    return row.elementwise and row.value is not None and row.source is not None


def _curves(ax: Any, rows: Sequence[Derivative]) -> None:
    """Draw each derivative over its source, in the order of the source's values."""
    for index, row in enumerate(rows):
        x, y = as_array(row.source).reshape(-1), as_array(row.value).reshape(-1)
        order = np.argsort(x, kind="stable")
        label = shown_name(row.key) if index < _MOST_CURVES else None
        dash = _DASHES[index // len(_CYCLE) % len(_DASHES)]
        ax.plot(x[order], y[order], dash, color=_CYCLE[index % len(_CYCLE)], label=label)
    if len(rows) > _MOST_CURVES:
        ax.plot([], [], " ", label=f"and {len(rows) - _MOST_CURVES} more")
    sources = dict.fromkeys(row.wrt[-1] for row in rows)
    ax.set_xlabel(shown_name(", ".join(sources)), **_AS_WRITTEN)
    _legend(ax)


@dataclass(frozen=True)
class _Bar:
    """The norms of some derivatives under one label; None for one that is missing.

    `path` is the path of a model's layer within the groups that cannot be folded into one another; empty for
    any other derivative.
    """

    label: str
    norms: tuple[float | None, ...]
    path: tuple[str, ...] = ()

    @property
    def norm(self) -> float:
        """The norm of all of them together."""
        return math.hypot(*(norm for norm in self.norms if norm is not None))

    @property
    def remark(self) -> str:
        """What the length of the bar does not tell."""
        if all(norm is None for norm in self.norms):
            return "none"
        if not math.isfinite(self.norm):
            return "NaN" if math.isnan(self.norm) else "∞"
        return "0" if self.norm == 0 else ""


def _bars(report: GradReport) -> list[_Bar]:
    """Return a bar for each layer of a model, and for each other derivative."""
    bars = []
    several = len({(row.target, row.wrt[:-1]) for row in report.rows}) > 1
    for name, row in zip(names(report), report.rows, strict=True):
        norms = (row.summary.norm if row.summary is not None else None,)
        layer = row.wrt[-1].rpartition("/")[0] if row.of_model else ""
        head = f"{shown_name(', '.join((row.target, *row.wrt[:-1])))}: " if several else ""
        bars.append(_Bar(shown_name(name), norms, (head, *layer.split("/")) if layer else ()))
    return _joined(bars)


def _joined(bars: Sequence[_Bar]) -> list[_Bar]:
    """Return the bars with those of one path as one, at the place of the first."""
    groups: dict[Any, list[_Bar]] = {}
    for index, bar in enumerate(bars):
        groups.setdefault(bar.path or index, []).append(bar)
    return [
        _Bar(
            shown_name(found[0].path[0] + "/".join(found[0].path[1:])) if found[0].path else found[0].label,
            tuple(norm for bar in found for norm in bar.norms),
            found[0].path,
        )
        for found in groups.values()
    ]


def _folded(bars: list[_Bar]) -> list[_Bar]:
    """Return at most 40 bars: layers within layers as one, then the last ones as one."""
    while len(bars) > _MOST_BARS and (deepest := max(len(bar.path) for bar in bars)) > 2:
        bars = _joined([replace(bar, path=bar.path[: deepest - 1]) for bar in bars])
    if len(bars) > _MOST_BARS:
        rest = bars[_MOST_BARS - 1 :]
        norms = tuple(norm for bar in rest for norm in bar.norms)
        bars = [*bars[: _MOST_BARS - 1], _Bar(f"{len(rest)} more", norms)]
    return bars


def _norms(ax: Any, bars: Sequence[_Bar]) -> None:
    """Draw bars, empty ones with a remark where there is no finite norm."""
    norms = [bar.norm if math.isfinite(bar.norm) else 0.0 for bar in bars]
    places = np.arange(len(bars))
    ax.barh(places, norms, color=ACCENT)
    ax.set_yticks(places, [bar.label for bar in bars], **_AS_WRITTEN)
    ax.set_ylim(len(bars) - 0.5, -0.5)
    positive = [norm for norm in norms if norm > 0]
    if positive and max(positive) >= 1e3 * min(positive):
        ax.set_xscale("log")
    beside = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    for place, bar in enumerate(bars):
        if bar.remark:
            ax.annotate(bar.remark, (0, place), (4, 0), va="center", color=GREY, **beside)
    ax.set_xlabel("norm")


def _matrix(ax: Any, hessian: Hessian) -> None:
    """Draw the matrix in the colours of the reports: those of the two signs, and white at 0."""
    from matplotlib.colors import LinearSegmentedColormap

    matrix = hessian.matrix
    assert matrix is not None
    finite = matrix[np.isfinite(matrix)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0
    colours = LinearSegmentedColormap.from_list("signs", [SECOND, "white", ACCENT])
    image = ax.imshow(matrix, cmap=colours, vmin=-scale, vmax=scale)
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
