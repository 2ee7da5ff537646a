"""The panel of a run: widgets to watch, pause and stop it, which the report replaces at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from IPython.display import display

from tape_magic.display.describe import describe
from tape_magic.display.html.render import to_html
from tape_magic.display.html.style import SECONDARY
from tape_magic.display.live.panel_html import SAVED, panel_html, progress_bar
from tape_magic.display.live.progress import Pace, summary
from tape_magic.display.live.widgets import close_all, package, view_of
from tape_magic.display.text.render import to_text
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step, Wish

SEEN_SECONDS = 1.0
"""The time within which a front end that shows widgets reports a view of them."""

NO_BUTTONS = "Interrupting the kernel (■) stops the run, with everything that was reached."


class Panel:
    """The widgets of a run, and the state of their buttons.

    Parameters
    ----------
    step, rate
        The first step and the first number of steps per second.
    buttons
        Whether clicks arrive while the cell runs; otherwise a line tells how to stop the run.
    relayed
        Whether the notebook is that of another kernel, which may keep clicks back: the line comes, too.

    The handlers of clicks only set flags, since ipykernel 7.0 to 7.3 runs them on another thread.
    """

    def __init__(self, step: Step, rate: float, *, buttons: bool, relayed: bool = False) -> None:
        widgets = package("the live display")

        self.paused = self.stopped = self._seen = False
        self._shown = self._state
        self._buttons, self._relayed, self.clicked = buttons, relayed, False
        self._step, self._rate = step, rate
        self.bar = widgets.HTML(layout=widgets.Layout(flex="1 1 180px", width="auto", margin="0 4px 0 0"))
        self.page = widgets.HTML(layout=widgets.Layout(width="auto", max_width="640px", margin="2px 0"))
        self.pause = _button(widgets, "Pause", "Pause the run between two steps")
        self.stop = _button(widgets, "Stop", "Stop the run and keep what was reached")
        self.pause.on_click(self._pause_clicked)
        self.stop.on_click(self._stop_clicked)
        layout = widgets.Layout(flex_flow="row wrap", align_items="center", width="100%", max_width="640px")
        both = widgets.HBox([self.pause, self.stop], layout=widgets.Layout(flex="0 0 auto"))
        row = widgets.HBox([self.bar, both], layout=layout)
        self.widget = widgets.VBox([row, self.page], layout=widgets.Layout(width="100%"))
        if not buttons:
            self.without_buttons()
        # With None, a front end does not count the views of a widget; with a number, it does.
        self.widget._view_count = None if relayed else 0
        self._draw()

    @property
    def seen(self) -> bool:
        """Whether a front end has shown the widgets."""
        if self.widget._view_count:
            self._seen = True
            self.widget._view_count = None  # a closed view then sends no message
        return self._seen

    @property
    def wish(self) -> Wish:
        """The wish that the buttons express."""
        if self.stopped:
            return Wish.STOP
        return Wish.PAUSE if self.paused else Wish.GO_ON

    def show(self, step: Step, rate: float) -> None:
        """Show another step."""
        self._step, self._rate = step, rate
        self._draw()

    def without_buttons(self) -> None:
        """Hide the buttons, whose clicks do not arrive, and tell how to stop the run instead."""
        self._buttons = False
        self._shown = ""
        for button in (self.pause, self.stop):
            button.layout.display = "none"
        self._draw()

    def leave(self, html: str) -> None:
        """Show the report for as long as the notebook is open."""
        self.without_buttons()
        self.bar.value, self.page.value = "", html

    def settle(self) -> None:
        """Show the effect of a click, and note whether a front end shows the widgets."""
        self._seen = self.seen
        if self._shown != self._state:
            self._shown = self._state
            self.pause.description = "Resume" if self.paused else "Pause"
            self.pause.tooltip = "Go on with the run" if self.paused else "Pause the run between two steps"
            if self.stopped:
                self.pause.disabled = self.stop.disabled = True
            self._draw()

    @property
    def _state(self) -> str:
        return "stopping" if self.stopped else "paused" if self.paused else ""

    def _draw(self) -> None:
        hint = "" if self._buttons and not self._relayed else NO_BUTTONS
        self.bar.value = progress_bar(self._step)
        self.page.value = panel_html(self._step, self._rate, state=self._shown, hint=hint)

    def _pause_clicked(self, _: Any) -> None:
        self.paused, self.clicked = not self.paused, True

    def _stop_clicked(self, _: Any) -> None:
        self.stopped = self.clicked = True


class WidgetProgress:
    """Shows a run as a panel, from half a second after its start to its end.

    Parameters
    ----------
    poll
        Delivers the clicks since the last call, and returns whether it still can; ``None`` in a front end
        where clicks cannot be delivered while a cell runs.
    relayed
        Whether this is an engine of ipyparallel, from which no output can be replaced: the report comes below
        the panel. After a click, it stays in the panel: ipykernel 7 takes what the notebook's kernel then
        shows for an engine for an answer to the click, which belongs to no cell.
    """

    def __init__(self, poll: Callable[[], bool] | None = None, *, relayed: bool = False) -> None:
        self._pace, self._poll, self._relayed = Pace(), poll, relayed
        self._handle: Any = None
        self._opened = 0.0
        self._missing = False
        self.panel: Panel | None = None

    def update(self, step: Step) -> None:
        """Show a step; the first call opens the panel."""
        if self._missing or not self._pace.due(step):
            return
        rate = self._pace.rate
        if self.panel is not None:
            with self._pace.timed():
                self.panel.show(step, rate)
            return
        try:
            buttons = self._poll is not None
            self.panel = Panel(step, rate, buttons=buttons, relayed=self._relayed)
        except ImportError as error:  # the run is worth more than its display
            self._missing = True
            print(error, file=sys.stderr)
            return
        if self._relayed:
            display(view_of(self.panel.widget, ""), raw=True)
            return
        saved = f'<div style="{SECONDARY}">{SAVED}</div>'
        bundle = view_of(self.panel.widget, summary(step, rate), saved)
        self._handle = display(bundle, raw=True, display_id=True)
        self._opened = time.monotonic()

    def wish(self) -> Wish:
        """Return the wish of the last click."""
        if self.panel is None or self._poll is None:
            return Wish.GO_ON
        if not self._poll():
            self._poll = None
            self.panel.without_buttons()
            return Wish.GO_ON
        self.panel.settle()
        return self.panel.wish

    def finish(self, result: MinimizeResult, *, at_once: bool = False) -> None:
        """Replace the panel by the report: a saved notebook would reopen a living widget as an error."""
        if self._relayed and self.panel is not None and self.panel.clicked:
            self.panel.leave(to_html(describe(result)))
            self.panel = None
            return
        if self._handle is None:
            display(result)
            return
        if not self._seen(0.0 if at_once else SEEN_SECONDS):
            # A front end that shows no widgets may not be able to change an output, either.
            self._empty()
            display(result)
            return
        document = describe(result)
        bundle = {"text/html": to_html(document), "text/plain": to_text(document)}
        self._handle.update(bundle, raw=True)
        self._handle = None

    def _seen(self, seconds: float) -> bool:
        """Return whether a front end shows the panel, or ``True`` where its message could not arrive.

        It may say so until `seconds` after the panel was opened.
        """
        if self._poll is None or self.panel is None:
            return True
        self._poll()
        while not self.panel.seen and time.monotonic() < self._opened + seconds:
            self._poll()
            time.sleep(0.01)
        return self.panel.seen

    def _empty(self) -> None:
        self._handle.update({"text/plain": ""}, raw=True)
        self._handle = None

    def close(self) -> None:
        """Close the widgets; after an error, an empty output takes their place."""
        if self._handle is not None:
            self._empty()
        if self.panel is not None:
            close_all(self.panel.widget)
        self.panel = None


def _button(widgets: Any, text: str, tooltip: str) -> Any:
    layout = widgets.Layout(width="auto", min_width="76px", flex="0 0 auto", margin="2px 0 2px 4px")
    return widgets.Button(description=text, tooltip=tooltip, layout=layout)
