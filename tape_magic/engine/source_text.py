"""The text of the user's functions and cells, as syntax trees."""

from __future__ import annotations

import ast
import contextlib
import linecache
import types
from functools import lru_cache
from typing import Any


def tree_of(filename: str, lines: tuple[int, int]) -> ast.Module | None:
    """The statements of a cell, or of the function that begins on the first of `lines`.

    Parameters
    ----------
    filename
        As ``linecache`` knows it.
    lines
        The first line of the function, as its code object has it, and 0; (0, 0) for all of the file.
    """
    tree = _parsed("".join(linecache.getlines(filename)))
    if tree is None or lines == (0, 0):
        return tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda) and _first_line(node) == lines[0]:
            return body_of(node)
    return tree


def body_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.Module:
    """The statements of a function; a lambda is one expression."""
    body: list[ast.stmt] = [_expression(node.body)] if isinstance(node, ast.Lambda) else node.body
    return ast.Module(body, type_ignores=[])


def unwrapped(value: Any) -> Any:
    """What ``tf.function`` wraps, or the value itself.

    The type is asked, since an object of the user's may do anything when it is asked for an attribute.
    """
    return value.python_function if hasattr(type(value), "python_function") else value


def function_behind(value: Any) -> types.FunctionType | None:
    """The Python function that a call of a value runs, if there is one: a layer's is its ``call``."""
    value = unwrapped(value)
    if not isinstance(value, types.FunctionType | types.MethodType):
        kind = type(value)
        value = getattr(kind, "call", None) or vars(kind).get("__call__")
    function = getattr(value, "__func__", value)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function if isinstance(function, types.FunctionType) else None


def closure_of(function: Any) -> dict[str, Any]:
    """The values of the names that a function closes over; of a method, also the object it belongs to."""
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    bound = [function.__self__] if hasattr(function, "__self__") else []
    known = dict(zip(code.co_varnames[: code.co_argcount], bound, strict=False))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it has no value yet
            known[name] = cell.cell_contents
    return known


@lru_cache(maxsize=16)
def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _expression(value: ast.expr) -> ast.stmt:
    return ast.copy_location(ast.Expr(value), value)


def _first_line(node: ast.FunctionDef | ast.Lambda) -> int:
    """As code objects have it: decorators count."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])
