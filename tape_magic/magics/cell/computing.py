"""What a cell computes with, as opposed to what it plots, prints or counts; and what tensors it makes."""

from __future__ import annotations

import ast

from tape_magic.engine.program.program import ALWAYS_FLOAT32, FLOAT32_OF_LITERALS

_COUNTING = frozenset(
    {"bool", "float", "id", "int", "isinstance", "len", "print", "range", "repr", "str", "type"}
)
"""Python's functions whose results have no dtype of NumPy's, whatever they are given."""

_DESCRIBING = frozenset({"dtype", "ndim", "nbytes", "shape", "size"})
"""Attributes that say of what kind an array is, and nothing of its numbers."""

_SHOWING = frozenset({"ax", "axes", "axs", "display", "fig", "plt", "print", "sns"})
"""Names under which a notebook keeps what draws and shows."""


def computing_of(tree: ast.Module) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return what the text of a cell mentions, what it computes with, and what makes tensors in it.

    These are the attributes and short strings in the text; the names that may take part in what it computes;
    and the first names of functions that would make tensors of float32 if these were TensorFlow's.
    """
    found = _Computing()
    found.visit(tree)
    return frozenset(found.mentions), frozenset(found.operands), frozenset(found.makes)


class _Computing(ast.NodeVisitor):
    """Collects what the text of a cell computes with."""

    def __init__(self) -> None:
        self.operands: set[str] = set()
        self.mentions: set[str] = set()
        self.makes: set[str] = set()
        self._idle = 0

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
        if isinstance(node.func, ast.Attribute) and first and _makes_float32(node, node.func.attr):
            self.makes.add(first)
        self._visit(node, idle=isinstance(node.func, ast.Name) and first in _COUNTING)

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


def _first_name(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _makes_float32(call: ast.Call, function: str) -> bool:
    """Return whether TensorFlow's function of a name would make a tensor of float32 in a call."""
    if any(keyword.arg in ("dtype", None) for keyword in call.keywords):
        return False
    if function in FLOAT32_OF_LITERALS:
        inside = [part for argument in call.args for part in ast.walk(argument)]
        literal = any(isinstance(part, ast.Constant) and isinstance(part.value, float) for part in inside)
        return literal and not any(
            isinstance(part, ast.Attribute) and part.attr == "float64" for part in inside
        )
    return function in ALWAYS_FLOAT32 and not (function in ("ones", "zeros") and len(call.args) > 1)
