"""Hessians: the Jacobian of each output's gradient, in blocks by the sources."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.gradient_table import (
    GradientTable,
    named_tensors,
    reason_not_finite,
    tape_gradient,
    value_or_refusal,
)
from tape_magic.engine.derivatives.jacobians import jacobian
from tape_magic.engine.derivatives.outputs import structured
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Run, Structures
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.sizes import refuse_above
from tape_magic.engine.values.tensors import is_variable, tf_variable
from tape_magic.errors import LineError, SourceError
from tape_magic.notation import Target
from tape_magic.results.curvature import Hessian
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause, Reason


@dataclass
class _SecondDerivatives:
    """The second derivatives of one output, as they are computed.

    Attributes
    ----------
    sources
        Names of the sources that the output is differentiated by.
    leaves
        Leaves of all sources, in order; a leaf's index here is its *place*.
    gradients
        The gradient by each leaf, dense; ``None`` where there is none.
    stripes
        For each dtype, the places of the leaves whose gradients have it, and these gradients as one vector.
    blocks
        The second derivatives that are connected, by the places of their two leaves.
    hessian
        The finished Hessian; ``None`` where the output depends on no source, or TensorFlow refused.
    """

    sources: list[str]
    leaves: list[Leaf] = field(default_factory=list)
    gradients: list[Any] = field(default_factory=list)
    stripes: list[tuple[list[int], Any]] = field(default_factory=list)
    blocks: dict[tuple[int, int], Any] = field(default_factory=dict)
    hessian: Hessian | None = None


class Hessians(Run):
    """All second derivatives of each output by its sources.

    The Hessian of an output that is no scalar is that of the sum of its elements. A block by sources of
    shapes s and t has the shape s + t; it is zero where the output is at most linear in its two sources, or
    does not depend on one of them.

    Parameters and errors are those of :class:`~tape_magic.engine.derivatives.run.Run`. Raises
    :class:`LineError` besides for a target that is no second derivative; and while it differentiates,
    :class:`SourceError` for a complex source and :class:`TargetError` for a Hessian above the size limit.
    """

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            if target.order not in (0, 2):
                raise LineError(
                    f"{target.key} is no second derivative, as a Hessian holds them: write "
                    f"d2{target.name}/d{target.wrt[0]}2, or {target.name} --wrt {target.wrt[0]}."
                )
        super().__init__(program, namespace, targets, request, orders=2, persistent=True)
        self.asked: list[Target] = []
        self.table = GradientTable(request.kind)
        self._second: dict[str, _SecondDerivatives] = {}

    def settle(self) -> None:
        """List each target with two sources, and each output with all of its sources."""
        outputs = self.outputs()
        by = self.default_sources(outputs)
        self.asked = [
            Target(target.name, wrt)
            for target in outputs
            for wrt in ([target.wrt] if target.wrt else itertools.combinations_with_replacement(by, 2))
        ]
        # An output has one Hessian, by the sources of all the targets that name it.
        for name in dict.fromkeys(target.name for target in self.asked):
            sources = dict.fromkeys(s for target in self.asked if target.name == name for s in target.wrt)
            self._second[name] = _SecondDerivatives(list(sources))

    def differentiate(self, order: int) -> None:
        """Take the gradients first, and then their Jacobians."""
        for name, second in self._second.items():
            if order == 1:
                self._take_gradient(name, second)
            else:
                self._take_hessian(name, second)

    def _take_gradient(self, name: str, second: _SecondDerivatives) -> None:
        """Take the gradient and concatenate it, while the outer tape records both."""
        import tensorflow as tf

        second.leaves = [leaf for source in second.sources for leaf in self.selection[source].leaves]
        self._refuse(name, second)
        take = partial(tape_gradient, self.tapes.gradient_tapes[0])
        found = self.table.differentiate(name, (), self.output(name), second.leaves, take).derivatives
        second.gradients = [None if one is None else tf.convert_to_tensor(one) for one in found.values()]
        known = [(place, gradient) for place, gradient in enumerate(second.gradients) if gradient is not None]
        for dtype in dict.fromkeys(gradient.dtype for _, gradient in known):
            places = [place for place, gradient in known if gradient.dtype == dtype]
            parts = [second.gradients[place] for place in places]
            one = parts[0] if len(parts) == 1 else tf.concat([tf.reshape(p, (-1,)) for p in parts], axis=0)
            second.stripes.append((places, one))

    def _refuse(self, name: str, second: _SecondDerivatives) -> None:
        """Raise :class:`SourceError` for complex sources, and :class:`TargetError` above the size limit."""
        leaves = second.leaves
        for leaf in leaves:
            if leaf.value.dtype.is_complex:
                raise SourceError(
                    f"{leaf.name} is complex, and a Hessian is of real sources: "
                    "compute it from its real and imaginary parts in the cell, and differentiate by these."
                )
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        size = max((leaf.value.dtype.size for leaf in leaves), default=0)
        cure = f"--hvp {second.sources[0]}=v gives its product with one vector"
        refuse_above(self.request.limit, f"the Hessian of {name}", [(count, count)], size, cure)

    def _take_hessian(self, name: str, second: _SecondDerivatives) -> None:
        """Take the Jacobians of the gradients, and build the Hessian."""
        record = self.table[name, ()]
        values = [leaf.value for leaf in second.leaves]
        for places, vector in second.stripes:
            attempt = value_or_refusal(partial(jacobian, self.tapes.gradient_tapes[1], vector, values))
            if isinstance(attempt, Reason):
                record.known_reason = _reason_of_second(attempt)
                return
            self.note(*attempt.notes)
            for column, stripe in enumerate(attempt.value):
                if stripe is not None:
                    second.blocks.update(_blocks(second.leaves, places, column, stripe))
        if second.stripes or (self.request.zero and not record.is_explained):
            second.hessian = _hessian(name, second)
            if record.summed != 1:
                self.note(f"the Hessian of {name} is that of the sum of its {record.summed:,} elements")
            if any(tensor.dtype.is_complex for tensor in _tensors(self.output(name))):
                self.note(f"{name} is complex, and its Hessian that of its real part")

    # -- the report --------------------------------------------------------------------------------

    def hessians(self) -> tuple[Hessian, ...]:
        """Return a Hessian for each output that depends on any of its sources."""
        return tuple(second.hessian for second in self._second.values() if second.hessian is not None)

    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return a row for each block that was asked for; by one source, for each pair of its leaves."""
        self.table.diagnose(lambda: self.diagnosis)
        rows = []
        for target in self.asked:
            first, last = (self._places(target.name, source) for source in target.wrt)
            twice = target.wrt[0] == target.wrt[1]
            pairs = itertools.combinations_with_replacement(first, 2)
            rows += [
                self._row(target.name, i, j) for i, j in (pairs if twice else itertools.product(first, last))
            ]
        structures: Structures = {
            (name, (one, other)): self._structure(name, one, other)
            for name, second in self._second.items()
            for one, other in itertools.product(second.sources, repeat=2)
        }
        return rows, structures

    def _places(self, name: str, source: str) -> range:
        """Return the places of a source's leaves among all leaves of an output."""
        start = 0
        for other in self._second[name].sources:
            count = len(self.selection[other].leaves)
            if other == source:
                return range(start, start + count)
            start += count
        raise KeyError(source)

    def _row(self, name: str, i: int, j: int) -> Derivative:
        second, record = self._second[name], self.table[name, ()]
        first, last = second.leaves[i], second.leaves[j]
        block = self._block(name, i, j)
        reason = record.reasons.get(first) or record.known_reason or record.reasons.get(last)
        if reason is None and block is not None:
            gradient = named_tensors(name, (first,), second.gradients[i])
            reason = reason_not_finite(lambda: self.diagnosis, gradient, [last], block)
        return Derivative(
            target=name,
            wrt=(first.name, last.name),
            value=block,
            shape=(*first.shape, *last.shape),
            dtype=last.dtype,
            sums=(record.summed, 1),
            connected=second.gradients[i] is not None and second.gradients[j] is not None,
            reason=reason,
            of_model=first.of_model or last.of_model,
            kind=self.request.kind,
        )

    def _block(self, name: str, i: int, j: int) -> Any:
        """Return the second derivative by the leaves at two places; ``None`` without a Hessian."""
        second = self._second[name]
        if second.hessian is None:
            return None
        return second.hessian[second.leaves[i].name, second.leaves[j].name]

    def _structure(self, name: str, one: str, other: str) -> Any:
        """Return the blocks by two sources in the structure of the first, each in that of the second."""
        leaves = self._second[name].leaves
        rows, columns = self._places(name, one), self._places(name, other)
        inner, outer = self.selection[other].value, self.selection[one].value
        blocks = [
            structured(inner, [leaves[j] for j in columns], [self._block(name, i, j) for j in columns])
            for i in rows
        ]
        return structured(outer, [leaves[i] for i in rows], blocks)


def _blocks(
    leaves: Sequence[Leaf], places: Sequence[int], column: int, stripe: Any
) -> Iterable[tuple[tuple[int, int], Any]]:
    """Split the Jacobian of concatenated gradients by one leaf, and return a block for each gradient.

    Parameters
    ----------
    leaves, places
        All leaves of the output, and the places of those whose gradients were concatenated.
    column
        Place of the leaf that the gradients were differentiated by.
    stripe
        The Jacobian of the concatenated gradients by that leaf.
    """
    import tensorflow as tf

    if len(places) == 1:
        return [((places[0], column), stripe)]
    sizes = [math.prod(leaves[place].shape) for place in places]
    parts = tf.split(stripe, sizes)
    shape = leaves[column].shape
    return [
        ((place, column), tf.reshape(part, (*leaves[place].shape, *shape)))
        for place, part in zip(places, parts, strict=True)
    ]


def _reason_of_second(refusal: Reason) -> Reason:
    """Return the reason for missing second derivatives, where TensorFlow refused to differentiate a gradient.

    The operation it names belongs to the gradient, so that no line of the cell shows it.
    """
    if refusal.cause is not Cause.UNREGISTERED:
        return refusal
    operation = refusal.text.rpartition(": ")[2]
    return Reason(refusal.cause, f"no gradient is registered for {operation}", operation=operation)


def _hessian(name: str, second: _SecondDerivatives) -> Hessian:
    """Return the Hessian of an output from its blocks, with zeros where nothing is connected."""
    import tensorflow as tf

    leaves, blocks = second.leaves, {}
    for (i, first), (j, last) in itertools.product(enumerate(leaves), repeat=2):
        block = second.blocks.get((i, j))
        if block is None:
            block = tf.zeros((*first.shape, *last.shape), last.value.dtype)
        blocks[first.name, last.name] = block
    return Hessian(
        target=name,
        names=tuple(leaf.name for leaf in leaves),
        shapes=tuple(leaf.shape for leaf in leaves),
        blocks=blocks,
        gradient_norm=_norm(gradient for gradient in second.gradients if gradient is not None),
        source_norm=_norm(tf.convert_to_tensor(leaf.value) for leaf in leaves),
        dtype=min(leaves, key=lambda leaf: leaf.value.dtype.size).dtype,
    )


def _norm(tensors: Iterable[Any]) -> float:
    """Return the Euclidean norm of all elements of some tensors, computed in float64."""
    norms = [float(np.linalg.norm(tensor.numpy().astype(np.float64))) for tensor in tensors]
    return math.hypot(*norms)


def _tensors(value: Any) -> list[Any]:
    import tensorflow as tf

    return [tf_variable(item) if is_variable(item) else item for item in tf.nest.flatten(value)]
