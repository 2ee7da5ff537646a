"""Statements that cannot be part of a step: commands of IPython's, and ``from module import *``.

They run once, before the steps, as if they stood in a cell above.
"""

from __future__ import annotations

import ast

from tape_magic.magics.cell.names import TIMING_MAGICS, magic_call

_COMMANDS = frozenset({"run_line_magic", "system", "getoutput"})


def split(tree: ast.Module) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Return the statements of a cell that run once, and the statements of a step."""
    once = [statement for statement in tree.body if _is_once(statement)]
    return once, [statement for statement in tree.body if statement not in once]


def is_command(node: ast.AST) -> bool:
    """Return whether an expression is a line magic or shell command, as IPython's transformation writes it.

    A magic that runs Python of the cell, such as ``%time``, is no command.
    """
    call = magic_call(node)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _COMMANDS
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "get_ipython"
        and not (call and call[0] in TIMING_MAGICS)
    )


def _is_once(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return any(alias.name == "*" for alias in statement.names)
    return isinstance(statement, ast.Expr | ast.Assign) and is_command(statement.value)
