"""Jacobian-vector and Hessian-vector products; neither the Jacobian nor the Hessian is built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from tape_magic.engine.derivatives.forward_mode import Directions
from tape_magic.engine.derivatives.gradient_table import (
    GradientTable,
    first_known,
    named_tensors,
    reason_not_finite,
    tape_gradient,
)
from tape_magic.engine.derivatives.jacobians import one_tensor
from tape_magic.engine.derivatives.outputs import reason_of_type, structured
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Run, Structures
from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import LineError
from tape_magic.notation import Kind, Target
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause, Reason


class JacobianProducts(Run):
    """The derivative of each output along all vectors together, by forward mode without a tape.

    An output has one row, of its own shape. Parameters and errors are those of
    :class:`~tape_magic.engine.derivatives.run.Run`; raises :class:`LineError` besides for a target by other
    sources than the vectors'.
    """

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            _refuse_other_sources(target, request)
        directions = _directions(request)
        super().__init__(
            program, namespace, targets, request, orders=0, persistent=False, directions=directions
        )

    def settle(self) -> None:
        """Do nothing: every output has a row."""

    def differentiate(self, order: int) -> None:
        """Do nothing: forward mode differentiates while the program runs."""

    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return a row for each output."""
        names = dict.fromkeys(target.name for target in self.outputs())
        rows = {name: self._row(name) for name in names}
        structures = {(name, tuple(self.request.vectors)): row.value for name, row in rows.items()}
        structures |= {(target.name, target.wrt): rows[target.name].value for target in self.targets}
        return list(rows.values()), {key: value for key, value in structures.items() if key[1]}

    def _row(self, name: str) -> Derivative:
        import tensorflow as tf

        assert self.directions is not None
        output, vectors = self.output(name), self.request.vectors
        reason = reason_of_type(output, name)
        tensor = None if reason else one_tensor(output, name)
        value = None if tensor is None else self.directions.jvp(tensor)
        connected = value is not None
        if tensor is not None:
            reason = self._reason(name, tensor, value)
        if tensor is not None and not connected and self.request.zero:
            value = tf.zeros_like(tensor)
        return Derivative(
            target=name,
            wrt=tuple(vectors),
            value=value,
            shape=() if tensor is None else tuple(tensor.shape),
            dtype="" if tensor is None else str(tensor.dtype.name),
            sums=(1,),
            connected=connected,
            reason=reason,
            kind=Kind.JVP,
            along=tuple(self.request.vector_name(source) for source in vectors),
        )

    def _reason(self, name: str, tensor: Any, value: Any) -> Reason | None:
        """Return why a product is missing, zero or not finite, from the ways of the sources to the output."""
        import tensorflow as tf

        condition = Condition.of(value)
        if condition is Condition.REGULAR or not tf.executing_eagerly():
            return None
        leaves = [leaf for source in self.request.vectors for leaf in self.selection[source].leaves]
        sources = [NamedTensors(leaf.name, (leaf.value,)) for leaf in leaves]
        target = NamedTensors(name, (tensor,))
        reasons = self.diagnosis.explain(target, sources, [value] * len(sources))
        reason = first_known(reasons)
        if condition is Condition.MISSING and reason is not None and reason.cause is Cause.UNKNOWN:
            # Forward mode gives None also where a slope is 0 by construction.
            reasons = [self.diagnosis.explain_zero(target, source) for source in sources] + reasons
        # The product sums over the sources: it is 0 by construction where each of its terms is.
        return None if condition is Condition.ZERO and None in reasons else first_known(reasons)


class HessianProducts(Run):
    """The derivative of each output's gradient along the vectors, by forward mode over a tape.

    A row has the shape of the leaf that the gradient is by. An output that is no scalar is summed, as
    ``tape.gradient`` does. Parameters and errors are those of
    :class:`~tape_magic.engine.derivatives.run.Run`; raises :class:`LineError` besides for a target that is no
    second derivative by the source of a vector.
    """

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            _refuse_other_sources(target, request)
        super().__init__(
            program,
            namespace,
            targets,
            request,
            orders=1,  # of tapes: forward mode takes the second derivative
            persistent=len({target.name for target in targets}) != 1,
            directions=_directions(request),
        )
        self.asked: list[Target] = []
        self.table = GradientTable(request.kind)
        self._products: dict[tuple[str, Leaf], Any] = {}

    def settle(self) -> None:
        """List each target with the source that its gradient is by."""
        named = self.request.wrt if self.request.wrt is not None else tuple(self.request.vectors)
        self.asked = [
            Target(target.name, (name,))
            for target in self.outputs()
            for name in ([_source_of_gradient(target, self.request)] if target.wrt else named)
        ]

    def differentiate(self, order: int) -> None:
        """Take the gradients, and the derivative of each along the vectors."""
        import tensorflow as tf

        assert self.directions is not None
        take = partial(tape_gradient, self.tapes.gradient_tapes[0])
        for name in dict.fromkeys(target.name for target in self.asked):
            named = [source for target in self.asked if target.name == name for source in target.wrt]
            # Also by the sources that have a vector: an output that does not depend on them has no product.
            leaves = self._leaves(dict.fromkeys([*named, *self.request.vectors]))
            record = self.table.differentiate(name, (), self.output(name), leaves, take)
            for leaf, gradient in record.derivatives.items():
                if gradient is not None:
                    dense = tf.convert_to_tensor(gradient)
                    product = self.directions.jvp(dense)
                    self._products[name, leaf] = tf.zeros_like(dense) if product is None else product

    def _leaves(self, sources: Iterable[str]) -> list[Leaf]:
        return [leaf for source in sources for leaf in self.selection[source].leaves]

    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return a row for each leaf of each source that a gradient is by."""
        self.table.diagnose(lambda: self.diagnosis)
        vectors = tuple(self.request.vectors)
        rows: list[Derivative] = []
        structures: Structures = {}
        for target in self.asked:
            source = self.selection[target.wrt[0]]
            found = [self._row(target.name, leaf) for leaf in source.leaves]
            rows += found
            structure = structured(source.value, source.leaves, [row.value for row in found])
            structures[target.name, target.wrt] = structure
        for name in dict.fromkeys(row.target for row in rows):
            summed = self.table[name, ()].summed
            if summed != 1:
                self.note(f"the Hessian of {name} is that of the sum of its {summed:,} elements")
        if len(vectors) == 1:
            structures |= {(name, (*wrt, *vectors)): value for (name, wrt), value in structures.items()}
        for target in self.targets:
            if target.wrt:
                source_name = _source_of_gradient(target, self.request)
                structures[target.name, target.wrt] = structures[target.name, (source_name,)]
        return rows, structures

    def _row(self, name: str, leaf: Leaf) -> Derivative:
        import tensorflow as tf

        vectors, record = self.request.vectors, self.table[name, ()]
        gradient, reason = record.derivatives[leaf], self.table.reason(name, (leaf,))
        connected, value = gradient is not None, None
        if connected:
            moving = self._leaves(vectors)
            connected = any((name, other) in self._products for other in moving)
            if connected or self.request.zero:
                value = self._products[name, leaf]
            if not connected:
                reason = self.table.diagnosed_reason(name, (moving[0],))
            if reason is None and value is not None:
                named = named_tensors(name, (leaf,), gradient)
                reason = reason_not_finite(lambda: self.diagnosis, named, moving, value)
        elif self.request.zero and not record.is_explained:
            value = tf.zeros(leaf.shape, leaf.value.dtype)
        return Derivative(
            target=name,
            wrt=(leaf.name, *vectors),
            value=value,
            shape=leaf.shape,
            dtype=leaf.dtype,
            sums=(record.summed, 1),
            connected=connected,
            reason=reason,
            of_model=leaf.of_model,
            kind=self.request.kind,
            along=tuple(self.request.vector_name(source) for source in vectors),
            source=leaf.owner,
        )


def _directions(request: Request) -> Directions:
    return Directions(request.vectors, {name: request.vector_name(name) for name in request.vectors})


def _refuse_other_sources(target: Target, request: Request) -> None:
    """Raise :class:`LineError` for a target that names other sources than the vectors, or another order."""
    vectors = tuple(request.vectors)
    flag = f"--{request.kind.value}"
    given = " and ".join(vectors)
    if not target.wrt:
        return
    if request.kind is Kind.JVP:
        if target.order != 1:
            raise LineError(
                f"{target.key} is no first derivative, which --jvp is: "
                f"--hvp {target.wrt[0]}=v is the product with the Hessian."
            )
        if set(target.wrt) != set(vectors):
            raise LineError(
                f"{target.key} is by {target.wrt[0]}, and {flag} gives a vector for {given}: "
                f"name the same, or write {target.name} for the sum of all directions."
            )
    elif target.order != 2:
        raise LineError(
            f"{target.key} is no second derivative, which --hvp is: write d2{target.name}/d{target.wrt[0]}2, "
            f"or {target.name} --wrt {target.wrt[0]}."
        )
    elif len(vectors) != 1 or vectors[0] not in target.wrt:
        raise LineError(
            f"{target.key} is one part of a Hessian, and {flag} gives a vector for {given}: "
            f"write {target.name} --wrt {target.wrt[0]}."
        )


def _source_of_gradient(target: Target, request: Request) -> str:
    """Return the source of a second derivative that has no vector: for ``d2y/dxda`` along a, x."""
    (vector,) = request.vectors
    first, last = target.wrt
    return last if first == vector else first
