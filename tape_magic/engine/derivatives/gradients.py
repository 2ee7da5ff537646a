"""Gradients of any order, each taken of the one before by nested tapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from tape_magic.engine.derivatives.gradient_table import (
    GradientRecord,
    GradientTable,
    Leaves,
    named_tensors,
    tape_gradient,
)
from tape_magic.engine.derivatives.notes import assignment_notes, complex_note
from tape_magic.engine.derivatives.outputs import parts_of, structured
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Run, Structures
from tape_magic.engine.diagnosis.elementwise import is_list
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.record.recorder import heard_a_write
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import is_tensor
from tape_magic.notation import Kind, Target
from tape_magic.results.gradients import Derivative

_LABELS = 2
"""The most derivatives that a note on derivatives of 0 names."""


class Gradients(Run):
    """The gradient of each output by each of its sources, as ``tape.gradient`` gives it.

    A derivative of order n is the gradient of the sum of the derivatives of order n − 1; its row says
    how many elements each order summed.

    Parameters and errors are those of :class:`~tape_magic.engine.derivatives.run.Run`.
    """

    asks_tape_again = False
    """Whether one value is differentiated by several calls of its tape."""

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        orders = max((target.order or request.order for target in targets), default=request.order)
        several = len({target.name for target in targets}) != 1
        super().__init__(
            program,
            namespace,
            targets,
            request,
            orders=orders,
            persistent=orders > 1 or self.asks_tape_again or several,
        )
        self.asked: list[Target] = []
        self.table = GradientTable(request.kind)

    def settle(self) -> None:
        """List each target with its sources."""
        outputs = self.outputs()
        by = self.default_sources(outputs)
        self.asked = [
            Target(target.name, wrt)
            for target in outputs
            for wrt in ([target.wrt] if target.wrt else [(name,) * self.request.order for name in by])
        ]

    def combinations(self, target: Target) -> list[Leaves]:
        """Return the leaves that a target is differentiated by, one for each order.

        A target by one source is differentiated by each leaf as often as its order says; a target by
        different sources, by each leaf of the one and each leaf of the other.
        """
        leaves = [self.selection[name].leaves for name in target.wrt]
        if len(set(target.wrt)) == 1:
            return [(leaf,) * target.order for leaf in leaves[0]]
        return list(itertools.product(*leaves))

    def differentiate(self, order: int) -> None:
        """Take all derivatives of one order, with one call of the tape for each value differentiated."""
        wanted: dict[tuple[str, Leaves], dict[Leaf, None]] = {}
        for target in self.asked:
            if target.order >= order:
                for leaves in self.combinations(target):
                    wanted.setdefault((target.name, leaves[: order - 1]), {})[leaves[order - 1]] = None
        take = partial(self.take, self.tapes.gradient_tapes[order - 1])
        for (name, before), by in wanted.items():
            value = self.table.derivative(name, before) if before else self.output(name)
            self.table.differentiate(name, before, value, by, take)

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the derivatives of a record's value by its leaves, as a tape gives them."""
        return tape_gradient(tape, record)

    def shape(self, name: str, leaves: Leaves) -> tuple[int, ...]:
        """Return the shape of an output's derivative by some leaves, whether or not there is one."""
        return leaves[-1].shape

    # -- the report --------------------------------------------------------------------------------

    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return a row for each leaf of each target's sources, and the values in the sources' structures."""
        self.table.diagnose(lambda: self.diagnosis)
        for hint, labels in self.table.hints().items():
            more = f" and {len(labels) - _LABELS} more" if len(labels) > _LABELS else ""
            self.note(f"{', '.join(labels[:_LABELS])}{more}: 0 at this point, since {hint}")
        rows: list[Derivative] = []
        structures: Structures = {}
        remarks: list[str] = []
        for target in self.asked:
            combinations = self.combinations(target)
            found = [self.row(target.name, leaves) for leaves in combinations]
            rows += found
            remarks += self._remarks(target, combinations, any(row.connected for row in found))
            values = [row.value for row in found]
            if len(set(target.wrt)) == 1:
                source = self.selection[target.wrt[0]].value
                structure = structured(source, [leaves[0] for leaves in combinations], values)
            else:
                structure = values[0] if len(values) == 1 else values
            structures[target.name, target.wrt] = structure
        if any(count != 1 for row in rows if not row.elementwise for count in row.sums):
            self.note(
                "TensorFlow differentiates the sum of what is not a scalar; "
                "--jacobian keeps its elements apart"
            )
        self.note(*remarks)
        return rows, structures

    def _remarks(self, target: Target, combinations: Sequence[Leaves], connected: bool) -> Iterator[str]:
        """Yield what the derivatives of a target are, where that is not what one may take them for."""
        import tensorflow as tf

        leaves = list(dict.fromkeys(itertools.chain.from_iterable(combinations)))
        output = self.output(target.name)
        if connected:
            complex_remark = self.complex_note(target.name, output, target.wrt[-1], leaves, target.order)
            yield from filter(None, [complex_remark])
        wrote = tf.executing_eagerly() and heard_a_write(self.tapes.recorder)
        if wrote and self.table[target.name, ()].known_reason is None:
            yield from assignment_notes(self.evidence, named_tensors(target.name, (), output), leaves)

    def complex_note(self, name: str, output: Any, source: str, leaves: Sequence[Leaf], order: int) -> str:
        """Return what a derivative is where numbers are complex; empty where there is nothing to say."""
        return complex_note(name, output, source, leaves, order)

    def row(self, name: str, leaves: Leaves) -> Derivative:
        """Return the row of an output's derivative by some leaves."""
        import tensorflow as tf

        value, last = self.table.derivative(name, leaves), leaves[-1]
        connected = value is not None
        shape = self.shape(name, leaves)
        if self.request.zero and self.table.is_unconnected(name, leaves):
            value = tf.zeros(shape, last.value.dtype)
        return Derivative(
            target=name,
            wrt=tuple(leaf.name for leaf in leaves),
            value=value,
            shape=shape,
            dtype=last.dtype,
            sums=tuple(record.summed for record in self.table.records(name, leaves)),
            connected=connected,
            reason=self.table.reason(name, leaves),
            of_model=last.of_model,
            kind=self.request.kind,
            source=last.owner if shape == last.shape else None,
            elementwise=shape == last.shape and all(self._is_elementwise(name, leaf) for leaf in set(leaves)),
        )

    def _is_elementwise(self, name: str, leaf: Leaf) -> bool:
        """Return whether each element of an output depends on the element of a leaf in its place alone.

        Derivatives of higher orders are functions of the leaf then, too.
        """
        if leaf.of_model or self.request.kind is not Kind.GRADIENT or not is_list(leaf.shape):
            return False
        return self._find_elementwise(self.table[name, ()], leaf)

    def _find_elementwise(self, record: GradientRecord, leaf: Leaf) -> bool:
        import tensorflow as tf

        derivative = record.derivatives.get(leaf)
        if derivative is None or not is_tensor(derivative):
            return False
        if record.summed != derivative.shape.num_elements():
            return False
        if len(parts_of(record.value)) != 1 or not tf.executing_eagerly():
            return False
        target, source = (
            named_tensors(record.output, (), record.value),
            NamedTensors(leaf.name, (leaf.value,)),
        )
        return self.diagnosis.is_elementwise(target, source, derivative)
