"""One evaluation of a loss, operation by operation, with the user's lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.graphs import called_graphs
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.program.program import Text
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.record.writes import operations_of
from tape_magic.engine.values.leaves import Leaf


SECONDS = 0.0005
"""How long an operation of a graph takes to be run by itself, with its line and its attributes, at most."""


class RecordedLoss:
    """One evaluation of a loss; the operations of a graph run once somebody asks for their values.

    Calls that hold more operations than there is time for stay closed: then there is no loss, and no way to it.

    Parameters
    ----------
    record
        The operations.
    text
        The user's code.
    time_left
        Returns how many seconds there are for it.
    """

    def __init__(self, record: LossRecord, text: Text, time_left: Callable[[], float]) -> None:
        self._record, self._text, self._time_left = record, text, time_left

    def operations(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield the type and the static input shapes of each operation, before any runs: this costs no time.

        The shapes are ``tf.TensorShape``. Those within functions, branches and loops come once.
        """
        for entry in self._record.recorder.entries:
            if entry.graph is None:
                tensors = map(self._record.recorder.tensor, entry.inputs)
                yield entry.type, [tensor.shape for tensor in tensors if tensor is not None]
            else:
                yield from _operations(operations_of(entry), set())

    @cached_property
    def evidence(self) -> RunEvidence:
        """The record joined to the text."""
        return RunEvidence(self._record.recorder, self._text, int(self._time_left() / SECONDS))

    @property
    def flow(self) -> DataFlow:
        """The record as a graph of values."""
        return self.evidence.flow

    @cached_property
    def loss(self) -> Any:
        """The loss; for a graph, the value behind the one that stands for it. ``None`` if not computed."""
        key, entries = key_of(self._record.loss), self._record.recorder.entries
        if not any(entry.graph is not None and key in entry.outputs for entry in entries):
            return self._record.loss
        maker = self.flow.makers.get(key)
        if maker is None or maker.type != "Identity":
            return None
        return self.flow.value(maker.inputs[0])

    def way(self, leaves: Sequence[Leaf]) -> list[Entry]:
        """Return the operations that lead from leaves to the loss, in their order."""
        if self.loss is None:
            return []
        return [self.flow.entries[index] for index in self.flow.between(keys_of(leaves), [key_of(self.loss)])]


    def data_behind(self, key: int, leaves: Sequence[Leaf]) -> list[tuple[int, ...]]:
        """Return the shapes of the numbers that are no leaf's, from which a tensor is computed with leaves."""
        flow, downstream = self.flow, self.flow.downstream(keys_of(leaves))
        upstream = flow.upstream([key])
        found = {
            one: flow.value(one)
            for entry in flow.entries
            if not upstream.isdisjoint(entry.outputs) and not downstream.isdisjoint(entry.outputs)
            for one in entry.inputs
            if one not in downstream
        }
        return [
            tuple(value.shape)
            for value in found.values()
            if value is not None and (value.dtype.is_floating or value.dtype.is_integer)
        ]


def _operations(operations: Iterable[Any], seen: set[int]) -> Iterator[tuple[str, list[Any]]]:
    for one in operations:
        yield one.type, [tensor.shape for tensor in one.inputs]
        for graph in called_graphs(one):
            if id(graph) not in seen:
                seen.add(id(graph))
                yield from _operations(graph.get_operations(), seen)


def keys_of(leaves: Sequence[Leaf]) -> list[int]:
    """Return the keys of leaves in a record."""
    return [key for leaf in leaves for key in NamedTensors(leaf.name, (leaf.value,)).keys]


def layer_of(leaf: Leaf) -> str:
    """Return the name of a leaf's layer: ``dense_1`` for ``dense_1/kernel``, and ``w`` for ``w``."""
    return leaf.name.split("/")[-2] if "/" in leaf.name else leaf.name
