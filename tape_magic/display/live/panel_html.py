"""The panel of a running minimisation as HTML: the bar, the figures, the curve, the variables."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.display.content import numbers
from tape_magic.display.content.document import ACCENT, FAINT, Tone
from tape_magic.display.content.reduction import loss_curve
from tape_magic.display.describe.common import line_of, nested, shown_name
from tape_magic.display.html import style
from tape_magic.display.html.style import BREAK, CODE, attribute, colour, text
from tape_magic.display.live.progress import (
    DIGITS,
    figures,
    has_no_loss_yet,
    lowest_loss,
    validated,
    validation_loss,
)
from tape_magic.display.pictures.curve import inline_curve
from tape_magic.results.steps import Step

CURVE_POINTS = 200

SAVED = "This run had not ended when the notebook was saved."
"""The text in place of the widgets where these cannot be shown."""

_LINE = "padding:2px 0;"
_TYPE = "font-size:var(--jp-content-font-size1,inherit);"
"""The type size of the report that replaces the panel; JupyterLab sets widgets in a smaller type."""


def progress_bar(step: Step) -> str:
    """Return the bar of the steps done, with its value for screen readers."""
    share = min(step.step / step.steps, 1.0) if step.steps else 0.0
    known = f'aria-valuenow="{100 * share:.0f}" ' if step.steps else ""
    value = attribute(", ".join(figures(step)[:2]))
    return (
        f'<div role="progressbar" aria-label="steps done" aria-valuemin="0" aria-valuemax="100" {known}'
        f'aria-valuetext="{value}" style="height:8px;background:{FAINT};overflow:hidden;">'
        f'<div style="width:{100 * share:.2f}%;height:8px;background:{ACCENT};"></div></div>'
    )


def panel_html(step: Step, rate: float, *, state: str = "", hint: str = "") -> str:
    """Return everything below the bar.

    Parameters
    ----------
    step
        The step that is shown.
    rate
        Steps per second.
    state
        ``paused``, ``stopping``, or empty while the run goes on.
    hint
        The sentence on how to stop, for a front end without working buttons.
    """
    parts = [_figures(step, rate, state)]
    name = shown_name(step.loss_name, "loss")
    curve = loss_curve(name, *step.history, CURVE_POINTS, line_of(step.means), validated(step))
    parts += [inline_curve(curve)] if curve is not None else []
    parts += [_values(step)]
    parts += [f'<div style="{_LINE}{colour(Tone.MUTED)}">{text(hint)}</div>'] if hint else []
    # Otherwise a widget is as wide as the curve, and a narrow page cuts off the text.
    own = f"width:0;min-width:100%;{style.WIDGET_PAGE}{_TYPE}"
    return f'<div style="{own}">{style.output(parts)}</div>'


def _figures(step: Step, rate: float, state: str) -> str:
    """Return the line of figures: the loss first, and the others fainter beside it."""
    loss = numbers.number(step.loss, DIGITS)
    name = shown_name(step.loss_name, "loss")
    known = not has_no_loss_yet(step)
    beside = [*(lowest_loss(step) if known else []), *figures(step, rate)]
    validation = validation_loss(step)
    spans = [f"{text(name)} <b>{loss}</b>"] if known else []
    spans += [f"validation <b>{text(validation)}</b>"] if known and validation else []
    spans += [f"<b>{text(state)}</b>"] if state else []
    spans += [f'<span style="{colour(Tone.MUTED)}">{text(part)}</span>' for part in beside]
    return f'<div style="{_LINE}font-variant-numeric:tabular-nums;">{_spaced(spans)}</div>'


def _spaced(spans: Sequence[str]) -> str:
    return " ".join(f'<span style="display:inline-block;margin-right:1.1em;">{span}</span>' for span in spans)


def _values(step: Step) -> str:
    """Return what is tracked, small variables, and the norms of layers, each as ``name = value``."""
    values = {name: _tracked(name, value, step) for name, value in step.tracked.items()}
    values |= {name: nested(array.ravel().tolist(), array.shape) for name, array in step.variables.items()}
    values |= {name: f"norm {numbers.rounded(norm)}" for name, norm in step.layers.items()}
    if not values:
        return ""
    pairs = [f"{shown_name(name)} = {value}" for name, value in values.items()]
    spans = [f'<code style="{CODE}">{text(pair)}</code>' for pair in pairs]
    if (step.variables or step.layers) and step.more_variables:
        spans.append(_more(step.more_variables))
    return f'<div style="{_LINE}{BREAK}">{_spaced(spans)}</div>'


def _tracked(name: str, value: float, step: Step) -> str:
    """Return a tracked scalar, with that of the last validation beside it."""
    shown = numbers.number(value)
    return f"{shown}, validation {numbers.number(step.validated[name])}" if name in step.validated else shown


def _more(number: int) -> str:
    variables = "variable" if number == 1 else "variables"
    return f'<span style="{colour(Tone.MUTED)}">and {numbers.count(number)} more {variables}</span>'
