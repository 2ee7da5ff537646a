"""`CallReader`: what calls in the user's text give, of what they are given of the source."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import types
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tape_magic.engine.static_analysis.carried import Carried, together
from tape_magic.engine.static_analysis.expressions import ExpressionReader, Home
from tape_magic.engine.static_analysis.leaving_calls import cure_for_call
from tape_magic.engine.static_analysis.scope import UNRESOLVED, Callee, DefinedFunction
from tape_magic.engine.static_analysis.statements import base_name
from tape_magic.engine.values.tensors import is_module

_LIBRARIES = frozenset(
    {"tensorflow", "keras", "builtins", "itertools", "functools", "collections", "operator"}
)
"""Packages whose functions take no value out of TensorFlow, but for those that `leaving_calls` lists."""

_MERELY = re.compile(r"leave out \.\w+\(\)")

_OF_TAPES = frozenset({"gradient", "jacobian", "batch_jacobian", "jvp"})


class CallReader(ExpressionReader):
    """Reads calls: of what takes values out of TensorFlow, of the user's functions, and of all others."""

    @abstractmethod
    def run(
        self, function: Callee, given: list[Carried], named: Mapping[str, Carried], home: Home
    ) -> Carried:
        """Return what a call of a function of the user's gives."""

    def read_call(self, node: ast.Call, home: Home) -> Carried:
        """Return what a call gives."""
        by_attribute = isinstance(node.func, ast.Attribute)
        owner = (
            self._owner(node.func.value, home)
            if isinstance(node.func, ast.Attribute)
            else self.read(node.func, home)
        )
        given = [self.read(one.value if isinstance(one, ast.Starred) else one, home) for one in node.args]
        named = {
            one.arg or f"**{place}": self.read(one.value, home) for place, one in enumerate(node.keywords)
        }
        self.arrived(node, [owner, *given, *named.values()])
        carried = together([owner, *given, *named.values()])
        cure = cure_for_call(node, home.scope.visible)
        if cure is not None:
            return self.leave(node, carried, home, cure) if carried.computed else _with_cure(carried, cure)
        result = self.run_noted(node, [owner] if by_attribute else [], given, named, home)
        if result is None:
            result = self._run_known(node, owner, given, named, home)
        return self._read_unknown(node, owner, carried, home) if result is None else result

    def _owner(self, node: ast.expr, home: Home) -> Carried:
        """Return what the object of a method carries, to be added to where it carries nothing yet."""
        if isinstance(home.scope.resolve(node), types.ModuleType):
            return Carried()
        found = self.read(node, home)
        return self.place(node, home) if base_name(node) and not found.is_tainted else found

    def _run_known(
        self, node: ast.Call, owner: Carried, given: list[Carried], named: Mapping[str, Carried], home: Home
    ) -> Carried | None:
        """Return what a function or class of the user's gives; ``None`` where a call is of nothing such."""
        function = home.scope.resolve(node.func)
        makes = isinstance(function, type)
        callee = Callee.of(inspect.getattr_static(function, "__init__") if makes else function, home.filename)
        if callee is None or not callee.tree.body or any(isinstance(one, ast.Starred) for one in node.args):
            return None
        made = Carried()
        if makes:
            given = [made, *given]
        elif callee.bound:
            given = [owner, *given]
        result = self.run(callee, given, named, home)
        return made if makes else result

    def _read_unknown(self, node: ast.Call, owner: Carried, carried: Carried, home: Home) -> Carried:
        """Return what a call gives of a library's function, or of one that is not known."""
        function, key = home.scope.resolve(node.func), node.args[0] if node.args else None
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get" and isinstance(key, ast.Constant):
            return owner.item(key.value)
        if function is builtins.dict and not node.args:
            return Carried.of_items({one.arg: self.read(one.value, home) for one in node.keywords})
        fields = (
            inspect.getattr_static(function, "__match_args__", None) if isinstance(function, type) else None
        )
        if isinstance(fields, tuple):  # a data class or a named tuple
            parts = [self.read(one, home) for one in node.args]
            named = {f".{one.arg}": self.read(one.value, home) for one in node.keywords}
            given = {f".{name}": part for name, part in zip(fields, parts, strict=False)}
            return Carried.of_items({**dict(enumerate(parts)), **given, **named})
        marked = id(node) in self.marked
        if marked and not stays(function, node.func):
            return self.leave(node, carried, home)
        carried.absorb(self._given_functions(node, carried, home))
        if marked or (carried.computed and not stays(function, node.func)):
            carried.perhaps[self.exit_at(node, home)] = None
        return carried

    def _given_functions(self, node: ast.Call, carried: Carried, home: Home) -> Carried:
        """Return what the user's functions give that a call is given, if it calls them with its values."""
        made = Carried()
        for one in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if isinstance(one, ast.Lambda | ast.Name | ast.Attribute):
                function = home.scope.resolve(one)
                known = isinstance(function, DefinedFunction | types.FunctionType | types.MethodType)
                callee = Callee.of(function, home.filename) if known else None
                if callee is not None:
                    made.absorb(self.run(callee, [carried] * len(callee.names), {}, home).flat())
        return made


def _with_cure(carried: Carried, cure: str) -> Carried:
    """Return what a call gives that would take out itself what left before by a mere conversion.

    For ``np.sin(x.numpy())``, to leave out ``.numpy()`` is not enough: "leave out .numpy(), and use tf.sin".
    """
    if not cure.startswith("use "):
        return carried
    made = carried.flat()
    made.exits = {
        replace(one, cure=f"{one.cure}, and {cure}") if _MERELY.fullmatch(one.cure) else one: None
        for one in carried.exits
    }
    return made


def stays(function: Any, node: ast.expr) -> bool:
    """Return whether a function gives tensors for tensors, but for those that `leaving_calls` lists."""
    if function is UNRESOLVED:
        return isinstance(node, ast.Attribute) and node.attr in _OF_TAPES
    if is_module(function):
        return True
    if function is eval or function is exec:
        return False
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module).partition(".")[0] in _LIBRARIES
