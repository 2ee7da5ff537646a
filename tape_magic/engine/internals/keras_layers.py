"""Keras layers: the layers within one, and layers that compute in float64 for a while.

Keras has a public list of the layers of a model, and none of the layers that a layer of the user's holds. Nor
does it have a public way to change the dtype of a layer that is built (seen in Keras 3.15).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

WIDE = {"float16": "float64", "bfloat16": "float64", "float32": "float64", "complex64": "complex128"}
"""The dtype that stands in for each narrower one."""


def inner_layers(layer: Any) -> list[Any] | None:
    """Return all layers within a layer, at any depth; ``None`` where this Keras does not tell."""
    flatten = getattr(layer, "_flatten_layers", None)
    return None if flatten is None else list(flatten(include_self=False))


def widen(layers: Iterable[Any], variables: Iterable[Any], back: ExitStack) -> None:
    """Have layers and Keras variables be of float64 until `back` is closed, with their present values.

    Where a private attribute used here is gone, this raises ``AttributeError``; `back` undoes what was
    changed before that, and the caller computes in the layer's own precision.
    """
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
            name = str(held.name).removesuffix(":0")  # reports name the variable by it
            value = tf.Variable(tf.cast(held, wide), trainable=variable.trainable, name=name)
            _replace(variable, "_value", value, back)
            _replace(variable, "_dtype", wide, back)


def _replace(owner: Any, name: str, value: Any, back: ExitStack) -> None:
    back.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
