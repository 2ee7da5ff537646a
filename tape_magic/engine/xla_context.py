"""What lets XLA compile the gradients of ``tf.cond`` and ``tf.while_loop``, AutoGraph's ``if`` and ``for``.

Outside of such a context TensorFlow hands values from branches and loops to their gradients in
optionals and lists of unknown size, which XLA has no kernels for. The context is private API; where
it is missing, such a program runs as a graph, and the report says why.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any


class XlaContext:
    """Within this, what is traced into a graph is laid out so that XLA can compile it, too.

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
