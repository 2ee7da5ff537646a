"""Syntax trees of the user's functions and cells; the names that each statement reads and changes."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from typing import TypeGuard

# -- trees -----------------------------------------------------------------------------------------------


def syntax_tree(filename: str, lines: tuple[int, int]) -> ast.Module | None:
    """Return the statements of a cell or function; ``None`` where its text cannot be had or parsed.

    Parameters
    ----------
    filename
        The name of the file, under which ``linecache`` holds its text.
    lines
        The first line of a function as its code object numbers it, and 0; (0, 0) for the whole file.
    """
    tree = parsed("".join(linecache.getlines(filename)))
    if tree is None or lines == (0, 0):
        return tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda) and _first_line(node) == lines[0]:
            return function_body(node)
    return tree


def function_body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.Module:
    """Return the statements of a function; a lambda has one, its expression."""
    body: list[ast.stmt] = [_expression(node.body)] if isinstance(node, ast.Lambda) else node.body
    return ast.Module(body, type_ignores=[])


@lru_cache(maxsize=16)
def parsed(text: str) -> ast.Module | None:
    """Parse a text, once while it is among the last few."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _expression(value: ast.expr) -> ast.stmt:
    """Make a statement of an expression, on the same line."""
    return ast.copy_location(ast.Expr(value), value)


def _first_line(node: ast.FunctionDef | ast.Lambda) -> int:
    """Return the first line of a function as its code object numbers it: decorators belong to it."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def calls_within(node: ast.AST) -> list[ast.Call]:
    """Return the calls within a statement, the innermost first."""
    return list(reversed([part for part in ast.walk(node) if isinstance(part, ast.Call)]))


def depends_on_itself(statement: ast.AST, target: ast.expr) -> bool:
    """Return whether a statement leaves something else in its target each time that it is executed.

    ``c += 1``, ``c = c + 1`` and ``d['n'] = d.get('n', 0) + 1`` do; ``c = 1`` and ``obj.last = x - 1`` leave
    the same, however often they are executed with the same values of other names.
    """
    if isinstance(statement, ast.AugAssign | ast.Delete):
        return True
    value = getattr(statement, "value", getattr(statement, "iter", None))
    if value is None:
        return False
    owner = target if isinstance(target, ast.Name) else getattr(target, "value", target)
    text = ast.unparse(owner)
    other = {id(part.value) for part in ast.walk(value) if _is_another_part(part, target)}
    other -= {id(call.func.value) for call in calls_within(value) if isinstance(call.func, ast.Attribute)}
    return any(
        isinstance(part, type(owner)) and ast.unparse(part) == text and id(part) not in other
        for part in ast.walk(value)
    )


def _is_another_part(part: ast.AST, target: ast.expr) -> TypeGuard[ast.Attribute | ast.Subscript]:
    """Return whether a node reads another attribute, or another constant key, than a target's."""
    if isinstance(part, ast.Attribute):
        return not isinstance(target, ast.Attribute) or part.attr != target.attr
    if not (isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant)):
        return False
    if not (isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant)):
        return False
    return ast.dump(part.slice) != ast.dump(target.slice)


def stored_outside_functions(tree: ast.Module) -> frozenset[str]:
    """Return the names that a cell assigns outside of its functions and classes."""
    found: set[str] = set()
    queue: list[ast.AST] = list(tree.body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, ast.Lambda):
            queue += ast.iter_child_nodes(node)
    return frozenset(found)


# -- names -----------------------------------------------------------------------------------------------

_SHAPE_FUNCTIONS = frozenset({"get_shape", "len", "ones_like", "rank", "shape", "size", "zeros_like"})
_SHAPE_ATTRIBUTES = frozenset({"dtype", "ndim", "shape"})


def names_read(node: ast.AST) -> set[str]:
    """Return the names that a piece of text reads; ``x += 1`` reads x."""
    found = _names(node, ast.Load)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    return found


def reads_shape(node: ast.AST) -> bool:
    """Return whether an expression gives only the shape or dtype of what it reads."""
    if isinstance(node, ast.Attribute):
        return node.attr in _SHAPE_ATTRIBUTES
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", "")) in _SHAPE_FUNCTIONS


def base_name(node: ast.expr) -> set[str]:
    """Return the name with which an expression begins, if it does: ``b`` of ``b.c[0]``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _names(node: ast.AST, kind: type) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, kind)}
