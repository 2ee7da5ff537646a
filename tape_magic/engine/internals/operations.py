"""Eager operations: listened to, run again, differentiated one by one; the frames of TensorFlow around them.

TensorFlow calls back after each operation (https://github.com/tensorflow/community/pull/127 is the design),
but the registration is private. Where a version lacks it, nothing is heard, and the diagnosis says that it
cannot tell. All private parts used here are in TensorFlow 2.21.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, cast

HearOperation = Callable[..., None]
"""Called after an operation has run, with its type, inputs, attributes and outputs. For an operation that was
not run but added to a graph, ``op_name`` and ``graph`` are given, too."""

BackwardFunction = Callable[..., Any]
HearCustom = Callable[[str, Sequence[Any], Sequence[Any], BackwardFunction], BackwardFunction | None]
"""Called with the name, outputs, inputs and backward function of what a tape records as a whole, such as a
``tf.function`` or a custom gradient; returns the backward function to record, or ``None`` to record nothing,
so that the tape goes by the operations within."""


def give_instead(outputs: Any, tensors: Sequence[Any]) -> bool:
    """Have an operation give other tensors than it computed; return whether that works.

    To be called by a :data:`HearOperation`, with the outputs as they were given to it: they are the list that
    TensorFlow returns, after the tapes have recorded the operation (seen in TensorFlow 2.21, which documents
    that callbacks may replace outputs, and that this is "not implemented yet").
    """
    if not isinstance(outputs, list) or len(outputs) != len(tensors):
        return False
    outputs[:] = tensors
    return True


class _Hook:
    """Stands in for TensorFlow's ``record_operation`` while any thread listens to its own operations.

    The function is one for the whole process, hence one hook for all threads. If each of two threads put back
    what it had found, the one that ends last would put back the other's hook.
    """

    def __init__(self, recorded_as: Callable[..., None], executed_as: Callable[..., Any]) -> None:
        self.recorded_as, self.executed_as = recorded_as, executed_as
        self.hearers: dict[int, list[HearCustom]] = {}

    def __call__(
        self, op_type: str, outputs: Any, inputs: Any, backward_function: Any, forward_function: Any = None
    ) -> None:
        for hear in reversed(self.hearers.get(threading.get_ident(), [])):
            backward_function = hear(op_type, outputs, inputs, backward_function)
            if backward_function is None:
                return
        self.recorded_as(op_type, outputs, inputs, backward_function, forward_function)


_LOCK = threading.Lock()


@contextmanager
def listening_to_operations(hear: HearOperation, hear_custom: HearCustom) -> Iterator[bool]:
    """Call `hear` for each operation that this thread runs eagerly in the block; yield whether that works."""
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
            # The callbacks are each thread's own, but `op_callbacks.remove_op_callback` switches the calls
            # off in the whole process once one thread has none left (seen in TensorFlow 2.21).
            remove(hear)
            if not hook.hearers and not context.context().op_callbacks:
                execute.execute = hook.executed_as


def _hook(record: Any, execute: Any) -> _Hook:
    """Return the hook that is installed, or a new one."""
    found = record.record_operation
    return found if isinstance(found, _Hook) else _Hook(found, execute.execute)


# -- keys of tensors ---------------------------------------------------------------------------------


def newest_key() -> int:
    """Return a number that the keys of all tensors made from now on exceed, and of none made before."""
    try:
        from tensorflow.python.framework import ops

        return int(ops.uid())
    except (ImportError, AttributeError):
        import tensorflow as tf

        return key_of(tf.constant(0))


def key_of(tensor: Any) -> int:
    """Return the number that TensorFlow gives a tensor, and no other one ever; 0 where it has none."""
    return int(getattr(tensor, "_id", 0))


def key_of_variable(variable: Any) -> int:
    """Return the number of the handle through which operations read a variable."""
    return key_of(getattr(variable, "handle", None))


def is_eager(tensor: Any) -> bool:
    """Return whether a tensor has a value, and is no symbol in a graph that is being traced."""
    return hasattr(tensor, "_num_elements")


def element_count(tensor: Any) -> int:
    """Return the number of elements of an eager tensor."""
    count = getattr(tensor, "_num_elements", None)
    return int(count()) if count is not None else int(tensor.shape.num_elements() or 0)


WHOLE = frozenset({3, 9})
"""``DT_INT32`` and ``DT_INT64``, which ``tf.DType.as_datatype_enum`` gives, too."""


def element_type(tensor: Any) -> int:
    """Return TensorFlow's number of a tensor's dtype; 0 where it has none."""
    read = getattr(tensor, "_datatype_enum", None)
    return 0 if read is None else int(read())


# -- tapes -------------------------------------------------------------------------------------------


def watch_sources(tape: Any, sources: Iterable[Any]) -> None:
    """Watch tensors and variables that are known to be of floating-point or complex numbers.

    ``tape.watch`` checks each of them, which takes three times as long (seen in TensorFlow 2.21).
    """
    try:
        from tensorflow.python.eager import tape as tapes

        for source in sources:
            if hasattr(source, "handle"):
                tapes.watch_variable(tape._tape, source)
            else:
                tapes.watch(tape._tape, source)
    except (ImportError, AttributeError):
        tape.watch(list(sources))


def is_followed(tensor: Any) -> bool:
    """Return whether a tape follows a tensor already; False where this TensorFlow does not tell."""
    try:
        from tensorflow.python.eager import record

        return bool(record.should_record_backprop([tensor]))
    except (ImportError, AttributeError):
        return False


@lru_cache(maxsize=1)
def stopped_reader() -> Callable[[], bool]:
    """Return what tells whether all tapes are stopped, as within a custom gradient's own computation.

    Where this TensorFlow does not tell, they count as running.
    """
    try:
        from tensorflow.python import pywrap_tfe

        return cast("Callable[[], bool]", pywrap_tfe.TFE_Py_TapeSetIsStopped)
    except (ImportError, AttributeError):
        return bool


# -- one operation again -----------------------------------------------------------------------------


def gradients_of(
    op_type: str, attrs: tuple[Any, ...], inputs: Sequence[Any], outputs: Sequence[Any], given: Sequence[Any]
) -> list[Any]:
    """Return what a tape computes for the inputs of one operation from the gradients `given` for its outputs.

    Raises ``LookupError`` where no gradient is registered, and ``ImportError`` or ``AttributeError`` where
    this TensorFlow lacks the private function; the diagnosis then goes on without the operation.
    """
    from tensorflow.python.eager import backprop

    found = backprop._gradient_function(
        op_type, attrs, len(inputs), list(inputs), list(outputs), list(given), (), ""
    )
    found = list(found) if isinstance(found, list | tuple) else [found]
    return found + [None] * (len(inputs) - len(found))


def execute_unrecorded(op_type: str, attrs: tuple[Any, ...], inputs: Sequence[Any]) -> Any:
    """Run an operation of one output again, by attributes as heard, unrecorded by tapes and unheard.

    Raises ``ImportError`` or ``AttributeError`` where this TensorFlow lacks the private function.
    """
    from tensorflow.python.eager import context, execute

    pairs = zip(attrs[::2], attrs[1::2], strict=True)
    given = tuple(part for pair in pairs if pair[1] is not None for part in pair)  # None stands for a default
    (output,) = execute.quick_execute(op_type, 1, list(inputs), given, context.context())
    return output


def is_registered(op_type: str) -> bool:
    """Return whether a gradient is registered for an operation, or that it has none.

    True where this TensorFlow does not tell: then no message says that a gradient is missing.
    """
    try:
        from tensorflow.python.framework import ops

        ops._gradient_registry.lookup(op_type)
    except LookupError:
        return False
    except (ImportError, AttributeError):
        return True
    return True


def never_differentiable(op_type: str) -> bool:
    """Return whether TensorFlow has no rule to differentiate an operation by, whatever its values.

    False where this TensorFlow does not tell.
    """
    try:
        from tensorflow.python.framework import ops

        return ops._gradient_registry.lookup(op_type) is None
    except LookupError:
        return True
    except (ImportError, AttributeError):
        return False


def public_name(name: str) -> str:
    """Return the name by which users know a function with a custom gradient, if TensorFlow has another."""
    return "tf.grad_pass_through" if name == "_grad_pass_through_op" else name


# -- frames of TensorFlow around an operation --------------------------------------------------------


_BACKPROP_FILE = os.path.join("eager", "backprop.py")


def is_backprop_file(filename: str) -> bool:
    """Return whether a file is the module of TensorFlow from which a tape calls gradients."""
    return filename.endswith(_BACKPROP_FILE)


def is_gradient_frame(code: Any) -> bool:
    """Return whether a frame's code is that from which a tape calls the gradient of an operation."""
    return bool(code.co_name == "_gradient_function" and code.co_filename.endswith("backprop.py"))


def calls_gradient(frame: Any) -> bool:
    """Return whether a frame in a graph operation's traceback is that from which a tape calls gradients."""
    return bool(frame.name == "_gradient_function" and frame.filename.endswith("backprop.py"))


def differentiated_by(frame: Any) -> tuple[str, list[Any]]:
    """Return the type of the operation whose gradient a frame calls, and its outputs and inputs.

    The frame is one of :func:`is_gradient_frame`. Where it has no such variables, the type is empty, and
    there are no tensors.
    """
    held = frame.f_locals
    tensors = [*(held.get("outputs") or ()), *(held.get("inputs") or ())]
    return str(held.get("op_name", "")), tensors


def argument_at(frame: Any, index: int) -> Any:
    """Return the argument that stands for an input of an operation, given the frame that executes it.

    Only TensorFlow's generated functions (modules named ``gen_…_ops``) have one argument for each input, in
    order; ``None`` for any other frame.
    """
    names, held = _arguments_of(frame.f_code), frame.f_locals
    flat: list[Any] = []
    for name in names:
        value = held.get(name)
        flat += value if isinstance(value, list | tuple) else [value]
    return flat[index] if index < len(flat) else None


@lru_cache(maxsize=1024)
def _arguments_of(code: Any) -> tuple[str, ...]:
    """Return the names of the arguments of a generated function; none for any other."""
    generated = os.path.basename(code.co_filename).startswith("gen_")
    return tuple(code.co_varnames[: code.co_argcount]) if generated else ()
