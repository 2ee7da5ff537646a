"""XLA: whether it compiles a function, and graphs that it can compile."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any

from tape_magic.engine.internals.graphs import CALLING, function_graph


def is_compiled_by_xla(name: str, graph: Any) -> bool:
    """Return whether a function that was called, or one that it calls, is compiled by XLA.

    False where this TensorFlow does not tell, and where the function is gone.

    Parameters
    ----------
    name, graph
        The name under which the call was recorded, and the function's graph.
    """
    import tensorflow as tf

    try:
        from tensorflow.python.eager import context

        if context.context().get_function_def(name).attr["_XlaMustCompile"].b:
            return True
    except (ImportError, AttributeError, tf.errors.OpError):
        pass
    return _calls_xla(graph)


def _calls_xla(graph: Any) -> bool:
    for operation in graph.get_operations():
        if operation.type in CALLING:
            try:
                if operation.get_attr("_XlaMustCompile"):
                    return True
            except ValueError:  # what `get_attr` raises for an attribute that the operation has not
                pass
            called = function_graph(operation)
            if called is not None and _calls_xla(called):
                return True
    return False


class XlaContext:
    """Lays out what is traced into a graph within the block so that XLA can compile it, too.

    XLA needs the size of each list of tensors when it compiles, and TensorFlow gives the lists that carry a
    loop's values to its gradient a fixed size only inside this context (seen in TensorFlow 2.21;
    https://github.com/tensorflow/tensorflow/issues/47170 is of a `tf.TensorArray` made outside of it). Where
    a version has no such context, the block does nothing, and XLA refuses such loops.

    Parameters
    ----------
    graph
        The graph; by default the one that is being traced on entry.
    wanted
        Whether to do anything at all.
    """

    def __init__(self, graph: Any = None, *, wanted: bool = True) -> None:
        self._graph = graph
        self._context = _new_context() if wanted else None

    def __enter__(self) -> None:
        if self._context is not None:
            with self._entered():
                self._context.Enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context is not None:
            with self._entered():
                self._context.Exit()

    def _entered(self) -> Any:
        return contextlib.nullcontext() if self._graph is None else self._graph.as_default()


def _new_context() -> Any:
    try:
        from tensorflow.python.ops.control_flow_ops import XLAControlFlowContext
    except ImportError:
        return None
    return XLAControlFlowContext()
