"""``tf.function`` as plain Python, on one thread, by way of a private part of TensorFlow.

The public setting is the whole program's: functions that other threads call would run their Python each time.
Where a version of TensorFlow lacks that part, it is the setting.
"""

from __future__ import annotations

import threading
from typing import Any


class _SomeThreads:
    """In place of the setting: true on some threads, and elsewhere what the user set."""

    def __init__(self, elsewhere: bool) -> None:
        self.threads: set[int] = set()
        self.elsewhere = elsewhere

    def __bool__(self) -> bool:
        return self.elsewhere or threading.get_ident() in self.threads


_LOCK = threading.Lock()


def run_eagerly_here(wanted: bool) -> None:
    """Whether functions that this thread calls run eagerly; without it, as the user set."""
    import tensorflow as tf

    try:
        from tensorflow.python.eager.polymorphic_function import eager_function_run as part

        part.RUN_FUNCTIONS_EAGERLY  # noqa: B018  # whether it is there
    except (ImportError, AttributeError):
        tf.config.run_functions_eagerly(wanted)
        return
    with _LOCK:
        held: Any = part.RUN_FUNCTIONS_EAGERLY
        some = held if isinstance(held, _SomeThreads) else _SomeThreads(bool(held))
        (some.threads.add if wanted else some.threads.discard)(threading.get_ident())
        part.RUN_FUNCTIONS_EAGERLY = some if some.threads else some.elsewhere
