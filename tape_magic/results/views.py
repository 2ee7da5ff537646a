"""The one door from a report to the display: its text and HTML, plots by Matplotlib, and the inspector.

Results stand below the display and import it nowhere else; each import waits until a user asks for a picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tape_magic.results.gradients import GradReport
    from tape_magic.results.minimum import MinimizeResult


class Shown:
    """A report that shows itself: as HTML in notebooks, as text on a terminal and by ``print``.

    No shell is needed for that: scripts and front ends without the extension show it, too.
    """

    def __str__(self) -> str:
        """Return the report as text, as wide as the terminal, or 80 columns."""
        from tape_magic.display.describe import describe
        from tape_magic.display.text.encoding import writable
        from tape_magic.display.text.render import WIDTH, terminal_columns, to_text

        return writable(to_text(describe(self), terminal_columns() or WIDTH))

    def _repr_html_(self) -> str:
        from tape_magic.display.describe import describe
        from tape_magic.display.html.render import to_html

        return to_html(describe(self))

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> dict[str, str]:
        """Return the report as a front end shows it, and as the text that a program may read instead."""
        from tape_magic.display.text.render import terminal_columns

        kinds = {"text/plain": self.__str__} | ({} if terminal_columns() else {"text/html": self._repr_html_})
        wanted = set(kinds if include is None else include).difference(exclude or ())
        return {kind: make() for kind, make in kinds.items() if kind in wanted}


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
