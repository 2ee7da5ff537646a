"""The statement of an earlier cell that computed what a name holds, from the texts that IPython keeps."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from tape_magic.engine.static_analysis.statements import base_name, parsed, reads_shape

_MOST_CELLS = 1000
"""The most cells that are looked at, the last ones."""

_FILLING = frozenset({"add", "append", "extend", "insert", "update"})
"""Methods that put something into the object that they are called of."""


class Computed(NamedTuple):
    """A statement: the number of its cell, and its first line as the notebook counts it, with the text."""

    cell: int
    line: int
    text: str


def computed_by(name: str, cells: Sequence[str], leads: Callable[[Collection[str]], bool]) -> Computed | None:
    """Return the last statement that bound or filled a name, if it computes with what `leads` tells.

    It may do so by names that earlier statements bound. For the cells ``a = w*2`` and ``h = tf.exp(a)``, that
    is the second, where `leads` is true of a collection with ``w`` in it. A statement that reads only a shape
    computes with nothing.

    Parameters
    ----------
    name
        The name.
    cells
        The texts by the numbers of the cells, with magics as IPython writes them in Python.
    leads
        Whether some names lead to a source.
    """
    wanted, found = {name}, None
    for computed, statement in _backwards(cells):
        bound = _bound_by(statement) & wanted
        if not bound:
            continue
        found = found or computed
        read = _values_read(statement)
        if leads(read):
            return found
        if isinstance(statement, ast.Assign | ast.AnnAssign):  # what stood there before is gone
            wanted -= {target.id for target in _targets(statement) if isinstance(target, ast.Name)}
        wanted |= read
    return None


def _backwards(cells: Sequence[str]) -> Iterator[tuple[Computed, ast.stmt]]:
    """Yield the statements outside of functions, the last one first."""
    for number in range(len(cells) - 1, max(-1, len(cells) - 1 - _MOST_CELLS), -1):
        text, above = _body(cells[number])
        tree, lines = parsed(text), text.splitlines()
        for statement in reversed(list(_statements(tree)) if tree is not None else []):
            line = " ".join(lines[statement.lineno - 1].split())
            yield Computed(number, statement.lineno + above, line), statement


def _body(text: str) -> tuple[str, int]:
    """Return the text of a cell, and of a cell's magic what stands below its line, which counts as a line."""
    tree = parsed(text)
    only = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    call = only.value if isinstance(only, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "get_ipython().run_cell_magic":
        body = call.args[-1] if call.args else None
        if isinstance(body, ast.Constant) and isinstance(body.value, str):
            return body.value, 1
    return text, 0


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements within a node in their order, ``for`` and ``with`` before what they hold."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _statements(child)


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        found = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign | ast.For):
        found = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        method = statement.value.func
        found = [method.value] if isinstance(method, ast.Attribute) and method.attr in _FILLING else []
    else:
        found = []
    inside = [part for one in found if isinstance(one, ast.Tuple | ast.List) for part in one.elts]
    return inside or list(found)


def _bound_by(statement: ast.stmt) -> set[str]:
    return set().union(*map(base_name, _targets(statement)))


def _values_read(statement: ast.stmt) -> set[str]:
    """Return the names whose values a statement computes with; of a loop, only those that it goes over."""
    if isinstance(statement, ast.For):
        queue: list[ast.AST] = [statement.iter]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        queue = [*statement.value.args, *(one.value for one in statement.value.keywords)]
    else:
        value = getattr(statement, "value", None)
        queue = [] if value is None else [value]
    found = set[str]()
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        if not reads_shape(node):
            queue += ast.iter_child_nodes(node)
    return found
