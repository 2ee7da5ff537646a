"""Compiled cells by their texts, kept for the next run of the same text."""

from __future__ import annotations

import ast
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from tape_magic.engine.program.program import Names
from tape_magic.magics.cell.names import names_of

T = TypeVar("T")

_MOST = 128
"""The most texts that are kept; those that were run last stay."""

_LONGEST = 20_000
"""The most characters of a text that is kept."""


@dataclass(frozen=True)
class PreparedCell:
    """A cell that is ready to run.

    Attributes
    ----------
    tree
        The statements of the cell, which nobody may change.
    code, last
        The code of the statements, and the code of the last expression, where there is one.
    names
        The names that the cell reads and assigns.
    """

    tree: ast.Module
    code: types.CodeType
    last: types.CodeType | None
    names: Names

    def by_name(self, filename: str) -> PreparedCell:
        """Return the cell under another file name, since a terminal gives each run of a cell a new number."""
        if self.code.co_filename == filename:
            return self
        last = None if self.last is None else _renamed(self.last, filename)
        return PreparedCell(self.tree, _renamed(self.code, filename), last, self.names)


class CellCache:
    """The cells that were run last, by their texts."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()  # the magics may be called from several threads

    def transformed(self, shell: Any, body: str) -> str:
        """Return the body after IPython's transformation, with its magics as calls."""
        manager = shell.input_transformer_manager
        transforms = (*manager.cleanup_transforms, *manager.line_transforms, *manager.token_transformers)
        # IPython reads one line by the names of the notebook; a user's transform may depend on anything.
        depends = len(body.strip().splitlines()) < 2 or getattr(shell, "input_transformers_post", None)
        if depends or not all(map(_is_ipythons, transforms)):
            return str(shell.transform_cell(body))
        return self._remembered(("text", body, transforms), body, lambda: str(shell.transform_cell(body)))

    def prepared(
        self, shell: Any, source: str, filename: str, check: Callable[[ast.Module], None]
    ) -> PreparedCell:
        """Return a cell that IPython has transformed, compiled as IPython would compile it.

        `check` is called with the tree, and may raise. Raises ``SyntaxError`` for text that is no Python.
        """

        def make() -> PreparedCell:
            tree = shell.transform_ast(shell.compile.ast_parse(source, filename))
            check(tree)
            return PreparedCell(tree, *compile_cell(shell, tree, filename), names_of(tree))

        if shell.ast_transformers:  # their result may differ from run to run
            return make()
        # The flags say which future imports an earlier cell has made.
        return self._remembered(("code", source, shell.compile.flags), source, make).by_name(filename)

    def _remembered(self, key: Hashable, text: str, make: Callable[[], T]) -> T:
        """Return the object that is kept under a key, or make it and keep it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
        made = make()
        if len(text) <= _LONGEST:
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > _MOST:
                    self._kept.popitem(last=False)
        return made


def compile_cell(shell: Any, tree: ast.Module, filename: str) -> tuple[types.CodeType, types.CodeType | None]:
    """Return the code of the statements, and the code of the last expression where there is one."""
    body, last = list(tree.body), None
    if isinstance(body[-1], ast.Expr):
        expression = body.pop()
        assert isinstance(expression, ast.Expr)
        last = shell.compile(ast.Expression(expression.value), filename, "eval")
    module = ast.Module(body, type_ignores=[])
    return shell.compile(module, filename, "exec"), last


def _is_ipythons(transform: Any) -> bool:
    """Return whether a transform of input is one of IPython's own, which depends on its text only."""
    module = getattr(transform, "__module__", None) or type(transform).__module__
    return str(module).partition(".")[0] == "IPython"


def _renamed(code: types.CodeType, filename: str) -> types.CodeType:
    """Return code under another file name, the functions within it included."""
    constants = tuple(
        _renamed(constant, filename) if isinstance(constant, types.CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)
