"""Side effects of Python in a program that is compiled: they happen while it is traced, and never again.

Read off the text, with what the names in it stand for. Only what can be told for sure is named: what
the program makes itself it may change as it likes.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.program.program import Text
from tape_magic.engine.static_analysis import impure_calls
from tape_magic.engine.static_analysis.impure_calls import Advice
from tape_magic.engine.static_analysis.scope import MADE, Callee, Defined, Scope, item_of
from tape_magic.engine.static_analysis.statements import tree_of
from tape_magic.errors import shorten

MOST = 5
"""More than this are counted, and not listed."""

_DEPTH = 3


@dataclass(frozen=True)
class SideEffect:
    """An expression or statement that does something once, and not at each step.

    Attributes
    ----------
    place
        ``line 3``, or ``cell 2, line 3`` for what the program calls.
    text
        What stands there: ``log.append(y)``.
    cure
        What to do.
    """

    place: str
    text: str
    cure: Advice

    def __str__(self) -> str:
        return (
            f"{self.place} happens only while the loop is compiled, and not at each step: "
            f"{self.text}; {self.cure.value}"
        )


def side_effects(text: Text) -> list[SideEffect]:
    """Those of a program, each once, in the order in which they happen."""
    try:
        tree = tree_of(text.filename, text.lines) if text.filename else None
        if tree is None:
            return []
        walk = _Walk(text, text.filename, Scope(text.namespace, {}), {})
        walk.visit(tree)
    except Exception:  # objects of the user's may answer anything: a warning must not break the run
        return []
    return list(walk.found.values())


def notes(text: Text) -> list[str]:
    """The same as sentences for the report, no more than a few."""
    found = [str(effect) for effect in side_effects(text)]
    rest = len(found) - MOST
    return found if rest <= 0 else [*found[:MOST], f"{rest} more lines happen only while it is compiled"]


class _Walk(ast.NodeVisitor):
    """Collects the side effects of one cell or function, and of the functions that it calls."""

    def __init__(
        self, text: Text, filename: str, scope: Scope, found: dict[tuple[str, str], SideEffect]
    ) -> None:
        self._text, self._filename, self._scope = text, filename, scope
        self.found = found
        self._global: set[str] = set()
        self._within: tuple[Any, ...] = ()

    def _note(self, node: ast.AST, cure: Advice | None) -> None:
        if cure is None:
            return
        label = self._text.label(self._filename)
        line = getattr(node, "lineno", 0)
        place = f"{label}, line {line}" if label else f"line {line}"
        shown = shorten(" ".join(ast.unparse(node).split()))
        self.found.setdefault((place, shown), SideEffect(place, shown, cure))

    # -- calls -------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = self._scope.value(node.func)
        cure = None
        if isinstance(node.func, ast.Attribute):
            owner = self._scope.value(node.func.value)
            cure = None if owner is MADE else impure_calls.of_method(owner, node.func.attr)
        if cure is None and function is not MADE:
            argument = self._scope.value(node.args[0]) if node.args else MADE
            cure = impure_calls.of_call(function, node, None if argument is MADE else argument)
        self._note(node, cure)
        if cure is None:
            self._enter(function, node)
        # TensorFlow calls the Python of these at each step.
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called not in ("py_function", "numpy_function"):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(argument, ast.Lambda):
                    self._enter(Defined(argument, self._scope), None)

    def _enter(self, function: Any, call: ast.Call | None) -> None:
        """Into a function that the user wrote, with what of its arguments comes from outside."""
        callee = Callee.of(function, self._filename)
        if callee is None or callee.key in self._within or len(self._within) >= _DEPTH:
            return
        given = [*callee.bound, *(self._scope.value(argument) for argument in (call.args if call else ()))]
        arguments = {**dict.fromkeys(callee.names, MADE), **dict(zip(callee.names, given, strict=False))}
        for keyword in call.keywords if call else ():
            if keyword.arg in arguments:
                arguments[keyword.arg] = self._scope.value(keyword.value)
        scope = Scope(callee.scope.namespace, {**callee.scope.local, **arguments})
        inner = _Walk(self._text, callee.filename, scope, self.found)
        inner._within = (*self._within, callee.key)
        inner.visit(callee.tree)

    # -- what is assigned --------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._store(target, node, self._scope.value(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._store(node.target, node, self._scope.value(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._store(node.target, node, self._scope.value(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        held = self._scope.value(node.target)
        if isinstance(node.target, ast.Name) and held is not MADE and impure_calls.is_container(held):
            self._note(node, Advice.RECORD)
        else:
            self._store(node.target, node, MADE)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Name):
                self._store(target, node, MADE)

    def _store(self, target: ast.expr, statement: ast.AST, value: Any) -> None:
        if isinstance(target, ast.Name):
            if target.id in self._global:
                self._note(statement, Advice.RECORD)
            self._scope.local[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._store(part, statement, MADE)
        elif isinstance(target, ast.Starred):
            self._store(target.value, statement, MADE)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            held = self._scope.value(target.value)
            attribute = target.attr if isinstance(target, ast.Attribute) else None
            if held is not MADE and impure_calls.changes_by_assignment(held, attribute):
                self._note(statement, Advice.RECORD)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self._global.update(node.names)

    visit_Nonlocal = visit_Global

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        over = self._scope.value(node.iter)
        if over is not MADE and impure_calls.is_iterator(over):
            self._note(node.iter, Advice.BATCH)
        self._store(node.target, node, item_of(over, None))
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._store(item.optional_vars, node, MADE)
        for statement in node.body:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            self._scope.local[alias.asname or name] = sys.modules.get(name, MADE)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = sys.modules.get(node.module or "")
        for alias in node.names:
            self._scope.local[alias.asname or alias.name] = getattr(module, alias.name, MADE)

    # -- scopes within -----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.local[node.name] = MADE if node.decorator_list else Defined(node, self._scope)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Only what calls it runs it."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.local[node.name] = MADE

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        kept = dict(self._scope.local)
        for generator in node.generators:
            self.visit(generator.iter)
            self._store(generator.target, node, item_of(self._scope.value(generator.iter), None))
            for condition in generator.ifs:
                self.visit(condition)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for result in results:
            self.visit(result)
        self._scope.local.clear()
        self._scope.local.update(kept)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp
