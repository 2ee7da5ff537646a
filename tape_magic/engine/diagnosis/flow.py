"""How values flow from tensor to tensor through a record, and where derivatives stop."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tape_magic.engine.internals.operations import gradients_of, never_differentiable
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.recorder import Recorder

ZERO_BY_RULE = {
    "LeakyReluGrad": (1,),
    "MaxPool3DGrad": (0, 1),
    "MaxPoolGrad": (0, 1),
    "OnesLike": (0,),
    "Relu6Grad": (1,),
    "ReluGrad": (1,),
    "Sign": (0,),
    "ZerosLike": (0,),
}
"""Operations, with the places of the inputs by which the derivative is zero whatever the values are."""

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
"""Common operations that pass a derivative to each input of a floating-point or complex dtype."""

_HANDLES = frozenset({"resource", "variant"})
"""The dtypes of handles: of variables, and of lists of tensors."""


class DataFlow:
    """The record as a graph of tensors.

    Tensors and variables are given by their keys, entries by their indices in :attr:`entries`. In the record
    of ``w = x * 2.0; y = tf.reduce_sum(w)``, the entries ``Mul`` and ``Sum`` lie between ``x`` and ``y``.

    Attributes
    ----------
    entries
        The entries in the order of execution.
    """

    def __init__(self, entries: Sequence[Entry], recorder: Recorder) -> None:
        self.entries = list(entries)
        self._recorder = recorder
        self._differentiable: dict[int, tuple[bool, ...]] = {}
        self._upstream: dict[tuple[int, ...], set[int]] = {}
        self._guessed: set[int] = set()

    # -- values ------------------------------------------------------------------------------------

    @cached_property
    def makers(self) -> dict[int, Entry]:
        """The entry that gave each tensor, by the tensor's key; of several, the last."""
        return {key: entry for entry in self.entries for key in entry.outputs}

    def value(self, key: int) -> Any:
        """Return a tensor by its key; ``None`` where it was not kept."""
        return self._recorder.tensor(key)

    def downstream(self, keys: Iterable[int], beyond: Collection[str] = ()) -> set[int]:
        """Return the tensors and variables into which values flow from some, those included.

        Nothing flows through operations of the types `beyond`.
        """
        reached = set(keys)
        for entry in self.entries:
            if entry.type in beyond:
                continue
            if not reached.isdisjoint(entry.inputs):
                reached.update(entry.outputs)
                if entry.changes is not None:
                    reached.add(entry.changes)
        return reached

    def upstream(self, keys: Iterable[int]) -> set[int]:
        """Return the tensors and variables from which values flow into some, those included."""
        reached = set(keys)
        for entry in reversed(self.entries):
            if entry.changes in reached or not reached.isdisjoint(entry.outputs):
                reached.update(entry.inputs)
        return reached

    def _upstream_of_targets(self, targets: tuple[int, ...]) -> set[int]:
        """Return the same for some targets, found once for all sources."""
        if targets not in self._upstream:
            self._upstream[targets] = self.upstream(targets)
        return self._upstream[targets]

    def leading_to(self, targets: Iterable[int]) -> list[int]:
        """Return the indices of the entries whose outputs flow into some targets."""
        upstream = self._upstream_of_targets(tuple(targets))
        return [index for index, entry in enumerate(self.entries) if not upstream.isdisjoint(entry.outputs)]

    def between(self, sources: Iterable[int], targets: Iterable[int]) -> list[int]:
        """Return the indices of the entries on the paths from some sources to some targets."""
        downstream, upstream = self.downstream(sources), self._upstream_of_targets(tuple(targets))
        return [
            index
            for index, entry in enumerate(self.entries)
            if not entry.superseded
            and not downstream.isdisjoint(entry.inputs)
            and (not upstream.isdisjoint(entry.outputs) or entry.changes in downstream & upstream)
        ]

    def inside_custom(self, index: int) -> Inside | None:
        """Return what goes on within a function that has a custom gradient, as if it had none.

        ``None`` where that was not recorded. That no tape followed it, as in ``tf.recompute_grad``, does not
        count.
        """
        entry = self.entries[index]
        if entry.custom is None or entry.graph is not None:
            return None
        # The function reads a variable that it is given by itself.
        makers = (self.makers.get(key) for key in entry.inputs)
        reads = (maker for maker in makers if maker is not None and maker.type == "ReadVariableOp")
        sources = [*entry.inputs, *(read.inputs[0] for read in reads)]
        before = [one for one in self.entries[:index] if one.outputs != entry.outputs or one.custom is None]
        as_if = [replace(one, taped=True, superseded=False) for one in before]
        path = DataFlow(as_if, self._recorder).between(sources, entry.outputs)
        if not path:
            return None
        flow = DataFlow([as_if[each] for each in path], self._recorder)
        return Inside(flow, sources, frozenset(id(before[each]) for each in path))

    # -- derivatives -------------------------------------------------------------------------------

    def follow_derivative(
        self,
        source: int,
        targets: Iterable[int],
        path: Sequence[int],
        *,
        stop_at_zeros: bool = False,
        stop_at: Container[int] = (),
    ) -> tuple[set[int], list[int]]:
        """Return the tensors that carry a derivative by the source, and the entries at which it stops.

        Parameters
        ----------
        source, targets
            The keys of the source and of the targets.
        path
            The indices of the entries between them.
        stop_at_zeros
            Whether the derivative also stops at an operation whose derivative is zero by rule.
        stop_at
            The indices of further entries at which it stops.
        """
        carrying, upstream = {source}, self._upstream_of_targets(tuple(targets))
        stops: list[int] = []
        for index in path:
            entry = self.entries[index]
            arriving = [place for place, key in enumerate(entry.inputs) if key in carrying]
            if not arriving:
                continue
            passes = self.differentiable_inputs(index)
            zeros = ZERO_BY_RULE.get(entry.type, ()) if stop_at_zeros else ()
            # tf.sort has two outputs: the sorted values carry the derivative, the indices do not. Only the
            # outputs that lead to the target count.
            outputs = [key for key in entry.outputs if key in upstream and self._has_inexact_dtype(key)]
            passing = any(passes[place] and place not in zeros for place in arriving)
            if outputs and passing and index not in stop_at:
                carrying.update(outputs)
            else:
                stops.append(index)
        return carrying, stops

    def differentiable_inputs(self, index: int) -> tuple[bool, ...]:
        """Return, for each input of an entry, whether a tape passes a derivative to it."""
        if index not in self._differentiable:
            self._differentiable[index] = self._find_differentiable_inputs(index)
        return self._differentiable[index]

    def is_guess(self, index: int) -> bool:
        """Return whether :meth:`differentiable_inputs` had to guess, for want of a value or of a rule."""
        self.differentiable_inputs(index)
        return index in self._guessed

    def _find_differentiable_inputs(self, index: int) -> tuple[bool, ...]:
        """Ask the tables, and else the gradient function of the operation itself, called with ones."""
        entry = self.entries[index]
        inexact = tuple(self._has_inexact_dtype(key) for key in entry.inputs)
        if not entry.taped or writes(entry.type):
            return (False,) * len(inexact)
        if entry.custom is not None:
            return self._inputs_of_custom_gradient(index, entry)
        if entry.type in _SMOOTH:
            return inexact
        if entry.graph is None and never_differentiable(entry.type):
            return (False,) * len(inexact)
        inputs = [self._recorder.tensor(key) for key in entry.inputs]
        outputs = [self._recorder.tensor(key) for key in entry.outputs]
        if entry.attrs is None or any(tensor is None for tensor in [*inputs, *outputs]):
            self._guessed.add(index)
            return inexact
        try:
            upstream = [_ones(tensor) for tensor in outputs]
            found = gradients_of(entry.type, entry.attrs, inputs, outputs, upstream)
        except LookupError:
            return (False,) * len(inexact)
        except Exception:  # a gradient function that needs more than the operation's own tensors
            self._guessed.add(index)
            return inexact
        return tuple(ok and gradient is not None for ok, gradient in zip(inexact, found, strict=False))

    def _inputs_of_custom_gradient(self, index: int, entry: Entry) -> tuple[bool, ...]:
        """Return the inputs for which the backward function returned a gradient when the tape called it."""
        assert entry.custom is not None
        if not entry.custom.calls:
            self._guessed.add(index)
            return tuple(self._has_inexact_dtype(key) for key in entry.inputs)
        with_gradient = {
            key
            for _, found in entry.custom.calls
            for key, gradient in zip(entry.custom.inputs, found, strict=False)
            if gradient is not None
        }
        return tuple(key in with_gradient for key in entry.inputs)

    def _has_inexact_dtype(self, key: int) -> bool:
        """Return whether a tensor can carry a derivative: real or complex numbers, or a handle to them."""
        tensor = self._recorder.tensor(key)
        if tensor is None:
            return True
        return bool(tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype.name in _HANDLES)


def _ones(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.ones_like(tensor) if tensor.dtype.is_floating or tensor.dtype.is_complex else None


@dataclass(frozen=True, eq=False)
class Inside:
    """The operations within a function that has a custom gradient.

    Attributes
    ----------
    flow
        The operations as a graph, as if a tape had followed them.
    sources
        The keys of the tensors that the function was given, and of the variables that these were read from.
    entries
        The identities of the operations' entries in the record.
    """

    flow: DataFlow
    sources: list[int]
    entries: frozenset[int]
