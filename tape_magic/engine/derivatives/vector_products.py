"""Products of a vector with a Jacobian, in reverse mode; the Jacobian is not built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.gradient_table import GradientRecord, Leaves
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.vectors import Pair, copied, primals_and_tangents
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.objects import is_composite
from tape_magic.errors import LineError, closest
from tape_magic.notation import Target
from tape_magic.results.gradients import Derivative


class VectorProducts(Gradients):
    """The product of a vector with the Jacobian of each output, as ``tape.gradient`` gives it.

    An output is weighted by its vector before it is differentiated, element by element; a row has the shape
    of its source. Parameters and errors are those of :class:`~tape_magic.engine.derivatives.run.Run`; raises
    :class:`LineError` besides for a target of a higher order and for one without a vector, and
    :class:`SourceError` while it differentiates for a vector that does not fit its output.
    """

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            if target.order > 1:
                raise LineError(f"{target.key} is no first derivative, which --vjp is.")
            if target.name not in request.vectors:
                near = closest(target.name, request.vectors) or f"; write --vjp {target.name}=v."
                raise LineError(f"--vjp gives no vector for {target.name}{near}")
        self._vectors = {name: copied(vector) for name, vector in request.vectors.items()}
        self._weights: dict[str, np.ndarray[Any, Any]] = {}
        super().__init__(program, namespace, targets, request)

    def outputs(self) -> tuple[Target, ...]:
        """Return the targets, or where the line names none, the outputs that have a vector."""
        return self.targets or tuple(Target(name) for name in self._vectors)

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the products of an output's vector with its Jacobian by each of its leaves."""
        name = record.output
        called = self.request.vector_name(name)
        pairs = list(primals_and_tangents(record.value, self._vectors[name], name, called))
        self._weights[name] = _weights(record.value, pairs)
        outputs, vectors = [output for output, _ in pairs], [vector for _, vector in pairs]
        return list(tape.gradient(outputs, [leaf.value for leaf in record.leaves], output_gradients=vectors))

    def complex_note(self, name: str, output: Any, source: str, leaves: Sequence[Leaf], order: int) -> str:
        """Return what the product is of, where the output is complex."""
        if not np.iscomplexobj(self._weights[name]):
            return super().complex_note(name, output, source, leaves, order)
        shown, called = ("the output" if name == "_" else name), self.request.vector_name(name)
        return (
            f"{shown} is complex: the product is the derivative of the real part of Σ conj({called})·{shown}"
        )

    def row(self, name: str, leaves: Leaves) -> Derivative:
        """Return the row of an output's product by one leaf."""
        weights = self._weights.get(name)
        return replace(super().row(name, leaves), along=(self.request.vector_name(name),), weights=weights)


def _weights(output: Any, pairs: Sequence[Pair]) -> np.ndarray[Any, Any]:
    """Return the numbers of a vector in the order of an output's, with 0 for what has no derivative."""
    import tensorflow as tf

    vectors = {id(primal): vector for primal, vector in pairs}
    parts = tf.nest.flatten(output, expand_composites=is_composite(output))
    found = [vectors.get(id(part)) for part in parts]
    return np.concatenate(
        [
            np.zeros(int(tf.size(part))) if vector is None else np.asarray(vector).reshape(-1)
            for part, vector in zip(parts, found, strict=True)
        ]
    )
