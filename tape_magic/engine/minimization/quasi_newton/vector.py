"""All that is minimised over as one vector, within its bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.engine.values.tensors import tf_variable


class Vector:
    """Some variables as one vector.

    Parameters
    ----------
    variables
        Variables of real numbers.

    Attributes
    ----------
    dtype
        float64 if a variable is, or else float32, also for half precision.
    size
        The number of elements.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        import tensorflow as tf

        self._variables = [tf_variable(variable) for variable in variables]
        self._sizes = [math.prod(variable.shape) for variable in self._variables]
        wide = any(variable.dtype == tf.float64 for variable in self._variables)
        self.dtype = tf.float64 if wide else tf.float32
        self.size = sum(self._sizes)

    def of(self, tensors: Sequence[Any]) -> Any:
        """Return tensors of the variables' shapes, such as gradients, as one vector."""
        import tensorflow as tf

        wide = [tf.cast(tensor, self.dtype) for tensor in tensors]
        flat = [tensor if tensor.shape.rank == 1 else tf.reshape(tensor, [-1]) for tensor in wide]
        return flat[0] if len(flat) == 1 else tf.concat(flat, 0)

    def read(self) -> Any:
        """Return the variables' values."""
        return self.of([variable.read_value() for variable in self._variables])

    def assign(self, vector: Any) -> None:
        """Assign a vector to the variables."""
        for variable, tensor in zip(self._variables, self.parts(vector), strict=True):
            variable.assign(tensor)

    def parts(self, vector: Any) -> list[Any]:
        """Return the part of a vector for each variable, in its shape and dtype."""
        import tensorflow as tf

        parts = [vector] if len(self._sizes) == 1 else tf.split(vector, self._sizes)
        return [
            tf.cast(tf.reshape(part, variable.shape), variable.dtype)
            for part, variable in zip(parts, self._variables, strict=True)
        ]

    def spread(self, limits: Sequence[Any], none: float) -> Any:
        """Return a limit for each element, `none` where a variable has none; ``None`` if no variable has."""
        import tensorflow as tf

        if all(limit is None for limit in limits):
            return None
        shapes = [tuple(variable.shape) for variable in self._variables]
        full = [
            np.broadcast_to(none if limit is None else np.asarray(limit, np.float64), shape).reshape(-1)
            for limit, shape in zip(limits, shapes, strict=True)
        ]
        return tf.constant(np.concatenate(full), self.dtype)
