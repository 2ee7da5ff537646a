"""Where the user's code takes a value out of TensorFlow, read off its text."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.static_analysis import statements
from tape_magic.engine.static_analysis.statements import tree_of
from tape_magic.engine.values.functions import function_behind, unwrapped
from tape_magic.engine.values.tensors import is_variable

_MODULES = frozenset(
    {"numpy", "scipy", "math", "cmath", "statistics", "random", "pandas", "sklearn", "cv2", "skimage", "PIL"}
)
_METHODS = frozenset({"numpy", "item", "tolist"})
_PREDICTING = frozenset({"predict", "predict_on_batch"})
"""Methods of models that give arrays."""
_JUDGING = frozenset({"evaluate", "test_on_batch", "train_on_batch"})
"""Methods of models that give a loss as a float."""
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
    "dot": "tensordot(…, axes=1)",
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
_OWN_OPERATIONS = "use TensorFlow's own operations"


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
    filename: str,
    lines: tuple[int, int],
    namespace: Mapping[str, Any],
    sources: set[str],
    target: str,
    others: Collection[str] = (),
) -> Leaving | None:
    """The first expression through which what is computed from a source leaves TensorFlow before `target`.

    Parameters
    ----------
    filename, lines
        The file, as ``linecache`` knows it, and the lines of it that count; (0, 0) for all.
    namespace
        What the names stand for.
    sources
        The names that hold the source, or lead to it as a model or a function does.
    target
        A name; empty for the last expression.
    others
        Expressions that begin with the name of a source and are not the source.
    """
    tree = tree_of(filename, lines)
    if tree is None:
        return None
    return _Text(filename, tree, namespace, sources, others=others).find(sources, target)


class _Text:
    """The statements of a cell or function, with which names hold what is computed from the source."""

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

    def find(self, tainted: set[str], target: str) -> Leaving | None:
        wanted = self._wanted(target)
        tainted = set(tainted)
        for statement in statements.statements_of(self._tree.body):
            changed = statements.changed(statement, tainted, self._namespace)
            suspect = statements.suspect(statement, tainted)
            if suspect.isdisjoint(statements.valued(statement, self._others)):
                self._note_arrays(statement, changed)
                continue
            if self._matters(statement, changed, wanted, target):
                for call in statements.calls_within(statement):
                    found = self._leaves(call, suspect)
                    if found is not None:
                        return found
                if self._arrays.union(self._held_arrays(changed)) & changed and _sets_item(statement):
                    cure = "keep the values in a list, and tf.stack them"
                    return Leaving(self._filename, statement.lineno, _text(statement), cure)
            tainted |= changed
        return None

    def _matters(self, statement: ast.stmt, changed: set[str], wanted: set[str], target: str) -> bool:
        """Whether the target may be computed from what a statement does, and not only shown or checked."""
        if changed:
            return not wanted or bool(wanted & changed)
        return not target and (isinstance(statement, ast.Return) or statement is self._tree.body[-1])

    def _wanted(self, target: str) -> set[str]:
        """The names that the target is computed from; empty where all count."""
        found = list(statements.statements_of(self._tree.body))
        if target:
            wanted = {target}
        else:
            last = self._tree.body[-1] if self._tree.body else None
            ends = [one for one in found if isinstance(one, ast.Return) or (one is last and _is_value(one))]
            wanted = {name for one in ends for name in statements.read(one)}
        for statement in reversed(found):
            if wanted & statements.changed(statement, set(), self._namespace):
                wanted |= statements.read(statement)
        return wanted

    def _note_arrays(self, statement: ast.stmt, changed: set[str]) -> None:
        """Names that a statement gives an array of NumPy's."""
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.Assign) and isinstance(value, ast.Call) and self._foreign(value.func):
            self._arrays |= changed

    def _held_arrays(self, names: set[str]) -> set[str]:
        return {
            name
            for name in names
            if type(self._namespace.get(name)).__module__.partition(".")[0] in ("numpy", "pandas")
        }

    def _leaves(self, call: ast.Call, suspect: set[str]) -> Leaving | None:
        if suspect.isdisjoint(statements.valued(call, self._others)):
            return None
        cure = self._cure(call)
        if cure is not None:
            return Leaving(self._filename, call.lineno, _text(call), cure)
        return self._within(call, suspect)

    def _cure(self, call: ast.Call) -> str | None:
        """What helps where a call takes what it is given out of TensorFlow; ``None`` where it does not."""
        function = call.func
        if isinstance(function, ast.Name) and function.id == "map" and call.args:
            function = call.args[0]
        if isinstance(function, ast.Name) and function.id in _BUILTINS:
            return None if function.id in self._namespace else f"leave out {function.id}()"
        if isinstance(function, ast.Attribute):
            owner = ast.unparse(function.value)
            if function.attr in _METHODS and not call.args:
                return f"leave out .{function.attr}()"
            if function.attr in _PREDICTING:
                return f"call {owner}(…) itself"
            if function.attr in _JUDGING:
                return f"compute the loss from {owner}(…)"
            if function.attr == "get_weights":
                return f"use {owner}.trainable_variables"
            if function.attr == "constant" and call.args and self._is_copied(call.args[0]):
                return "use tf.convert_to_tensor"
            if function.attr in _CONVERTING:
                return _OWN_OPERATIONS
        name = self._foreign(function)
        return None if name is None else _replacement(name)

    def _is_copied(self, value: ast.expr) -> bool:
        """Whether ``tf.constant`` takes the numbers out of a value, as it does of a variable."""
        return isinstance(value, ast.Name) and is_variable(self._namespace.get(value.id))

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

    def _within(self, call: ast.Call, suspect: set[str]) -> Leaving | None:
        """Into a function, layer or method of the user that is called with a tainted value."""
        value = self._called(call.func)
        function = None if self._depth >= _DEPTH else function_behind(value)
        if function is None or str(function.__globals__.get("__name__")).startswith(_LIBRARIES):
            return None
        code = function.__code__
        tree = tree_of(code.co_filename, (code.co_firstlineno, 0))
        if tree is None:
            return None
        bound = not isinstance(unwrapped(value), types.FunctionType) or isinstance(call.func, ast.Attribute)
        given = _given(call, code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], bound, suspect)
        home = function.__globals__
        shared = {name for name in self._sources if home.get(name, self) is self._namespace.get(name)}
        shared -= set(code.co_varnames)
        inner = _Text(code.co_filename, tree, home, shared, self._depth + 1)
        return inner.find(given | shared, "")

    def _called(self, function: ast.expr) -> Any:
        """What is called, by its name, or as a method of an object of the user's."""
        if isinstance(function, ast.Name):
            return self._namespace.get(function.id)
        if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
            return None
        owner = type(self._namespace.get(function.value.id))
        return inspect.getattr_static(owner, function.attr, None)  # no code of the object's runs


def _given(call: ast.Call, parameters: tuple[str, ...], bound: bool, suspect: set[str]) -> set[str]:
    """The parameters of a function to which a call gives something tainted."""
    if any(isinstance(arg, ast.Starred) for arg in call.args) or any(not one.arg for one in call.keywords):
        return set(parameters)
    owner = [call.func] if bound else []
    pairs = [*zip(parameters, [*owner, *call.args], strict=False)]
    pairs += [(one.arg or "", one.value) for one in call.keywords]
    return {name for name, value in pairs if not suspect.isdisjoint(statements.valued(value))}


def _replacement(name: str) -> str:
    import tensorflow as tf

    if name in _RENAMED or hasattr(tf, name):
        return f"use tf.{_RENAMED.get(name, name)}"
    homes = {"math": tf.math, "linalg": tf.linalg, "signal": tf.signal}
    home = next((home for home, module in homes.items() if hasattr(module, name)), None)
    return f"use tf.{home}.{name}" if home else _OWN_OPERATIONS


def _is_value(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr)


def _sets_item(statement: ast.stmt) -> bool:
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return any(isinstance(target, ast.Subscript) for target in targets)


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())
