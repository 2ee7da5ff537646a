"""Listens to eager operations; gradient registry; keys of tensors.

The one place that touches them: where a version of TensorFlow lacks one, nothing is heard, and the
diagnosis says that it cannot tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, cast

HearOperation = Callable[..., None]
"""Called with the type of an operation, its inputs, attributes and outputs, as it has run; ``op_name`` and
``graph`` are given where it was not run, but added to a graph."""

BackwardFunction = Callable[..., Any]
HearCustom = Callable[[str, Sequence[Any], Sequence[Any], BackwardFunction], BackwardFunction]
"""Called with the name, outputs, inputs and backward function of what a tape records as a whole, such
as a ``tf.function`` or a custom gradient; returns the backward function to record."""


class _Hook:
    """Stands for TensorFlow's ``record_operation`` while any thread listens; each hears its own operations.

    One for all threads, since what replaces it is the whole program's: of two that each put back what they
    found, the one that ends last would leave the other's.
    """

    def __init__(self, recorded_as: Callable[..., None], executed_as: Callable[..., Any]) -> None:
        self.recorded_as, self.executed_as = recorded_as, executed_as
        self.hearers: dict[int, list[HearCustom]] = {}

    def __call__(
        self, op_type: str, outputs: Any, inputs: Any, backward_function: Any, forward_function: Any = None
    ) -> None:
        for hear in reversed(self.hearers.get(threading.get_ident(), [])):
            backward_function = hear(op_type, outputs, inputs, backward_function)
        self.recorded_as(op_type, outputs, inputs, backward_function, forward_function)


_LOCK = threading.Lock()


@contextmanager
def listening_to_operations(hear: HearOperation, hear_custom: HearCustom) -> Iterator[bool]:
    """Within this, each operation that this thread runs eagerly is heard; yields whether that works."""
    try:
        from tensorflow.python.eager import context, execute, record
        from tensorflow.python.framework import op_callbacks

        add, remove = op_callbacks.add_op_callback, context.context().remove_op_callback
        hook: Any = _hook(record, execute)
    except (ImportError, AttributeError):
        yield False
        return
    thread = threading.get_ident()
    try:
        with _LOCK:
            record.record_operation = hook = _hook(record, execute)
            hook.hearers[thread] = [*hook.hearers.get(thread, []), hear_custom]
            add(hear)
        yield True
    finally:
        with _LOCK, suppress(KeyError):  # an interrupt can come before one of them listens
            others = hook.hearers.pop(thread)
            others.remove(hear_custom)
            if others:
                hook.hearers[thread] = others
            elif not hook.hearers and record.record_operation is hook:
                record.record_operation = hook.recorded_as
            # And not op_callbacks.remove_op_callback, which has all threads unheard when this one is done.
            remove(hear)
            if not hook.hearers and not context.context().op_callbacks:
                execute.execute = hook.executed_as


def _hook(record: Any, execute: Any) -> _Hook:
    """The one that is there, or a new one."""
    found = record.record_operation
    return found if isinstance(found, _Hook) else _Hook(found, execute.execute)


def newest_key() -> int:
    """A number that tensors made before have not reached, and that those made from now on will be above."""
    try:
        from tensorflow.python.framework import ops

        return int(ops.uid())
    except (ImportError, AttributeError):
        import tensorflow as tf

        return key_of(tf.constant(0))


def watch_sources(tape: Any, sources: Iterable[Any]) -> None:
    """As ``tape.watch``, for what is known to be of inexact numbers; that takes ten times as long."""
    try:
        from tensorflow.python.eager import tape as tapes

        for source in sources:
            if hasattr(source, "handle"):
                tapes.watch_variable(tape._tape, source)
            else:
                tapes.watch(tape._tape, source)
    except (ImportError, AttributeError):
        tape.watch(list(sources))


def key_of(tensor: Any) -> int:
    """The number that TensorFlow gives a tensor, never given to another one; 0 where it has none."""
    return int(getattr(tensor, "_id", 0))


def key_of_variable(variable: Any) -> int:
    """The number of the handle through which operations read a variable."""
    return key_of(getattr(variable, "handle", None))


def element_count(tensor: Any) -> int:
    """How many elements an eager tensor has."""
    count = getattr(tensor, "_num_elements", None)
    return int(count()) if count is not None else int(tensor.shape.num_elements() or 0)


@lru_cache(maxsize=1)
def stopped_reader() -> Callable[[], bool]:
    """How to read whether no tape records, as within a custom gradient's own computation."""
    try:
        from tensorflow.python import pywrap_tfe

        return cast("Callable[[], bool]", pywrap_tfe.TFE_Py_TapeSetIsStopped)
    except (ImportError, AttributeError):
        return bool


def gradients_of(
    op_type: str, attrs: tuple[Any, ...], inputs: Sequence[Any], outputs: Sequence[Any], given: Sequence[Any]
) -> list[Any]:
    """What a tape would compute for the inputs of one operation from the gradients of its outputs.

    Raises ``LookupError`` where no gradient is registered.
    """
    from tensorflow.python.eager import backprop

    found = backprop._gradient_function(
        op_type, attrs, len(inputs), list(inputs), list(outputs), list(given), (), ""
    )
    found = list(found) if isinstance(found, list | tuple) else [found]
    return found + [None] * (len(inputs) - len(found))


def run_again(op_type: str, attrs: tuple[Any, ...], inputs: Sequence[Any]) -> Any:
    """The one output of an operation as it was heard; no tape records it, and nobody hears it."""
    from tensorflow.python.eager import context, execute

    pairs = zip(attrs[::2], attrs[1::2], strict=True)
    given = tuple(part for pair in pairs if pair[1] is not None for part in pair)  # the others are as usual
    (output,) = execute.quick_execute(op_type, 1, list(inputs), given, context.context())
    return output


def is_registered(op_type: str) -> bool:
    """Whether TensorFlow knows how to differentiate an operation, or that it has no derivative."""
    from tensorflow.python.framework import ops

    try:
        ops._gradient_registry.lookup(op_type)
    except LookupError:
        return False
    return True


def never_differentiable(op_type: str) -> bool:
    """Whether TensorFlow has no rule to differentiate an operation by, whatever its values."""
    from tensorflow.python.framework import ops

    try:
        return ops._gradient_registry.lookup(op_type) is None
    except LookupError:
        return True


def is_gradient_frame(code: Any) -> bool:
    """Whether a frame's code is that from which a tape calls the gradient of an operation."""
    return bool(code.co_name == "_gradient_function" and code.co_filename.endswith("backprop.py"))
