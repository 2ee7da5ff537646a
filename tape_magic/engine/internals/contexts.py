"""TensorFlow's eager contexts: restored after an interrupt, handed to a thread, `tf.function` run eagerly.

Python can raise ``KeyboardInterrupt`` at the return from ``__enter__``, before the ``with`` statement has
noted that the context is entered, and at the call of ``__exit__``. If that context is a graph, the thread
stays in the graph for as long as the traceback lives, or leaves it for one that is gone, and the operations
of later cells become nodes of a graph instead of running.
TensorFlow has no public way to leave such a graph (seen in TensorFlow 2.21). Where a version lacks one of the
private parts used here, the contexts are left as they are.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

_ATTRIBUTES = ("is_eager", "device_name", "device_spec", "scope_name", "invoking_op_callbacks")


@contextmanager
def restore_after_interrupt(pressed: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Restore the graphs and devices that this thread has entered if an interrupt ends the block.

    `pressed` says whether there was one, of which a library may have made another error.
    """
    restore = _context_restorer()
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or pressed():
            _close_interrupted(error)
            restore()
        raise


def capture_call_context() -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager for another thread to call functions in, on this thread's device."""
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


def _close_interrupted(error: BaseException) -> None:
    """Close the context managers whose ``__enter__`` or ``__exit__`` an interrupt cut short, innermost first.

    Else they would leave their contexts when the traceback is thrown away, and put back what held within
    another context that is long left.
    """
    manager = contextlib._GeneratorContextManager
    codes = manager.__enter__.__code__, manager.__exit__.__code__
    managers = []
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:  # the interrupt may be what another error came after
        links.append(link)
        traceback = link.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code in codes:
                managers.append(traceback.tb_frame.f_locals.get("self"))
            traceback = traceback.tb_next
        link = link.__context__
    for one in reversed(managers):
        generator = getattr(one, "gen", None)
        if generator is not None:
            with contextlib.suppress(
                Exception
            ):  # such as TensorFlow's on contexts that are left out of order
                generator.close()


def _context_restorer() -> Callable[[], None]:
    """Return a function that restores this thread's present graphs, modes, devices and op callbacks."""
    try:
        from tensorflow.python.autograph.core import ag_ctx
        from tensorflow.python.eager import context
        from tensorflow.python.framework import ops

        eager = context.context()
        held: Any = eager._thread_local_data
        stacks: list[list[Any]] = [
            ops._default_graph_stack.stack,
            eager.context_switches.stack,
            ag_ctx._control_ctx(),
        ]
        values = {name: getattr(held, name) for name in _ATTRIBUTES}
        callbacks = list(held.op_callbacks)
    except (ImportError, AttributeError):
        return lambda: None
    before = [list(stack) for stack in stacks]

    def restore() -> None:
        for stack, kept in zip(stacks, before, strict=True):
            stack[:] = kept
        for name, value in values.items():
            if getattr(held, name) != value:
                setattr(held, name, value)
        if list(held.op_callbacks) != callbacks:
            held.op_callbacks = callbacks

    return restore


class _PerThreadFlag:
    """A value of TensorFlow's flag that is true on some threads, and on all others what the user set.

    The flag behind ``tf.config.run_functions_eagerly`` is one global for all threads (seen in TensorFlow
    2.21). TensorFlow only asks whether it is true.
    """

    def __init__(self, elsewhere: bool) -> None:
        self.threads: set[int] = set()
        self.elsewhere = elsewhere

    def __bool__(self) -> bool:
        return self.elsewhere or threading.get_ident() in self.threads


_LOCK = threading.Lock()


def run_eagerly_here(wanted: bool) -> None:
    """Make every `tf.function` that this thread calls run eagerly, or as the user set it again.

    Where TensorFlow keeps the flag elsewhere, the public setting for all threads is changed.
    """
    import tensorflow as tf

    try:
        from tensorflow.python.eager.polymorphic_function import eager_function_run as module

        module.RUN_FUNCTIONS_EAGERLY  # noqa: B018  # raises AttributeError where the flag is not there
    except (ImportError, AttributeError):
        tf.config.run_functions_eagerly(wanted)
        return
    with _LOCK:
        held: Any = module.RUN_FUNCTIONS_EAGERLY
        flag = held if isinstance(held, _PerThreadFlag) else _PerThreadFlag(bool(held))
        (flag.threads.add if wanted else flag.threads.discard)(threading.get_ident())
        module.RUN_FUNCTIONS_EAGERLY = flag if flag.threads else flag.elsewhere


def copies_of(variable: Any) -> list[Any]:
    """Return the copies that a strategy made of a variable, one for each device; for any other, itself.

    A graph reads the copy of one device, whose handle knows the variable of all of them by a private
    attribute (seen in TensorFlow 2.21). Without it, only the variable itself is known.
    """
    import tensorflow as tf

    whole = variable
    if not isinstance(variable, tf.distribute.DistributedValues):
        container = getattr(getattr(variable, "handle", None), "_distributed_container", None)
        whole = container() if callable(container) else container
    if not isinstance(whole, tf.distribute.DistributedValues):
        return [variable]
    return list(whole.distribute_strategy.experimental_local_results(whole))
