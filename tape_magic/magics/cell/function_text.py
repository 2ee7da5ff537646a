"""The body of a cell as the text of a function.

Text and not a syntax tree, since AutoGraph reads the source.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Sequence

_VALUE = "__tape_magic_value__"


def function_text(
    name: str,
    body: str,
    last: ast.stmt,
    first_line: int,
    parameters: Sequence[str],
    keeping: Sequence[str],
) -> str:
    """A function that starts on the magic's line; it returns the last expression's value, and its names.

    Parameters
    ----------
    name
        Of the function.
    body, last
        The text of the cell, and its last statement.
    first_line
        The line of the magic in the cell, from which on the tree counts.
    parameters
        Names that are passed in.
    keeping
        Names to keep: AutoGraph drops those that are assigned in a branch or loop and not read after it, and
        these are read, though never.
    """
    lines = body.split("\n")  # as Python counts them: a string may hold other separators
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


def _columns(lines: list[str], last: ast.Expr, start: int, end: int) -> tuple[int, int]:
    """Where an expression begins and ends, in characters: the tree counts bytes.

    The tree forgets brackets around the expression, so the statement's own place is taken.
    """
    column = len(lines[start].encode()[: last.col_offset].decode())
    end_column = len(lines[end].encode()[: last.end_col_offset].decode())
    return column, end_column


def _inside_strings(text: str) -> set[int]:
    """Lines that begin inside a string, where indentation would change the string."""
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
