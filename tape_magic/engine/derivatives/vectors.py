"""Vectors for sources and outputs: what the user gives as a vector, turned into a tensor for each leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tape_magic.engine.values.leaves import is_unbuilt, leaves_of, module_leaves
from tape_magic.engine.values.objects import parts_of_object
from tape_magic.engine.values.tensors import is_module, is_variable, tf_variable
from tape_magic.errors import SourceError, a_kind

Pair = tuple[Any, Any]
"""A primal, which is a tensor or variable to differentiate by; and its tangent, alike in shape and dtype."""


def copied(vector: Any) -> Any:
    """Return a copy of a vector, which stays as it is when the program changes variables or arrays in it."""
    import tensorflow as tf

    if is_variable(vector):
        return tf.identity(tf_variable(vector))
    if isinstance(vector, np.ndarray):
        return vector.copy()
    if isinstance(vector, Mapping):
        return {key: copied(item) for key, item in vector.items()}
    return [copied(item) for item in vector] if isinstance(vector, list | tuple) else vector


def primals_and_tangents(value: Any, vector: Any, name: str, called: str) -> Iterator[Pair]:
    """Yield each leaf of a source with the part of the vector that belongs to it.

    Parameters
    ----------
    value
        The source, or the output: a tensor, variable or model, or a structure of these.
    vector
        For a tensor or variable, a number, array or tensor of its shape. For a structure, a list, tuple or
        dict of such vectors, in which ``None`` counts as zeros. For a model, a list in the order of its
        variables, or a dict by their paths.
    name, called
        Names of the source or output and of the vector, for messages.

    Raises :class:`SourceError` where the vector does not fit.
    """
    if held := parts_of_object(value):
        given = parts_of_object(vector) or vector
        yield from _each(value, held, given, name, called, "{}.{}")
    elif is_module(value):
        if is_unbuilt(value):
            raise SourceError(f"{name} makes its variables in the cell: build it in a cell above.")
        leaves = module_leaves(value)
        inner: Any = {leaf.name: leaf.owner for leaf in leaves}
        if isinstance(vector, list | tuple) and len(vector) == len(leaves):
            vector = dict(zip(inner, vector, strict=True))
        yield from _each(value, inner, vector, name, called)
    elif isinstance(value, dict):
        yield from _each(value, value, vector, name, called)
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(vector)) if isinstance(vector, list | tuple) else vector
        yield from _each(value, dict(enumerate(value)), parts, name, called)
    else:
        like = tf_variable(value) if is_variable(value) else value
        yield like, _tensor(vector, like, name, called)


def _each(
    value: Any, items: Mapping[Any, Any], vectors: Any, name: str, called: str, form: str = "{}[{!r}]"
) -> Iterator[Pair]:
    """Yield the pairs of all items of a structure. Raises :class:`SourceError` for other or missing keys.

    `form` is how the place of an item is written.
    """
    import tensorflow as tf

    if not isinstance(vectors, Mapping) or set(vectors) != set(items):
        inside = ", ".join(str(key) for key in list(items)[:8])
        raise SourceError(
            f"{called} does not fit {name}, {a_kind(value)} that holds {inside}: "
            f"give a {'list' if isinstance(value, list | tuple) or is_module(value) else 'dict'} of as many."
        )
    for key, item in items.items():
        if vectors[key] is None:
            zeros = [(leaf.value, tf.zeros_like(leaf.value)) for leaf in leaves_of(item, name)]
            yield from zeros
        else:
            places = form.format(name, key), form.format(called, key)
            yield from primals_and_tangents(item, vectors[key], *places)


def _tensor(vector: Any, like: Any, name: str, called: str) -> Any:
    """Return a vector as a tensor of the dtype of `like`. Raises :class:`SourceError` for another shape."""
    import tensorflow as tf

    if isinstance(vector, tf.IndexedSlices):
        vector = tf.convert_to_tensor(vector)
    if is_variable(vector):
        vector = tf_variable(vector)
    try:
        # tf.constant makes float32 of a list of floats, and float64 of the array that NumPy makes of it.
        given = vector if tf.is_tensor(vector) else tf.constant(np.asarray(vector))
    except (TypeError, ValueError):
        raise SourceError(f"{called} is {a_kind(vector)}, not numbers.") from None
    if given.dtype == tf.string:
        raise SourceError(f"{called} is {a_kind(vector)}, not numbers.")
    if tuple(given.shape) != tuple(like.shape):
        raise SourceError(
            f"{called} is of shape {tuple(given.shape)}, and {name} of shape {tuple(like.shape)}: "
            "give a vector of the same shape."
        )
    if given.dtype.is_complex and not like.dtype.is_complex:
        raise SourceError(f"{called} is complex, and {name} is {like.dtype.name}: give a real vector.")
    return tf.cast(given, like.dtype)
