"""Where the user's code takes a value out of TensorFlow, read off its text.

A name is *tainted* if it holds a value that is computed from the source. The search follows tainted names
from statement to statement, and into the functions that are called with them.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.static_analysis.leaving_calls import cure_for_call, numeric_function
from tape_magic.engine.static_analysis.statements import (
    calls_within,
    names_changed,
    names_read,
    names_read_by_value,
    names_tainted_within,
    sets_item,
    simple_statements,
    syntax_tree,
)
from tape_magic.engine.values.functions import function_behind, unwrapped

_FOLLOWED_NO_FURTHER = ("tensorflow", "keras", "numpy", "scipy")
_MAX_CALL_DEPTH = 3


@dataclass(frozen=True)
class TensorFlowExit:
    """An expression that takes a value out of TensorFlow.

    Attributes
    ----------
    filename, line
        The file and line of the expression.
    text
        The expression: ``np.mean(x2)``.
    cure
        What to write instead; empty where that is not known.
    """

    filename: str
    line: int
    text: str
    cure: str


def first_exit(
    filename: str,
    lines: tuple[int, int],
    namespace: Mapping[str, Any],
    sources: set[str],
    target: str,
    others: Collection[str] = (),
) -> TensorFlowExit | None:
    """Return the first expression through which a value computed from a source leaves TensorFlow.

    Only statements that the target may be computed from count. With ``h = np.sin(x)`` on line 3 and
    ``y = tf.reduce_sum(h)`` on line 4, the exit of ``x`` before ``y`` is ``np.sin(x)`` on line 3.

    Parameters
    ----------
    filename, lines
        The file, as ``linecache`` names it, and the lines of it that count; (0, 0) for all.
    namespace
        The objects that the names stand for.
    sources
        The names that hold the source, or lead to it as a model or a function does.
    target
        The name of the output; empty for the last expression.
    others
        Expressions that begin with the name of a source and are not the source.
    """
    tree = syntax_tree(filename, lines)
    if tree is None:
        return None
    return _ExitSearch(filename, tree, namespace, sources, others=others).find(sources, target)


class _ExitSearch:
    """The search for an exit in one cell or function."""

    def __init__(
        self,
        filename: str,
        tree: ast.Module,
        namespace: Mapping[str, Any],
        sources: set[str],
        depth: int = 0,
        others: Collection[str] = (),
    ) -> None:
        self._filename, self._tree, self._namespace, self._depth = filename, tree, namespace, depth
        self._sources, self._others = sources, others
        self._arrays: set[str] = set()

    def find(self, tainted: set[str], target: str) -> TensorFlowExit | None:
        """Return the first exit of a value that the tainted names hold at the beginning."""
        needed = self._names_needed(target)
        tainted = set(tainted)
        for statement in simple_statements(self._tree.body):
            changed = names_changed(statement, tainted, self._namespace)
            within = names_tainted_within(statement, tainted)
            if within.isdisjoint(names_read_by_value(statement, self._others)):
                self._remember_arrays(statement, changed)
                continue
            if self._target_may_need(statement, changed, needed, target):
                found = self._exit_in(statement, changed, within)
                if found is not None:
                    return found
            tainted |= changed
        return None

    def _exit_in(self, statement: ast.stmt, changed: set[str], tainted: set[str]) -> TensorFlowExit | None:
        """Return the exit in one statement: a call, or a tensor stored in an array of NumPy's."""
        for call in calls_within(statement):
            found = self._exit_by_call(call, tainted)
            if found is not None:
                return found
        if sets_item(statement) and any(self._is_array(name) for name in changed):
            cure = "keep the values in a list, and tf.stack them"
            return TensorFlowExit(self._filename, statement.lineno, _on_one_line(statement), cure)
        return None

    def _exit_by_call(self, call: ast.Call, tainted: set[str]) -> TensorFlowExit | None:
        if tainted.isdisjoint(names_read_by_value(call, self._others)):
            return None
        cure = cure_for_call(call, self._namespace)
        if cure is not None:
            return TensorFlowExit(self._filename, call.lineno, _on_one_line(call), cure)
        return self._exit_within_callee(call, tainted)

    # -- statements that count ---------------------------------------------------------------------

    def _target_may_need(self, statement: ast.stmt, changed: set[str], needed: set[str], target: str) -> bool:
        """Return whether the target may be computed from a statement that is not only shown or checked."""
        if changed:
            return not needed or bool(needed & changed)
        return not target and (isinstance(statement, ast.Return) or statement is self._tree.body[-1])

    def _names_needed(self, target: str) -> set[str]:
        """Return the names that the target is computed from; the empty set where all of them count."""
        statements = list(simple_statements(self._tree.body))
        if target:
            needed = {target}
        else:
            last = self._tree.body[-1] if self._tree.body else None
            ends = [
                one
                for one in statements
                if isinstance(one, ast.Return) or (one is last and isinstance(one, ast.Expr))
            ]
            needed = {name for one in ends for name in names_read(one)}
        for statement in reversed(statements):
            if needed & names_changed(statement, set(), self._namespace):
                needed |= names_read(statement)
        return needed

    # -- arrays ------------------------------------------------------------------------------------

    def _remember_arrays(self, statement: ast.stmt, changed: set[str]) -> None:
        """Remember the names to which a statement assigns the result of a numeric library's function."""
        value = getattr(statement, "value", None)
        if not isinstance(statement, ast.Assign) or not isinstance(value, ast.Call):
            return
        if numeric_function(value.func, self._namespace):
            self._arrays |= changed

    def _is_array(self, name: str) -> bool:
        library = type(self._namespace.get(name)).__module__.partition(".")[0]
        return name in self._arrays or library in ("numpy", "pandas")

    # -- functions that are called -----------------------------------------------------------------

    def _exit_within_callee(self, call: ast.Call, tainted: set[str]) -> TensorFlowExit | None:
        """Search the user's function, layer or method that is called with a tainted value."""
        value = self._callee(call.func)
        function = None if self._depth >= _MAX_CALL_DEPTH else function_behind(value)
        if function is None or str(function.__globals__.get("__name__")).startswith(_FOLLOWED_NO_FURTHER):
            return None
        code = function.__code__
        tree = syntax_tree(code.co_filename, (code.co_firstlineno, 0))
        if tree is None:
            return None
        bound = not isinstance(unwrapped(value), types.FunctionType) or isinstance(call.func, ast.Attribute)
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        given = _tainted_parameters(call, parameters, bound, tainted)
        home = function.__globals__
        shared = {name for name in self._sources if home.get(name, self) is self._namespace.get(name)}
        shared -= set(code.co_varnames)
        inner = _ExitSearch(code.co_filename, tree, home, shared, self._depth + 1)
        return inner.find(given | shared, "")

    def _callee(self, function: ast.expr) -> Any:
        """Return what a call calls, given by its name or as a method of an object in the namespace."""
        if isinstance(function, ast.Name):
            return self._namespace.get(function.id)
        if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
            return None
        owner = type(self._namespace.get(function.value.id))
        return inspect.getattr_static(owner, function.attr, None)  # runs no code of the object's


def _tainted_parameters(
    call: ast.Call, parameters: tuple[str, ...], bound: bool, tainted: set[str]
) -> set[str]:
    """Return the parameters of a function to which a call gives a tainted value."""
    if any(isinstance(arg, ast.Starred) for arg in call.args) or any(not one.arg for one in call.keywords):
        return set(parameters)
    owner = [call.func] if bound else []
    pairs = [*zip(parameters, [*owner, *call.args], strict=False)]
    pairs += [(one.arg or "", one.value) for one in call.keywords]
    return {name for name, value in pairs if not tainted.isdisjoint(names_read_by_value(value))}


def _on_one_line(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())
