"""The objects that names in the user's text stand for, as far as they are known without running it."""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.static_analysis.statements import function_body, syntax_tree
from tape_magic.engine.values.functions import closure_of, function_behind, is_users, unwrapped

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Unresolved:
    """The value of a name that the program assigns itself, or that the text does not tell."""


UNRESOLVED = Unresolved()
"""The one instance of its class."""


@dataclass(frozen=True)
class DefinedFunction:
    """A function that the program defines itself.

    Attributes
    ----------
    node
        The definition.
    scope
        The scope that the definition stands in.
    """

    node: FunctionNode
    scope: Scope


@dataclass(frozen=True)
class Scope:
    """The objects that names stand for at one place in the text.

    Attributes
    ----------
    namespace
        The names outside, with their objects.
    local
        The names that the text has assigned so far.
    """

    namespace: Mapping[str, Any]
    local: dict[str, Any]

    @property
    def visible(self) -> Mapping[str, Any]:
        """All names but those of builtins, with their objects."""
        return ChainMap(self.local, dict(self.namespace)) if self.local else self.namespace

    def look_up(self, name: str) -> Any:
        """Return the object of a name; :data:`UNRESOLVED` where it is not known."""
        for names in (self.local, self.namespace, vars(builtins)):
            if name in names:
                return names[name]
        return UNRESOLVED

    def resolve(self, node: ast.AST | None) -> Any:
        """Return the object from outside that an expression gives; :data:`UNRESOLVED` for any other."""
        if isinstance(node, ast.Name):
            return self.look_up(node.id)
        if isinstance(node, ast.Attribute):
            return _attribute_of(self.resolve(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return item_of(self.resolve(node.value), node.slice)
        if isinstance(node, ast.Lambda):
            return DefinedFunction(node, self)
        return UNRESOLVED


@dataclass(frozen=True)
class Callee:
    """A function that the user wrote, at a place that calls it.

    Attributes
    ----------
    tree, filename
        The statements of the function, and their file.
    key
        An object that identifies the function.
    scope
        The scope that its body begins with.
    names
        Its positional parameters.
    bound
        The arguments that it has already: for a method, the object.
    """

    tree: ast.Module
    filename: str
    key: Any
    scope: Scope
    names: Sequence[str]
    bound: Sequence[Any] = ()

    @classmethod
    def of(cls, value: Any, filename: str) -> Callee | None:
        """Return the function that a call of `value` runs, if the user wrote it.

        ``None`` for a library's function, and for a ``tf.function``, which is traced by itself. `filename` is
        the file of the text that calls it.
        """
        if isinstance(value, DefinedFunction):
            parameters = [*value.node.args.posonlyargs, *value.node.args.args]
            given = [parameter.arg for parameter in parameters]
            return cls(function_body(value.node), filename, value.node, value.scope, given)
        if value is UNRESOLVED or unwrapped(value) is not value:
            return None
        function = function_behind(value)
        if function is None or not is_users(function.__code__.co_filename):
            return None
        code = function.__code__
        tree = syntax_tree(code.co_filename, (code.co_firstlineno, 0))
        if tree is None:
            return None
        names = code.co_varnames[: code.co_argcount]
        if isinstance(value, types.MethodType):
            bound = [value.__self__]
        else:
            bound = [value] if value is not function and names[:1] == ("self",) else []
        scope = Scope({**function.__globals__, **closure_of(function)}, {})
        return cls(tree, code.co_filename, code, scope, names, bound)


def _attribute_of(owner: Any, name: str) -> Any:
    """Return an attribute without running the user's code; :data:`UNRESOLVED` where it takes a call."""
    if isinstance(owner, types.ModuleType):
        return getattr(owner, name, UNRESOLVED)
    if owner is UNRESOLVED or isinstance(owner, DefinedFunction):
        return UNRESOLVED
    held = inspect.getattr_static(owner, name, UNRESOLVED)
    if isinstance(held, types.FunctionType) and not isinstance(owner, type):
        return types.MethodType(held, owner) if name not in getattr(owner, "__dict__", {}) else held
    if isinstance(held, staticmethod):
        return held.__func__
    if isinstance(held, classmethod):
        return types.MethodType(held.__func__, owner)
    return UNRESOLVED if hasattr(type(held), "__get__") and not callable(held) else held


def item_of(owner: Any, index: ast.expr | None) -> Any:
    """Return an item of a list, tuple or dict; any item stands for one whose index is not known."""
    if not isinstance(owner, list | tuple | dict) or not owner:
        return UNRESOLVED
    key = index.value if isinstance(index, ast.Constant) else None
    if isinstance(owner, dict):
        if index is None:
            return UNRESOLVED  # a loop over a dict gives its keys
        return dict.get(owner, key, next(iter(owner.values())))
    if isinstance(key, int) and -len(owner) <= key < len(owner):
        return tuple(owner)[key]
    return owner[0] if not isinstance(index, ast.Slice) else UNRESOLVED
