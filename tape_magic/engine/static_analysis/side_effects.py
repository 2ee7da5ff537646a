"""Side effects of Python in a program that is compiled: they happen while it is traced, and never again.

They are read off the text and the objects that its names stand for. Only certain ones are reported: a program
may change the objects that it makes itself.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.program.program import Text
from tape_magic.engine.static_analysis import impure_calls
from tape_magic.engine.static_analysis.impure_calls import Advice
from tape_magic.engine.static_analysis.scope import UNRESOLVED, Callee, DefinedFunction, Scope, item_of
from tape_magic.engine.static_analysis.statements import (
    depends_on_itself,
    stored_outside_functions,
    syntax_tree,
)
from tape_magic.errors import shorten

MAX_LISTED = 5
"""Side effects beyond this number are counted, and not listed."""

_MAX_CALL_DEPTH = 3


@dataclass(frozen=True)
class SideEffect:
    """An expression or statement that runs once, and not at each step.

    Attributes
    ----------
    label, line
        The line, and ``cell 2`` in a function that the program calls; empty in the program itself.
    text
        The expression or statement: ``log.append(y)``.
    cure
        The advice.
    """

    label: str
    line: int
    text: str
    cure: Advice

    @property
    def place(self) -> str:
        """The line in words: ``line 3``, or ``cell 2, line 3``."""
        return f"{self.label}, line {self.line}" if self.label else f"line {self.line}"

    def __str__(self) -> str:
        return (
            f"{self.place} happens only while the loop is compiled, and not at each step: "
            f"{self.text}; {self.cure.value}"
        )


def side_effects(text: Text) -> list[SideEffect]:
    """Return the side effects of a program, each once, in the order in which they happen.

    For a cell with ``log.append(loss)`` on its third line: "line 3 happens only while the loop is compiled,
    and not at each step: log.append(loss); record a scalar with --track, or do it in a cell below".
    """
    try:
        tree = syntax_tree(text.filename, text.lines) if text.filename else None
        if tree is None:
            return []
        visitor = _SideEffectVisitor(text, text.filename, Scope(text.namespace, {}), {})
        if text.lines == (0, 0):
            visitor.begin_cell(tree)
        visitor.visit(tree)
    except Exception:  # an object of the user's may raise anything, and a warning must not break the run
        return []
    return list(visitor.found.values())


def notes(text: Text) -> list[str]:
    """Return the side effects of a program as sentences for its report; beyond a few, their number."""
    sentences = [str(effect) for effect in side_effects(text)]
    more = len(sentences) - MAX_LISTED
    if more > 0:
        sentences[MAX_LISTED:] = [f"{more} more lines happen only while it is compiled"]
    return sentences


class _SideEffectVisitor(ast.NodeVisitor):
    """Collects the side effects of one cell or function, and of the functions that it calls."""

    def __init__(
        self, text: Text, filename: str, scope: Scope, found: dict[tuple[str, str], SideEffect]
    ) -> None:
        self._text, self._filename, self._scope = text, filename, scope
        self.found = found
        self._global: set[str] = set()
        self._within: tuple[Any, ...] = ()
        self._of_cell: frozenset[str] = frozenset()

    def _note(self, node: ast.AST, advice: Advice | None) -> None:
        """Note a side effect, unless there is no advice on it."""
        if advice is None:
            return
        shown = shorten(" ".join(ast.unparse(node).split()))
        effect = SideEffect(self._text.label(self._filename), getattr(node, "lineno", 0), shown, advice)
        self.found.setdefault((effect.place, shown), effect)

    def begin_cell(self, tree: ast.Module) -> None:
        """Take the names that a cell assigns, which begin anew at each step, ``global`` or not."""
        self._of_cell = stored_outside_functions(tree)

    # -- calls -------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = self._scope.resolve(node.func)
        advice = self._advice_for(node, function)
        self._note(node, advice)
        if advice is None:
            self._enter(function, node)
        # TensorFlow calls what it is given here at each step, so that a side effect within happens each time.
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called not in ("py_function", "numpy_function"):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(argument, ast.Lambda):
                    self._enter(DefinedFunction(argument, self._scope), None)

    def _advice_for(self, node: ast.Call, function: Any) -> Advice | None:
        """Return the advice on a call, as that of a method or as that of a function."""
        advice = None
        if isinstance(node.func, ast.Attribute):
            owner = self._scope.resolve(node.func.value)
            if owner is not UNRESOLVED:
                advice = impure_calls.advice_for_method(owner, node.func.attr)
        if advice is None and function is not UNRESOLVED:
            argument = self._scope.resolve(node.args[0]) if node.args else UNRESOLVED
            known = None if argument is UNRESOLVED else argument
            advice = impure_calls.advice_for_call(function, node, known)
        return advice

    def _enter(self, function: Any, call: ast.Call | None) -> None:
        """Visit the body of a function that the user wrote, with the arguments that come from outside."""
        callee = Callee.of(function, self._filename)
        if callee is None or callee.key in self._within or len(self._within) >= _MAX_CALL_DEPTH:
            return
        given = [*callee.bound, *(self._scope.resolve(argument) for argument in (call.args if call else ()))]
        arguments = {
            **dict.fromkeys(callee.names, UNRESOLVED),
            **dict(zip(callee.names, given, strict=False)),
        }
        for keyword in call.keywords if call else ():
            if keyword.arg in arguments:
                arguments[keyword.arg] = self._scope.resolve(keyword.value)
        scope = Scope(callee.scope.namespace, {**callee.scope.local, **arguments})
        inner = _SideEffectVisitor(self._text, callee.filename, scope, self.found)
        inner._within = (*self._within, callee.key)
        inner._of_cell = self._of_cell if callee.filename == self._filename else frozenset()
        inner.visit(callee.tree)

    # -- assignments -------------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._store(target, node, self._scope.resolve(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._store(node.target, node, self._scope.resolve(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._store(node.target, node, self._scope.resolve(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        held = self._scope.resolve(node.target)
        if isinstance(node.target, ast.Name) and held is not UNRESOLVED and impure_calls.is_container(held):
            self._note(node, Advice.RECORD)
        else:
            self._store(node.target, node, UNRESOLVED)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Name):
                self._store(target, node, UNRESOLVED)

    def _store(self, target: ast.expr, statement: ast.AST, value: Any) -> None:
        """Let a target stand for a value; note a side effect where the target belongs to an outer object."""
        if isinstance(target, ast.Name):
            if target.id in self._global and depends_on_itself(statement, target):
                self._note(statement, Advice.RECORD)
            self._scope.local[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._store(part, statement, UNRESOLVED)
        elif isinstance(target, ast.Starred):
            self._store(target.value, statement, UNRESOLVED)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            held = self._scope.resolve(target.value)
            attribute = target.attr if isinstance(target, ast.Attribute) else None
            outer = held is not UNRESOLVED and impure_calls.changes_by_assignment(held, attribute)
            if outer and depends_on_itself(statement, target):
                self._note(statement, Advice.RECORD)

    def visit_Global(self, node: ast.Global) -> None:
        self._global.update(name for name in node.names if name not in self._of_cell)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        # What an enclosing function has assigned is made anew with each call of that function.
        self._global.update(name for name in node.names if name not in self._scope.local)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        over = self._scope.resolve(node.iter)
        if over is not UNRESOLVED and impure_calls.is_iterator(over):
            self._note(node.iter, Advice.BATCH)
        self._store(node.target, node, item_of(over, None))
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._store(item.optional_vars, node, UNRESOLVED)
        for statement in node.body:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            self._scope.local[alias.asname or name] = sys.modules.get(name, UNRESOLVED)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = sys.modules.get(node.module or "")
        for alias in node.names:
            self._scope.local[alias.asname or alias.name] = getattr(module, alias.name, UNRESOLVED)

    # -- nested scopes -----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        known = not node.decorator_list
        self._scope.local[node.name] = DefinedFunction(node, self._scope) if known else UNRESOLVED

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Visit no lambda: only a call runs it."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.local[node.name] = UNRESOLVED

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        kept = dict(self._scope.local)
        for generator in node.generators:
            self.visit(generator.iter)
            self._store(generator.target, node, item_of(self._scope.resolve(generator.iter), None))
            for condition in generator.ifs:
                self.visit(condition)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for result in results:
            self.visit(result)
        self._scope.local.clear()
        self._scope.local.update(kept)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp
