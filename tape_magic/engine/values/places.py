"""The object at a place such as `layer.kernel` or `p['w']`."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tape_magic.engine.values.refusals import is_symbolic_attribute, symbolic_refusal
from tape_magic.engine.values.tensors import is_tensor, is_variable
from tape_magic.errors import SourceError, a_kind, closest
from tape_magic.syntax import place

_NO_PLACES = types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, type


def look_up(name: str, namespace: Mapping[str, Any], also: Iterable[str] = ()) -> Any:
    """Return the object at a place. Raises :class:`SourceError` when there is nothing.

    `also` are further names for the suggestion of the closest one.
    """
    base, tree = place(name)
    if base not in namespace:
        raise SourceError(undefined(base, namespace, also))
    return object_at(tree, namespace, name)


def undefined(name: str, namespace: Mapping[str, Any], also: Iterable[str] = ()) -> str:
    """Return the sentence that a name is not defined, with the closest of those that a place can begin with.

    No module and no function holds what is differentiated by: `tf` is not meant by `t`.
    """
    # A list first, since other threads may add names to a namespace meanwhile.
    held = [one for one, value in list(namespace.items()) if not isinstance(value, _NO_PLACES)]
    return f"{name} is not defined{closest(name, [*also, *held])}"


def key_of_part(tree: ast.Attribute | ast.Subscript, owner: Any) -> Any:
    """Return the key of an item that a syntax tree gives, for a field of a named tuple its index.

    ``None`` for any other attribute.
    """
    if isinstance(tree, ast.Subscript):
        return ast.literal_eval(tree.slice)
    fields = getattr(type(owner), "_fields", ()) if isinstance(owner, tuple) else ()
    return fields.index(tree.attr) if tree.attr in fields else None


def object_at(tree: ast.expr, namespace: Mapping[str, Any], name: str) -> Any:
    """Return the object at a place, given as a syntax tree and written `name`; raise as :func:`look_up`."""
    if isinstance(tree, ast.Name):
        return namespace[tree.id]
    assert isinstance(tree, ast.Attribute | ast.Subscript)
    owner = object_at(tree.value, namespace, name)
    text = ast.unparse(tree.value)
    if isinstance(tree, ast.Attribute):
        if not hasattr(owner, tree.attr):
            if is_symbolic_attribute(owner, tree.attr):
                raise SourceError(symbolic_refusal(f"{text}.{tree.attr}", planned=False))
            near = closest(tree.attr, (name for name in dir(owner) if name != tree.attr))
            raise SourceError(f"{text} is {a_kind(owner)} and has no {tree.attr}{near}")
        return getattr(owner, tree.attr)
    key = ast.literal_eval(tree.slice)
    if is_tensor(owner) or is_variable(owner) or isinstance(owner, np.ndarray):
        raise SourceError(
            f"{name} is a part of {text}, and a part is a new tensor that nothing was computed from: "
            f"differentiate by {text} and take {ast.unparse(tree.slice)} of the result."
        )
    try:
        return owner[key]
    except Exception:
        raise SourceError(f"{text} is {a_kind(owner)} and has no {key!r}") from None
