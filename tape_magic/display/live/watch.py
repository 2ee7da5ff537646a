"""The last minute of all devices: a widget that moves, and the picture that it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from IPython.display import display

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Document, Line, Tone, Words, say
from tape_magic.display.html.render import to_html
from tape_magic.display.live.widgets import package
from tape_magic.display.pictures.watch import SECONDS, Points, watch_picture
from tape_magic.display.text.columns import blocks
from tape_magic.display.text.encoding import writable
from tape_magic.display.text.render import to_text
from tape_magic.results.watching import Reading, Sample

_BLOCKS = 20
"""Characters of a curve in text."""


def in_html(samples: Sequence[Sample], notes: Sequence[str] = ()) -> str:
    """A line and a picture for each device; samples in order, the last one is now."""
    drawn = ""
    for index, reading in enumerate(samples[-1].readings):
        memory, load = _points(samples, index)
        said = (Words(reading.name, code=True),), *map(say, _figures(reading, load=False))
        drawn += to_html(Document((Line(said),))) + watch_picture(reading.name, memory, load)
    return drawn + _notes(notes, to_html)


def in_text(samples: Sequence[Sample], notes: Sequence[str] = ()) -> str:
    """The same as text."""
    found = []
    for index, reading in enumerate(samples[-1].readings):
        curves = [
            f"{name} {blocks([0.0, 1.0, *_picked(points)])[2:]}"
            for name, points in zip(("memory", "load"), _points(samples, index), strict=True)
            if len(points) > 1
        ]
        parts = reading.name, *_figures(reading), *curves
        found.append(to_text(Document((Line(tuple(map(say, parts))),))))
    return "\n".join(found) + _notes(notes, lambda document: f"\n{to_text(document)}")


def in_one_line(sample: Sample, missing: str | None) -> str:
    """The figures of now, for a terminal."""
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
    """Memory and load of a device over the last minute, as far as they are known."""
    now = samples[-1].at
    recent = [
        (sample.at - now, sample.readings[index])
        for sample in samples
        if now - sample.at <= SECONDS and index < len(sample.readings)
    ]
    memory = [(at, reading.share) for at, reading in recent if reading.share is not None]
    load = [(at, reading.load) for at, reading in recent if reading.load is not None]
    return memory, load


def _picked(points: Points) -> list[float]:
    size = min(_BLOCKS, len(points))
    return [points[round(i * (len(points) - 1) / (size - 1))][1] for i in range(size)]


class WatchView:
    """The widget, the button that ends it, and at the end the picture in its place.

    Parameters
    ----------
    stop
        What the button calls.
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
        """Draw; the first time, open."""
        self._html.value = in_html(samples)
        if self._handle is None:
            # Written out, since the widgets of ipywidgets 7 display themselves without the id of the
            # display, and the picture could then never take their place.
            view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
            kinds = {"application/vnd.jupyter.widget-view+json": view, **_bundle(samples, ())}
            self._handle = display(kinds, raw=True, display_id=True)

    def finish(self, samples: Sequence[Sample], notes: Sequence[str]) -> None:
        """Leave the picture of the last minute, and close the widgets: alive, they reopen as an error."""
        if self._handle is not None:
            self._handle.update(_bundle(samples, notes), raw=True)
            self._handle = None
        for widget in (self._box, self._html, self._button):
            for part in (widget, widget.layout, getattr(widget, "style", None)):
                if part is not None:
                    part.close()


def _bundle(samples: Sequence[Sample], notes: Sequence[str]) -> dict[str, str]:
    return {"text/html": in_html(samples, notes), "text/plain": writable(in_text(samples, notes))}


def show_once(samples: Sequence[Sample], notes: Sequence[str]) -> None:
    """The picture alone, where nobody watches."""
    display(_bundle(samples, notes), raw=True)
