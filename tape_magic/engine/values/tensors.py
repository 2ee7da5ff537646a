"""Predicates and contents of tensors and variables; tensors as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from tape_magic.engine.values.introspection import is_a

Array = np.ndarray[Any, Any]


def to_array(tensor: Any) -> Array:
    """Return the numbers of a tensor: half precision widened, the tensors of a list one after the other."""
    import tensorflow as tf

    if tensor.dtype == tf.variant:
        return _of_list(tensor)
    if tensor.dtype in (tf.bfloat16, tf.float16):
        tensor = tf.cast(tensor, tf.float32)
    return np.asarray(tf.convert_to_tensor(tensor))


def is_finite(tensor: Any) -> bool:
    """Return whether a tensor is finite; ``None``, integers and objects without a dtype count as finite."""
    import tensorflow as tf

    if tensor is None or not hasattr(tensor, "dtype"):
        return True
    if not (tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype == tf.variant):
        return True
    return bool(np.isfinite(to_array(tensor)).all())


def _of_list(handle: Any) -> Array:
    """Return the numbers in a list of tensors, as loops within a graph keep; none for any other handle."""
    import tensorflow as tf

    for dtype in (tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.complex64, tf.complex128):
        for read in (_stacked, _one_by_one):
            with suppress(tf.errors.InvalidArgumentError):  # another dtype, many shapes, or no list
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


def is_variable(value: Any) -> bool:
    """Return whether a value is a ``tf.Variable`` or a Keras variable."""
    import keras
    import tensorflow as tf

    return is_a(value, tf.Variable | keras.Variable)


def is_keras_variable(value: Any) -> bool:
    """Return whether a value is a Keras variable, which holds a ``tf.Variable``."""
    import keras

    return is_a(value, keras.Variable)


def is_module(value: Any) -> bool:
    """Return whether a value is a model, a layer, or any other ``tf.Module``."""
    import keras
    import tensorflow as tf

    return is_a(value, tf.Module | keras.Layer)


def is_layer(value: Any) -> bool:
    """Return whether a value is a Keras layer or model."""
    import keras

    return is_a(value, keras.Layer)


def is_loss(value: Any) -> bool:
    """Return whether a value is a Keras loss, which computes in a dtype of its own."""
    import keras

    return is_a(value, keras.Loss)


def is_tensor(value: Any) -> bool:
    """Return whether a value is a dense tensor."""
    import tensorflow as tf

    return is_a(value, tf.Tensor)


def is_liftable(value: Any) -> bool:
    """Return whether a value is a float or complex number or array, which no tape can watch as it is."""
    return is_a(value, float | complex | np.inexact) or (
        is_a(value, np.ndarray) and np.issubdtype(value.dtype, np.inexact)
    )


def tf_variable(variable: Any) -> Any:
    """Return the ``tf.Variable`` that a variable is or holds: a tape rejects Keras variables.

    Of a variable with a copy on each device of a strategy, that is the first copy, which graphs read.
    """
    import tensorflow as tf

    held = variable if isinstance(variable, tf.Variable) else variable.value
    if isinstance(held, tf.distribute.DistributedValues):
        return held.distribute_strategy.experimental_local_results(held)[0]
    return held


def read_all(variables: Iterable[Any]) -> list[Any]:
    """Return the present values of variables; TensorFlow copies each only when it is next assigned.

    The raw operation is called, since `read_value` takes a tenth of a millisecond for each variable between
    two chunks, when no Python code is in the processor's caches.
    """
    import tensorflow as tf

    return [
        variable.read_value()
        if isinstance(variable, tf.distribute.DistributedValues)  # which have several handles
        else tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
        for variable in variables
    ]


def is_inexact(tensor: Any) -> bool:
    """Return whether a tensor or variable holds floating-point or complex numbers."""
    import tensorflow as tf

    dtype = tf.as_dtype(tensor.dtype)  # Keras variables have a name in its place
    return bool(dtype.is_floating or dtype.is_complex)
