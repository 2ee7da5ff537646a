"""Eager contexts restored after an interrupt or handed to a thread; `tf.function` run eagerly on one thread.

An interrupt may come when a graph has been entered, and the ``with`` statement does not know of it yet. It
then stays entered as long as the traceback lives: what runs in later cells would go into that graph. The one
place that touches those parts: where a version of TensorFlow lacks one, it stays as it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

_ATTRIBUTES = ("is_eager", "device_name", "device_spec", "scope_name", "invoking_op_callbacks")


@contextmanager
def left_as_before() -> Iterator[None]:
    """Within this, an interrupt leaves the graphs and devices that this thread has entered as they were."""
    put_back = _state()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        _leave_half_entered(interrupt)
        put_back()
        raise


def handed_on() -> Callable[[], AbstractContextManager[None]]:
    """What has another thread call functions as this one does: on its device, and with its options."""
    try:
        from tensorflow.python.eager import context

        eager = context.context()
        device, options = eager.device_name or None, eager.function_call_options
    except (ImportError, AttributeError):
        return contextlib.nullcontext

    @contextmanager
    def entered() -> Iterator[None]:
        eager.function_call_options = options
        with eager.device(device):
            yield

    return entered


def _leave_half_entered(error: BaseException) -> None:
    """Leave the contexts whose ``with`` statement the interrupt came before, the innermost first."""
    enter = contextlib._GeneratorContextManager.__enter__.__code__
    managers = []
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is enter:
            managers.append(traceback.tb_frame.f_locals.get("self"))
        traceback = traceback.tb_next
    for manager in reversed(managers):
        generator = getattr(manager, "gen", None)
        if generator is not None:
            generator.close()


def _state() -> Callable[[], None]:
    """What puts back the graphs, modes, devices and listeners of this thread as they are now."""
    try:
        from tensorflow.python.autograph.core import ag_ctx
        from tensorflow.python.eager import context
        from tensorflow.python.framework import ops

        eager = context.context()
        held: Any = eager._thread_local_data
        lists: list[list[Any]] = [
            ops._default_graph_stack.stack,
            eager.context_switches.stack,
            ag_ctx._control_ctx(),
        ]
        values = {name: getattr(held, name) for name in _ATTRIBUTES}
        listeners = list(held.op_callbacks)
    except (ImportError, AttributeError):
        return lambda: None
    before = [list(one) for one in lists]

    def put_back() -> None:
        for one, kept in zip(lists, before, strict=True):
            one[:] = kept
        for name, value in values.items():
            if getattr(held, name) != value:
                setattr(held, name, value)
        if list(held.op_callbacks) != listeners:
            held.op_callbacks = listeners

    return put_back


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
