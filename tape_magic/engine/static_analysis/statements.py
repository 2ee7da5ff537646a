"""Syntax trees of the user's functions and cells; what each statement reads and changes."""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
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


_OF_SHAPES = frozenset({"get_shape", "len", "ones_like", "rank", "shape", "size", "zeros_like"})
_NESTED = 3
"""How deep comprehensions may draw from one another."""


def statements_of(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Simple statements in the order of the text; functions that are only defined are left out.

    What a loop or a ``with`` binds is an assignment, and what a round of a loop leaves, the next one reads.
    """
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        loop = isinstance(statement, ast.For | ast.AsyncFor | ast.While)
        for _ in range(2 if loop else 1):
            yield from _bindings(statement)
            parts = [getattr(statement, name, None) for name in ("body", "orelse", "finalbody")]
            for block in parts:
                yield from statements_of(block or ())
            for handler in getattr(statement, "handlers", ()):
                yield from statements_of(handler.body)
        if not hasattr(statement, "body"):
            yield statement


def _bindings(statement: ast.stmt) -> Iterator[ast.stmt]:
    """What the head of a compound statement assigns."""
    pairs: list[tuple[ast.expr | None, ast.expr]] = []
    if isinstance(statement, ast.For | ast.AsyncFor):
        pairs = [(statement.target, statement.iter)]
    elif isinstance(statement, ast.With | ast.AsyncWith):
        pairs = [(item.optional_vars, item.context_expr) for item in statement.items]
    for target, value in pairs:
        head = ast.Expr(value) if target is None else ast.Assign([target], value)
        yield ast.copy_location(head, value)


def read(node: ast.AST) -> set[str]:
    """The names that a piece of text reads; ``x += 1`` reads x."""
    found = _names(node, ast.Load)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    return found


def valued(node: ast.AST, others: Collection[str] = ()) -> set[str]:
    """The names whose values a piece of text reads, and not only their shapes or types.

    `others` are expressions that give something else: ``layer.bias``, where ``layer.kernel`` is meant.
    """
    names = read(node)
    apart = [part for part in ast.walk(node) if _is_of_shape(part) or (others and _text_of(part) in others)]
    if not apart:
        return names
    hidden = {id(inner) for part in apart for inner in ast.walk(part)}
    seen = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in hidden}
    return names & seen


def _text_of(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute) else ""


def _is_of_shape(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("dtype", "ndim", "shape")
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", "")) in _OF_SHAPES


def changed(statement: ast.stmt, tainted: set[str], namespace: Mapping[str, Any]) -> set[str]:
    """The names that hold something else after a statement.

    Those that it assigns, an item or an attribute of which it assigns (``b[0] = x``), a method of which it
    calls with something (``b.append(x)``), or that go into a function of the user's beside what is `tainted`.
    """
    found = _names(statement, ast.Store) - {name for part in _generators(statement) for name in _bound(part)}
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    for target in targets:
        if isinstance(target, ast.Subscript | ast.Attribute):
            found |= base_of(target)
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and (call.args or call.keywords):
        if isinstance(call.func, ast.Attribute):
            owners = base_of(call.func)
            found |= {name for name in owners if not isinstance(namespace.get(name), types.ModuleType)}
        elif isinstance(call.func, ast.Name) and isinstance(namespace.get(call.func.id), types.FunctionType):
            found |= {arg.id for arg in call.args if isinstance(arg, ast.Name)} - tainted
    return found


def base_of(node: ast.expr) -> set[str]:
    """The name with which an expression begins, if it does: ``b`` of ``b.c[0]``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def calls_within(node: ast.AST) -> list[ast.Call]:
    """Calls within a statement, the innermost first."""
    return list(reversed([part for part in ast.walk(node) if isinstance(part, ast.Call)]))


def suspect(statement: ast.stmt, tainted: set[str]) -> set[str]:
    """The tainted names, with those that comprehensions and lambdas of a statement bind to what is tainted.

    What a lambda is called with cannot be told from the text; it may well be tainted.
    """
    found = set(tainted)
    for _ in range(_NESTED):  # one may draw from what another has drawn
        for part in _generators(statement):
            if not found.isdisjoint(read(part.iter)):
                found |= _bound(part)
    for node in ast.walk(statement):
        if isinstance(node, ast.Lambda):
            parameters = node.args
            found |= {one.arg for one in [*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs]}
    return found


def _names(node: ast.AST, kind: type) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, kind)}


def _generators(node: ast.AST) -> Iterator[ast.comprehension]:
    return (part for part in ast.walk(node) if isinstance(part, ast.comprehension))


def _bound(part: ast.comprehension) -> set[str]:
    return _names(part.target, ast.Store)
