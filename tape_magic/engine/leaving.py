"""Where the user's code takes a value out of TensorFlow, read off its text."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.source_text import function_behind, tree_of

_MODULES = frozenset({"numpy", "scipy", "math", "cmath", "statistics"})
_METHODS = frozenset({"numpy", "item", "tolist"})
_PREDICTING = frozenset({"predict", "predict_on_batch"})
"""Methods of models that give arrays."""
_CONVERTING = frozenset({"numpy_function", "convert_to_numpy", "get_static_value"})
_BUILTINS = frozenset({"float", "int", "complex", "bool"})
_RENAMED = {
    "mean": "reduce_mean",
    "sum": "reduce_sum",
    "max": "reduce_max",
    "min": "reduce_min",
    "amax": "reduce_max",
    "amin": "reduce_min",
    "prod": "reduce_prod",
    "std": "math.reduce_std",
    "var": "math.reduce_variance",
    "dot": "tensordot",
    "concatenate": "concat",
    "array": "convert_to_tensor",
    "asarray": "convert_to_tensor",
    "power": "pow",
    "absolute": "abs",
    "fabs": "abs",
    "clip": "clip_by_value",
}
_LIBRARIES = ("tensorflow", "keras", "numpy", "scipy")
_DEPTH = 3


@dataclass(frozen=True)
class Leaving:
    """An expression that takes a value out of TensorFlow.

    Attributes
    ----------
    filename, line
        Where it stands.
    text
        The expression: ``np.mean(x2)``.
    cure
        What to write instead; empty where that is not known.
    """

    filename: str
    line: int
    text: str
    cure: str


def leaving(
    filename: str, lines: tuple[int, int], namespace: Mapping[str, Any], source: str, target: str
) -> Leaving | None:
    """The first expression through which what is computed from `source` leaves TensorFlow before `target`.

    Parameters
    ----------
    filename, lines
        The file, as ``linecache`` knows it, and the lines of it that count; (0, 0) for all.
    namespace
        What the names stand for.
    source, target
        Names; an empty target stands for the last expression.
    """
    tree = tree_of(filename, lines)
    return None if tree is None else _Text(filename, tree, namespace).find({source}, target)


class _Text:
    """The statements of a cell or function, with which names hold what is computed from the source."""

    def __init__(self, filename: str, tree: ast.Module, namespace: Mapping[str, Any], depth: int = 0) -> None:
        self._filename, self._tree, self._namespace, self._depth = filename, tree, namespace, depth

    def find(self, tainted: set[str], target: str) -> Leaving | None:
        wanted = self._wanted(target)
        tainted = set(tainted)
        for statement in _statements(self._tree.body):
            reads = _names(statement, ast.Load)
            if tainted.isdisjoint(reads):
                continue
            stores = _names(statement, ast.Store) - _drawn(statement)
            matters = not stores or not wanted or bool(wanted & stores)
            if matters:
                # What a lambda is called with cannot be told from the text; it may well be tainted.
                suspect = _with_drawn(statement, tainted) | _parameters(statement)
                for call in _calls(statement):
                    if suspect.isdisjoint(_names(call, ast.Load)):
                        continue
                    found = self._leaves(call) or self._within(call)
                    if found is not None:
                        return found
            tainted |= stores
        return None

    def _wanted(self, target: str) -> set[str]:
        """The names that the target is computed from; empty where all count."""
        if not target:
            return set()
        wanted = {target}
        for statement in reversed(list(_statements(self._tree.body))):
            if wanted & _names(statement, ast.Store):
                wanted |= _names(statement, ast.Load)
        return wanted

    def _leaves(self, call: ast.Call) -> Leaving | None:
        function = call.func
        if isinstance(function, ast.Attribute) and function.attr in _METHODS and not call.args:
            return self._leaving(call, f"leave out .{function.attr}()")
        if isinstance(function, ast.Name) and function.id in _BUILTINS:
            if function.id in self._namespace:
                return None
            return self._leaving(call, f"leave out {function.id}()")
        if isinstance(function, ast.Attribute) and function.attr in _PREDICTING:
            return self._leaving(call, f"call {ast.unparse(function.value)}(…) itself")
        if isinstance(function, ast.Attribute) and function.attr in _CONVERTING:
            return self._leaving(call, "use TensorFlow's own operations")
        name = self._foreign(function)
        if name is None:
            return None
        return self._leaving(call, _replacement(name))

    def _leaving(self, call: ast.Call, cure: str) -> Leaving:
        return Leaving(self._filename, call.lineno, " ".join(ast.unparse(call).split()), cure)

    def _foreign(self, function: ast.expr) -> str | None:
        """The name of a function of NumPy or another library of numbers."""
        base = function
        while isinstance(base, ast.Attribute):
            base = base.value
        if not isinstance(base, ast.Name):
            return None
        value = self._namespace.get(base.id)
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", "")
        if isinstance(value, types.ModuleType) and not isinstance(function, ast.Attribute):
            return None
        if str(module).partition(".")[0] not in _MODULES:
            return None
        return function.attr if isinstance(function, ast.Attribute) else str(getattr(value, "__name__", ""))

    def _within(self, call: ast.Call) -> Leaving | None:
        """Into a function or layer of the user that is called with a tainted value."""
        if self._depth >= _DEPTH or not isinstance(call.func, ast.Name):
            return None
        function = function_behind(self._namespace.get(call.func.id))
        if function is None or str(function.__globals__.get("__name__")).startswith(_LIBRARIES):
            return None
        code = function.__code__
        tree = tree_of(code.co_filename, (code.co_firstlineno, 0))
        if tree is None:
            return None
        taken = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        inner = _Text(code.co_filename, tree, function.__globals__, self._depth + 1)
        return inner.find(taken, "")


def _parameters(node: ast.AST) -> set[str]:
    """The parameters of the lambdas within a statement."""
    return {
        argument.arg
        for part in ast.walk(node)
        if isinstance(part, ast.Lambda)
        for argument in [*part.args.posonlyargs, *part.args.args, *part.args.kwonlyargs]
    }


def _replacement(name: str) -> str:
    import tensorflow as tf

    renamed = _RENAMED.get(name, name)
    if "." in renamed or hasattr(tf, renamed):
        return f"use tf.{renamed}"
    return f"use tf.math.{renamed}" if hasattr(tf.math, renamed) else "use TensorFlow's own operations"


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Simple statements in the order of the text; functions that are only defined are left out.

    What a loop or a ``with`` binds is an assignment, and what a round of a loop leaves, the next one reads.
    """
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        loop = isinstance(statement, ast.For | ast.AsyncFor | ast.While)
        for _ in range(2 if loop else 1):
            yield from _bindings(statement)
            parts = [getattr(statement, name, None) for name in ("body", "orelse", "finalbody")]
            for block in parts:
                yield from _statements(block or ())
            for handler in getattr(statement, "handlers", ()):
                yield from _statements(handler.body)
        if not hasattr(statement, "body"):
            yield statement


def _bindings(statement: ast.stmt) -> Iterator[ast.stmt]:
    """What the head of a compound statement assigns."""
    pairs: list[tuple[ast.expr | None, ast.expr]] = []
    if isinstance(statement, ast.For | ast.AsyncFor):
        pairs = [(statement.target, statement.iter)]
    elif isinstance(statement, ast.With | ast.AsyncWith):
        pairs = [(item.optional_vars, item.context_expr) for item in statement.items]
    for target, value in pairs:
        head = ast.Expr(value) if target is None else ast.Assign([target], value)
        yield ast.copy_location(head, value)


def _generators(node: ast.AST) -> Iterator[ast.comprehension]:
    return (part for part in ast.walk(node) if isinstance(part, ast.comprehension))


def _drawn(node: ast.AST) -> set[str]:
    """The names that the comprehensions of a statement bind, for themselves only."""
    return {name for part in _generators(node) for name in _names(part.target, ast.Store)}


def _with_drawn(node: ast.AST, tainted: set[str]) -> set[str]:
    """With the names that comprehensions draw from something tainted."""
    found = set(tainted)
    for _ in range(_DEPTH):  # one may draw from what another has drawn
        for part in _generators(node):
            if not found.isdisjoint(_names(part.iter, ast.Load)):
                found |= _names(part.target, ast.Store)
    return found


def _names(node: ast.AST, kind: type) -> set[str]:
    """The names that a statement reads, or those that it assigns; ``x += 1`` does both."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, kind)}
    if kind is ast.Load and isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    return found


def _calls(node: ast.AST) -> list[ast.Call]:
    """Calls within a statement, the innermost first."""
    found = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
    return list(reversed(found))
