"""Keras layers that compute in float64 for a while, by what Keras keeps to itself.

Keras has no public way to change the dtype of a layer that is built. Where the private names below are
gone, this raises ``AttributeError``, and the layer computes in its own precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

WIDE = {"float16": "float64", "bfloat16": "float64", "float32": "float64", "complex64": "complex128"}


def widen(layers: Iterable[Any], variables: Iterable[Any], back: ExitStack) -> None:
    """Have layers and Keras variables be of float64 until `back` is closed, with their present values."""
    import keras
    import tensorflow as tf

    policy = keras.DTypePolicy("float64")
    found = {id(variable): variable for variable in variables}
    for layer in layers:
        found |= {id(variable): variable for variable in layer.variables}
        for inner in layer._flatten_layers():
            if inner.compute_dtype in WIDE:
                _replace(inner, "_dtype_policy", policy, back)
    for variable in found.values():
        wide = WIDE.get(variable.dtype)
        if wide is not None:
            held = variable._value
            name = str(held.name).removesuffix(":0")  # by which it may be reported
            value = tf.Variable(tf.cast(held, wide), trainable=variable.trainable, name=name)
            _replace(variable, "_value", value, back)
            _replace(variable, "_dtype", wide, back)


def _replace(owner: Any, name: str, value: Any, back: ExitStack) -> None:
    back.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
