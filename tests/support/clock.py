"""Time as a test has it pass, for modules that read the clock."""

from __future__ import annotations

import time


class Clock:
    """Stands for the module ``time``: the clock of the machine, and what a test adds to it.

    Parameters
    ----------
    runs
        Whether time passes by itself, too.
    """

    def __init__(self, *, runs: bool = True) -> None:
        self._runs, self._added = runs, 0.0

    def sleep(self, seconds: float) -> None:
        """Have so much time pass at once."""
        self._added += seconds

    def perf_counter(self) -> float:
        """Return the seconds since some moment."""
        return self._added + (time.perf_counter() if self._runs else 1000.0)

    monotonic = perf_counter
