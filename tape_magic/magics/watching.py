"""The work of ``%tfgpu`` behind its line, and the thread of ``--watch``."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any, Protocol

from tape_magic.magics.line.tfgpu import DeviceOptions
from tape_magic.results.watching import Sample


def report(options: DeviceOptions, arguments: Mapping[str, Any]) -> Any:
    """Set the devices up as the line asks and return their report, or the doctor's report.

    `arguments` are those of the options, with the values of expressions.
    """
    from tape_magic.engine.api.devices import devices, diagnose

    return diagnose() if options.doctor else devices(options.gpus, **arguments)


def watch(shell: Any, progress: str, seconds: float, stop: Callable[[], None]) -> Any:
    """Show the devices, and return the watch that goes on in a notebook; ``None`` elsewhere, after one look.

    `progress` is the way in which runs are shown, and the button calls `stop`. Raises :class:`LineError` for
    an unknown way, and :class:`DeviceError` where there is nothing to read.
    """
    from tape_magic.display.live.watch import WatchView, show_once, watch_line
    from tape_magic.engine.api.devices import open_sampler
    from tape_magic.magics.front_end import chosen

    kind = chosen(shell, progress)
    with ExitStack() as stack:
        sampler = stack.enter_context(closing(open_sampler()))
        notes = [f"no GPUs: {sampler.missing}"] if sampler.missing else []
        if kind == "widget":
            try:
                view = WatchView(stop)
            except ImportError as error:
                notes.append(f"one look only: {error}")
            else:
                watch = Watch(sampler, seconds)
                stack.pop_all()  # the watch closes the sampler
                watch.start(view)
                return watch
        time.sleep(PERIOD)  # load is a mean over the time between two readings
        sample = sampler.sample()
    if kind == "terminal":
        print(watch_line(sample, sampler.missing))
    else:
        show_once((sample,), notes)
    return None


PERIOD = 0.75
"""Seconds between two readings."""

_KEPT = 128
"""The most samples that are kept: more than a minute has."""

_PATIENCE = 10.0
"""The most seconds that stopping waits for a reading."""


class Reads(Protocol):
    """The sampler, as a watch uses it."""

    missing: str | None

    def sample(self) -> Sample:
        """Return the state of the devices now."""

    def close(self) -> None:
        """Release the sampler's resources."""


class Shows(Protocol):
    """The view, as a watch uses it."""

    def show(self, samples: Sequence[Sample]) -> None:
        """Draw the samples of the last minute."""

    def finish(self, samples: Sequence[Sample], notes: Sequence[str]) -> None:
        """Leave the samples of the last minute behind as static output, with notes below."""


class Watch:
    """A picture of the devices, drawn by a thread until it is stopped, its time is over, or the kernel ends.

    Parameters
    ----------
    reads
        The source of the samples; closed at the end, also where the first picture fails.
    seconds
        The time after which the watch ends.
    """

    def __init__(self, reads: Reads, seconds: float) -> None:
        self._reads, self._seconds = reads, seconds
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tfgpu --watch", daemon=True)
        self._shows: Shows | None = None

    def start(self, shows: Shows) -> None:
        """Show the first sample at once, and the next ones from the thread."""
        self._shows = shows
        try:
            self._take(shows)
        except BaseException:
            self._reads.close()  # the thread, which would close it, has not started
            raise
        # at the kernel's end, an open widget would stay in the notebook as an error
        atexit.register(self.stop)
        self._thread.start()

    def stop(self) -> None:
        """End the watch, and wait for its last picture; a second call does nothing."""
        self._over.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)

    @property
    def ended(self) -> bool:
        """Whether the watch is over."""
        return not self._thread.is_alive()

    def _take(self, shows: Shows) -> None:
        self._samples.append(self._reads.sample())
        shows.show(tuple(self._samples))

    def _run(self) -> None:
        shows, end = self._shows, time.monotonic() + self._seconds
        assert shows is not None
        notes = [f"no GPUs: {self._reads.missing}"] if self._reads.missing else []
        try:
            while not self._over.wait(PERIOD) and time.monotonic() < end:
                self._take(shows)
        except Exception as error:
            # no caller could catch it, and the thread would print a traceback of ours
            notes.append(f"{type(error).__name__}: {error}")
        atexit.unregister(self.stop)
        notes.insert(0, f"watched until {datetime.now():%H:%M:%S}")
        shows.finish(tuple(self._samples), notes)
        self._reads.close()
