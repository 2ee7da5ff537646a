"""Why an object is no source, and what to do about it: one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from tape_magic.engine.values.introspection import attributes_of, is_a
from tape_magic.engine.values.tensors import is_layer, is_module, is_tensor, is_variable, tf_variable
from tape_magic.errors import a_kind

_SELECTING = frozenset({"embedding_lookup", "gather", "gather_nd", "one_hot"})
"""Functions of TensorFlow and Keras that take indices."""

_BY_WHAT_THEY_SELECT = "differentiate by what they select, such as an embedding's output"


def source_refusal(value: Any, name: str) -> str:
    """Return why `value` is no source, in one sentence."""
    import keras
    import tensorflow as tf

    if is_variable(value) or is_tensor(value):
        return _of_tensor(value, name)
    if isinstance(value, bool | np.bool_ | str | bytes):
        return f"{name} is the {type(value).__name__} {value!r:.40}, which has no derivative."
    if isinstance(value, int | np.integer):
        # An integer may have thousands of digits.
        shown = str(value) if abs(int(value)) < 10**15 else "3"
        return f"{name} is an integer, and integers have no derivative: write {name} = {shown}.0"
    if isinstance(value, np.ndarray):
        return _of_array(value, name)
    if is_a(value, keras.KerasTensor):
        return symbolic_refusal(name)
    if is_a(value, tf.RaggedTensor | tf.SparseTensor):
        return f"{name} is {a_kind(value)} of {value.dtype.name}, which has no derivative."
    cure = ""
    if hasattr(type(value), "__array__"):  # a series, an image, another library's tensor
        cure = f": write {name} = np.asarray({name}, 'float32')"
    elif hasattr(type(value), "__float__"):  # a fraction or a decimal
        cure = f": write {name} = float({name})"
    return f"{name} is {a_kind(value)}, which has no derivative{cure}" + (
        "."
        if cure
        else "; sources are variables, float tensors, floats, arrays, layers and models, and lists, tuples, "
        "dicts or objects that hold them."
    )


def symbolic_refusal(name: str, *, planned: bool = True) -> str:
    """Return why the symbolic input or output of a model or layer is no source, and what is.

    `planned` tells whether the layer is part of a model that was made from such inputs and outputs.
    """
    found = re.fullmatch(r"(.+)\.(inputs?|outputs?)(\[.*\])?", name, re.DOTALL)
    owner, attribute = (found[1], found[2]) if found else ("model", "input")
    what = f"{name} {'belongs to the plan of a model, and ' if planned else ''}has no value"
    if attribute.startswith("input"):
        return f"{what}: differentiate by what the cell calls {owner} with, as x in y = {owner}(x)."
    if not planned:
        return f"{what}: have the cell compute it under a name, as in h = {owner}(x), and differentiate by h."
    model = owner.partition(".layers[")[0] if ".layers[" in owner else "model"
    return (
        f"{what}: have the cell compute it, h, y = keras.Model({model}.inputs, "
        f"[{name}, *{model}.outputs])(x), and differentiate by h."
    )


def is_symbolic_attribute(owner: Any, attribute: str) -> bool:
    """Return whether an attribute is one that Keras gives a layer only once it is part of a model's plan."""
    return attribute in ("input", "inputs", "output", "outputs") and is_layer(owner)


def _of_tensor(value: Any, name: str) -> str:
    dtype = tf_variable(value).dtype if is_variable(value) else value.dtype
    what = f"{name} is {dtype.name}, and only floating-point numbers have a derivative"
    if not (dtype.is_integer or dtype.is_bool):
        return f"{what}: differentiate by numbers that are computed from it, such as an embedding's output."
    cast = f"tf.cast({name}, tf.float32)"
    cure = f"{what}: write {name} = {f'tf.Variable({cast})' if is_variable(value) else cast}"
    return cure + (f"; of indices, {_BY_WHAT_THEY_SELECT}." if _may_select(dtype, value) else ".")


def _of_array(value: np.ndarray[Any, Any], name: str) -> str:
    what = f"{name} is an array of {value.dtype}, which has no derivative"
    numbers = value.dtype.hasobject and all(is_a(item, int | float) for item in value.flat)
    if value.dtype.kind not in "biu" and not numbers:
        return f"{what}."
    more = f"; of indices, {_BY_WHAT_THEY_SELECT}." if _may_select(value.dtype, value) else "."
    return f"{what}: write {name} = {name}.astype('float32'){more}"


def _may_select(dtype: Any, value: Any) -> bool:
    """Return whether numbers of a type may be indices: images are of 8 bits, and a count has no axis."""
    return dtype.name in ("int32", "int64") and len(value.shape) > 0


def index_refusal(value: Any, name: str) -> str:
    """Return why indices are no source, where the program selects by them; empty for any other value."""
    if not (is_tensor(value) or isinstance(value, np.ndarray)) or not _may_select(value.dtype, value):
        return ""
    return f"{name} is {value.dtype.name}, and indices have no derivative: {_BY_WHAT_THEY_SELECT}."


def selects(values: Iterable[Any], mentions: Iterable[str]) -> bool:
    """Return whether a program that reads some values, and mentions some attributes, selects by indices."""
    return not _SELECTING.isdisjoint(mentions) or any(map(_embeds, values))


def _embeds(value: Any) -> bool:
    import keras

    if not is_layer(value):
        return False
    return is_a(value, keras.layers.Embedding) or any(map(_embeds, getattr(value, "layers", ())))


def is_untrained(value: Any) -> bool:
    """Return whether a value is a layer, model or module that has variables, and none of them trainable."""
    held = is_module(value) and (value.weights if is_layer(value) else value.variables)
    return bool(held) and not value.trainable_variables


def emptiness(value: Any, name: str) -> str:
    """Return why there is nothing to differentiate by, or minimise over, in a source without a leaf."""
    if not is_module(value):
        if is_a(value, list | tuple | dict):
            what = "is empty" if not len(value) else "holds nothing that has a derivative"
            return f"{name} {what}: there is no variable, tensor, float or array in it."
        return source_refusal(value, name)
    layer = is_layer(value)
    if not is_untrained(value):  # the variables of a layer, but not its weights, include random seeds
        own = [key for key, item in attributes_of(value).items() if is_variable(item) and key.isidentifier()]
        if layer and own:
            return (
                f"{name} has no variables that Keras knows of, since {own[0]} is a tf.Variable: "
                f"name it, {name}.{own[0]}, or make it with add_weight."
            )
        if layer and not value.built:
            return (
                f"{name} has no variables yet: a layer makes them when called, and the cell does not call it."
            )
        return f"{name} is {a_kind(value)} without variables: name a tensor that goes into it or comes out."
    what, one = f"{name} has no trainable variables", _one_of(value, name)
    if layer and not value.trainable:
        cure = f"set {name}.trainable = True{one and f', or name {one}'}"
        return f"{what} ({name}.trainable is False): {cure}."
    if getattr(value, "layers", None):
        return f"{what}: each of its layers is frozen, or has none; set trainable = True for one of them."
    return f"{what}, only such as are made with trainable=False{one and f': name {one}'}."


def _one_of(value: Any, name: str) -> str:
    """Return words for a variable of a layer or module that is an attribute; nothing where none is."""
    for variable in value.variables:
        own = str(variable.name).partition(":")[0].rpartition("/")[2]
        if own.isidentifier() and getattr(value, own, None) is variable:
            return f"one of its variables, such as {name}.{own}"
    return ""
