"""What `%tfgpu` does once its line is read: a report, or a watch in the way of the front end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from tape_magic.engine.device_words import FREEST
from tape_magic.magics.options import DeviceOptions


def report(options: DeviceOptions) -> Any:
    """The devices set up as asked, or what the doctor found."""
    if options.doctor:
        from tape_magic.engine.doctor import examine

        return examine()
    from tape_magic.engine.devices import devices

    indices: Any = options.indices or None
    return devices(FREEST if indices == (FREEST,) else indices, **options.setup)


def watch(shell: Any, progress: str, seconds: float, stop: Callable[[], None]) -> Any:
    """Show the devices as they go on; the watch that goes on in a notebook, None where it is one look only.

    `progress` is how a run is shown, and `stop` what the button calls. Raises `LineError` where `progress` is
    no kind, and `DeviceError` where there is nothing to read.
    """
    from tape_magic.display.watch import WatchView, in_one_line, show_once
    from tape_magic.engine.sampling import Sampler
    from tape_magic.magics.front_end import chosen
    from tape_magic.magics.watching import PERIOD, Watch

    kind = chosen(shell, progress)
    with ExitStack() as stack:
        sampler = stack.enter_context(closing(Sampler()))
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
