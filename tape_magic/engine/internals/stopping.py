"""What a thread's `tf.stop_gradient` gives, replaced for a while.

TensorFlow's callbacks after an operation cannot replace what it gave. ``tf.stop_gradient`` calls a generated
function by its place in a private module (seen in TensorFlow 2.21), and so do Keras and TensorFlow's own
functions. Where a version has no such place, nothing is replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tape_magic.engine.internals.operations import is_eager

Replace = Callable[[Any], Any]

HOOK_FILE = __file__
"""The file of a frame that stands between the user's line and the operation, while something is replaced."""


class _StopHook:
    """Stands in for the generated function while any thread replaces what it gives: it is one for all.

    Parameters
    ----------
    original
        The generated function.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original
        self.replacing: dict[int, Replace] = {}

    def __call__(self, input: Any, name: str | None = None) -> Any:
        stopped = self.original(input, name=name)
        replace = self.replacing.get(threading.get_ident())
        return stopped if replace is None or not is_eager(stopped) else replace(stopped)


_LOCK = threading.Lock()


@contextmanager
def replacing_stops(replace: Replace) -> Iterator[None]:
    """Have ``tf.stop_gradient`` give ``replace(stopped)`` in the block, where this thread runs it eagerly."""
    try:
        from tensorflow.python.ops import gen_array_ops

        found = gen_array_ops.stop_gradient
    except (ImportError, AttributeError):
        yield
        return
    thread = threading.get_ident()
    try:
        with _LOCK:
            found = gen_array_ops.stop_gradient
            hook = found if isinstance(found, _StopHook) else _StopHook(found)
            hook.replacing[thread] = replace
            gen_array_ops.stop_gradient = hook
        yield
    finally:
        with _LOCK, suppress(NameError):  # an interrupt can come before the hook is there
            hook.replacing.pop(thread, None)
            if not hook.replacing and gen_array_ops.stop_gradient is hook:
                gen_array_ops.stop_gradient = hook.original
