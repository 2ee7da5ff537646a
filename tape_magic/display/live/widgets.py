"""Displays widgets as one output of a notebook that can be replaced, and closes them completely."""

from __future__ import annotations

from typing import Any

from tape_magic.errors import in_one_line

_WIDGET = "application/vnd.jupyter.widget-view+json"


def package(what: str) -> Any:
    """Return the module ipywidgets; raise `ImportError` with one sentence where it is missing.

    `what` is the subject of the sentence, such as "the watch".
    """
    try:
        import ipywidgets
    except ImportError as error:
        missing = ImportError(f"{what} needs ipywidgets: pip install ipywidgets ({error})")
        raise in_one_line(missing) from None
    return ipywidgets


def view_of(widget: Any, text: str, html: str = "") -> dict[str, Any]:
    """Return a widget as the bundle of a display, with `text` and `html` for front ends without widgets.

    The bundle is written by hand, since the widgets of ipywidgets 7 display themselves without the id of the
    display, so that nothing could replace them.

    A trusted notebook shows "model not found" in this place if it was saved with the widget and its kernel
    ended while no page was open. Front ends prefer a widget to `html`, they save its state only on request,
    and the kernel has no part in saving.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {_WIDGET: view, "text/plain": text, **({"text/html": html} if html else {})}


def close_all(widget: Any) -> None:
    """Close a widget and all widgets within it, with their layouts and styles, which are widgets too.

    An open widget would be saved with the notebook.
    """
    for child in getattr(widget, "children", ()):
        close_all(child)
    for part in (widget, widget.layout, getattr(widget, "style", None)):
        if part is not None:
            part.close()
