"""What a program does for good, so that it cannot run once more as if nothing had happened."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Iterator
from typing import Any

from tape_magic.engine.program.program import Text
from tape_magic.engine.static_analysis.impure_calls import Advice
from tape_magic.engine.static_analysis.side_effects import SideEffect, side_effects
from tape_magic.engine.static_analysis.statements import syntax_tree
from tape_magic.engine.values.functions import closure_of, is_users, mentioned_names
from tape_magic.engine.values.introspection import attributes_of

_DEPTH = 2
"""How many functions and objects may stand between a name in the text and what changes."""


def lasting_call(text: Text) -> SideEffect | None:
    """Return the first call that writes to a file, asks the user, or waits; ``None`` where there is none."""
    return next((one for one in side_effects(text) if one.cure in (Advice.ABOVE, Advice.BELOW)), None)


def changing_line(text: Text, value: Any) -> tuple[int, str] | None:
    """Return the first line that leads to an object, such as an iterator that advances, and its name.

    For ``n = next(rows)`` on the second line, and the object ``rows``: ``(2, "rows")``.
    """
    tree = syntax_tree(text.filename, text.lines) if text.filename else None
    if tree is None:
        return None
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        if node.id in text.namespace:
            name = _path(value, node.id, text.namespace[node.id], _DEPTH)
            if name:
                return node.lineno, name
    return None


def _path(value: Any, name: str, held: Any, depth: int) -> str:
    """Return the name under which an object is found in what another name holds; empty where it is not."""
    if held is value:
        return name
    inner = _parts(name, held) if depth else ()
    return next((path for part, one in inner if (path := _path(value, part, one, depth - 1))), "")


def _parts(name: str, held: Any) -> Iterable[tuple[str, Any]]:
    """Return the names that a function of the user's leads to, or the attributes of an object."""
    function = getattr(held, "__func__", held) if isinstance(held, types.MethodType) else held
    if not isinstance(function, types.FunctionType):
        return [(f"{name}.{part}", one) for part, one in attributes_of(held).items()]
    return _names_of(function) if is_users(function.__code__.co_filename) else ()


def _names_of(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    yield from closure_of(function).items()
    for name in mentioned_names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
