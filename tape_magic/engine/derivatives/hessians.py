"""Hessians: the Jacobian of a gradient, and its blocks by the sources."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.jacobians import jacobian
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Structures
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.sizes import refuse_above
from tape_magic.engine.values.tensors import is_variable, tf_variable
from tape_magic.errors import LineError, SourceError
from tape_magic.notation import Target
from tape_magic.results.curvature import Hessian
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause, Reason


@dataclass
class _Second:
    """What is known of one output's second derivatives.

    Attributes
    ----------
    leaves
        All that it is differentiated by.
    gradients
        By each of them, or ``None``.
    stripes
        For each dtype, the leaves whose gradients are of it, and these gradients as one vector.
    blocks
        By the places of two leaves; missing where nothing is connected.
    """

    leaves: list[Leaf]
    gradients: list[Any]
    stripes: list[tuple[list[int], Any]] = field(default_factory=list)
    blocks: dict[tuple[int, int], Any] = field(default_factory=dict)
    hessian: Hessian | None = None


class Hessians(Gradients):
    """All second derivatives of each output by its sources.

    Of an output that is no scalar, those of the sum of its elements. A block is zero where the output
    is at most linear in its two sources, or does not depend on one of them.
    """

    def orders(self, targets: Sequence[Target], request: Request) -> int:
        """Two; the targets may say so."""
        for target in targets:
            if target.order not in (0, 2):
                raise LineError(
                    f"{target.key} is no second derivative, as a Hessian holds them: write "
                    f"d2{target.name}/d{target.wrt[0]}2, or {target.name} --wrt {target.wrt[0]}."
                )
        return 2

    def settle(self) -> None:
        """Each target with two sources, and each output with all of its sources."""
        outputs = self.outputs()
        by = self.by(outputs)
        self.asked = [
            Target(target.name, wrt)
            for target in outputs
            for wrt in ([target.wrt] if target.wrt else itertools.combinations_with_replacement(by, 2))
        ]
        # An output has one Hessian, by the sources of all the targets that name it.
        self.names: dict[str, dict[str, None]] = {}
        for target in self.asked:
            self.names.setdefault(target.name, {}).update(dict.fromkeys(target.wrt))
        self.second: dict[str, _Second] = {}

    def differentiate(self, order: int) -> None:
        """The gradients, and then their Jacobians."""
        for name in self.names:
            if order == 1:
                self.second[name] = self._first(name)
            else:
                self._differentiate_again(name, self.second[name])

    def _first(self, name: str) -> _Second:
        """The gradient, dense, and as one vector: the tape around this one records how it is made."""
        import tensorflow as tf

        leaves = [leaf for source in self.names[name] for leaf in self.selection[source].leaves]
        self._refuse(name, leaves)
        found = self.gradients(name, leaves)
        second = _Second(leaves, [None if g is None else tf.convert_to_tensor(g) for g in found])
        known = [(place, gradient) for place, gradient in enumerate(second.gradients) if gradient is not None]
        for dtype in dict.fromkeys(gradient.dtype for _, gradient in known):
            places = [place for place, gradient in known if gradient.dtype == dtype]
            parts = [second.gradients[place] for place in places]
            one = parts[0] if len(parts) == 1 else tf.concat([tf.reshape(p, (-1,)) for p in parts], axis=0)
            second.stripes.append((places, one))
        return second

    def _refuse(self, name: str, leaves: Sequence[Leaf]) -> None:
        for leaf in leaves:
            if leaf.value.dtype.is_complex:
                raise SourceError(
                    f"{leaf.name} is complex, and a Hessian is of real sources: "
                    "compute it from its real and imaginary parts in the cell, and differentiate by these."
                )
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        size = max((leaf.value.dtype.size for leaf in leaves), default=0)
        cure = f"--hvp {next(iter(self.names[name]))}=v gives its product with one vector"
        refuse_above(self.request.limit, f"the Hessian of {name}", [(count, count)], size, cure)

    def _differentiate_again(self, name: str, second: _Second) -> None:
        values = [leaf.value for leaf in second.leaves]
        for places, vector in second.stripes:
            take = partial(jacobian, self.tapes[1], vector, values)
            attempt = self.attempted((name, ()), take, None)
            if attempt is None:
                refusal = self.refusals.pop((name, ()), None)
                if refusal is not None:  # of the gradient, which the lines of the cell do not show
                    self.why[name, ()] = _of_the_gradient(refusal)
                return
            self.note(*attempt.notes)
            for column, stripe in enumerate(attempt.value):
                if stripe is not None:
                    second.blocks.update(_blocks(second.leaves, places, column, stripe))
        if second.stripes or (
            self.request.zero and not {(name, ())} & (self.why.keys() | self.refusals.keys())
        ):
            second.hessian = _hessian(name, second)
            self._explain(name)

    def _explain(self, name: str) -> None:
        summed = self.sums[name, ()]
        if summed != 1:
            self.note(f"the Hessian of {name} is that of the sum of its {summed:,} elements")
        if any(tensor.dtype.is_complex for tensor in _tensors(self.output(name))):
            self.note(f"{name} is complex, and its Hessian that of its real part")

    # -- the report --------------------------------------------------------------------------------

    def hessians(self) -> tuple[Hessian, ...]:
        """One for each output that depends on any of its sources."""
        return tuple(second.hessian for second in self.second.values() if second.hessian is not None)

    def rows(self) -> tuple[list[Derivative], Structures]:
        """A row for each block that was asked for; by one source alone, for each pair of its leaves."""
        self.find_reasons()
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
            for name, sources in self.names.items()
            for one, other in itertools.product(sources, repeat=2)
        }
        return rows, structures

    def _places(self, name: str, source: str) -> range:
        """Where the leaves of a source stand among all of an output's."""
        start = 0
        for other in self.names[name]:
            count = len(self.selection[other].leaves)
            if other == source:
                return range(start, start + count)
            start += count
        raise KeyError(source)

    def _row(self, name: str, i: int, j: int) -> Derivative:
        second = self.second[name]
        first, last = second.leaves[i], second.leaves[j]
        block = self._block(name, i, j)
        reason = self.reason(name, (first,)) or self.why.get((name, ())) or self.reason(name, (last,))
        if reason is None and block is not None:
            reason = self.reason_again(name, first, second.gradients[i], [last], block)
        return Derivative(
            target=name,
            wrt=(first.name, last.name),
            value=block,
            shape=(*first.shape, *last.shape),
            dtype=last.dtype,
            sums=(self.sums[name, ()], 1),
            connected=second.gradients[i] is not None and second.gradients[j] is not None,
            reason=reason,
            of_model=first.of_model or last.of_model,
            kind=self.request.kind,
        )

    def _block(self, name: str, i: int, j: int) -> Any:
        second = self.second[name]
        if second.hessian is None:
            return None
        return second.hessian[second.leaves[i].name, second.leaves[j].name]

    def _structure(self, name: str, one: str, other: str) -> Any:
        """The blocks in the structure of the first source, each in that of the second."""
        leaves = self.second[name].leaves
        inner = []
        for i in self._places(name, one):
            places = self._places(name, other)
            inner.append(
                self.regrouped(other, [leaves[j] for j in places], [self._block(name, i, j) for j in places])
            )
        return self.regrouped(one, [leaves[i] for i in self._places(name, one)], inner)


def _blocks(
    leaves: Sequence[Leaf], places: Sequence[int], column: int, stripe: Any
) -> Iterable[tuple[tuple[int, int], Any]]:
    """A Jacobian of several gradients as one vector → that of each of them."""
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


def _of_the_gradient(refusal: Reason) -> Reason:
    """What TensorFlow refused, without the derivative's own words where it named an operation."""
    if refusal.cause is not Cause.UNREGISTERED:
        return refusal
    operation = refusal.text.rpartition(": ")[2]
    return Reason(refusal.cause, f"no gradient is registered for {operation}", operation=operation)


def _hessian(name: str, second: _Second) -> Hessian:
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
    norms = [float(np.linalg.norm(tensor.numpy().astype(np.float64))) for tensor in tensors]
    return math.hypot(*norms)


def _tensors(value: Any) -> list[Any]:
    import tensorflow as tf

    return [tf_variable(item) if is_variable(item) else item for item in tf.nest.flatten(value)]
