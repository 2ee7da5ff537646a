"""What a derivative is like, as far as it asks for an explanation."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np

from tape_magic.engine.values.tensors import to_array


class Condition(enum.Enum):
    """What a derivative is like, as far as it asks for an explanation."""

    REGULAR = enum.auto()
    MISSING = enum.auto()
    ZERO = enum.auto()
    NOT_FINITE = enum.auto()

    @classmethod
    def of(cls, value: Any) -> Condition:
        """The condition of a derivative, a tensor or ``None``, at the price of one pass over it."""
        if value is None:
            return cls.MISSING
        value = getattr(value, "values", value)  # of a lookup: the rows that it names
        if value.dtype.is_floating and 0 < _squares(value) < math.inf:
            return cls.REGULAR
        array = to_array(value)
        if not np.isfinite(array).all():
            return cls.NOT_FINITE
        return cls.REGULAR if array.size == 0 or array.any() else cls.ZERO


def _squares(value: Any) -> float:
    """The sum of the squares of a tensor, as fast as the machine goes: it may overflow, or vanish."""
    import tensorflow as tf

    if value.dtype.size < 4:  # half precision overflows all too soon
        return math.nan
    if "CPU" not in value.backing_device:  # one number comes from there, and not the array
        return float(tf.nn.l2_loss(value))
    flat = np.asarray(value).reshape(-1)  # on the CPU, the tensor's own memory
    with np.errstate(all="ignore"):
        return float(np.dot(flat, flat))
