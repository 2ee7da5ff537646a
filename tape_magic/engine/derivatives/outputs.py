"""What is differentiated: a tensor, or all that a structure holds."""

from __future__ import annotations

import math
from typing import Any

from tape_magic.engine.values.tensors import is_inexact, is_tensor, is_variable, tf_variable
from tape_magic.errors import a_kind
from tape_magic.results.reasons import Cause, Reason


def parts_of(value: Any) -> list[Any]:
    """All that a structure holds; a tensor is found to be none at once."""
    import tensorflow as tf

    return [value] if is_tensor(value) else list(tf.nest.flatten(value))


def sum_of(value: Any) -> Any:
    """The tensor whose elements have the sum of a tensor, variable or composite tensor."""
    import tensorflow as tf

    if is_variable(value):
        return tf_variable(value)
    if isinstance(value, tf.IndexedSlices | tf.SparseTensor):
        return value.values
    return value.flat_values if isinstance(value, tf.RaggedTensor) else value


def size_of(value: Any) -> int:
    """How many elements are summed."""
    import tensorflow as tf

    whole = isinstance(value, tf.IndexedSlices)  # the gradient of a lookup: mostly rows of zeros
    return math.prod(value.shape if whole else sum_of(value).shape)


def no_derivative(value: Any, name: str) -> Reason | None:
    """Why an output has no derivative at all, where its type says so."""
    reasons = (_no_derivative(sum_of(item), name) for item in parts_of(value))
    return next((reason for reason in reasons if reason is not None), None)


def _no_derivative(value: Any, name: str) -> Reason | None:
    if not is_tensor(value) and not is_variable(value):
        left = "" if value is None else ": it left TensorFlow"
        return Reason(Cause.LEFT, f"{name} is {a_kind(value)}, not a tensor{left}")
    if is_inexact(value):
        return None
    return Reason(Cause.INTEGER, f"{name} is {value.dtype.name}, which has no derivative")
