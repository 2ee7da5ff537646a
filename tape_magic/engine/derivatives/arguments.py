"""Arguments of a compiled function: turned into tensors, and put where the program reads them."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from tape_magic.engine.program.lifting import constant
from tape_magic.engine.values.leaves import item_name, rebuilt
from tape_magic.engine.values.places import object_at
from tape_magic.engine.values.refusals import source_refusal
from tape_magic.engine.values.tensors import is_module, is_tensor, is_variable, tf_variable
from tape_magic.errors import SourceError
from tape_magic.syntax import place


def as_tensors(value: Any, name: str, dtype: str, *, structured: bool) -> Any:
    """Return an argument as a tensor, or as a structure of tensors.

    Parameters
    ----------
    value
        A number, array, tensor or variable, or a dict, list or tuple of these.
    name
        Name of the parameter, for messages.
    dtype
        Name of the dtype that numbers and arrays become; tensors and variables keep theirs.
    structured
        Whether a list or tuple holds several tensors; if not, it is one array.

    Raises :class:`SourceError` for any other value.
    """
    import tensorflow as tf

    if is_variable(value):
        return tf.convert_to_tensor(tf_variable(value))
    if is_tensor(value):
        return value
    if isinstance(value, dict):
        return {
            key: as_tensors(item, item_name(value, name, key), dtype, structured=True)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple) and structured:
        items = [
            as_tensors(item, item_name(value, name, index), dtype, structured=True)
            for index, item in enumerate(value)
        ]
        return rebuilt(value, items)
    if is_module(value) or isinstance(value, bool | str | bytes):
        raise SourceError(source_refusal(value, name))
    try:
        numbers = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        numbers = np.asarray(None)
    if not np.issubdtype(numbers.dtype, np.number):
        raise SourceError(source_refusal(value, name))
    return constant(numbers, dtype)


def put(text: str, value: Any, namespace: dict[str, Any]) -> None:
    """Put a value at a place, into new containers that are bound to the place's name.

    The containers that stood there are copied, and stay as they are.

    >>> old = {"w": 1.0, "b": 2.0}
    >>> namespace = {"p": old}
    >>> put("p['w']", 3.0, namespace)
    >>> namespace, old
    ({'p': {'w': 3.0, 'b': 2.0}}, {'w': 1.0, 'b': 2.0})
    """
    _, tree = place(text)
    while isinstance(tree, ast.Subscript):
        owner, key = object_at(tree.value, namespace, text), ast.literal_eval(tree.slice)
        if isinstance(owner, tuple):
            items = list(owner)
            items[key] = value
            value = rebuilt(owner, items)
        else:
            changed = owner.copy()
            changed[key] = value
            value = changed
        tree = tree.value
    assert isinstance(tree, ast.Name)
    namespace[tree.id] = value


def parameter_name(text: str) -> str:
    """Return a place as an identifier.

    >>> parameter_name("p['w']")
    'p_w'
    """
    words = "".join(c if f"_{c}".isidentifier() else " " for c in text).split()
    return "_".join(words)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each repeated one with a number behind it.

    >>> distinct(["x", "x", "a"])
    ('x', 'x_1', 'a')
    """
    found: list[str] = []
    for name in names:
        number = next(n for n in itertools.count() if (f"{name}_{n}" if n else name) not in found)
        found.append(f"{name}_{number}" if number else name)
    return tuple(found)
