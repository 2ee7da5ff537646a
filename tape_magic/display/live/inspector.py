"""The inspector: widgets that browse a report and draw one derivative at a time."""

from __future__ import annotations

import atexit
from typing import Any

from IPython.display import display

from tape_magic.display.describe.common import names
from tape_magic.display.html.style import SECONDARY, WIDGET_PAGE
from tape_magic.display.live.inspector_html import Order, View, inspector_html, list_lines, views
from tape_magic.display.live.widgets import close_all, package, view_of
from tape_magic.results.gradients import GradReport

ASIDE = "The browser over this report is in a running notebook with ipywidgets; grads.inspect() opens it."
"""The text in place of the widgets in a terminal, and in a notebook that is only read."""
_NAMES = "64px"
"""The width of the names beside the widgets on the left."""


def inspect(report: GradReport) -> None:
    """Show the report and the inspector below it.

    The report is a separate output, so that a saved notebook keeps it.
    """
    display(report)
    if report.rows:
        Inspector(report).show()


class Inspector:
    """The widgets of the inspector and their actions.

    Parameters
    ----------
    report
        The report to browse; a summary or a picture is computed when it is first shown.
    """

    def __init__(self, report: GradReport) -> None:
        widgets = package("inspect()")

        self._report, self._names = report, names(report)
        self._handle: Any = None
        self._busy = False
        look = {"layout": widgets.Layout(width="auto"), "style": {"description_width": _NAMES}}
        self.filter = widgets.Text(description="Filter", placeholder="part of a name", **look)
        orders = [(order.value, order) for order in Order]
        self.order = widgets.Dropdown(description="Sort by", options=orders, **look)
        self.list = widgets.Select(description="Variable", rows=16, **look)
        self.count = widgets.Label()
        self.view = widgets.ToggleButtons(options=[("", None)], style={"button_width": "auto"})
        self.page = widgets.HTML()
        self.previous = _button(widgets, "Previous", "The variable above in the list")
        self.next = _button(widgets, "Next", "The variable below in the list")
        self.done = _button(widgets, "Close", "Close the browser; the report stays")
        self.widget = self._layout(widgets)
        self._relist()
        self._connect()

    def _layout(self, widgets: Any) -> Any:
        layout = widgets.Layout
        # Buttons to go up and down the list, since notebooks intercept the arrow keys.
        below = widgets.HBox([self.previous, self.next, self.count], layout=layout(margin="0 0 0 70px"))
        left = [self.filter, self.order, self.list, below]
        above = widgets.HBox([self.view, self.done], layout=layout(justify_content="space-between"))
        column = {"min_width": "260px"}
        return widgets.HBox(
            [
                widgets.VBox(left, layout=layout(width="400px", flex="0 1 auto", **column)),
                widgets.VBox(
                    [above, self.page], layout=layout(flex="1 1 300px", padding="0 0 0 16px", **column)
                ),
            ],
            layout=layout(flex_flow="row wrap", width="100%", max_width="880px"),
        )

    def _connect(self) -> None:
        for widget, act in (
            (self.filter, self._relist),
            (self.order, self._relist),
            (self.list, self._turn),
            (self.view, self._draw),
        ):
            widget.observe(lambda _, act=act: self._quietly(act), names="value")
        self.previous.on_click(lambda _: self._step(-1))
        self.next.on_click(lambda _: self._step(1))
        self.done.on_click(lambda _: self.close())

    def show(self) -> None:
        """Display the widgets, or a line of text in a front end without widgets."""
        bundle = view_of(self.widget, ASIDE, f'<div style="{SECONDARY}">{ASIDE}</div>')
        self._handle = display(bundle, raw=True, display_id=True)
        if getattr(self.widget.comm, "kernel", None) is not None:
            # Widgets that are open when the kernel ends would show as an error in the notebook.
            atexit.register(self.close)

    def close(self) -> None:
        """Close the widgets; the report stays."""
        atexit.unregister(self.close)
        if self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)
        close_all(self.widget)
        self._handle = None

    def _quietly(self, act: Any) -> None:
        """Call `act`, and ignore the events that its own changes cause."""
        if self._busy:
            return
        self._busy = True
        try:
            act()
        finally:
            self._busy = False

    def _relist(self) -> None:
        """Fill the list; the selected derivative stays selected if the list still contains it."""
        before = self.list.value
        lines = list_lines(self._report, self._names, self.filter.value, self.order.value)
        self.list.options = lines
        places = [place for _, place in lines]
        self.count.value = f"{len(lines):,} of {len(self._names):,}"
        if before in places:
            self.list.value = before
        elif places:
            self.list.value = places[0]
        if self.list.value != before or not places:
            self._turn()

    def _turn(self) -> None:
        """Show the selected derivative, in the same view as the one before if it has that view."""
        place = self.list.value
        possible = () if place is None else views(self._report.rows[place])
        before = self.view.value
        options = [(view.value, view) for view in possible]
        if tuple(options) != tuple(self.view.options):
            self.view.options = options
            self.view.value = before if before in possible else next(iter(possible), None)
        self._draw()

    def _step(self, by: int) -> None:
        places = [place for _, place in self.list.options]
        if places:
            at = places.index(self.list.value) + by
            self.list.value = places[min(max(at, 0), len(places) - 1)]

    def _draw(self) -> None:
        place = self.list.value
        if place is None:
            self.page.value = "Nothing has that in its name."
            return
        view: View | None = self.view.value
        html = inspector_html(self._report.rows[place], self._names[place], view)
        self.page.value = f'<div style="{WIDGET_PAGE}">{html}</div>'


def _button(widgets: Any, text: str, tooltip: str) -> Any:
    layout = widgets.Layout(width="auto", flex="0 0 auto")
    return widgets.Button(description=text, tooltip=tooltip, layout=layout)
