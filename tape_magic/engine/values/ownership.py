"""What counts as the user's own, as opposed to a library's."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from tape_magic.engine.values.introspection import bases_of, is_a, members_of


def is_own(value: Any, home: Mapping[str, Any]) -> bool:
    """Return whether the module whose names are `home` defines a function, a class or the class of an object.

    Everything else counts as a library's: its functions would lead through all of TensorFlow, and its
    containers keep accounts of their items.
    """
    if is_a(value, types.FunctionType):
        return value.__globals__ is home
    kind = value if is_a(value, type) else type(value)
    name: object = type.__getattribute__(kind, "__module__")  # a metaclass may answer with anything
    return isinstance(name, str) and name == home.get("__name__", "__main__")


def own_slots(kind: type, home: Mapping[str, Any]) -> list[types.MemberDescriptorType]:
    """Return the slots that the user's classes give the objects of a class."""
    members = [item for base in bases_of(kind) if is_own(base, home) for item in members_of(base).values()]
    return [item for item in members if type(item) is types.MemberDescriptorType]
