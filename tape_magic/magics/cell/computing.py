"""What a cell computes with, as opposed to what it plots, prints or counts; and what it makes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set

from tape_magic.engine.program.program import (
    ALWAYS_FLOAT32,
    ALWAYS_FLOAT64,
    FLOAT32_OF_LITERALS,
    FLOAT64_OF_LITERALS,
)

_COUNTING = frozenset(
    {"bool", "float", "id", "int", "isinstance", "len", "print", "range", "repr", "str", "type"}
)
"""Python's functions whose results have no dtype of NumPy's, whatever they are given."""

_DESCRIBING = frozenset({"dtype", "ndim", "nbytes", "shape", "size"})
"""Attributes that say of what kind an array is, and nothing of its numbers."""

_SHOWING = frozenset({"ax", "axes", "axs", "display", "fig", "plt", "print", "sns"})
"""Names under which a notebook keeps what draws and shows."""


def computing_of(
    tree: ast.Module,
) -> tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]]:
    """Return what the text of a cell mentions, what it computes with, and what makes tensors and arrays.

    These are the attributes and short strings in the text; the names that may take part in what it computes;
    the first names of functions that would make tensors of float32 if these were TensorFlow's; and of those
    that would make arrays of float64 with which it computes, if these were NumPy's.
    """
    found = _Computing()
    found.visit(tree)
    arrays = {first for first, names in found.arrays if not names or not names.isdisjoint(found.operands)}
    return frozenset(found.mentions), frozenset(found.operands), frozenset(found.makes), frozenset(arrays)


class _Computing(ast.NodeVisitor):
    """Collects what the text of a cell computes with."""

    def __init__(self) -> None:
        self.operands: set[str] = set()
        self.mentions: set[str] = set()
        self.makes: set[str] = set()
        self.arrays: list[tuple[str, frozenset[str]]] = []
        self._idle = 0
        self._names: dict[ast.AST, frozenset[str]] = {}

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and not self._idle:
            self.operands.add(node.id)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and len(node.value) < 16:
            self.mentions.add(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.mentions.add(node.attr)
        self._visit(node, idle=node.attr in _DESCRIBING)

    def visit_Call(self, node: ast.Call) -> None:
        first = _first_name(node.func)
        if first and _makes(node, ALWAYS_FLOAT32, FLOAT32_OF_LITERALS):
            self.makes.add(first)
        self._visit(node, idle=isinstance(node.func, ast.Name) and first in _COUNTING)

        if first and not self._idle and _makes(node, ALWAYS_FLOAT64, FLOAT64_OF_LITERALS):
            self.arrays.append((first, self._names.get(node, frozenset())))

    def visit_Assign(self, node: ast.Assign) -> None:
        names = (
            part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)
        )
        self._names[_innermost(node.value)] = frozenset(names)
        self.generic_visit(node)

    def visit_Module(self, node: ast.Module) -> None:
        for statement in node.body:
            self.visit(statement)
        last = node.body[-1] if node.body else None
        if isinstance(last, ast.Expr) and _first_name(last.value) not in _SHOWING:  # its value is kept
            self.visit(last.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        self._visit(node, idle=isinstance(node.value, ast.Call))  # nothing keeps what the call returns

    def visit_Assert(self, node: ast.Assert) -> None:
        self._visit(node, idle=True)

    def _visit(self, node: ast.AST, *, idle: bool) -> None:
        self._idle += idle
        self.generic_visit(node)
        self._idle -= idle


def _innermost(node: ast.AST) -> ast.AST:
    """Return what an expression takes parts of, or changes by numbers: ``f(n)`` of ``2*f(n).T[0]``."""
    while True:
        if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
            node = node.left
        elif isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
            node = node.right
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            inner = node.func.value
            if not isinstance(inner, ast.Call | ast.BinOp | ast.Subscript):
                return node
            node = inner
        elif isinstance(node, ast.Subscript | ast.Attribute):
            node = node.value
        elif isinstance(node, ast.UnaryOp):
            node = node.operand
        else:
            return node


def _first_name(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _makes(call: ast.Call, always: Set[str], of_literals: Set[str]) -> bool:
    """Return whether a call would make floats where no dtype is given: always, or of a number in the call.

    The names are those of TensorFlow's functions for tensors of float32, or NumPy's for arrays of float64.
    """
    if not isinstance(call.func, ast.Attribute):
        return False
    if any(keyword.arg in ("dtype", None) for keyword in call.keywords):
        return False
    function = call.func.attr
    if function in of_literals:
        inside = [part for argument in call.args for part in _outside_arrays(argument)]
        literal = any(isinstance(part, ast.Constant) and isinstance(part.value, float) for part in inside)
        return literal and not any(
            isinstance(part, ast.Attribute) and part.attr == "float64" for part in inside
        )
    return function in always and not (function in ("ones", "zeros") and len(call.args) > 1)


def _outside_arrays(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an expression that stand in no call which makes an array of the numbers in it."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute) and function.attr in FLOAT64_OF_LITERALS:
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside_arrays(child)
