"""Keras layers that compute in float64 for a while, by what Keras keeps to itself.

Keras has no public way to change the dtype of a layer that is built. Where the private names below are
gone, this raises ``AttributeError``, and the layer computes in its own precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any


def widen(
    layers: Iterable[Any], variables: Iterable[Any], double_of: Callable[[str], str | None], back: ExitStack
) -> None:
    """Put layers and Keras variables into double precision until `back` is closed, with their present values.

    `double_of` gives the dtype of double precision for a narrower one, and ``None`` for any other.
    """
    import keras
    import tensorflow as tf

    policy = keras.DTypePolicy("float64")
    found = {id(variable): variable for variable in variables}
    for layer in layers:
        found |= {id(variable): variable for variable in layer.variables}
        for inner in layer._flatten_layers():
            if double_of(inner.compute_dtype) is not None:
                _replace(inner, "_dtype_policy", policy, back)
    for variable in found.values():
        wide = double_of(variable.dtype)
        if wide is not None:
            held = variable._value
            name = str(held.name).removesuffix(":0")  # by which it may be reported
            value = tf.Variable(tf.cast(held, wide), trainable=variable.trainable, name=name)
            _replace(variable, "_value", value, back)
            _replace(variable, "_dtype", wide, back)


def _replace(owner: Any, name: str, value: Any, back: ExitStack) -> None:
    back.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
