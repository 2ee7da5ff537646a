"""What an object is and holds, without running its code.

A cell names all kinds of objects beside the values that it computes with. Objects of the user's classes may
raise, load a file or never answer when asked: ``__class__`` can be a property, ``__iter__`` a query.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Any

Kinds = type | tuple[type, ...] | UnionType

_WRAPPERS = frozenset({"tensorflow", "keras", "wrapt"})
"""Libraries with wrappers that stand for a list or dict; such a wrapper has to be asked."""

_CONTAINERS: tuple[type, ...] = (OrderedDict, dict, list, tuple, set, frozenset, deque)


def is_a(value: Any, kinds: Kinds) -> bool:
    """Return ``isinstance(value, kinds)`` by the type of the object, whatever its ``__class__`` says.

    >>> is_a(1.0, float), is_a(1.0, str | bytes)
    (True, False)
    """
    return issubclass(type(value), kinds) or (is_proxy(value) and isinstance(value, kinds))


def pairs_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of key and item of a dict, past its own methods."""
    if is_proxy(value):
        pairs: Iterable[tuple[Any, Any]] = value.items()
        return pairs
    return OrderedDict.items(value) if is_a(value, OrderedDict) else dict.items(value)


def elements_of(value: Any) -> Iterator[Any]:
    """Return an iterator over the items of a list, tuple, set or deque, past its own methods.

    >>> list(elements_of((1, 2)))
    [1, 2]
    """
    if is_proxy(value):
        return iter(value)
    kind: Any = next(kind for kind in _CONTAINERS if is_a(value, kind))
    elements: Iterator[Any] = kind.__iter__(value)
    return elements


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of the object itself, an empty dict where it has no place for them."""
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return held if type(held) is dict else {}


def has_attributes(kind: type) -> bool:
    """Return whether the objects of a class have a place for attributes, beside their slots."""
    return bool(type.__getattribute__(kind, "__dictoffset__"))


def members_of(kind: type) -> Mapping[str, Any]:
    """Return the attributes of the class itself."""
    members: Mapping[str, Any] = type.__getattribute__(kind, "__dict__")
    return members


def bases_of(kind: type) -> tuple[type, ...]:
    """Return the class and all that it inherits from, in the order of lookup."""
    bases: tuple[type, ...] = type.__getattribute__(kind, "__mro__")
    return bases


def is_proxy(value: Any) -> bool:
    """Return whether an object may stand for another one, which then has to be asked what it is."""
    module = type.__getattribute__(type(value), "__module__")
    return isinstance(module, str) and module.partition(".")[0] in _WRAPPERS
