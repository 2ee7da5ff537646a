"""Which variables a run wrote, and which operations of a call lead to its results."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.internals.graphs import (
    READING_OPERATIONS,
    in_order,
    is_handle,
    written_by,
    written_inputs,
)
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.recorder import Recorder


def last_writes(recorder: Recorder) -> dict[int, int]:
    """Return the keys of the handles that a run may have assigned through, with the last position of each."""
    found: dict[int, int] = {}
    for position, entry in enumerate(recorder.entries):
        if entry.graph is not None:
            keys = [entry.inputs[index] for index in written_inputs(entry.graph)]
        elif entry.type not in READING_OPERATIONS:
            keys = [key for key in entry.inputs if is_handle(recorder.tensor(key))]
        else:
            continue
        found.update(dict.fromkeys(keys, position))
    return found


def operations_of(entry: Entry) -> list[Any]:
    """Return the operations of the graph that an entry calls, each behind those that it reads from.

    Where the entry has not all of the graph's outputs, these are what leads to those that it has, or to
    something that is assigned: the gradients behind a loss are left out.
    """
    operations, wanted = in_order(entry.graph), entry.graph.outputs[: len(entry.outputs)]
    if len(wanted) == len(entry.graph.outputs):
        return operations
    needed, leading = {id(tensor.op) for tensor in wanted}, []
    for one in reversed(operations):
        if id(one) in needed or written_by(one):
            needed.update(id(tensor.op) for tensor in one.inputs)
            leading.append(one)
    return leading[::-1]
