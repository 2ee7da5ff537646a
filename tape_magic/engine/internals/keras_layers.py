"""Keras layers: the layers within one, and layers that compute in float64 for a while.

Keras has a public list of the layers of a model, and none of the layers that a layer of the user's holds. Nor
does it have a public way to change the dtype of a layer that is built (seen in Keras 3.15).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any


def inner_layers(layer: Any) -> list[Any] | None:
    """Return all layers within a layer, at any depth; ``None`` where this Keras does not tell."""
    flatten = getattr(layer, "_flatten_layers", None)
    return None if flatten is None else list(flatten(include_self=False))


def widen(
    layers: Iterable[Any], variables: Iterable[Any], double_of: Callable[[str], str | None], back: ExitStack
) -> None:
    """Put layers and Keras variables into double precision until `back` is closed, with their present values.

    `double_of` gives the dtype of double precision for a narrower one, and ``None`` for any other.

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
            if double_of(inner.compute_dtype) is not None:
                _replace(inner, "_dtype_policy", policy, back)
    for variable in found.values():
        wide = double_of(variable.dtype)
        if wide is not None:
            held = variable._value
            name = str(held.name).removesuffix(":0")  # reports name the variable by it
            value = tf.Variable(tf.cast(held, wide), trainable=variable.trainable, name=name)
            _replace(variable, "_value", value, back)
            _replace(variable, "_dtype", wide, back)


def _replace(owner: Any, name: str, value: Any, back: ExitStack) -> None:
    back.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
