"""Jacobians: the derivative of each element of an output by each element of a source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.derivatives.gradient_table import GradientRecord, Leaves
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.points import mixes_points
from tape_magic.engine.internals.vectorized import Attempt, vectorized
from tape_magic.engine.values.leaves import Leaf, item_name, items_of
from tape_magic.engine.values.sizes import refuse_above
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable
from tape_magic.errors import TargetError
from tape_magic.notation import Target

Shape = tuple[int, ...]


class Jacobians(Gradients):
    """The Jacobian of each output by each of its sources, as ``tape.jacobian`` gives it.

    A Jacobian has the shape of the output, followed by the shape of the source; at higher orders, by the
    shape of each source in turn. Raises :class:`TargetError` while it differentiates for an output that is
    no dense tensor, and for a Jacobian above the size limit.
    """

    asks_tape_again = True  # once for each row, where TensorFlow cannot vectorise the rows

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the Jacobians of a record's value, which must be one tensor, by its leaves."""
        tensor = one_tensor(record.value, record.output)
        self.refuse_large(record, tensor)
        attempt = jacobian(tape, tensor, [leaf.value for leaf in record.leaves])
        self.note(*attempt.notes)
        return list(attempt.value)

    def refuse_large(self, record: GradientRecord, tensor: Any) -> None:
        """Raise :class:`TargetError` where a Jacobian of a record's tensor would exceed the size limit."""
        largest = max(record.leaves, key=lambda leaf: math.prod(leaf.shape))
        target = Target(record.output, tuple(leaf.name for leaf in (*record.before, largest)))
        refuse_above(
            self.request.limit,
            f"the {self.request.kind.value.replace('jacobian', 'Jacobian')} {target.key}",
            [self.appended(tuple(tensor.shape), leaf) for leaf in record.leaves],
            max(leaf.value.dtype.size for leaf in record.leaves),
            f"--jvp {largest.name}=v gives its product with one vector",
        )

    def shape(self, name: str, leaves: Leaves) -> Shape:
        """Return the shape of an output's Jacobian: the shape of the output, and what each leaf appends."""
        output = self.output(name)
        shape = () if self.table[name, ()].known_reason else tuple(one_tensor(output, name).shape)
        for leaf in leaves:
            shape = self.appended(shape, leaf)
        return shape

    def appended(self, shape: Shape, leaf: Leaf) -> Shape:
        """Return the shape of the derivative by a leaf of a value of the given shape."""
        return (*shape, *leaf.shape)


class BatchJacobians(Jacobians):
    """The Jacobian of each row of a batch by the same row of the source, as ``tape.batch_jacobian`` gives it.

    An output of shape (batch, m) by a source of shape (batch, n) has a batch Jacobian of shape
    (batch, m, n). A note says where a row depends on other rows of the source. Raises :class:`TargetError`
    besides where the batch axes differ.
    """

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the batch Jacobians of a record's value, which must be one tensor, by its leaves."""
        tensor = one_tensor(record.value, record.output)
        for leaf in record.leaves:
            _refuse_unbatched(record.output, tuple(tensor.shape), leaf)
        self.refuse_large(record, tensor)
        found = []
        for leaf in record.leaves:
            attempt = batch_jacobian(tape, tensor, leaf.value)
            self.note(*attempt.notes)
            found.append(attempt.value)
            if attempt.value is not None and mixes_points(tape, tensor, leaf.value, tuple(tensor.shape[:1])):
                self.note(
                    f"{record.output} at one row depends on other rows of {leaf.name}: derivatives by these "
                    "are summed into each row; --jacobian keeps them apart"
                )
        return found

    def appended(self, shape: Shape, leaf: Leaf) -> Shape:
        """Return the shape of the derivative by a leaf, in which the batch axis stands once."""
        return (*shape, *leaf.shape[1:])


def one_tensor(value: Any, name: str) -> Any:
    """Return an output as one dense tensor.

    Raises :class:`TargetError` for a structure of several tensors, and for a composite tensor.
    """
    if is_variable(value):
        return tf_variable(value)
    if is_tensor(value):
        return value
    kind = type(value).__name__
    if isinstance(value, list | tuple | dict):
        places = [item_name(value, name, key) for key, _ in items_of(value)]
        part = f": ask for {places[0]} by itself" if places else ""
        raise TargetError(f"{name} is a {kind} of {len(places)}, and this needs one tensor{part}.")
    raise TargetError(f"{name} is a {kind}, and this needs a dense tensor: convert it in the cell.")


def jacobian(tape: Any, target: Any, sources: list[Any]) -> Attempt:
    """Return the Jacobians of a tensor by each source, ``None`` where the tensor does not depend on it.

    Parameters
    ----------
    tape
        A persistent tape that recorded `target`, and has ended.
    target
        A tensor of any shape.
    sources
        Tensors or variables that the tape watched.

    Returns
    -------
    Attempt
        Its value is a list of tensors, each of the shape of the target followed by that of the source;
        its notes say how they were computed where vectorisation failed.

    Raises ``LookupError`` where no gradient is registered for an operation on the way.
    """
    import tensorflow as tf

    shape = tuple(target.shape)
    count = math.prod(shape)
    if count == 0:
        return Attempt([tf.zeros((*shape, *source.shape), source.dtype) for source in sources])

    def by_rows() -> list[Any]:
        seeds = (tf.reshape(tf.one_hot(row, count, dtype=target.dtype), shape) for row in range(count))
        rows = [tape.gradient(target, sources, output_gradients=seed) for seed in seeds]
        return [_stacked(column, shape) for column in zip(*rows, strict=True)]

    if count == 1:  # one call of tape.gradient, where tape.jacobian would trace a function
        return Attempt(by_rows())
    return vectorized(lambda: tape.jacobian(target, sources), by_rows)


def _stacked(rows: Sequence[Any], shape: Shape) -> Any:
    """Return the gradients of all elements of an output of a shape as one Jacobian."""
    import tensorflow as tf

    if rows[0] is None:
        return None
    dense = tf.stack([tf.convert_to_tensor(row) for row in rows])
    return tf.reshape(dense, (*shape, *dense.shape[1:]))


def batch_jacobian(tape: Any, target: Any, source: Any) -> Attempt:
    """Return the Jacobian of each row of a tensor by the same row of a source.

    The arguments and errors are those of :func:`jacobian`. The value of the attempt is one tensor, of the
    shape of the target followed by that of the source without its batch axis; ``None`` where the target does
    not depend on the source.
    """
    import tensorflow as tf

    shape = tuple(target.shape)
    batch, count = shape[0], math.prod(shape[1:])
    whole = (*shape, *source.shape[1:])
    if math.prod(shape) == 0:
        return Attempt(tf.zeros(whole, source.dtype))
    # tape.batch_jacobian gives zeros where nothing is connected, and zeros must not pass for a derivative.
    gradient = tape.gradient(target, source)
    if gradient is None or count == 1:
        return Attempt(None if gradient is None else tf.reshape(gradient, whole))

    def by_rows() -> Any:
        seeds = (tf.one_hot(column, count, dtype=target.dtype) for column in range(count))
        spread = (tf.reshape(tf.tile(seed[tf.newaxis], (batch, 1)), shape) for seed in seeds)
        columns = [tf.convert_to_tensor(tape.gradient(target, source, output_gradients=s)) for s in spread]
        return tf.reshape(tf.stack(columns, axis=1), whole)

    if len(source.shape) < 2:  # tape.batch_jacobian refuses a batch of scalars
        return Attempt(by_rows())
    return vectorized(lambda: tape.batch_jacobian(target, source), by_rows)


def _refuse_unbatched(name: str, shape: Shape, leaf: Leaf) -> None:
    """Raise :class:`TargetError` unless an output of a shape and a leaf have the same batch axis."""
    if not shape or not leaf.shape or shape[0] != leaf.shape[0]:
        raise TargetError(
            f"--batch-jacobian needs a batch axis of one size in front of both: {name} is of shape {shape}, "
            f"{leaf.name} of shape {leaf.shape}; --jacobian takes any shapes."
        )
