"""What is made of a cell's text before it can run, kept for the next time that the same text is run."""

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
"""Texts that are kept; a notebook re-runs the cells that were run last."""

_LONGEST = 20_000
"""Characters of a text that is kept."""


@dataclass(frozen=True)
class PreparedCell:
    """A cell, ready to run.

    Attributes
    ----------
    tree
        Its statements, not to be changed.
    code, last
        The code of the statements, and of a last expression if there is one.
    names
        What it reads and assigns.
    """

    tree: ast.Module
    code: types.CodeType
    last: types.CodeType | None
    names: Names

    def by_name(self, filename: str) -> PreparedCell:
        """The same under another file name, since a terminal numbers each cell anew."""
        if self.code.co_filename == filename:
            return self
        last = None if self.last is None else _renamed(self.last, filename)
        return PreparedCell(self.tree, _renamed(self.code, filename), last, self.names)


class CellCache:
    """Cells that were run before, the last of them, by their text."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()  # the magics may be called from several threads

    def transformed(self, shell: Any, body: str) -> str:
        """What IPython makes of a body: its magics as calls."""
        manager = shell.input_transformer_manager
        transforms = (*manager.cleanup_transforms, *manager.line_transforms, *manager.token_transformers)
        # One line goes by the names of the notebook, and a transform of the user's by whatever it likes.
        depends = len(body.strip().splitlines()) < 2 or getattr(shell, "input_transformers_post", None)
        if depends or not all(map(_is_ipythons, transforms)):
            return str(shell.transform_cell(body))
        return self._remembered(("text", body, transforms), body, lambda: str(shell.transform_cell(body)))

    def prepared(
        self, shell: Any, source: str, filename: str, check: Callable[[ast.Module], None]
    ) -> PreparedCell:
        """A cell that IPython has transformed, compiled as IPython would.

        `check` may refuse the tree. Raises ``SyntaxError``, and what `check` raises.
        """

        def make() -> PreparedCell:
            tree = shell.transform_ast(shell.compile.ast_parse(source, filename))
            check(tree)
            return PreparedCell(tree, *compile_cell(shell, tree, filename), names_of(tree))

        if shell.ast_transformers:  # they may do another thing each time
            return make()
        # A future import of an earlier cell is among the flags.
        return self._remembered(("code", source, shell.compile.flags), source, make).by_name(filename)

    def _remembered(self, key: Hashable, text: str, make: Callable[[], T]) -> T:
        """What was made for a key before, or what `make` gives."""
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
    """Code for the statements, and for the last expression if there is one."""
    body, last = list(tree.body), None
    if isinstance(body[-1], ast.Expr):
        expression = body.pop()
        assert isinstance(expression, ast.Expr)
        last = shell.compile(ast.Expression(expression.value), filename, "eval")
    module = ast.Module(body, type_ignores=[])
    return shell.compile(module, filename, "exec"), last


def _is_ipythons(transform: Any) -> bool:
    module = getattr(transform, "__module__", None) or type(transform).__module__
    return str(module).partition(".")[0] == "IPython"


def _renamed(code: types.CodeType, filename: str) -> types.CodeType:
    constants = tuple(
        _renamed(constant, filename) if isinstance(constant, types.CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)
