"""The body of a cell as the source of a function.

AutoGraph reads the source of a function, so that a syntax tree would not do.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Sequence

_VALUE = "__tape_magic_value__"


def function_text(
    name: str,
    body: str,
    last: ast.stmt,
    first_line: int,
    parameters: Sequence[str],
    keeping: Sequence[str],
) -> str:
    """Return the source of a function with the body of a cell, from the magic's line on.

    The function returns the value of the cell's last expression, and its local names.

    Parameters
    ----------
    name
        The name of the function.
    body, last
        The text of the cell, and its last statement.
    first_line
        The line of the magic in the cell, from which the tree counts its lines.
    parameters
        The names of the function's parameters.
    keeping
        The names to keep: AutoGraph drops a name that is assigned in a branch or loop and not read after it,
        so that a branch that never runs reads these names at the end.
    """
    lines = body.split("\n")  # Python counts by "\n"; a string may hold other separators of lines
    value = "None"
    if isinstance(last, ast.Expr):
        value = _VALUE
        start, end = last.lineno - 1 - first_line, (last.end_lineno or 0) - 1 - first_line
        column, end_column = _columns(lines, last, start, end)
        lines[end] = f"{lines[end][:end_column]}){lines[end][end_column:]}"
        lines[start] = f"{lines[start][:column]}{_VALUE} = ({lines[start][column:]}"
    inside = _inside_strings("\n".join(lines))
    indented = [line if index in inside else f"    {line}" for index, line in enumerate(lines)]
    return "\n".join(
        [
            f"def {name}({', '.join(parameters)}):",
            *indented,
            *([f"    if False: {', '.join(keeping)}"] if keeping else []),
            f"    return {value}, locals()",
            "",
        ]
    )


def without_global(body: str, tree: ast.Module, first_line: int, local: Collection[str]) -> str:
    """Return the text of a cell whose names are `local` to a function, instead of global to the notebook.

    ``global x`` of the cell itself says nothing there, and is taken out; in a function of the cell it means
    the cell's own name, and becomes ``nonlocal x``. Other names stay global.
    """
    lines = body.split("\n")
    of_cell = _of_cell(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Global):
            continue
        own = [name for name in node.names if name in local]
        rest = [name for name in node.names if name not in local]
        parts = [f"nonlocal {', '.join(own)}"] if own and node not in of_cell else []
        if rest and node not in of_cell:
            parts.append(f"global {', '.join(rest)}")
        index, end = node.lineno - 1 - first_line, (node.end_lineno or node.lineno) - 1 - first_line
        before, after = lines[index][: node.col_offset], lines[end][node.end_col_offset :]
        lines[index : end + 1] = [f"{before}{'; '.join(parts) or 'pass'}{after}", *([""] * (end - index))]
    return "\n".join(lines)


def _of_cell(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes of a cell that are in none of its functions and classes."""
    found: list[ast.AST] = []
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            queue += ast.iter_child_nodes(node)
    return found


def _columns(lines: list[str], last: ast.Expr, start: int, end: int) -> tuple[int, int]:
    """Return the columns at which an expression begins and ends, in characters; the tree counts bytes.

    They are the columns of the statement, since the expression's leave out brackets around it.
    """
    column = len(lines[start].encode()[: last.col_offset].decode())
    end_column = len(lines[end].encode()[: last.end_col_offset].decode())
    return column, end_column


def _inside_strings(text: str) -> set[int]:
    """Return the lines that begin inside a string, which indentation would change."""
    inside: set[int] = set()
    starts: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name == "STRING":
            inside.update(range(token.start[0], token.end[0]))
        elif name.endswith("STRING_START"):  # f-strings are several tokens from Python 3.12 on
            starts.append(token.start[0])
        elif name.endswith("STRING_END"):
            inside.update(range(starts.pop(), token.end[0]))
    return inside
