"""What the names in a piece of the user's text stand for, as far as that is known without running it."""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.static_analysis.statements import body_of, tree_of
from tape_magic.engine.values.functions import closure_of, function_behind, is_users, unwrapped

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Made:
    """Stands for what the program makes itself, or what the text does not tell."""


MADE = Made()
"""The one of its kind."""


@dataclass(frozen=True)
class Defined:
    """A function that the program defines itself."""

    node: Function
    scope: Scope


@dataclass(frozen=True)
class Scope:
    """What names stand for: those assigned so far within, and those outside."""

    namespace: Mapping[str, Any]
    local: dict[str, Any]

    def look(self, name: str) -> Any:
        """What a name stands for; :data:`MADE` where that is not known."""
        for names in (self.local, self.namespace, vars(builtins)):
            if name in names:
                return names[name]
        return MADE

    def value(self, node: ast.AST | None) -> Any:
        """The object from outside that an expression gives; :data:`MADE` for any other."""
        if isinstance(node, ast.Name):
            return self.look(node.id)
        if isinstance(node, ast.Attribute):
            return _member(self.value(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return item_of(self.value(node.value), node.slice)
        if isinstance(node, ast.Lambda):
            return Defined(node, self)
        return MADE


@dataclass(frozen=True)
class Callee:
    """A function that the user wrote, as it is called.

    Attributes
    ----------
    tree, filename
        Its statements, and where they stand.
    key
        Tells it from others.
    scope
        What its names stand for.
    names
        Its parameters that are given in order.
    bound
        The first of them that it has already: the object of a method.
    """

    tree: ast.Module
    filename: str
    key: Any
    scope: Scope
    names: Sequence[str]
    bound: Sequence[Any] = ()

    @classmethod
    def of(cls, value: Any, filename: str) -> Callee | None:
        """What a call of a value runs; ``None`` for what is a library's, or traced on its own account.

        `filename` is that of the text that calls it.
        """
        if isinstance(value, Defined):
            parameters = [*value.node.args.posonlyargs, *value.node.args.args]
            given = [parameter.arg for parameter in parameters]
            return cls(body_of(value.node), filename, value.node, value.scope, given)
        if value is MADE or unwrapped(value) is not value:
            return None
        function = function_behind(value)
        if function is None or not is_users(function.__code__.co_filename):
            return None
        code = function.__code__
        tree = tree_of(code.co_filename, (code.co_firstlineno, 0))
        if tree is None:
            return None
        names = code.co_varnames[: code.co_argcount]
        if isinstance(value, types.MethodType):
            bound = [value.__self__]
        else:
            bound = [value] if value is not function and names[:1] == ("self",) else []
        scope = Scope({**function.__globals__, **closure_of(function)}, {})
        return cls(tree, code.co_filename, code, scope, names, bound)


def _member(owner: Any, name: str) -> Any:
    """An attribute, without running code of the user's; :data:`MADE` where only that would tell."""
    if isinstance(owner, types.ModuleType):
        return getattr(owner, name, MADE)
    if owner is MADE or isinstance(owner, Defined):
        return MADE
    held = inspect.getattr_static(owner, name, MADE)
    if isinstance(held, types.FunctionType) and not isinstance(owner, type):
        return types.MethodType(held, owner) if name not in getattr(owner, "__dict__", {}) else held
    if isinstance(held, staticmethod):
        return held.__func__
    if isinstance(held, classmethod):
        return types.MethodType(held.__func__, owner)
    return MADE if hasattr(type(held), "__get__") and not callable(held) else held


def item_of(owner: Any, index: ast.expr | None) -> Any:
    """An item of a list or dict; where it is not known which, any of them stands for it."""
    if not isinstance(owner, list | tuple | dict) or not owner:
        return MADE
    key = index.value if isinstance(index, ast.Constant) else None
    if isinstance(owner, dict):
        if index is None:
            return MADE  # a loop gives the keys
        return dict.get(owner, key, next(iter(owner.values())))
    if isinstance(key, int) and -len(owner) <= key < len(owner):
        return tuple(owner)[key]
    return owner[0] if not isinstance(index, ast.Slice) else MADE
