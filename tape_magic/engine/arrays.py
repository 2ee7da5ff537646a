"""Tensors as NumPy can judge them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def to_array(tensor: Any) -> Array:
    """The numbers of a tensor: half precision is widened, and those of a list stand one after the other."""
    import tensorflow as tf

    if tensor.dtype == tf.variant:
        return _of_list(tensor)
    if tensor.dtype in (tf.bfloat16, tf.float16):
        tensor = tf.cast(tensor, tf.float32)
    return np.asarray(tf.convert_to_tensor(tensor))


def is_finite(tensor: Any) -> bool:
    """Whether all of a tensor is finite; what is not there, or no floating-point number, counts as finite."""
    import tensorflow as tf

    if tensor is None or not hasattr(tensor, "dtype"):
        return True
    if not (tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype == tf.variant):
        return True
    return bool(np.isfinite(to_array(tensor)).all())


def _of_list(handle: Any) -> Array:
    """The numbers in a list of tensors, such as loops within a graph keep; none of anything else."""
    import tensorflow as tf

    for dtype in (tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.complex64, tf.complex128):
        for read in (_stacked, _one_by_one):
            with suppress(tf.errors.InvalidArgumentError):  # of another dtype or of many shapes, or no list
                return read(handle, dtype)
    return np.zeros(0)


def _stacked(handle: Any, dtype: Any) -> Array:
    import tensorflow as tf

    return to_array(
        tf.raw_ops.TensorListStack(input_handle=handle, element_shape=tf.constant(-1), element_dtype=dtype)
    )


def _one_by_one(handle: Any, dtype: Any) -> Array:
    import tensorflow as tf

    items = [
        tf.raw_ops.TensorListGetItem(
            input_handle=handle, index=index, element_shape=tf.constant(-1), element_dtype=dtype
        )
        for index in range(int(tf.raw_ops.TensorListLength(input_handle=handle)))
    ]
    return np.concatenate([np.zeros(0), *(to_array(item).reshape(-1) for item in items)])
