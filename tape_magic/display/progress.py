"""A stream of steps as something to watch, and the report in its place at the end."""

from __future__ import annotations

import time
from typing import Any, Protocol

from IPython.display import display

from tape_magic.display import html, numbers, text
from tape_magic.display.fields import describe
from tape_magic.results.minimum import MinimizeResult, Step

QUIET_SECONDS = 0.5
"""A run shorter than this shows its report only: a bar that flashes up tells nothing."""

UPDATE_SECONDS = 0.1
"""The least time between two updates."""


class Progress(Protocol):
    """What a run tells its watcher."""

    def update(self, step: Step) -> None:
        """The run has come to a step."""

    def finish(self, result: MinimizeResult) -> None:
        """The run is over: show its report."""

    def close(self) -> None:
        """Whatever happened, leave nothing behind."""


class NoProgress:
    """The report at the end, and nothing before."""

    def update(self, step: Step) -> None:
        """Shows nothing."""

    def finish(self, result: MinimizeResult) -> None:
        """The report."""
        display(result)

    def close(self) -> None:
        """Nothing is open."""


class _Paced:
    """Lets an update through when the run has lasted long enough, and not too often."""

    def __init__(self) -> None:
        self._last = 0.0

    def due(self, step: Step) -> bool:
        now = time.monotonic()
        if step.seconds < QUIET_SECONDS or now - self._last < UPDATE_SECONDS:
            return False
        self._last = now
        return True


def summary(step: Step) -> str:
    """Where a run stands, in one line."""
    rate = step.step / step.seconds if step.seconds else 0.0
    parts = [f"loss {numbers.number(step.loss)}"]
    if step.epochs > 1:
        parts.append(f"epoch {numbers.count(step.epoch)} of {numbers.count(step.epochs)}")
    limit = f" of {numbers.count(step.steps)}" if step.steps else ""
    parts.append(f"{'batch' if step.epochs else 'step'} {numbers.count(step.step)}{limit}")
    if rate:
        left = f", {numbers.duration((step.steps - step.step) / rate)} left" if step.steps else ""
        parts.append(f"{numbers.number(float(f'{rate:.3g}'))} steps/s{left}")
    return " · ".join([*parts, "XLA" if step.engine == "xla" else step.engine])


class WidgetProgress:
    """An ipywidgets bar with the loss, replaced by the static report at the end."""

    def __init__(self) -> None:
        self._paced = _Paced()
        self._handle: Any = None
        self._box: Any = None
        self._bar: Any = None
        self._label: Any = None

    def update(self, step: Step) -> None:
        """Move the bar; the first update shows it."""
        if not self._paced.due(step):
            return
        if self._box is None:
            self._open(step)
        self._bar.value = 1000 * step.step // step.steps if step.steps else 0
        self._label.value = summary(step)

    def _open(self, step: Step) -> None:
        import ipywidgets

        layout = ipywidgets.Layout(width="100%", max_width="640px", height="12px", margin="4px 0")
        # In thousandths, since a front end's whole numbers end where JavaScript's do.
        self._bar = ipywidgets.IntProgress(min=0, max=1000, layout=layout)
        self._bar.style.bar_color = "#3b82c4"
        self._label = ipywidgets.Label(layout=ipywidgets.Layout(width="auto"))
        self._box = ipywidgets.VBox([self._bar, self._label])
        # Written out, since the widgets of ipywidgets 7 display themselves without the id of the
        # display, and the report could then never take their place.
        view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
        bundle = {"application/vnd.jupyter.widget-view+json": view, "text/plain": summary(step)}
        self._handle = display(bundle, raw=True, display_id=True)

    def finish(self, result: MinimizeResult) -> None:
        """The report where the widget was: a widget left alive would reopen as an error."""
        if self._handle is None:
            display(result)
            return
        document = describe(result)
        bundle = {"text/html": html.render(document), "text/plain": text.render(document)}
        self._handle.update(bundle, raw=True)
        self._handle = None

    def close(self) -> None:
        """Close the widgets; after an error, an empty output takes their place."""
        if self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)
        if self._box is not None:
            for widget in (self._box, self._label, self._bar):
                # Its layout and style are widgets, too, and what is open is saved with the notebook.
                for part in (widget, widget.layout, getattr(widget, "style", None)):
                    if part is not None:
                        part.close()
        self._box = self._handle = None


class TerminalProgress:
    """One line on a terminal, drawn by rich, gone before the report."""

    def __init__(self) -> None:
        self._paced = _Paced()
        self._status: Any = None

    def update(self, step: Step) -> None:
        """Draw the line anew."""
        if not self._paced.due(step):
            return
        if self._status is None:
            from rich.progress import BarColumn, Progress, TextColumn

            self._status = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.description}", markup=False),
                transient=True,
                auto_refresh=False,
            )
            self._status.start()
            self._status.add_task("", total=max(step.steps, 1))
        self._status.update(0, completed=step.step, description=summary(step), refresh=True)

    def finish(self, result: MinimizeResult) -> None:
        """Take the line away and print the report."""
        self.close()
        display(result)

    def close(self) -> None:
        """Give the terminal back."""
        if self._status is not None:
            self._status.stop()
            self._status = None
