"""Which variables a graph assigns, and which a run did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tape_magic.engine import op_events
from tape_magic.engine import sources as src
from tape_magic.engine.program import Namespace, Program
from tape_magic.engine.recording import Recorder
from tape_magic.engine.snapshot import Snapshot

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


def last_writes(recorder: Recorder) -> dict[int, int]:
    """The keys of the handles through which a run may have assigned, with the position where it last did."""
    found: dict[int, int] = {}
    for position, entry in enumerate(recorder.entries):
        if entry.graph is not None:
            keys = [entry.inputs[index] for index in written_inputs(entry.graph)]
        elif entry.type not in _READING:
            keys = [key for key in entry.inputs if _is_handle(recorder.tensor(key))]
        else:
            continue
        found.update(dict.fromkeys(keys, position))
    return found


class Reached(Snapshot):
    """The variables that a program leads to, before it runs; no values of anything else are kept."""

    def __init__(self, program: Program, namespace: Namespace) -> None:
        self._found: dict[int, Any] = {}
        super().__init__(program, namespace, ())
        self._values = {key: variable.read_value() for key, variable in self._found.items()}

    def written(self, recorder: Recorder, but: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Those that a run has assigned, with their values before it, but for some."""
        keys = last_writes(recorder).keys() - {op_events.key_of_variable(variable) for variable in but}
        return ((variable, self._values[key]) for key, variable in self._found.items() if key in keys)

    def _variable(self, variable: Any) -> None:
        held = src.watched(variable)
        if key := op_events.key_of_variable(held):
            self._found[key] = held

    def _array(self, array: Any) -> None:
        self._queue += list(array.flat) if array.dtype.hasobject else []


def _is_handle(tensor: Any) -> bool:
    return tensor is not None and bool(tensor.dtype.name == "resource")
