"""What a custom gradient within a compiled function gave, from the graph of the function's backward pass.

The user's Python does not run again: it left its operations in that graph, under a name made of that of the
operation that it is the gradient of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.graph_operations import eager_function
from tape_magic.engine.internals.graphs import backward_graph, in_order
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.recorder import Recorder

_SCOPE = "gradients/{}_grad/"
"""The names of a gradient's operations, by the name of the operation (TensorFlow 2.21, 2.20)."""


def gave_zero(entry: Entry, results: int, recorder: Recorder) -> bool:
    """Return whether a custom gradient within a call gave 0 for each input; False where that is not known.

    Parameters
    ----------
    entry
        The operation with the custom gradient, which takes the tensors that the function returned and then
        those that it was given.
    results
        The number of tensors that the function returned.
    recorder
        The record, with the tensors that the backward pass of the call reads.
    """
    call, operation = entry.call, entry.operation
    if call is None or call.custom is None or len(call.custom.calls) != 1:
        return False
    if operation.graph is not call.graph:  # within a loop, a branch, or a function that the function calls
        return False
    graph = backward_graph(call.custom.function)
    if graph is None:
        return False
    given = [one for one in operation.inputs[results:] if _depends_on_inputs(one)]
    scope = _SCOPE.format(operation.name)
    leaving = _leaving(graph, scope)
    if not given or len(leaving) < len(given):  # what is handed on as it came in leaves no operation
        return False
    try:
        values = _evaluated(leaving, _known(graph, call, recorder))
    except Exception:  # a value was not kept, or an operation does not run by itself
        return False
    return all(Condition.of(value) is Condition.ZERO for value in values)


def _leaving(graph: Any, scope: str) -> list[Any]:
    """Return the tensors made in a name scope of a graph that are read outside of it."""
    outside = {key_of(tensor) for tensor in graph.outputs}
    for operation in graph.get_operations():
        if not operation.name.startswith(scope):
            outside |= {key_of(tensor) for tensor in operation.inputs}
    within = (one for one in graph.get_operations() if one.name.startswith(scope))
    return [tensor for one in within for tensor in one.outputs if key_of(tensor) in outside]


def _depends_on_inputs(tensor: Any) -> bool:
    """Return whether a tensor of a graph is computed from any of the graph's inputs."""
    inputs = {key_of(one) for one in tensor.graph.inputs}
    return any(key_of(one) in inputs for one in _upstream([tensor]))


def _upstream(tensors: Iterable[Any]) -> list[Any]:
    """Return some tensors of a graph, and all from which these are computed."""
    found, stack = dict[int, Any](), list(tensors)
    while stack:
        tensor = stack.pop()
        if key_of(tensor) not in found:
            found[key_of(tensor)] = tensor
            stack += tensor.op.inputs
    return list(found.values())


def _known(graph: Any, call: Entry, recorder: Recorder) -> dict[int, Any]:
    """Return the values of the inputs of a call's backward graph, by the keys of its symbols."""
    import tensorflow as tf

    assert call.custom is not None
    ((arrived, _),) = call.custom.calls
    captures = list(graph.captures)
    placeholders = graph.inputs[: len(graph.inputs) - len(captures)]
    gradients = [
        tf.zeros_like(recorder.tensor(key)) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, key in zip(arrived, call.custom.outputs, strict=False)
        if _has_gradient(recorder.tensor(key))
    ]
    known = {key_of(one): value for one, value in zip(placeholders, gradients, strict=False)}
    symbols, keys = (*call.graph.inputs, *call.graph.outputs), (*call.inputs, *call.outputs)
    outside = {key_of(symbol): key for symbol, key in zip(symbols, keys, strict=False)}
    for external, internal in captures:
        known[key_of(internal)] = recorder.tensor(outside.get(key_of(external), key_of(external)))
    return known


def _has_gradient(tensor: Any) -> bool:
    return tensor is not None and bool(tensor.dtype.is_floating or tensor.dtype.is_complex)


def _evaluated(tensors: Sequence[Any], known: dict[int, Any]) -> list[Any]:
    """Return the values of tensors of a graph, whose operations run one by one.

    Raises whatever an operation raises that does not run by itself, and ``KeyError`` for one with effects.
    """
    needed = {key_of(one) for one in _upstream(tensors)}
    for operation in in_order(tensors[0].graph):
        made = [one for one in operation.outputs if key_of(one) in needed and key_of(one) not in known]
        if not made or operation.op_def.is_stateful:
            continue
        found = eager_function(operation)([known[key_of(one)] for one in operation.inputs])
        flat = list(found) if isinstance(found, list | tuple) else [found]
        known |= {key_of(one): value for one, value in zip(operation.outputs, flat, strict=True)}
    return [known[key_of(one)] for one in tensors]
