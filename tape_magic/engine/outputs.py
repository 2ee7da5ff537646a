"""What is differentiated: a tensor, or all that a structure holds."""

from __future__ import annotations

import math
from typing import Any

from tape_magic.engine import sources as src
from tape_magic.errors import a_kind
from tape_magic.results.reasons import Cause, Reason


def parts(value: Any) -> list[Any]:
    """All that a structure holds; a tensor is found to be none at once."""
    import tensorflow as tf

    return [value] if src.is_tensor(value) else list(tf.nest.flatten(value))


def summed(value: Any) -> Any:
    """The tensor whose elements have the sum of a tensor, variable or composite tensor."""
    import tensorflow as tf

    if src.is_variable(value):
        return src.watched(value)
    if isinstance(value, tf.IndexedSlices | tf.SparseTensor):
        return value.values
    return value.flat_values if isinstance(value, tf.RaggedTensor) else value


def size(value: Any) -> int:
    """How many elements are summed."""
    import tensorflow as tf

    whole = isinstance(value, tf.IndexedSlices)  # the gradient of a lookup: mostly rows of zeros
    return math.prod(value.shape if whole else summed(value).shape)


def no_derivative(value: Any, name: str) -> Reason | None:
    """Why an output has no derivative at all, where its type says so."""
    reasons = (_no_derivative(summed(item), name) for item in parts(value))
    return next((reason for reason in reasons if reason is not None), None)


def _no_derivative(value: Any, name: str) -> Reason | None:
    if not src.is_tensor(value) and not src.is_variable(value):
        left = "" if value is None else ": it left TensorFlow"
        return Reason(Cause.LEFT, f"{name} is {a_kind(value)}, not a tensor{left}")
    if src.is_inexact(value):
        return None
    return Reason(Cause.INTEGER, f"{name} is {value.dtype.name}, which has no derivative")
