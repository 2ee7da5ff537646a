"""One evaluation of a loss, operation by operation, with the user's lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.program.program import Text
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.leaves import Leaf


class RecordedLoss:
    """One evaluation of a loss; the operations of a graph run once somebody asks for their values.

    Parameters
    ----------
    record
        The operations.
    text
        The user's code.
    """

    def __init__(self, record: LossRecord, text: Text) -> None:
        self._record, self._text = record, text

    def operations(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield the type and the static input shapes of each operation, before any runs: this costs no time.

        The shapes are ``tf.TensorShape``. Of a function that the program calls, only the call is known.
        """
        for entry in self._record.recorder.entries:
            if entry.graph is None:
                tensors = map(self._record.recorder.tensor, entry.inputs)
                yield entry.type, [tensor.shape for tensor in tensors if tensor is not None]
            else:
                for one in entry.graph.get_operations():
                    yield one.type, [tensor.shape for tensor in one.inputs]

    @cached_property
    def evidence(self) -> RunEvidence:
        """The record joined to the text."""
        return RunEvidence(self._record.recorder, self._text)

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


def keys_of(leaves: Sequence[Leaf]) -> list[int]:
    """Return the keys of leaves in a record."""
    return [key for leaf in leaves for key in NamedTensors(leaf.name, (leaf.value,)).keys]
