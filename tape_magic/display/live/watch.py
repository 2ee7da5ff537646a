"""The last minute of all devices: a live widget, and the picture that replaces it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from IPython.display import display

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Document, Line, Tone, Words, say
from tape_magic.display.html.render import to_html
from tape_magic.display.html.style import WIDGET_PAGE
from tape_magic.display.live.widgets import close_all, package, view_of
from tape_magic.display.pictures.watch import SECONDS, Points, watch_picture
from tape_magic.display.text.columns import blocks
from tape_magic.display.text.encoding import writable
from tape_magic.display.text.render import to_text
from tape_magic.results.watching import Reading, Sample

_BLOCKS = 20
"""The most characters of a curve in text."""


def watch_html(samples: Sequence[Sample], notes: Sequence[str] = ()) -> str:
    """Return a line and a picture for each device; the last of the samples is the present."""
    drawn = ""
    for index, reading in enumerate(samples[-1].readings):
        memory, load = _points(samples, index)
        sentences = (Words(reading.name, code=True),), *map(say, _figures(reading, load=False))
        drawn += to_html(Document((Line(sentences),))) + watch_picture(reading.name, memory, load)
    return drawn + _notes(notes, to_html)


def watch_text(samples: Sequence[Sample], notes: Sequence[str] = ()) -> str:
    """Return a line of figures and small curves for each device as text."""
    found = []
    for index, reading in enumerate(samples[-1].readings):
        curves = [
            f"{name} {blocks([0.0, 1.0, *_spaced(points)])[2:]}"
            for name, points in zip(("memory", "load"), _points(samples, index), strict=True)
            if len(points) > 1
        ]
        parts = reading.name, *_figures(reading), *curves
        found.append(to_text(Document((Line(tuple(map(say, parts))),))))
    return "\n".join(found) + _notes(notes, lambda document: f"\n{to_text(document)}")


def watch_line(sample: Sample, missing: str | None) -> str:
    """Return the present figures of all devices in one line, for a terminal."""
    parts = [
        " ".join([reading.name, ", ".join(_figures(reading, product=False))]) for reading in sample.readings
    ]
    if missing is not None and len(parts) == 1:
        parts.append(f"no GPU ({missing})")
    return writable(" · ".join([*parts, "the picture that moves is in a notebook"]))


def _notes(notes: Sequence[str], render: Callable[[Document], str]) -> str:
    return render(Document((Line(tuple(map(say, notes)), Tone.MUTED),))) if notes else ""


def _figures(reading: Reading, *, product: bool = True, load: bool = True) -> list[str]:
    found = [reading.product] if product and reading.product else []
    if reading.used is not None and reading.total is not None:
        found.append(f"{numbers.memory(reading.used)} of {numbers.memory(reading.total)}")
    if load and reading.load is not None:
        found.append(f"load {numbers.percent(reading.load)}")
    return found


def _points(samples: Sequence[Sample], index: int) -> tuple[Points, Points]:
    """Return memory and load of a device over the last minute, as far as they are known."""
    now = samples[-1].at
    recent = [
        (sample.at - now, sample.readings[index])
        for sample in samples
        if now - sample.at <= SECONDS and index < len(sample.readings)
    ]
    memory = [(at, reading.share) for at, reading in recent if reading.share is not None]
    load = [(at, reading.load) for at, reading in recent if reading.load is not None]
    return memory, load


def _spaced(points: Points) -> list[float]:
    """Return at most `_BLOCKS` values, evenly spaced from the first to the last."""
    size = min(_BLOCKS, len(points))
    return [points[round(i * (len(points) - 1) / (size - 1))][1] for i in range(size)]


class WatchView:
    """The widget of the watch with its Stop button, which a picture replaces at the end.

    Parameters
    ----------
    stop
        The function that the button calls.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        ipywidgets = package("the watch")
        self._html = ipywidgets.HTML()
        button = ipywidgets.Layout(width="auto", align_self="flex-start", margin="4px 0 0 40px")
        self._button = ipywidgets.Button(description="Stop", tooltip="End the watch", layout=button)
        self._button.on_click(lambda _: stop())
        self._box = ipywidgets.VBox([self._html, self._button])
        self._handle: Any = None

    def show(self, samples: Sequence[Sample]) -> None:
        """Draw the samples; the first call opens the widget."""
        self._html.value = f'<div style="{WIDGET_PAGE}">{watch_html(samples)}</div>'
        if self._handle is None:
            still = _bundle(samples, ())
            view = view_of(self._box, still["text/plain"], still["text/html"])
            self._handle = display(view, raw=True, display_id=True)

    def finish(self, samples: Sequence[Sample], notes: Sequence[str]) -> None:
        """Show the picture of the last minute, and close the widgets, which would reopen as an error."""
        if self._handle is not None:
            self._handle.update(_bundle(samples, notes), raw=True)
            self._handle = None
        close_all(self._box)


def _bundle(samples: Sequence[Sample], notes: Sequence[str]) -> dict[str, str]:
    return {"text/html": watch_html(samples, notes), "text/plain": writable(watch_text(samples, notes))}


def show_once(samples: Sequence[Sample], notes: Sequence[str]) -> None:
    """Show the picture alone, in a front end without widgets."""
    display(_bundle(samples, notes), raw=True)
