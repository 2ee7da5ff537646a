"""Graphs of functions, branches and loops; what they write; stateful operations.

TensorFlow has no public way from an operation of a graph to the graph of the function that the operation
calls, nor to what it knows of a kind of operation. Each function here says what it returns where a version
lacks the private part that it uses; all of these parts are in TensorFlow 2.21.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Sequence
from typing import Any


def graph_called(frame: Any) -> Any:
    """Return the graph of the function whose call runs within a Python frame or one around it, or ``None``.

    TensorFlow's op callbacks are told the name of the function that was called, and not its graph.
    """
    while frame is not None:
        if frame.f_code.co_name == "call_flat" and frame.f_code.co_filename.endswith("atomic_function.py"):
            return getattr(frame.f_locals.get("self"), "graph", None)
        frame = frame.f_back
    return None


def copied_operation(graph: Any, operation: Any, inputs: Sequence[Any]) -> Any:
    """Add the same operation to a graph, on other inputs.

    The public ``create_op`` does the same more slowly, and stands in where the private method is missing.
    """
    attributes = {name: value for name, value in operation.node_def.attr.items() if name != "_class"}
    kinds = [one.dtype for one in operation.outputs]
    create = getattr(graph, "_create_op_internal", graph.create_op)
    return create(operation.type, list(inputs), kinds, attrs=attributes, op_def=operation.op_def)


def py_function_tensors(attrs: Sequence[Any]) -> tuple[list[Any], list[Any]] | None:
    """Return the tensors that the function of an ``EagerPyFunc``, which has just run, was given and returned.

    They are other tensors than the operation's own. TensorFlow keeps them for the gradient of
    ``tf.py_function``. ``None`` where they are not known, and for the gradient of a ``tf.py_function``.
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


def branch_graphs(operation: Any) -> tuple[Any, ...] | None:
    """Return the graphs of a conditional's branches in their order; ``None`` where they cannot be found."""
    try:
        from tensorflow.python.ops import cond_v2

        return tuple(cond_v2.get_func_graphs(operation))
    except (ImportError, AttributeError):
        return None


def loop_graphs(operation: Any) -> tuple[Any, Any] | None:
    """Return the graphs of a loop's condition and body; ``None`` where they cannot be found."""
    try:
        from tensorflow.python.ops import while_v2

        return (
            while_v2._get_graph(operation, "cond", "_cond_graph"),
            while_v2._get_graph(operation, "body", "_body_graph"),
        )
    except (ImportError, AttributeError):
        return None


def function_graph(operation: Any) -> Any:
    """Return the graph of the function that an operation calls; ``None`` where it cannot be found."""
    try:
        function = operation.graph._get_function(operation.get_attr("f").name)
        if getattr(function, "graph", None) is not None:
            return function.graph
        # A function that was loaded with a model has a definition only.
        from tensorflow.python.framework import function_def_to_graph

        return function_def_to_graph.function_def_to_graph(function.cached_definition)
    except (ImportError, AttributeError):
        return None


def called_graphs(operation: Any) -> list[Any]:
    """Return the graphs that an operation calls or loops over, as far as they can be found."""
    found: tuple[Any, ...] = ()
    if operation.type in CALLING:
        found = (function_graph(operation),)
    elif operation.type in BRANCHES:
        found = branch_graphs(operation) or ()
    elif operation.type in LOOPS:
        found = loop_graphs(operation) or ()
    return [graph for graph in found if graph is not None]


CALLING = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""Operations that call a function."""

BRANCHES = frozenset({"Case", "If", "StatelessCase", "StatelessIf"})
LOOPS = frozenset({"StatelessWhile", "While"})

_WITHOUT_WORK = frozenset({"Const", "Identity", "NoOp", "Placeholder"})


def in_order(graph: Any) -> list[Any]:
    """Return the operations of a graph, each behind those that it reads from, else as they were made.

    TensorFlow makes the lists that keep a loop's values for its gradient after the loop that fills them (seen
    in TensorFlow 2.21).
    """
    found: dict[Any, None] = {}
    for operation in graph.get_operations():
        stack = [operation]
        while stack:
            top = stack[-1]
            before = [one.op for one in top.inputs if one.op.graph is graph and one.op not in found]
            if before and top not in found:
                stack += before
            else:
                found[stack.pop()] = None
    return list(found)


def operation_count(graph: Any) -> int:
    """Return how many operations a compiler gets: those of called functions at each call, of loops once.

    Operations without work, such as constants, do not count, nor does what cannot be found.
    """
    return _operation_count(graph, {})


def _operation_count(graph: Any, known: dict[int, int]) -> int:
    if id(graph) not in known:
        known[id(graph)] = 0  # while it is counted
        total = 0
        for operation in graph.get_operations():
            if operation.type in _WITHOUT_WORK:
                continue
            total += 1 + sum(_operation_count(each, known) for each in called_graphs(operation))
        known[id(graph)] = total
    return known[id(graph)]


def custom_gradient_name(operation: Any) -> str:
    """Return the name under which a custom gradient stands in for an operation's own; empty without one.

    In the graph of a ``tf.function``, ``tf.custom_gradient`` leaves an ``IdentityN`` with the name in a
    private attribute (seen in TensorFlow 2.21). A call of a function names its own type there, which is no
    custom gradient.
    """
    try:
        name = operation.get_attr("_gradient_op_type")
    except ValueError:  # what `get_attr` raises for an attribute that the operation has not
        return ""
    name = name.decode() if isinstance(name, bytes) else str(name)
    return "" if name in ("PartitionedCall", "StatefulPartitionedCall") else name


def backward_graph(backward: Any) -> Any:
    """Return the graph of a backward function that a tape recorded for a call; ``None`` for any other."""
    return getattr(_closed_over(backward).get("backward"), "graph", None)


def custom_gradient_function(name: str) -> tuple[str, int] | None:
    """Return the name of the function with a custom gradient of a name, and how many tensors it returns.

    The first is empty where it is not known. ``None`` where this TensorFlow does not tell.
    """
    try:
        from tensorflow.python.framework import ops

        registered = ops._gradient_registry.lookup(name)
    except (ImportError, AttributeError, LookupError):
        return None
    held = _closed_over(_closed_over(registered).get("tape_grad_fn"))
    if not isinstance(held.get("flat_result_len"), int):
        return None
    outer, _, inner = str(getattr(held.get("grad_fn"), "__qualname__", "")).rpartition(".<locals>.")
    return (outer.rpartition(".")[2] if inner else ""), held["flat_result_len"]


def _closed_over(function: Any) -> dict[str, Any]:
    """Return the variables of a function's closure that have a value, by their names."""
    found = {}
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        with contextlib.suppress(ValueError):  # it has no value yet
            found[name] = cell.cell_contents
    return found


def is_recomputed(name: str) -> bool:
    """Return whether a custom gradient is that of ``tf.recompute_grad``, which is the function's own.

    False where this TensorFlow does not tell: then the gradient counts as the user's.
    """
    try:
        from tensorflow.python.framework import ops

        queue = [ops._gradient_registry.lookup(name)]
    except (ImportError, AttributeError, LookupError):
        return False
    seen: list[Any] = []
    while queue and len(seen) < 20:  # the function of the user's is a few closures deep
        function = queue.pop()
        seen.append(function)
        if str(getattr(function, "__qualname__", "")).startswith("recompute_grad."):
            return True
        for cell in getattr(function, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # it has no value yet
                content = cell.cell_contents
                if isinstance(content, types.FunctionType) and content not in seen:
                    queue.append(content)
    return False


def converted_from(operation: Any) -> Any:
    """Return the operation of the user's function that ``tf.vectorized_map`` converted to another one.

    TensorFlow keeps it in a private attribute of the new operation, which stands in the same graph. An
    operation that was not converted is returned as it is, and so is any where a version lacks the attribute.
    """
    original = getattr(operation, "_original_op", None)
    while original is not None and original is not operation:
        operation, original = original, getattr(original, "_original_op", None)
    return operation


def is_undefined(value: Any) -> bool:
    """Return whether a value is AutoGraph's stand-in for a name that some branch does not assign.

    The stand-ins are objects of two private classes, ``Undefined`` and ``UndefinedReturnValue``. Where they
    have moved out of AutoGraph, a stand-in is reported as a value that is no tensor.
    """
    return type(value).__module__.startswith("tensorflow.python.autograph")


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
"""Stateful operations whose only state is in variables, as of TensorFlow 2.21."""


def all_in_variables(kinds: Iterable[str]) -> bool:
    """Return whether some kinds of operations keep all their state in variables.

    >>> all_in_variables(["MatMul", "AssignVariableOp"])   # doctest: +SKIP
    True
    >>> all_in_variables(["PrintV2"])                      # doctest: +SKIP
    False
    """
    return all(kind in _IN_VARIABLES or not _is_stateful(kind) for kind in kinds)


def _is_stateful(kind: str) -> bool:
    """Return whether a kind of operation is stateful; True for one that TensorFlow does not know."""
    try:
        from tensorflow.python.framework import op_def_registry
    except ImportError:
        return True
    definition = op_def_registry.get(kind)
    return definition is None or bool(definition.is_stateful)


READING_OPERATIONS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})
"""Operations that take the handle of a variable and leave the variable as it is."""


def written_inputs(graph: Any) -> list[int]:
    """Return the places, among a graph's inputs, of the variables that the graph may assign.

    Assignments by functions that the graph calls are included. TensorFlow notes, in a private attribute of
    each operation that calls a function, which variables that function only reads. An operation without the
    attribute counts as writing all of its variables.
    """
    places = {tensor.name: index for index, tensor in enumerate(graph.inputs) if is_handle(tensor)}
    found: dict[int, None] = {}
    for operation in graph.get_operations():
        for handle in written_by(operation):
            if handle.name in places:
                found[places[handle.name]] = None
    return list(found)


def written_by(operation: Any) -> list[Any]:
    """Return the handles that an operation, or a function that it calls, may assign through."""
    handles = [index for index, tensor in enumerate(operation.inputs) if is_handle(tensor)]
    if not handles or operation.type in READING_OPERATIONS:
        return []
    try:
        only_read = operation.get_attr("_read_only_resource_inputs")
    except ValueError:  # most kinds of operations lack it
        only_read = ()
    return [operation.inputs[index] for index in handles if index not in only_read]


def is_handle(tensor: Any) -> bool:
    """Return whether a tensor is the handle of a resource, such as a variable."""
    return tensor is not None and bool(tensor.dtype.name == "resource")
