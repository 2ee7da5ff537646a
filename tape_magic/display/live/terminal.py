"""A run on a terminal: one line, drawn by rich, gone before the report."""

from __future__ import annotations

from typing import Any

from IPython.display import display

from tape_magic.display.live.progress import Pace, summary
from tape_magic.display.text.encoding import writable
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step, Wish


class TerminalProgress:
    """One line on a terminal."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._status: Any = None

    def update(self, step: Step) -> None:
        """Draw the line anew."""
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
        # Standard output is rich's now, which does not say its encoding.
        line = writable(summary(step, self._pace.rate), self._status.console.encoding)
        self._status.update(0, completed=step.step, description=line, refresh=True)

    def wish(self) -> Wish:
        """Ctrl-C is what stops a run here."""
        return Wish.GO_ON

    def finish(self, result: MinimizeResult) -> None:
        """Take the line away and print the report."""
        self.close()
        display(result)

    def close(self) -> None:
        """Give the terminal back."""
        if self._status is not None:
            self._status.stop()
            self._status = None
