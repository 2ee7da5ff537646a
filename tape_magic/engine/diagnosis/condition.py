"""The condition of a derivative: regular, missing, zero or not finite."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np

from tape_magic.engine.values.tensors import to_array


class Condition(enum.Enum):
    """The condition of a derivative; all but the first ask for an explanation."""

    REGULAR = enum.auto()
    MISSING = enum.auto()
    ZERO = enum.auto()
    NOT_FINITE = enum.auto()

    @classmethod
    def of(cls, value: Any) -> Condition:
        """Return the condition of a derivative, a tensor or ``None``, after one pass over it.

        A derivative is zero if all of its elements are, and not finite if one of them is infinite or NaN.
        """
        if value is None:
            return cls.MISSING
        value = getattr(value, "values", value)  # the rows that the gradient of a lookup holds
        if value.dtype.is_floating and 0 < _sum_of_squares(value) < math.inf:
            return cls.REGULAR
        array = to_array(value)
        if not np.isfinite(array).all():
            return cls.NOT_FINITE
        return cls.REGULAR if array.size == 0 or array.any() else cls.ZERO


def _sum_of_squares(value: Any) -> float:
    """Return the sum of the squares of a tensor at the speed of memory; it may overflow or vanish."""
    import tensorflow as tf

    if value.dtype.size < 4:  # in half precision it overflows too easily
        return math.nan
    if "CPU" not in value.backing_device:  # brings one number from the device, and not the whole array
        return float(tf.nn.l2_loss(value))
    flat = np.asarray(value).reshape(-1)  # on the CPU, this is the tensor's own memory
    with np.errstate(all="ignore"):
        return float(np.dot(flat, flat))
