"""Norms of the gradients of single examples, with the gradients of a few of them in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.gradient_table import GradientRecord, Leaves
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.jacobians import Shape, one_tensor
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Structures
from tape_magic.engine.internals.vectorized import Attempt, by_chunks
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.record.recorder import bytes_heard
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import LineError, TargetError
from tape_magic.notation import Target
from tape_magic.results.examples import ExampleNorms
from tape_magic.results.gradients import Derivative


class ExampleGradients(Gradients):
    """The norm of the gradient of each example's loss, by each variable and over all of them.

    An output of shape (b,) or (b, 1) has the losses of b examples; a row has the b norms of their gradients
    by one leaf. Parameters and errors are those of :class:`~tape_magic.engine.derivatives.run.Run`. Raises
    :class:`LineError` besides for a target of a higher order; and while it differentiates,
    :class:`TargetError` for an output of another shape.
    """

    asks_tape_again = True  # once for each example

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            if target.order > 1:
                raise LineError(f"{target.key} is no first derivative, of which --per-example has the norms.")
        super().__init__(program, namespace, targets, request)

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the norms of the examples' gradients by each leaf."""
        losses = one_tensor(record.value, record.output)
        _refuse_other_shapes(record.output, tuple(losses.shape))
        # The gradient of their sum tells which leaves they depend on.
        whole = list(tape.gradient(losses, [leaf.value for leaf in record.leaves]))
        leaves = [leaf for leaf, one in zip(record.leaves, whole, strict=True) if one is not None]
        if not leaves:
            return whole
        bytes_of_one = sum(math.prod(leaf.shape) * leaf.value.dtype.size for leaf in leaves)
        size = self.request.limit // (2 * bytes_of_one + bytes_heard(self.tapes.recorder))
        attempt = _norms(tape, losses, [leaf.value for leaf in leaves], size)
        self.note(*attempt.notes)
        norms = iter(attempt.value)
        return [None if one is None else next(norms) for one in whole]

    def shape(self, name: str, leaves: Leaves) -> Shape:
        """Return the shape of the norms by a leaf."""
        return (
            () if self.table[name, ()].known_reason else tuple(one_tensor(self.output(name), name).shape[:1])
        )

    def row(self, name: str, leaves: Leaves) -> Derivative:
        """Return the row of the norms by a leaf, in which no sum is differentiated."""
        row = super().row(name, leaves)
        return replace(row, dtype=_real(leaves[0].value.dtype).name, sums=(1,), source=None)

    def complex_note(self, name: str, output: Any, source: str, leaves: Sequence[Leaf], order: int) -> str:
        """Return nothing: the norm is the same in either convention of complex derivatives."""
        return ""

    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return a row for each leaf, and the norms over all leaves of a source and of all sources."""
        rows, structures = super().rows()
        for name, wrt in list(structures):
            structures[name, wrt] = self._together(name, self.selection[wrt[0]].leaves)
        for name in dict.fromkeys(target.name for target in self.asked):
            structures[name, ()] = self._together(name, self.table[name, ()].leaves)
        return rows, structures

    def examples(self) -> tuple[ExampleNorms, ...]:
        """Return the norms over all leaves for each output that depends on any."""
        names = dict.fromkeys(target.name for target in self.asked)
        found = {name: self._together(name, self.table[name, ()].leaves) for name in names}
        return tuple(
            ExampleNorms(name, np.asarray(norms, np.float64), self._parameters(name))
            for name, norms in found.items()
            if norms is not None
        )

    def _parameters(self, name: str) -> int:
        found = self.table[name, ()].derivatives
        return sum(math.prod(leaf.shape) for leaf, norms in found.items() if norms is not None)

    def _together(self, name: str, leaves: Sequence[Leaf]) -> Any:
        """Return the norms over several leaves; ``None`` where the output depends on none of them."""
        import tensorflow as tf

        known = self.table[name, ()].derivatives
        norms = [known[leaf] for leaf in leaves if known[leaf] is not None]
        if len(norms) < 2:
            return next(iter(norms), None)
        dtype = max((one.dtype for one in norms), key=lambda dtype: dtype.size)
        return _norm(tf.stack([tf.cast(one, dtype) for one in norms], axis=1), axis=1)


def _refuse_other_shapes(name: str, shape: Shape) -> None:
    """Raise :class:`TargetError` for an output that does not have one number for each example."""
    if not shape:
        raise TargetError(
            f"{name} is one number: the losses of its examples were averaged or summed. Name the vector of "
            'losses; a Keras loss gives it with reduction="none".'
        )
    if math.prod(shape[1:]) != 1:
        raise TargetError(
            f"{name} is of shape {shape}, and --per-example needs one loss for each example, of shape "
            f"({shape[0]},): sum or average over the other axes in the cell."
        )


def _norms(tape: Any, losses: Any, sources: Sequence[Any], size: int) -> Attempt:
    """Return the norms of each loss's gradients by each source, with `size` gradients at once."""
    import tensorflow as tf

    count = math.prod(losses.shape)

    def norms_of(index: Any) -> list[Any]:
        seed = tf.reshape(tf.one_hot(index, count, dtype=losses.dtype), losses.shape)
        gradients = tape.gradient(losses, sources, output_gradients=seed)
        return [_norm(tf.convert_to_tensor(one)) for one in gradients]

    if not count:
        return Attempt([tf.zeros((0,), _real(source.dtype)) for source in sources])
    return by_chunks(norms_of, count, size)


def _real(dtype: Any) -> Any:
    """Return the dtype of a norm: half precision overflows where a sum of squares does not."""
    import tensorflow as tf

    return tf.float32 if dtype.size < 4 else dtype.real_dtype


def _norm(tensor: Any, axis: int | None = None) -> Any:
    """Return the Euclidean norm over one axis, or over all, of squares that neither overflow nor vanish."""
    import tensorflow as tf

    sizes = tf.cast(tf.abs(tensor), _real(tensor.dtype))
    largest = tf.reduce_max(sizes, axis=axis, keepdims=True)
    scale = tf.where((largest > 0) & (largest < largest.dtype.max), largest, tf.ones_like(largest))
    norm = tf.sqrt(tf.reduce_sum((sizes / scale) ** 2, axis=axis))
    return norm * tf.reshape(scale, tf.shape(norm))
