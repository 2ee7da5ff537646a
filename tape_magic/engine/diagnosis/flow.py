"""How values flow from one tensor to another through a record, and where their derivative stops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tape_magic.engine.internals.operations import gradients_of, never_differentiable
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.recorder import Recorder

ZERO_BY_RULE = frozenset({"Sign", "OnesLike", "ZerosLike"})
"""Operations whose derivative TensorFlow gives as zeros, whatever their input."""

# fmt: off
_SMOOTH = frozenset({
    "AddV2", "Add", "AddN", "Sub", "Mul", "Neg", "Square", "Pow", "RealDiv", "Div", "Sum", "Mean", "MatMul",
    "BatchMatMulV2", "Sqrt", "Rsqrt", "Exp", "Log", "Log1p", "Expm1", "Sin", "Cos", "Tan", "Tanh",
    "Sigmoid", "Relu", "Softmax", "LogSoftmax", "Softplus", "Reshape", "Transpose", "Identity", "Squeeze",
    "ExpandDims", "BiasAdd", "Conv2D", "ReadVariableOp", "ConcatV2", "Pack", "Reciprocal", "Abs", "Maximum",
    "Minimum", "StridedSlice", "FusedBatchNormV3", "MaxPool", "AvgPool", "SquaredDifference", "Elu", "Selu",
    "Erf", "SelectV2",
})
# fmt: on
"""Common operations whose floating-point inputs, where they have any, all have a derivative."""


class Flow:
    """The record as a graph of tensors.

    Attributes
    ----------
    entries
        In the order of execution.
    """

    def __init__(self, entries: Sequence[Entry], recorder: Recorder) -> None:
        self.entries = list(entries)
        self._recorder = recorder
        self._live: dict[int, tuple[bool, ...]] = {}
        self._before: dict[tuple[int, ...], set[int]] = {}
        self._unsure: set[int] = set()

    def after(self, keys: Iterable[int]) -> set[int]:
        """The tensors and variables into which values flow from some of them, those included."""
        reached = set(keys)
        for entry in self.entries:
            if not reached.isdisjoint(entry.inputs):
                reached.update(entry.outputs)
                if entry.changes is not None:
                    reached.add(entry.changes)
        return reached

    def before(self, keys: Iterable[int]) -> set[int]:
        """The tensors and variables from which values flow into some of them, those included."""
        reached = set(keys)
        for entry in reversed(self.entries):
            if entry.changes in reached or not reached.isdisjoint(entry.outputs):
                reached.update(entry.inputs)
        return reached

    def _leading_to(self, targets: tuple[int, ...]) -> set[int]:
        if targets not in self._before:
            self._before[targets] = self.before(targets)
        return self._before[targets]

    def leading(self, targets: Iterable[int]) -> list[int]:
        """The positions of the entries whose outputs flow into some targets."""
        before = self._leading_to(tuple(targets))
        return [index for index, entry in enumerate(self.entries) if not before.isdisjoint(entry.outputs)]

    def between(self, sources: Iterable[int], targets: Iterable[int]) -> list[int]:
        """The positions of the entries on the ways from some sources to some targets."""
        after, before = self.after(sources), self._leading_to(tuple(targets))
        return [
            index
            for index, entry in enumerate(self.entries)
            if not entry.superseded
            and not after.isdisjoint(entry.inputs)
            and (not before.isdisjoint(entry.outputs) or entry.changes in after & before)
        ]

    def carried(
        self, source: int, targets: Iterable[int], path: Sequence[int], *, zeros: bool = False
    ) -> tuple[set[int], list[int]]:
        """The tensors that still carry a derivative by the source, and the entries where it stops.

        `path` is that between the source and the targets. With `zeros`, it also stops where a derivative
        is zero by rule.
        """
        carrying, leading = {source}, self._leading_to(tuple(targets))
        stops: list[int] = []
        for index in path:
            entry = self.entries[index]
            hit = [i for i, key in enumerate(entry.inputs) if key in carrying]
            if not hit:
                continue
            live = self.live(index)
            zero = zeros and entry.type in ZERO_BY_RULE
            # Of a sort, the values may carry it nowhere, and the places lead on.
            outputs = [key for key in entry.outputs if key in leading and self._differentiable(key)]
            if outputs and not zero and any(live[i] for i in hit):
                carrying.update(outputs)
            else:
                stops.append(index)
        return carrying, stops

    def live(self, index: int) -> tuple[bool, ...]:
        """For each input of an entry, whether a tape takes a derivative through it."""
        if index not in self._live:
            self._live[index] = self._find_live(index)
        return self._live[index]

    def unsure(self, index: int) -> bool:
        """Whether :meth:`live` had to guess, for want of a value or of a rule."""
        self.live(index)
        return index in self._unsure

    def _find_live(self, index: int) -> tuple[bool, ...]:
        entry = self.entries[index]
        inexact = tuple(self._differentiable(key) for key in entry.inputs)
        if not entry.taped or writes(entry.type):
            return (False,) * len(inexact)
        if entry.custom is not None:
            return self._live_custom(index, entry)
        if entry.type in _SMOOTH:
            return inexact
        if entry.graph is None and never_differentiable(entry.type):
            return (False,) * len(inexact)
        inputs = [self._recorder.tensor(key) for key in entry.inputs]
        outputs = [self._recorder.tensor(key) for key in entry.outputs]
        if entry.attrs is None or any(tensor is None for tensor in [*inputs, *outputs]):
            self._unsure.add(index)
            return inexact
        try:
            given = [_ones(tensor) for tensor in outputs]
            found = gradients_of(entry.type, entry.attrs, inputs, outputs, given)
        except LookupError:
            return (False,) * len(inexact)
        except Exception:  # a rule that wants more than the operation's own tensors
            self._unsure.add(index)
            return inexact
        return tuple(ok and gradient is not None for ok, gradient in zip(inexact, found, strict=False))

    def _live_custom(self, index: int, entry: Entry) -> tuple[bool, ...]:
        assert entry.custom is not None
        if not entry.custom.calls:
            self._unsure.add(index)
            return tuple(self._differentiable(key) for key in entry.inputs)
        gave = {
            key
            for _, found in entry.custom.calls
            for key, gradient in zip(entry.custom.inputs, found, strict=False)
            if gradient is not None
        }
        return tuple(key in gave for key in entry.inputs)

    def _differentiable(self, key: int) -> bool:
        """Whether a tensor is of numbers that have a derivative, or the handle of a variable that may be."""
        tensor = self._recorder.tensor(key)
        if tensor is None:
            return True
        return bool(tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype.name in _HANDLES)


_HANDLES = frozenset({"resource", "variant"})


def _ones(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.ones_like(tensor) if tensor.dtype.is_floating or tensor.dtype.is_complex else None
