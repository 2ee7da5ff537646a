"""Calls of a hook after each assignment of some names, inserted into a cell's syntax tree.

The engine can thereby watch or lift a value before the next statement reads it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable

from tape_magic.magics.cell.names import stored_by

HOOK = "__tape_magic_hook__"
"""The name of the hook in the namespace while the cell runs; it is called with the assigned name."""

_Compound = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.TryStar | ast.Match
_BLOCKS = ("body", "orelse", "finalbody")


def hooked(tree: ast.Module, names: Iterable[str]) -> ast.Module:
    """Return the tree with a call of the hook after each assignment of one of the names."""
    wanted = frozenset(names)
    if any(isinstance(node, ast.NamedExpr) for node in ast.walk(tree)):
        tree = _Within(wanted).visit(copy.deepcopy(tree))
    return ast.Module(_block(tree.body, wanted), type_ignores=[])


class _Within(ast.NodeTransformer):
    """Calls the hook right after a walrus, whose value the rest of the statement reads already.

    ``(n := v)`` becomes ``[n := v, hook("n"), n][-1]``.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        node.value = self.visit(node.value)
        if node.target.id not in self._names:
            return node
        items = [node, _hook(node.target.id), ast.Name(node.target.id, ast.Load())]
        last = ast.Subscript(ast.List(items, ast.Load()), ast.Constant(-1), ast.Load())
        return ast.fix_missing_locations(ast.copy_location(last, node))

    def generic_visit(self, node: ast.AST) -> ast.AST:
        own_names = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        return node if own_names else super().generic_visit(node)


class _Plain(ast.NodeTransformer):
    """Replaces each walrus by its value."""

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        value: ast.expr = self.visit(node.value)
        return value


def _stored(node: ast.AST) -> frozenset[str]:
    """Return the names that a statement, or a part of one, assigns other than by a walrus."""
    if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)):
        node = _Plain().visit(copy.deepcopy(node))
    return stored_by(node)


def _block(block: list[ast.stmt], names: frozenset[str]) -> list[ast.stmt]:
    """Return the statements of a block with their calls of the hook."""
    found: list[ast.stmt] = []
    for statement in block:
        stored = _stored(statement) & names
        if stored and isinstance(statement, _Compound):
            found += [_compound(statement, names), *_calls(_head(statement) & names, statement)]
        else:
            found += [statement, *_calls(stored, statement)]
    return found


def _head(node: ast.AST) -> frozenset[str]:
    """Return the names that a statement assigns outside its blocks: by ``for``, ``with`` or a pattern.

    They are assigned before each of the blocks begins.
    """
    parts = [part for part in ast.iter_child_nodes(node) if not _is_block(part)]
    return frozenset().union(*(_stored(part) for part in parts))


def _is_block(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)


def _compound(statement: ast.stmt, names: frozenset[str]) -> ast.stmt:
    """Return a statement that has blocks, with the calls of the hook within them."""
    fields = dict(ast.iter_fields(statement))
    calls = _calls(_head(statement) & names, statement)
    for key in _BLOCKS:
        if fields.get(key):
            fields[key] = [*calls, *_block(fields[key], names)]
    if isinstance(statement, ast.Try | ast.TryStar):
        fields["handlers"] = [
            ast.copy_location(
                ast.ExceptHandler(handler.type, handler.name, _block(handler.body, names)), handler
            )
            for handler in statement.handlers
        ]
    elif isinstance(statement, ast.Match):
        fields["cases"] = [
            ast.match_case(
                case.pattern,
                case.guard,
                [*calls, *_calls(_head(case) & names, statement), *_block(case.body, names)],
            )
            for case in statement.cases
        ]
    return ast.copy_location(type(statement)(**fields), statement)


def _calls(names: Iterable[str], at: ast.stmt) -> list[ast.stmt]:
    """Return a call of the hook for each name, as statements at the line of another."""
    calls = [ast.Expr(_hook(name)) for name in sorted(names)]
    return [ast.fix_missing_locations(ast.copy_location(call, at)) for call in calls]


def _hook(name: str) -> ast.Call:
    return ast.Call(ast.Name(HOOK, ast.Load()), [ast.Constant(name)], [])
