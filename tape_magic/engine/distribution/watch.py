"""Ends a call in which all workers compute together, once it is clear that one of them takes no part.

TensorFlow's own limit (``timeout_seconds`` of a collective) is none that a loop can have: in 2.20 to 2.22,
each collective holds a thread for as long as the limit, even if it is done at once
(tensorflow/tensorflow#62466). After 7,700 steps of a small network, a process had 15,700 threads; then it
was ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tape_magic.engine.internals.coordination import end_collectives, put_value, value_of
from tape_magic.results.devices import Membership

LATE = 15.0
"""Seconds after which a worker tells the others that it is in a call, and looks who else is."""

_KEY = "tape_magic/within"
_SLICE = 0.2


@contextmanager
def watched(place: Membership, call: str, limit: float) -> Iterator[None]:
    """Have collectives in the block end with an error where another worker does not come to the same call.

    However long all of them take in the call, it goes on.

    Parameters
    ----------
    place
        The workers, and which of them this is.
    call
        What tells this call from all others; the same in all workers.
    limit
        Seconds for which the others are waited for, after :data:`LATE`.
    """
    over, ending = threading.Event(), threading.Lock()

    def look() -> None:
        if not put_value(f"{_KEY}/{place.worker}", call):
            return
        deadline = time.monotonic() + limit
        for other in range(len(place.addresses)):
            while other != place.worker and value_of(f"{_KEY}/{other}", _SLICE) != call:
                if over.wait(_SLICE):
                    return
                if time.monotonic() > deadline:
                    with ending:  # an end that comes late would be that of the next call
                        if not over.is_set():
                            end_collectives(f"Collective has timed out: no /job:worker/task:{other}")
                    return

    timer = threading.Timer(LATE, look)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with ending:
            over.set()
