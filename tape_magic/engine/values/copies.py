"""Copies of the values of large variables, outside the memory of TensorFlow's allocator.

That allocator keeps for good what it once took (seen in TensorFlow 2.21 on a CPU), and a tensor that was read
from a variable becomes a copy of its own once the variable changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LARGE = 1 << 20
"""The bytes from which on an array is large."""

_PIECE = 1 << 18
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def bytes_of(tensor: Any) -> int:
    """Return the bytes of a tensor or variable of a known shape."""
    return int(tensor.shape.num_elements() or 0) * int(tensor.dtype.size)


def kept_copy(tensor: Any) -> Any:
    """Return what can be assigned later to a variable from which a tensor was read.

    That is the tensor, if it is small; else a copy, which holds a single number where all are the same.
    """
    if bytes_of(tensor) < LARGE:
        return tensor
    array = np.asarray(tensor)
    return np.broadcast_to(array.flat[0], array.shape) if _is_uniform(array) else np.array(array)


def lasting_array(variable: Any) -> np.ndarray[Any, Any]:
    """Return what a variable holds now, whatever becomes of the variable.

    A large array cannot be written, since it shares its memory with the variable until that changes.
    """
    if bytes_of(variable) < LARGE:
        return np.array(variable.numpy())
    array = np.asarray(variable.read_value()).view()
    array.flags.writeable = False
    return array


def _is_uniform(array: np.ndarray[Any, Any]) -> bool:
    """Return whether all numbers are the same, bit by bit."""
    kind = _BITS.get(array.dtype.itemsize)
    if kind is None or not array.flags.c_contiguous:
        return False
    bits = array.reshape(-1).view(kind)
    pieces = (bits[at : at + _PIECE] for at in range(0, bits.size, _PIECE))
    return all(bool((piece == bits[0]).all()) for piece in pieces)
