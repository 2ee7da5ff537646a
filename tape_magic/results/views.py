"""The one door from a report to the display: plots by Matplotlib, and the inspector.

Results stand below the display and import it nowhere else; each import waits until a user asks for a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tape_magic.results.gradients import GradReport
    from tape_magic.results.minimum import MinimizeResult


def plot_gradients(report: GradReport, ax: Any) -> Any:
    """Draw the derivatives into `ax`, or into a new figure where it is ``None``, and return the axes."""
    from tape_magic.display.plots import plot_gradients as draw

    return draw(report, ax)


def plot_minimum(result: MinimizeResult, ax: Any) -> Any:
    """Draw the loss over the steps into `ax`, or into a new figure where it is ``None``; return the axes."""
    from tape_magic.display.plots import plot_minimum as draw

    return draw(result, ax)


def inspect(report: GradReport) -> None:
    """Show the report, and below it the inspector: one derivative at a time, drawn in widgets."""
    from tape_magic.display.live.inspector import inspect as show

    show(report)
