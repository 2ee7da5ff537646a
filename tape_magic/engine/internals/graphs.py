"""Graphs of functions, branches and loops; what they write; XLA's control-flow context; stateful operations.

What TensorFlow knows of a kind of operation is private API; without it, only the kinds listed here count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any


def graph_called(frame: Any) -> Any:
    """The graph of the function whose call runs within a Python frame or those around it, or ``None``."""
    while frame is not None:
        if frame.f_code.co_name == "call_flat" and frame.f_code.co_filename.endswith("atomic_function.py"):
            return getattr(frame.f_locals.get("self"), "graph", None)
        frame = frame.f_back
    return None


def within_py_function(attrs: Sequence[Any]) -> tuple[list[Any], list[Any]] | None:
    """What the function of an ``EagerPyFunc``, which has just run, was given, and what it returned.

    They are other tensors than the operation's own. ``None`` where that is not known, and for the gradient
    of one.
    """
    try:
        from tensorflow.python.ops import script_ops

        token = attrs[attrs.index("token") + 1]
        if script_ops._py_funcs.get(token)._is_grad_func:
            return None
        _, given, returned = script_ops.tape_cache[token.encode()]
    except (ImportError, AttributeError, KeyError, ValueError):
        return None
    returned = returned if isinstance(returned, list | tuple) else [returned]
    return list(given), list(returned)


def branch_graphs(operation: Any) -> tuple[Any, ...]:
    """The graphs of a conditional's branches, in their order."""
    from tensorflow.python.ops import cond_v2

    return tuple(cond_v2.get_func_graphs(operation))


def loop_graphs(operation: Any) -> tuple[Any, Any]:
    """The graphs of a loop's condition and body."""
    from tensorflow.python.ops import while_v2

    return (
        while_v2._get_graph(operation, "cond", "_cond_graph"),
        while_v2._get_graph(operation, "body", "_body_graph"),
    )


def function_graph(operation: Any) -> Any:
    """The graph of the function that an operation of a graph calls."""
    name = operation.get_attr("f").name
    function = operation.graph._get_function(name)
    if function is not None and getattr(function, "graph", None) is not None:
        return function.graph
    from tensorflow.python.framework import function_def_to_graph

    return function_def_to_graph.function_def_to_graph(operation.graph._get_function(name).cached_definition)


_IN_VARIABLES = frozenset(
    {
        "Assert",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "Case",
        "If",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "ResourceScatterAdd",
        "ResourceScatterNdAdd",
        "ResourceScatterNdUpdate",
        "ResourceScatterUpdate",
        "ResourceStridedSliceAssign",
        "RngReadAndSkip",
        "RngSkip",
        "StatefulPartitionedCall",
        "StatefulRandomBinomial",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "VariableShape",
        "While",
    }
)
"""Stateful operations whose only state is in variables."""


def all_in_variables(kinds: Iterable[str]) -> bool:
    """Whether all state of some kinds of operations is in variables.

    >>> all_in_variables(["MatMul", "AssignVariableOp"])   # doctest: +SKIP
    True
    >>> all_in_variables(["PrintV2"])                      # doctest: +SKIP
    False
    """
    return all(kind in _IN_VARIABLES or not _is_stateful(kind) for kind in kinds)


def _is_stateful(kind: str) -> bool:
    try:
        from tensorflow.python.framework import op_def_registry
    except ImportError:
        return True
    definition = op_def_registry.get(kind)
    return definition is None or bool(definition.is_stateful)


READING_OPERATIONS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})


def written_inputs(graph: Any) -> list[int]:
    """The places among a graph's inputs of the variables that it, or a function that it calls, may assign."""
    places = {tensor.name: index for index, tensor in enumerate(graph.inputs) if is_handle(tensor)}
    found: dict[int, None] = {}
    for operation in graph.get_operations():
        if operation.type in READING_OPERATIONS:
            continue
        try:
            only_read = operation.get_attr("_read_only_resource_inputs")
        except ValueError:  # most kinds of operations lack it
            only_read = ()
        for index, tensor in enumerate(operation.inputs):
            if tensor.name in places and index not in only_read:
                found[places[tensor.name]] = None
    return list(found)


def is_handle(tensor: Any) -> bool:
    """Return whether a tensor is the handle of a resource, such as a variable."""
    return tensor is not None and bool(tensor.dtype.name == "resource")


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
