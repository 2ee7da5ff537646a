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


DoubleOf = Callable[[str], str | None]
"""Gives the dtype of double precision for a narrower one, and ``None`` for any other."""


def widen(parts: Iterable[Any], variables: Iterable[Any], double_of: DoubleOf, back: ExitStack) -> None:
    """Put layers, losses and Keras variables into double precision until `back` is closed.

    The variables keep their present values. Where a private attribute used here is gone, this raises
    ``AttributeError``; `back` undoes what was changed before that, and the caller computes in the layer's own
    precision. What a model casts its inputs to is left alone where this Keras keeps it elsewhere.

    Parameters
    ----------
    parts, variables
        Layers, models and losses, and further variables.
    double_of, back
        What is narrow, and what undoes the changes.
    """
    import keras
    import tensorflow as tf

    policy = keras.DTypePolicy("float64")
    if double_of(keras.config.floatx()) is not None:
        # What the user's code makes meanwhile, as a loss, has this dtype; so have the losses of a model that
        # was compiled with a name.
        back.callback(keras.config.set_floatx, keras.config.floatx())
        keras.config.set_floatx("float64")
    found = {id(variable): variable for variable in variables}
    for part in parts:
        if isinstance(part, keras.Loss):
            _widen_dtype(part, double_of, back)
            continue
        found |= {id(variable): variable for variable in part.variables}
        for inner in part._flatten_layers():
            if double_of(inner.compute_dtype) is not None and inner.quantization_mode is None:
                _replace(inner, "_dtype_policy", policy, back)
            _widen_inputs(inner, double_of, back)
    for variable in found.values():
        wide = double_of(variable.dtype)
        if wide is not None:
            held = variable._value
            name = str(held.name).removesuffix(":0")  # reports name the variable by it
            value = tf.Variable(tf.cast(held, wide), trainable=variable.trainable, name=name)
            _replace(variable, "_value", value, back)
            _replace(variable, "_dtype", wide, back)


def _widen_inputs(layer: Any, double_of: DoubleOf, back: ExitStack) -> None:
    """Have a layer keep the double precision of its inputs.

    A functional model casts its inputs to the dtypes of the symbolic inputs that it was made with, a
    `Sequential` to that of its input layer, whatever their policies say. Besides, a model made of layers of
    several policies has casts among its operations (seen in Keras 3.15).
    """
    import keras

    if isinstance(layer, keras.layers.InputLayer):
        _widen_dtype(layer, double_of, back)
    within = getattr(layer, "_functional", None)  # the functional model that a `Sequential` calls
    for model in (layer, within):
        for tensor in getattr(model, "_inputs", None) or ():
            _widen_dtype(tensor, double_of, back)
        for operation in getattr(model, "_operations", None) or ():
            if not isinstance(operation, keras.Layer):
                _widen_dtype(operation, double_of, back)


def _widen_dtype(owner: Any, double_of: DoubleOf, back: ExitStack) -> None:
    """Replace the dtype that an object keeps as a string, if it is narrow."""
    name = next((name for name in ("_dtype", "dtype") if isinstance(vars(owner).get(name), str)), None)
    wide = None if name is None else double_of(vars(owner)[name])
    if name is not None and wide is not None:
        _replace(owner, name, wide, back)


def _replace(owner: Any, name: str, value: Any, back: ExitStack) -> None:
    back.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
