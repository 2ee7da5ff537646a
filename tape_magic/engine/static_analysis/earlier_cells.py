"""The statement of an earlier cell that computed what a name holds, from the texts that IPython keeps."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from tape_magic.engine.static_analysis.statements import base_name, parsed, reads_shape

_MOST_CELLS = 1000
"""The most cells that are looked at, the last ones."""

_RUN_AS_PYTHON = frozenset({"capture", "grad", "minimize", "prun", "time"})
"""Magics that run the body of a cell in the notebook."""

_BINDING_NOTHING = frozenset(
    {"autoreload", "cd", "conda", "config", "env", "load_ext", "ls", "matplotlib", "pip", "pwd", "reload_ext"}
    | {"tensorboard", "tfgpu", "timeit", "who", "whos"}
)
"""Magics of a line that leave the notebook's names alone."""

_DYNAMIC = frozenset({"eval", "exec", "globals", "locals", "setattr", "vars"})

_FILLING = frozenset({"add", "append", "extend", "insert", "update"})
"""Methods that put something into the object that they are called of."""


Leads = Callable[[str], bool | None]


class Computed(NamedTuple):
    """A statement: the number of its cell, and its first line as the notebook counts it, with the text."""

    cell: int
    line: int
    text: str


def computed_by(name: str, cells: Sequence[str], leads: Leads) -> Computed | None:
    """Return the last statement that bound or filled a name, if it computes with what `leads` tells.

    It may do so by names that earlier statements bound. For the cells ``a = w*2`` and ``h = tf.exp(a)``, that
    is the second, where `leads` is true of ``w``. A statement that reads only a shape
    computes with nothing. ``None`` also where something may have bound names that the texts do not show.

    Parameters
    ----------
    name
        The name.
    cells
        The texts by the numbers of the cells, with magics as IPython writes them in Python.
    leads
        Whether a place leads to a source; ``None`` where what was bound before may tell.
    """
    wanted: set[str] = {name}
    found: Computed | None = None
    for computed, statement in _backwards(cells):
        if _is_opaque(statement, wanted):
            return None
        bound = _bound_by(statement)
        if wanted.isdisjoint(bound | _filled_by(statement)):
            continue
        found = found or computed
        read = {place: leads(place) for place in _values_read(statement)}
        if any(read.values()):
            return found
        unknown = [place for place, led in read.items() if led is None]
        wanted = wanted - bound | {place.partition(".")[0].partition("[")[0] for place in unknown}
    return None


def _backwards(cells: Sequence[str]) -> Iterator[tuple[Computed, ast.stmt]]:
    """Yield the statements outside of functions, the last one first."""
    for number in range(len(cells) - 1, max(-1, len(cells) - 1 - _MOST_CELLS), -1):
        text, above = _body(cells[number])
        tree, lines = parsed(text), text.splitlines()
        for statement in reversed(list(_statements(tree)) if tree is not None else []):
            line = " ".join(lines[statement.lineno - 1].split()) if lines else ""
            yield Computed(number, statement.lineno + above, line), statement


def _body(text: str) -> tuple[str, int]:
    """Return the text of a cell, and of a cell's magic what stands below its line, which counts as a line."""
    tree = parsed(text)
    only = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    call = only.value if isinstance(only, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "get_ipython().run_cell_magic":
        name, line, body = (str(getattr(one, "value", "")) for one in call.args)
        return (body if name in _RUN_AS_PYTHON and "--def" not in line else ""), 1
    return text, 0


def _is_opaque(statement: ast.stmt, names: Collection[str]) -> bool:
    """Return whether a statement may bind some names in a way that its text does not show."""
    if isinstance(statement, ast.ImportFrom):
        return any(alias.name == "*" for alias in statement.names)
    for node in ast.walk(statement):
        if isinstance(node, ast.Global) and not set(node.names).isdisjoint(names):
            return True
        if isinstance(node, ast.Name) and node.id in _DYNAMIC:
            return True
        magic = node if isinstance(node, ast.Call) else None
        if magic is not None and ast.unparse(magic.func) == "get_ipython().run_line_magic":
            return getattr(magic.args[0], "value", "") not in _BINDING_NOTHING
    return False


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements within a node in their order, ``for`` and ``with`` before what they hold."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
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
    """Return the names that a statement binds to something else."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.AugAssign):
        return set()
    found, queue = set[str](), list(ast.iter_child_nodes(statement))
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        if not isinstance(node, ast.stmt | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp):
            queue += ast.iter_child_nodes(node)
    return found


def _filled_by(statement: ast.stmt) -> set[str]:
    """Return the names whose objects a statement changes."""
    return set[str]().union(*map(base_name, _targets(statement)))


def _values_read(statement: ast.stmt) -> set[str]:
    """Return the places whose values a statement computes with; of a loop, only those that it goes over.

    A place is a name, or attributes of one: ``w``, ``layer.kernel``.
    """
    queue: list[ast.AST] = [statement.iter] if isinstance(statement, ast.For) else []
    value = getattr(statement, "value", None)
    if isinstance(statement, ast.Expr) and isinstance(value, ast.Call):
        queue = [*value.args, *(one.value for one in value.keywords)]
    elif value is not None:
        queue = [value]
    inner = {name for part in queue for name in _own_names(part)}
    found = set[str]()
    while queue:
        node = queue.pop()
        if reads_shape(node):
            continue
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load) and base_name(node):
            if base_name(node).isdisjoint(inner):
                found.add(ast.unparse(node))
            queue += [part.slice for part in ast.walk(node) if isinstance(part, ast.Subscript)]
        else:
            queue += ast.iter_child_nodes(node)
    return found


def _own_names(expression: ast.AST) -> Iterator[str]:
    """Yield the names that an expression itself binds, as comprehensions and lambdas do."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
