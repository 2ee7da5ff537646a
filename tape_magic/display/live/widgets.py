"""Widgets as one output of a notebook, in whose place something else can stand, and that are closed whole."""

from __future__ import annotations

from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


def package(what: str) -> Any:
    """Import ipywidgets. Raises `ImportError` with one sentence that says that `what` needs it."""
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(f"{what} needs ipywidgets: pip install ipywidgets ({error})") from None
    return ipywidgets


def view_of(widget: Any, text: str, html: str) -> dict[str, Any]:
    """A widget as the bundle of a display; `text` and `html` stand for it where there are no widgets.

    Written out, since the widgets of ipywidgets 7 display themselves without the id of the
    display, and nothing could then take their place.

    A trusted notebook that was saved with this in it, and whose kernel ended when no page was open to hear of
    it, shows "model not found" there: front ends prefer a widget to `html`, they keep its state only if their
    user asks for that, and nothing of the kernel's takes part in saving.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {WIDGET: view, "text/html": html, "text/plain": text}


def close_all(widget: Any) -> None:
    """Close a widget and all within it, whose layouts and styles are widgets, too.

    What is open is saved with the notebook.
    """
    for child in getattr(widget, "children", ()):
        close_all(child)
    for part in (widget, widget.layout, getattr(widget, "style", None)):
        if part is not None:
            part.close()
