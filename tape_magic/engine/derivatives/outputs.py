"""What is differentiated: a tensor, or all tensors of a structure; and how derivatives are structured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.internals.operations import element_count
from tape_magic.engine.values.leaves import Leaf, regroup
from tape_magic.engine.values.tensors import is_inexact, is_module, is_tensor, is_variable, tf_variable
from tape_magic.errors import no_tensor
from tape_magic.results.reasons import Cause, Reason


def parts_of(value: Any) -> list[Any]:
    """Return everything that a structure holds, in order; a tensor is its own only part."""
    import tensorflow as tf

    return [value] if is_tensor(value) else list(tf.nest.flatten(value))


def summands(value: Any) -> Any:
    """Return the tensor whose elements a tape sums when it differentiates a tensor, variable or composite."""
    import tensorflow as tf

    if is_tensor(value):
        return value
    if is_variable(value):
        return tf_variable(value)
    if isinstance(value, tf.IndexedSlices | tf.SparseTensor):
        return value.values
    return value.flat_values if isinstance(value, tf.RaggedTensor) else value


def size_of(value: Any) -> int:
    """Return the number of elements that are summed when a value is differentiated."""
    import tensorflow as tf

    # The gradient of a lookup stores a few rows, and stands for a tensor whose other rows are 0.
    dense = isinstance(value, tf.IndexedSlices)
    return element_count(value if dense else summands(value))


def reason_of_type(value: Any, name: str) -> Reason | None:
    """Return why an output has no derivative because of its type; ``None`` where its type has derivatives."""
    reasons = (_reason_of_type(summands(item), name) for item in parts_of(value))
    return next((reason for reason in reasons if reason is not None), None)


def _reason_of_type(value: Any, name: str) -> Reason | None:
    if not is_tensor(value) and not is_variable(value):
        return Reason(Cause.LEFT, no_tensor(name, value).removesuffix(": compute it with TensorFlow"))
    if is_inexact(value):
        return None
    return Reason(Cause.INTEGER, f"{name} is {value.dtype.name}, which has no derivative")


def structured(source: Any, leaves: Sequence[Leaf], values: Sequence[Any]) -> Any:
    """Return the structure of a source with a value in the place of each leaf; for a model, a list."""
    if len(leaves) == 1 and leaves[0].owner is source:
        return values[0]
    if is_module(source) and all(leaf.of_model for leaf in leaves):
        return list(values)
    by_owner = {id(leaf.owner): value for leaf, value in zip(leaves, values, strict=True)}
    return regroup(source, lambda owner: by_owner.get(id(owner)))
