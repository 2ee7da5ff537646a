"""One evaluation of a loss, operation by operation, with the user's lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.replay import BackwardReplay, CannotReplay
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

    Calls that hold more operations than there is time for stay closed: then no way leads to the loss.

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
        self._replays: dict[tuple[int, ...], BackwardReplay | None] = {}

    def operations(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield the type and the static input shapes of each operation, before any runs: this costs no time.

        The shapes are ``tf.TensorShape``. Those within functions, branches and loops come once.
        """
        seen: set[int] = set()
        for entry in self._record.recorder.entries:
            if entry.graph is None:
                tensors = map(self._record.recorder.tensor, entry.inputs)
                yield entry.type, [tensor.shape for tensor in tensors if tensor is not None]
            else:
                for one in operations_of(entry):
                    yield one.type, [tensor.shape for tensor in one.inputs]
                    yield from _within(one, seen)

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

    def leaves_behind(self, kinds: frozenset[str], leaves: Sequence[Leaf]) -> Iterator[frozenset[int]]:
        """Yield the indices of the leaves that each operation of some kinds depends on, before any runs.

        Of operations within a function, branch or loop, these are not known, and none are given.
        """
        known = {key: frozenset([index]) for index, leaf in enumerate(leaves) for key in keys_of([leaf])}
        for entry in self._record.recorder.entries:
            if entry.graph is None:
                behind = _union(known.get(key) for key in entry.inputs)
                known.update(dict.fromkeys(entry.outputs, behind))
                if behind and entry.type in kinds:
                    yield behind
                continue
            of = {
                id(inner): known.get(key, frozenset())
                for inner, key in zip(entry.graph.inputs, entry.inputs, strict=False)
            }
            for one in operations_of(entry):
                behind = _union(of.get(id(tensor)) for tensor in one.inputs)
                for tensor in one.outputs:
                    of.setdefault(id(tensor), behind)
                if behind and one.type in kinds:
                    yield behind
                elif not kinds.isdisjoint(kind for kind, _ in _within(one, set())):
                    yield frozenset()

    def replay(self, leaves: Sequence[Leaf]) -> BackwardReplay | None:
        """Return the gradients on all the way from leaves to the loss; ``None`` where there is no time."""
        keys, way = tuple(keys_of(leaves)), self.way(leaves)
        if keys not in self._replays:
            self._replays[keys] = None
            if way and len(way) * SECONDS < self._time_left():
                with suppress(CannotReplay, LookupError):
                    self._replays[keys] = BackwardReplay(
                        self.flow, self.evidence.recorder, keys, [key_of(self.loss)], anew=True
                    )
        return self._replays[keys]

    def data_behind(self, key: int, leaves: Sequence[Leaf]) -> list[tuple[int, ...]]:
        """Return the shapes of the numbers that a tensor is computed from together with leaves."""
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


def _within(operation: Any, seen: set[int]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the types and input shapes of the operations within a call, a branch or a loop."""
    for graph in called_graphs(operation):
        if id(graph) not in seen:
            seen.add(id(graph))
            for one in graph.get_operations():
                yield one.type, [tensor.shape for tensor in one.inputs]
                yield from _within(one, seen)


def _union(sets: Iterable[frozenset[int] | None]) -> frozenset[int]:
    return frozenset[int]().union(*(one for one in sets if one))


def keys_of(leaves: Sequence[Leaf]) -> list[int]:
    """Return the keys of leaves in a record."""
    return [key for leaf in leaves for key in NamedTensors(leaf.name, (leaf.value,)).keys]


def layer_of(leaf: Leaf) -> str:
    """Return the name of a leaf's layer: ``dense_1`` for ``dense_1/kernel``, and ``w`` for ``w``."""
    return leaf.name.split("/")[-2] if "/" in leaf.name else leaf.name
