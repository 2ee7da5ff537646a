"""`%tfgpu` once its line is read; the thread behind `--watch`."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any, Protocol

from tape_magic.magics.line.tfgpu import DeviceOptions
from tape_magic.results.watching import Sample


def report(options: DeviceOptions) -> Any:
    """Set the devices up as the line asks and return their report, or the doctor's report."""
    from tape_magic.engine.api.devices import devices, diagnose

    return diagnose() if options.doctor else devices(options.gpus, **options.arguments)


def watch(shell: Any, progress: str, seconds: float, stop: Callable[[], None]) -> Any:
    """Show the devices as they go on; the watch that goes on in a notebook, None where it is one look only.

    `progress` is how a run is shown, and `stop` what the button calls. Raises `LineError` where `progress` is
    no kind, and `DeviceError` where there is nothing to read.
    """
    from tape_magic.display.live.watch import WatchView, in_one_line, show_once
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
                stack.pop_all()  # the watch closes it
                watch.start(view)
                return watch
        time.sleep(PERIOD)  # load is that of the time between two readings
        sample = sampler.sample()
    if kind == "terminal":
        print(in_one_line(sample, sampler.missing))
    else:
        show_once((sample,), notes)
    return None


PERIOD = 0.75
"""Seconds between two readings."""

_KEPT = 128
"""More samples than a minute has."""

_PATIENCE = 10.0
"""Seconds to wait for a reading that hangs."""


class Reads(Protocol):
    """What a watch reads."""

    missing: str | None

    def sample(self) -> Sample:
        """The devices now."""

    def close(self) -> None:
        """The end."""


class Shows(Protocol):
    """What a watch draws on."""

    def show(self, samples: Sequence[Sample]) -> None:
        """The last minute, as it is now."""

    def finish(self, samples: Sequence[Sample], notes: Sequence[str]) -> None:
        """The last minute, to stay."""


class Watch:
    """Goes on in a thread of its own until it is stopped, its time is over, or the kernel ends.

    Parameters
    ----------
    reads, seconds
        Where the samples come from, and for how long; closed at the end, also where the first picture fails.
    """

    def __init__(self, reads: Reads, seconds: float) -> None:
        self._reads, self._seconds = reads, seconds
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tfgpu --watch", daemon=True)
        self._shows: Shows | None = None

    def start(self, shows: Shows) -> None:
        """Show the first sample at once, and go on in the thread."""
        self._shows = shows
        try:
            self._take(shows)
        except BaseException:
            self._reads.close()  # there is no thread yet that would
            raise
        # before the kernel's end: what is left open then would stand in the notebook as an error
        atexit.register(self.stop)
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until its picture is left behind; again, it does nothing."""
        self._over.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
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
            # a thread has nobody who could catch it, and would print a traceback of ours
            notes.append(f"{type(error).__name__}: {error}")
        atexit.unregister(self.stop)
        notes.insert(0, f"watched until {datetime.now():%H:%M:%S}")
        shows.finish(tuple(self._samples), notes)
        self._reads.close()
