"""Which variables a graph assigns."""

from __future__ import annotations

from typing import Any

_READING = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})


def written_inputs(graph: Any) -> list[int]:
    """The places among a graph's inputs of the variables that it, or a function that it calls, may assign."""
    places = {tensor.name: index for index, tensor in enumerate(graph.inputs) if _is_handle(tensor)}
    found: dict[int, None] = {}
    for operation in graph.get_operations():
        if operation.type in _READING:
            continue
        try:
            only_read = operation.get_attr("_read_only_resource_inputs")
        except ValueError:  # most kinds of operations lack it
            only_read = ()
        for index, tensor in enumerate(operation.inputs):
            if tensor.name in places and index not in only_read:
                found[places[tensor.name]] = None
    return list(found)


def _is_handle(tensor: Any) -> bool:
    return bool(tensor.dtype.name == "resource")
