"""A vector for a source, of the same structure and shape: what the user gave → tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tape_magic.engine.values.leaves import is_unbuilt, leaves_of, module_leaves
from tape_magic.engine.values.tensors import is_module, is_variable, tf_variable
from tape_magic.errors import SourceError, a_kind

Pair = tuple[Any, Any]
"""What is watched, and the tensor of its shape and dtype."""


def snapshot(vector: Any) -> Any:
    """The vector as it is now, whatever the program does to variables and arrays in it."""
    import tensorflow as tf

    if is_variable(vector):
        return tf.identity(tf_variable(vector))
    if isinstance(vector, np.ndarray):
        return vector.copy()
    if isinstance(vector, Mapping):
        return {key: snapshot(item) for key, item in vector.items()}
    return [snapshot(item) for item in vector] if isinstance(vector, list | tuple) else vector


def paired(value: Any, vector: Any, name: str, called: str) -> Iterator[Pair]:
    """Each leaf of a source with its part of the vector; ``None`` in a structure counts as zeros.

    Parameters
    ----------
    value
        What stands at the source's place.
    vector
        A number, array or tensor for an array; a list, tuple or dict of these for a structure; for a
        model a list in the order of its variables, or a dict by their paths.
    name, called
        Of the source, and of the vector, for messages.

    Raises :class:`SourceError` where the two do not fit.
    """
    if is_module(value):
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


def _each(value: Any, items: Mapping[Any, Any], vectors: Any, name: str, called: str) -> Iterator[Pair]:
    import tensorflow as tf

    if not isinstance(vectors, Mapping) or set(vectors) != set(items):
        inside = ", ".join(str(key) for key in list(items)[:8])
        raise SourceError(
            f"{called} does not fit {name}, {a_kind(value)} that holds {inside}: "
            f"give a {'dict' if isinstance(value, dict) else 'list'} of as many."
        )
    for key, item in items.items():
        if vectors[key] is None:
            zeros = [(leaf.value, tf.zeros_like(leaf.value)) for leaf in leaves_of(item, name)]
            yield from zeros
        else:
            yield from paired(item, vectors[key], f"{name}[{key!r}]", f"{called}[{key!r}]")


def _tensor(vector: Any, like: Any, name: str, called: str) -> Any:
    import tensorflow as tf

    if isinstance(vector, tf.IndexedSlices):
        vector = tf.convert_to_tensor(vector)
    if is_variable(vector):
        vector = tf_variable(vector)
    try:
        # By way of NumPy, since TensorFlow would round a list of floats to float32.
        given = vector if tf.is_tensor(vector) else tf.constant(np.asarray(vector))
    except (TypeError, ValueError):
        raise SourceError(f"{called} is {a_kind(vector)}, not numbers.") from None
    if given.dtype == tf.string:
        raise SourceError(f"{called} is {a_kind(vector)}, not numbers.")
    if tuple(given.shape) != tuple(like.shape):
        raise SourceError(
            f"{called} is of shape {tuple(given.shape)}, and {name} of shape {tuple(like.shape)}: "
            "a vector has the shape of its source."
        )
    if given.dtype.is_complex and not like.dtype.is_complex:
        raise SourceError(f"{called} is complex, and {name} is {like.dtype.name}: give a real vector.")
    return tf.cast(given, like.dtype)
