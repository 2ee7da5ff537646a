"""The display of a run on an engine of ipyparallel: one line of its output, written over and over."""

from __future__ import annotations

from tape_magic.display.live.progress import NoProgress, Pace, summary
from tape_magic.results.steps import Step


class LineProgress(NoProgress):
    """Shows a run as one line.

    Of all that an engine shows, ipyparallel 8 and 9 keep only its standard streams changing in a notebook:
    they relay no ``update_display_data`` (``AsyncResult._iopub_streaming_output_callback``).
    """

    def __init__(self) -> None:
        self._pace = Pace()
        self._shown = False

    def update(self, step: Step) -> None:
        """Write the line anew."""
        if self._pace.due(step):
            self._shown = True
            print(f"\r{summary(step, self._pace.rate)}", end="", flush=True)

    def close(self) -> None:
        """Empty the line."""
        if self._shown:
            self._shown = False
            print("\r ", end="", flush=True)  # a carriage return counts once something comes behind it
