"""Cells in which AutoGraph would find nothing to convert, and so need not look: it takes its time."""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping
from typing import Any

_CONVERTED_NEVER = frozenset({"tensorflow", "keras", "numpy"})
"""Packages whose functions AutoGraph calls as they are."""

_NUMBERS = (type(None), bool, int, float, complex, str)

_PLAIN = (
    ast.Module,
    ast.Expr,
    ast.Assign,
    ast.Name,
    ast.Constant,
    ast.Attribute,
    ast.Subscript,
    ast.Slice,
    ast.Tuple,
    ast.List,
    ast.Call,
    ast.keyword,
    ast.BinOp,
    ast.operator,
    ast.UAdd,
    ast.USub,
    ast.Invert,
    ast.UnaryOp,
    ast.expr_context,
)


def needs_no_autograph(tree: ast.Module, namespace: Mapping[str, Any]) -> bool:
    """Whether a cell only assigns, reckons, and calls functions of TensorFlow, Keras and NumPy.

    A function, a layer or a method of the user's may hold an ``if`` on a tensor, and so may whatever
    calls it; whether it does is left to AutoGraph.

    >>> import numpy as np
    >>> needs_no_autograph(ast.parse("y = np.exp(x)**2"), {"np": np, "x": 1.0})
    True
    >>> needs_no_autograph(ast.parse("y = f(x)"), {"f": abs, "x": 1.0})
    False
    """
    known = {*namespace}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    return all(_plain(node, namespace, known) for node in ast.walk(tree))


def _plain(node: ast.AST, namespace: Mapping[str, Any], known: set[str]) -> bool:
    if not isinstance(node, _PLAIN):
        return False
    if isinstance(node, ast.Name):
        return node.id in known and _holds_no_code(namespace.get(node.id))
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Load)  # what is assigned to a place of a tensor is converted
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute)
    return _is_of_package(node, namespace) if isinstance(node, ast.Attribute) else True


def _holds_no_code(value: Any) -> bool:
    """A number, an array, a tensor, a variable or a module; a list may hold functions."""
    if type(value) in _NUMBERS or issubclass(type(value), types.ModuleType):
        return True
    if type(value).__module__.partition(".")[0] not in _CONVERTED_NEVER:
        return False  # and not asked for anything, which an object of the user's may answer with an error
    of_objects = getattr(getattr(value, "dtype", None), "hasobject", False)
    return not (callable(value) or of_objects)


def _is_of_package(node: ast.Attribute, namespace: Mapping[str, Any]) -> bool:
    root: ast.expr = node
    while isinstance(root, ast.Attribute):
        root = root.value
    module = namespace.get(root.id) if isinstance(root, ast.Name) else None
    return isinstance(module, types.ModuleType) and module.__name__.partition(".")[0] in _CONVERTED_NEVER
