"""Objects that stand for what they hold: dataclasses, namespaces, and objects of the user's classes.

Attributes are read and written past the object's own methods, so that a source runs no code of the user's.
"""

from __future__ import annotations

import abc
import argparse
import itertools
import sys
import types
import typing
from typing import Any

from tape_magic.engine.values.functions import is_users
from tape_magic.engine.values.introspection import (
    attributes_of,
    bases_of,
    elements_of,
    is_a,
    members_of,
    pairs_of,
)
from tape_magic.engine.values.tensors import (
    is_inexact,
    is_layer,
    is_liftable,
    is_module,
    is_tensor,
    is_variable,
)

_NEUTRAL = (object, abc.ABC, typing.Generic, typing.Protocol)
"""Bases that give an object nothing to hold."""

_NOTHING, _NUMBER, _TENSOR, _VARIABLE = range(4)

_MOST = 1000
"""The most items of a list or dict that are looked at to tell of what kind it is."""

TRACKING = "_self_"
"""How the attributes begin that TensorFlow adds to a ``tf.Module`` for its own accounts."""


def parts_of_object(value: Any, within: frozenset[int] = frozenset()) -> dict[str, Any]:
    """Return the attributes that an object stands for as a source, by their names; none for anything else.

    Objects are dataclasses and other records, those of classes that the user wrote, and a ``tf.Module``
    without variables. Of a record, all fields count that hold a variable, tensor, float or array; of any
    other object, the attributes of the best kind that it has: trainable variables and layers, or else
    tensors, or else floats and arrays. A setting such as a learning rate, beside variables, is no source.

    A ragged or sparse tensor stands for the tensor of its numbers.

    `within` are the identities of objects that hold this one, and that it may refer back to.
    """
    if is_variable(value) or is_tensor(value):  # by far the most; all else takes longer to tell
        return {}
    if is_composite(value):
        part = _part_of_composite(value)
        return {part: getattr(value, part)} if is_inexact(value) else {}
    if not _is_object(value):
        return {}
    held = _attributes(value)
    ranks = {name: _rank(item, within | {id(value)}) for name, item in held.items()}
    least = _NUMBER if _is_record(value) else max(_NUMBER, *ranks.values(), _NUMBER)
    return {name: item for name, item in held.items() if ranks[name] >= least}


def is_composite(value: Any) -> bool:
    """Return whether a value is a ragged or sparse tensor, which keeps its numbers in a dense one."""
    import tensorflow as tf

    return is_a(value, tf.RaggedTensor | tf.SparseTensor)


def _part_of_composite(value: Any) -> str:
    return "flat_values" if hasattr(value, "flat_values") else "values"


def with_numbers(value: Any, attribute: str, numbers: Any) -> Any:
    """Return a ragged or sparse tensor with other numbers in the place of one of its attributes."""
    import tensorflow as tf

    if attribute not in ("flat_values", "values"):
        raise AttributeError(attribute)
    if is_a(value, tf.SparseTensor):
        return tf.SparseTensor(value.indices, numbers, value.dense_shape)
    return value.with_flat_values(numbers) if attribute == "flat_values" else value.with_values(numbers)


def put_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute of the object itself, one of a frozen dataclass, too.

    Raises ``AttributeError`` or ``TypeError`` where the object has no place for it.
    """
    if name in attributes_of(owner) or _slot(owner, name) is not None:
        object.__setattr__(owner, name, value)
    else:
        setattr(owner, name, value)


def rebuilt_object(like: Any, parts: dict[str, Any]) -> Any:
    """Return a copy of a record or composite tensor with other parts, and of any other object a dict."""
    if is_composite(like):
        ((part, numbers),) = parts.items()
        return None if numbers is None else with_numbers(like, part, numbers)
    if not _field_names(type(like)):
        return type(like)(**parts) if is_namespace(like) else parts
    copy = object.__new__(type(like))
    for name, item in (_attributes(like) | parts).items():
        object.__setattr__(copy, name, item)
    return copy


def _is_object(value: Any) -> bool:
    if is_module(value):
        return not is_layer(value) and not value.variables
    if is_variable(value) or is_tensor(value) or is_a(value, list | tuple | dict):
        return False
    return _is_record(value) or is_users_own(type(value))


def _is_record(value: Any) -> bool:
    """Return whether an object is a dataclass, of a class of ``attrs``, or a namespace."""
    return bool(_field_names(type(value))) or is_namespace(value)


def is_namespace(value: Any) -> bool:
    """Return whether an object of a library's class is nothing but the attributes that it was given."""
    return is_a(value, types.SimpleNamespace | argparse.Namespace)


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that an object itself holds, in their order."""
    kind = type(value)
    names = _field_names(kind)
    if not names:
        slots = [name for base in reversed(bases_of(kind)) for name in _slots_of(base)]
        names = [name for name in (*attributes_of(value), *slots) if not name.startswith(("__", TRACKING))]
    found = {}
    for name in names:
        if name in attributes_of(value):
            found[name] = attributes_of(value)[name]
        elif (slot := _slot(value, name)) is not None:
            try:
                found[name] = slot.__get__(value)
            except AttributeError:  # it is empty
                continue
    return found


def _field_names(kind: type) -> list[str]:
    """Return the names of the fields of a dataclass or of a class of ``attrs``; none for any other class."""
    for base in bases_of(kind):
        members = members_of(base)
        if "__dataclass_fields__" in members:
            return list(members["__dataclass_fields__"])
        if "__attrs_attrs__" in members:
            return [str(field.name) for field in members["__attrs_attrs__"]]
    return []


def _slots_of(base: type) -> list[str]:
    return [name for name, item in members_of(base).items() if type(item) is types.MemberDescriptorType]


def _slot(value: Any, name: str) -> types.MemberDescriptorType | None:
    for base in bases_of(type(value)):
        item = members_of(base).get(name)
        if type(item) is types.MemberDescriptorType:
            return item
    return None


def is_users_own(kind: type) -> bool:
    """Return whether a class, and all that it inherits from, was written by the user."""
    bases = [base for base in bases_of(kind) if not any(base is neutral for neutral in _NEUTRAL)]
    return bool(bases) and all(map(_is_users, bases))


def _is_users(kind: type) -> bool:
    name: object = type.__getattribute__(kind, "__module__")
    if name == "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None) if isinstance(name, str) else None
    return isinstance(file, str) and is_users(file)


def _rank(value: Any, seen: frozenset[int]) -> int:
    """Return the best kind of source in a value; `seen` are objects that are being looked into."""
    if is_variable(value):
        return (_VARIABLE if value.trainable else _TENSOR) if is_inexact(value) else _NOTHING
    if is_tensor(value):
        return _TENSOR if is_inexact(value) else _NOTHING
    if is_composite(value):
        return _TENSOR if is_inexact(value) else _NOTHING
    if is_liftable(value):
        return _NUMBER
    if id(value) in seen:
        return _NOTHING
    if is_module(value) and not _is_object(value):
        return _VARIABLE if value.trainable_variables or not getattr(value, "built", True) else _NOTHING
    inside: list[Any] = []
    if is_a(value, dict):
        inside = [item for _, item in itertools.islice(pairs_of(value), _MOST)]
    elif is_a(value, list | tuple):
        inside = list(itertools.islice(elements_of(value), _MOST))
    elif _is_object(value):
        inside = list(_attributes(value).values())
    seen |= {id(value)}
    return max((_rank(item, seen) for item in inside), default=_NOTHING)
