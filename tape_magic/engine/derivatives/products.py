"""Products of a Jacobian and of a Hessian with a vector, neither of which is ever built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tape_magic.engine.derivatives.forward_mode import Directions, explained
from tape_magic.engine.derivatives.gradients import Gradients, telling
from tape_magic.engine.derivatives.jacobians import one_tensor
from tape_magic.engine.derivatives.outputs import no_derivative
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
    """How each output changes along the vectors, all of them together: forward mode, without a tape."""

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            _refuse_unlike(target, request)
        super().__init__(
            program, namespace, targets, request, orders=0, persistent=False, directions=_directions(request)
        )

    def run_program(self) -> Any:
        """The program itself, once, and a sentence where forward mode cannot follow it."""
        with explained(self.program):
            return super().run_program()

    def settle(self) -> None:
        """The vectors fit what was assigned."""
        assert self.directions is not None
        self.directions.check()

    def differentiate(self, order: int) -> None:
        """Nothing is left to do: forward mode differentiates as the program runs."""

    def rows(self) -> tuple[list[Derivative], Structures]:
        """A row for each output."""
        names = dict.fromkeys(target.name for target in self.outputs())
        rows = {name: self._row(name) for name in names}
        structures = {(name, tuple(self.request.vectors)): row.value for name, row in rows.items()}
        structures |= {(target.name, target.wrt): rows[target.name].value for target in self.targets}
        return list(rows.values()), {key: value for key, value in structures.items() if key[1]}

    def _row(self, name: str) -> Derivative:
        import tensorflow as tf

        assert self.directions is not None
        output, vectors = self.output(name), self.request.vectors
        reason = no_derivative(output, name)
        tensor = None if reason else one_tensor(output, name)
        value = None if tensor is None else self.directions.along(tensor)
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
        """Why an output does not depend on what moves, or not in a finite way, as its sources' ways show."""
        import tensorflow as tf

        condition = Condition.of(value)
        if condition is Condition.REGULAR or not tf.executing_eagerly():
            return None
        leaves = [leaf for source in self.request.vectors for leaf in self.selection[source].leaves]
        sources = [NamedTensors(leaf.name, (leaf.value,)) for leaf in leaves]
        values = [value] * len(sources)
        target = NamedTensors(name, (tensor,))
        reasons = self.diagnosis.explain(target, sources, values)
        reason = telling(reasons)
        if condition is Condition.MISSING and reason is not None and reason.cause is Cause.UNKNOWN:
            # Forward mode also gives nothing where a slope is 0 by construction.
            reasons = [self.diagnosis.explain_zero(target, source) for source in sources] + reasons
        # A sum over the sources is 0 by construction where each of its terms is.
        return None if condition is Condition.ZERO and None in reasons else telling(reasons)


class HessianProducts(Gradients):
    """How the gradient of each output changes along the vectors: forward mode over a tape."""

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        super().__init__(program, namespace, targets, request, directions=_directions(request))
        self._changes: dict[tuple[str, Leaf], Any] = {}

    def orders(self, targets: Sequence[Target], request: Request) -> int:
        """One, since forward mode does the second."""
        for target in targets:
            _refuse_unlike(target, request)
        return 1

    def run_program(self) -> Any:
        """The program itself, once, and a sentence where forward mode cannot follow it."""
        with explained(self.program):
            return super().run_program()

    def settle(self) -> None:
        """Each target with the source that its gradient is by; the vectors fit what was assigned."""
        assert self.directions is not None
        self.directions.check()
        named = self.request.wrt if self.request.wrt is not None else tuple(self.request.vectors)
        self.asked = [
            Target(target.name, (name,))
            for target in self.outputs()
            for name in ([_differentiated(target, self.request)] if target.wrt else named)
        ]

    def differentiate(self, order: int) -> None:
        """The gradients, and how each changes along the vectors."""
        import tensorflow as tf

        assert self.directions is not None
        for name in dict.fromkeys(target.name for target in self.asked):
            named = [source for target in self.asked if target.name == name for source in target.wrt]
            # By what moves, too: an output that does not depend on it has no second derivative at all.
            leaves = self._leaves(dict.fromkeys([*named, *self.request.vectors]))
            for leaf, gradient in zip(leaves, self.gradients(name, leaves), strict=True):
                if gradient is not None:
                    dense = tf.convert_to_tensor(gradient)
                    change = self.directions.along(dense)
                    self._changes[name, leaf] = tf.zeros_like(dense) if change is None else change

    def _leaves(self, sources: Iterable[str]) -> list[Leaf]:
        return [leaf for source in sources for leaf in self.selection[source].leaves]

    def rows(self) -> tuple[list[Derivative], Structures]:
        """A row for each leaf of each source that a gradient is by."""
        rows, structures = super().rows()
        vectors = tuple(self.request.vectors)
        if len(vectors) == 1:
            structures |= {(name, (*wrt, *vectors)): value for (name, wrt), value in structures.items()}
        for target in self.targets:
            if target.wrt:
                named = (_differentiated(target, self.request),)
                structures[target.name, target.wrt] = structures[target.name, named]
        return rows, structures

    def row(self, name: str, leaves: tuple[Leaf, ...]) -> Derivative:
        """The record of one gradient's change."""
        vectors = self.request.vectors
        row = super().row(name, leaves)
        if row.connected:
            moving = self._leaves(vectors)
            connected = any((name, leaf) in self._changes for leaf in moving)
            value = self._changes[name, leaves[0]] if connected or self.request.zero else None
            reason = row.reason if connected else self.reason(name, (moving[0],))
            if reason is None and value is not None:
                reason = self.reason_again(name, leaves[0], self.found[name, leaves], moving, value)
            row = replace(row, value=value, connected=connected, reason=reason)
        return replace(
            row,
            wrt=(*row.wrt, *vectors),
            sums=(*row.sums, 1),
            along=tuple(self.request.vector_name(source) for source in vectors),
        )

    def explain_sums(self, rows: Sequence[Derivative]) -> None:
        """Say whose Hessian it is."""
        for name in dict.fromkeys(row.target for row in rows if row.sums[0] != 1):
            self.note(f"the Hessian of {name} is that of the sum of its {self.sums[name, ()]:,} elements")


def _directions(request: Request) -> Directions:
    return Directions(request.vectors, {name: request.vector_name(name) for name in request.vectors})


def _refuse_unlike(target: Target, request: Request) -> None:
    """Raise :class:`LineError` for a target that names other sources than the vectors do."""
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


def _differentiated(target: Target, request: Request) -> str:
    """Of a second derivative's two sources, the one that has no vector; of ``d2y/dx2``, x."""
    (vector,) = request.vectors
    first, last = target.wrt
    return last if first == vector else first
