"""From the calls that were under way at run time to the expressions of the user's text."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.static_analysis.statements import syntax_tree
from tape_magic.engine.values.calls import Calls, UserCall

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_WITHIN_THE_TEXT = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
"""Functions that Python makes of a part of an expression."""


@dataclass(frozen=True, eq=False)
class CalledFunction:
    """A function of the user's that ran under an expression.

    Attributes
    ----------
    node, filename
        Its text.
    namespace
        Its global names.
    direct
        Whether the expression called it, and no library in between.
    owner
        For a method, the object that it was called of.
    """

    node: FunctionNode
    filename: str
    namespace: Mapping[str, Any]
    direct: bool
    owner: Any


class Spots:
    """The expressions under which something happened at run time.

    Attributes
    ----------
    called
        The functions of the user's that ran under an expression, by the identity of its node.
    """

    def __init__(self) -> None:
        self.called: dict[int, list[CalledFunction]] = {}
        self._trees: dict[str, ast.Module | None] = {}
        self._parents: dict[int, ast.AST] = {}

    def add(self, calls: Calls) -> ast.AST | None:
        """Note which function each call ran; return the innermost expression, where it can be read."""
        nodes = [self._node(call) for call in calls]
        for call, node, around, outer in zip(calls, nodes, calls[1:], nodes[1:], strict=False):
            function = None if node is None or outer is None else self._function_around(node)
            if function is not None and outer is not None and call.code.co_name not in _WITHIN_THE_TEXT:
                called = CalledFunction(
                    function, call.code.co_filename, call.namespace, around.direct, call.owner
                )
                self._note(outer, called)
        return next((node for node in nodes if node is not None), None)

    def _note(self, node: ast.AST, function: CalledFunction) -> None:
        known = self.called.setdefault(id(node), [])
        if all(one.node is not function.node or one.owner is not function.owner for one in known):
            known.append(function)

    def _node(self, call: UserCall) -> ast.AST | None:
        """Return the smallest expression that covers the place of a call."""
        filename = call.code.co_filename
        if filename not in self._trees:
            tree = self._trees[filename] = syntax_tree(filename, (0, 0))
            for parent in ast.walk(tree) if tree is not None else ():
                for child in ast.iter_child_nodes(parent):
                    self._parents[id(child)] = parent
        tree = self._trees[filename]
        positions = list(call.code.co_positions())
        index = call.instruction // 2
        if tree is None or not 0 <= index < len(positions):
            return None
        line, last_line, column, last_column = positions[index]
        if line is None:
            return None
        if column is None or last_line is None or last_column is None:  # Python was started without columns
            return _smallest(tree, (line, 0), (line, 0), lines_only=True)
        return _smallest(tree, (line, column), (last_line, last_column), lines_only=False)

    def _function_around(self, node: ast.AST) -> FunctionNode | None:
        parent = self._parents.get(id(node))
        while parent is not None and not isinstance(parent, FunctionNode):
            parent = self._parents.get(id(parent))
        return parent


def _smallest(
    tree: ast.Module, start: tuple[int, int], end: tuple[int, int], *, lines_only: bool
) -> ast.AST | None:
    """Return the innermost expression or statement that covers a part of the text."""
    found: ast.AST | None = None
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        for child in ast.iter_child_nodes(node):
            line, last_line = getattr(child, "lineno", None), getattr(child, "end_lineno", None)
            if line is None or last_line is None:
                queue.append(child)  # such as the arguments of a function
                continue
            if lines_only:
                covers = line <= start[0] <= last_line and isinstance(child, ast.stmt)
            else:
                begins, ends = (line, child.col_offset), (last_line, child.end_col_offset)  # type: ignore[attr-defined]
                covers = begins <= start and end <= ends
            if covers:
                found = child
                queue = [child]
                break
    return found
