"""The display of a run on a terminal: one line, drawn by rich, which disappears before the report."""

from __future__ import annotations

from typing import Any

from tape_magic.display.live.progress import NoProgress, Pace, summary
from tape_magic.display.text.encoding import writable
from tape_magic.results.steps import Step


class TerminalProgress(NoProgress):
    """Shows a run as one line on a terminal."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._status: Any = None

    def update(self, step: Step) -> None:
        """Redraw the line."""
        if not self._pace.due(step):
            return
        if self._status is None:
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column

            cut = Column(no_wrap=True, overflow="ellipsis" if writable("…") == "…" else "crop")
            self._status = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.description}", markup=False, table_column=cut),
                transient=True,
                auto_refresh=False,
            )
            self._status.start()
            self._status.add_task("", total=max(step.steps, 1))
        # rich has replaced standard output by an object without an encoding.
        line = writable(summary(step, self._pace.rate), self._status.console.encoding)
        self._status.update(0, completed=step.step, description=line, refresh=True)

    def close(self) -> None:
        """Remove the line and give the terminal back."""
        if self._status is not None:
            self._status.stop()
            self._status = None
