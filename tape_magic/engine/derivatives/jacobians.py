"""Jacobians: each element of an output by each element of a source, nothing summed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.derivatives.gradients import Gradients, Prefix
from tape_magic.engine.internals.vectorized import Attempt, vectorized
from tape_magic.engine.values.leaves import Leaf, items_of
from tape_magic.engine.values.sizes import refuse_above
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable
from tape_magic.errors import TargetError
from tape_magic.notation import Target

Shape = tuple[int, ...]


class Jacobians(Gradients):
    """What ``tape.jacobian`` gives: the output's shape, and then that of each source."""

    asks_again = True  # row by row, for each row

    def take(self, tape: Any, prefix: Prefix, value: Any, by: list[Leaf]) -> list[Any]:
        """The Jacobians of one tensor."""
        tensor = one_tensor(value, prefix[0])
        self.refuse_large(prefix, tensor, by)
        attempt = jacobian(tape, tensor, [leaf.value for leaf in by])
        self.note(*attempt.notes)
        return list(attempt.value)

    def refuse_large(self, prefix: Prefix, tensor: Any, by: Sequence[Leaf]) -> None:
        """Raise :class:`TargetError` before more is computed than the limit allows."""
        name, leaves = prefix
        largest = max(by, key=lambda leaf: math.prod(leaf.shape))
        what = Target(name, (*(leaf.name for leaf in leaves), largest.name))
        refuse_above(
            self.request.limit,
            f"the {self.request.kind.value.replace('jacobian', 'Jacobian')} {what.key}",
            [self.appended(tuple(tensor.shape), leaf) for leaf in by],
            max(leaf.value.dtype.size for leaf in by),
            f"--jvp {largest.name}=v gives its product with one vector",
        )

    def shape(self, name: str, leaves: tuple[Leaf, ...]) -> Shape:
        """The output's shape, and then what each source appends."""
        output = self.output(name)
        shape = () if self.why.get((name, ())) else tuple(one_tensor(output, name).shape)
        for leaf in leaves:
            shape = self.appended(shape, leaf)
        return shape

    def appended(self, shape: Shape, leaf: Leaf) -> Shape:
        """The shape of the derivative of something of a shape by a leaf."""
        return (*shape, *leaf.shape)


class BatchJacobians(Jacobians):
    """What ``tape.batch_jacobian`` gives: the Jacobian of each row of a batch by its own row."""

    def take(self, tape: Any, prefix: Prefix, value: Any, by: list[Leaf]) -> list[Any]:
        """The batch Jacobians of one tensor."""
        tensor = one_tensor(value, prefix[0])
        for leaf in by:
            _refuse_unbatched(prefix[0], tuple(tensor.shape), leaf)
        self.refuse_large(prefix, tensor, by)
        found = []
        for leaf in by:
            attempt = batch_jacobian(tape, tensor, leaf.value)
            self.note(*attempt.notes)
            found.append(attempt.value)
        return found

    def appended(self, shape: Shape, leaf: Leaf) -> Shape:
        """The batch axis counts once."""
        return (*shape, *leaf.shape[1:])


def one_tensor(value: Any, name: str) -> Any:
    """The tensor that an output is. Raises :class:`TargetError` for several, and for what is not dense."""
    if is_variable(value):
        return tf_variable(value)
    if is_tensor(value):
        return value
    kind = type(value).__name__
    if isinstance(value, list | tuple | dict):
        places = [f"{name}[{key!r}]" for key, _ in items_of(value)]
        part = f": ask for {places[0]} by itself" if places else ""
        raise TargetError(f"{name} is a {kind} of {len(places)}, and this needs one tensor{part}.")
    raise TargetError(f"{name} is a {kind}, and this needs a dense tensor: convert it in the cell.")


def jacobian(tape: Any, target: Any, sources: list[Any]) -> Attempt:
    """The Jacobians of a tensor by each source, ``None`` where there is no connection.

    The tape must be persistent. Raises ``LookupError`` where no gradient is registered.
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

    if count == 1:  # its gradient, without building a function for it
        return Attempt(by_rows())
    return vectorized(lambda: tape.jacobian(target, sources), by_rows)


def _stacked(rows: Sequence[Any], shape: Shape) -> Any:
    import tensorflow as tf

    if rows[0] is None:
        return None
    dense = tf.stack([tf.convert_to_tensor(row) for row in rows])
    return tf.reshape(dense, (*shape, *dense.shape[1:]))


def batch_jacobian(tape: Any, target: Any, source: Any) -> Attempt:
    """The Jacobian of each row of a tensor by the same row of a source; ``None`` without a connection.

    Arguments, and what is raised, as for :func:`jacobian`.
    """
    import tensorflow as tf

    shape = tuple(target.shape)
    batch, count = shape[0], math.prod(shape[1:])
    whole = (*shape, *source.shape[1:])
    if math.prod(shape) == 0:
        return Attempt(tf.zeros(whole, source.dtype))
    # TensorFlow's gives zeros without a connection, which must not pass for a derivative.
    gradient = tape.gradient(target, source)
    if gradient is None or count == 1:
        return Attempt(None if gradient is None else tf.reshape(gradient, whole))

    def by_rows() -> Any:
        seeds = (tf.one_hot(column, count, dtype=target.dtype) for column in range(count))
        spread = (tf.reshape(tf.tile(seed[tf.newaxis], (batch, 1)), shape) for seed in seeds)
        columns = [tf.convert_to_tensor(tape.gradient(target, source, output_gradients=s)) for s in spread]
        return tf.reshape(tf.stack(columns, axis=1), whole)

    if len(source.shape) < 2:  # a batch of numbers, which TensorFlow's does not take
        return Attempt(by_rows())
    return vectorized(lambda: tape.batch_jacobian(target, source), by_rows)


def _refuse_unbatched(name: str, shape: Shape, leaf: Leaf) -> None:
    if not shape or not leaf.shape or shape[0] != leaf.shape[0]:
        raise TargetError(
            f"--batch-jacobian needs a batch axis of one size in front of both: {name} is of shape {shape}, "
            f"{leaf.name} of shape {leaf.shape}; --jacobian takes any shapes."
        )
