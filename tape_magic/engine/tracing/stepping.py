"""Whether a program's graph moves a variable itself, by a step of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tape_magic.engine.internals.graphs import branch_graphs, function_graph, loop_graphs
from tape_magic.engine.tracing.traced import Traced

_STEPS = frozenset({"AssignAddVariableOp", "AssignSubVariableOp"})
_APPLYING = ("ResourceApply", "ResourceSparseApply")
_SUMS = frozenset({"Add", "AddV2", "Sub"})
_PASSING = frozenset({"Cast", "Identity"})


def steps_in(concrete: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each variable that a graph adds something to, with the operation that assigns it.

    ``x.assign_sub(g)``, ``x.assign(x - g)`` and ``optimizer.apply`` add to a variable. An assignment that
    puts it back into a set, such as ``x.assign(tf.maximum(x, 0.0))``, does not.
    """
    captured = concrete.captured_inputs
    inner = concrete.graph.inputs[len(concrete.graph.inputs) - len(captured) :]
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    known = {
        tensor.name: variables[id(handle)]
        for tensor, handle in zip(inner, captured, strict=True)
        if id(handle) in variables
    }
    yield from _steps_of(concrete.graph, known)


def lines_of_steps(traced: Traced) -> list[tuple[Any, int | None]]:
    """Return each variable that a program steps itself, with the line of an operation that assigns it."""
    found = steps_in(traced.concrete) if traced.written else ()
    return list({id(one): (one, traced.lines.of(operation)) for one, operation in found}.values())


def steps_in_run(entries: Iterable[Any], variables: Mapping[int, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each variable that a recorded run adds something to, with the entry of its record.

    Parameters
    ----------
    entries
        The operations that ran, in their order.
    variables
        The variables to look at, by the keys of their handles.
    """
    makers: dict[int, Any] = {}
    for entry in entries:
        if entry.graph is not None:
            names = zip((tensor.name for tensor in entry.graph.inputs), entry.inputs, strict=False)
            known = {name: variables[key] for name, key in names if key in variables}
            yield from ((variable, entry) for variable, _ in _steps_of(entry.graph, known))
        elif entry.inputs and entry.inputs[0] in variables and _is_recorded_step(entry, makers):
            yield variables[entry.inputs[0]], entry
        makers.update(dict.fromkeys(entry.outputs, entry))


def _is_recorded_step(entry: Any, makers: Mapping[int, Any]) -> bool:
    if entry.type in _STEPS or entry.type.startswith(_APPLYING):
        return True
    if entry.type != "AssignVariableOp":
        return False

    def origin(key: int) -> Any:
        while (maker := makers.get(key)) is not None and maker.type in _PASSING:
            key = maker.inputs[0]
        return maker

    value = origin(entry.inputs[1])
    reads = [origin(key) for key in value.inputs] if value is not None and value.type in _SUMS else []
    return any(
        one is not None and one.type == "ReadVariableOp" and one.inputs[0] == entry.inputs[0] for one in reads
    )


def _steps_of(graph: Any, known: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for operation in graph.get_operations():
        inputs = list(operation.inputs)
        variable = known.get(inputs[0].name) if inputs else None
        if variable is not None and _is_step(operation):
            yield variable, operation
        for inner, given in _called(operation, inputs):
            names = zip((tensor.name for tensor in inner.inputs), given, strict=False)
            held = {name: known[outer.name] for name, outer in names if outer.name in known}
            if held:
                yield from _steps_of(inner, held)


def _is_step(operation: Any) -> bool:
    if operation.type in _STEPS or operation.type.startswith(_APPLYING):
        return True
    if operation.type != "AssignVariableOp":
        return False
    handle, value = operation.inputs[0], _origin(operation.inputs[1])
    return value.type in _SUMS and any(
        read.type == "ReadVariableOp" and read.inputs[0] is handle for read in map(_origin, value.inputs)
    )


def _origin(tensor: Any) -> Any:
    """Return the operation that computed a tensor, past those that hand it on."""
    operation = tensor.op
    while operation.type in _PASSING:
        operation = operation.inputs[0].op
    return operation


def _called(operation: Any, inputs: list[Any]) -> list[tuple[Any, list[Any]]]:
    """Return the graphs that an operation runs, each with the tensors that it is given."""
    if operation.type in ("StatefulPartitionedCall", "PartitionedCall"):
        graph = function_graph(operation)
        return [] if graph is None else [(graph, inputs)]
    if operation.type in ("If", "Case"):
        return [(graph, inputs[1:]) for graph in branch_graphs(operation) or () if graph is not None]
    if operation.type == "While":
        return [(graph, inputs) for graph in loop_graphs(operation) or () if graph is not None]
    return []
