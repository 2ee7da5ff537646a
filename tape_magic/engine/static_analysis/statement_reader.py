"""`StatementReader`: what the statements of the user's text do to what its names carry of the source."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Collection, Iterable
from typing import Any

from tape_magic.engine.static_analysis.call_reader import CallReader
from tape_magic.engine.static_analysis.carried import Carried, together
from tape_magic.engine.static_analysis.expressions import Home
from tape_magic.engine.static_analysis.leaving_calls import numeric_function
from tape_magic.engine.static_analysis.scope import UNRESOLVED, Callee, DefinedFunction
from tape_magic.engine.static_analysis.statements import base_name
from tape_magic.engine.values.tensors import is_module, is_tensor, is_variable

_KEEP_LIST = "keep the values in a list, and tf.stack them"


class StatementReader(CallReader):
    """Reads statements in the order in which they ran, branches side by side and loops twice.

    Parameters
    ----------
    others
        Expressions that begin with the name of a source and are not the source.
    root
        The cell or function that ran.
    """

    def __init__(self, others: Collection[str], root: Home) -> None:
        super().__init__(others)
        self.root = root
        self._arrays: set[str] = set()

    # -- statements --------------------------------------------------------------------------------

    def read_block(self, body: Iterable[ast.stmt], home: Home) -> None:
        """Read statements in their order."""
        for statement in body:
            self._statement(statement, home)

    def _statement(self, statement: ast.stmt, home: Home) -> None:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if home is not self.root:
                    home.scope.local[statement.name] = DefinedFunction(statement, home.scope)
            case ast.ClassDef():
                pass
            case ast.Global(names=names):
                home.shared.update(names)
            case ast.Import() | ast.ImportFrom():
                self._import(statement, home)
            case ast.Return():
                home.returned.absorb(self.read(statement.value, home))
            case ast.Assign(targets=targets, value=value):
                carried = self.read(value, home)
                for target in targets:
                    self.bind(target, carried, home, statement)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self.bind(target, self.read(value, home), home, statement)
            case ast.AugAssign():
                self._augment(statement, home)
            case ast.Expr(value=value):
                self._expression(value, home)
            case ast.If(test=test, body=body, orelse=orelse):
                self.read(test, home)
                self._branches([body, orelse], home)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(statement, home)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    value_of = self.read(item.context_expr, home)
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, value_of, home)
                self.read_block(body, home)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                self._branches([[*body, *orelse], *([*body, *one.body] for one in handlers)], home)
                self.read_block(finalbody, home)
            case ast.Match(subject=subject, cases=cases):
                self.read(subject, home)
                self._branches([*(one.body for one in cases), []], home)
            case _:
                for child in ast.iter_child_nodes(statement):
                    if isinstance(child, ast.expr):
                        self.read(child, home)

    def _branches(self, bodies: Iterable[list[ast.stmt]], home: Home) -> None:
        """Read blocks of which one ran."""
        before, found = dict(home.names), dict[str, Carried]()
        for body in bodies:
            home.names = dict(before)
            self.read_block(body, home)
            for name, value in home.names.items():
                held = found.get(name)
                found[name] = value if held is None or held is value else held.copy().absorb(value)
        home.names = found

    def _loop(self, statement: ast.For | ast.AsyncFor | ast.While, home: Home) -> None:
        """Read a loop twice, since a round reads what the round before left."""

        def rounds() -> None:
            for _ in range(2):
                if isinstance(statement, ast.While):
                    self.read(statement.test, home)
                else:
                    self.bind(statement.target, self.elements(statement.iter, home), home)
                self.read_block(statement.body, home)

        before = dict(home.names)
        rounds()
        for name, value in before.items():  # the loop may have had no round
            if home.names.get(name) is not value:
                home.names[name] = home.names[name].copy().absorb(value)
        self.read_block(statement.orelse, home)

    def _augment(self, statement: ast.AugAssign, home: Home) -> None:
        target = statement.target
        before = home.find(target.id) or Carried() if isinstance(target, ast.Name) else Carried()
        carried = self.read(statement.value, home)
        parts = [before, carried]
        self.arrived(statement, parts)  # type: ignore[arg-type]
        if id(statement) in self.marked:
            parts = [self.leave(statement, together(parts), home)]
        self.bind(target, together(parts), home, statement)

    def _expression(self, value: ast.expr, home: Home) -> None:
        """Read an expression whose value is dropped: what a call is given, it may keep."""
        result = self.read(value, home)
        if not isinstance(value, ast.Call) or id(value) in self.called:
            return
        parts = [*value.args, *(one.value for one in value.keywords)]
        function = home.scope.resolve(value.func)
        builtin = isinstance(value.func, ast.Name) and getattr(function, "__module__", "") == "builtins"
        builtin = builtin and function is not setattr
        if not parts or builtin or Callee.of(function, home.filename) is not None:
            return  # it was read, and kept what it keeps
        given = result if result.exits else together([self.read(one, home) for one in parts])
        owner = value.func.value if isinstance(value.func, ast.Attribute) else None
        if owner is not None and not isinstance(home.scope.resolve(owner), types.ModuleType):
            self.place(owner, home).absorb(given)
            return
        for one in parts:
            if isinstance(one, ast.Name) and _may_keep(home.scope.resolve(one)):
                self.place(one, home).absorb(given)

    def _import(self, statement: ast.Import | ast.ImportFrom, home: Home) -> None:
        if home is self.root:
            return
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                name = alias.asname or alias.name.partition(".")[0]
                value = sys.modules.get(alias.name if alias.asname else name, UNRESOLVED)
            else:
                name = alias.asname or alias.name
                value = getattr(sys.modules.get(statement.module or ""), alias.name, UNRESOLVED)
            home.scope.local[name] = value

    # -- assignments -------------------------------------------------------------------------------

    def bind(self, target: ast.AST, value: Carried, home: Home, statement: ast.stmt | None = None) -> None:
        """Assign to a name, to several, to an item or to an attribute."""
        text = getattr(statement, "value", None)
        match target:
            case ast.Name(id=name) if name in home.shared:
                home.outermost.names[name] = value
            case ast.Name(id=name):
                home.names[name] = value
                if home is not self.root:
                    function = home.scope.resolve(text) if isinstance(text, ast.Lambda) else UNRESOLVED
                    home.scope.local[name] = function
                elif isinstance(text, ast.Call) and numeric_function(text.func, home.scope.visible):
                    self._arrays.add(name)
            case ast.Starred(value=inner):
                self.bind(inner, value.flat(), home)
            case ast.Tuple(elts=elts) | ast.List(elts=elts):
                starred = any(isinstance(one, ast.Starred) for one in elts)
                for place, one in enumerate(elts):
                    self.bind(one, value.flat() if starred else value.item(place), home)
            case ast.Attribute(value=owner, attr=attr):
                self._store(owner, f".{attr}", value, home)
            case ast.Subscript(value=owner, slice=index):
                if value.computed and (id(target) in self.marked or self._is_array(owner)):
                    value = self.leave(statement or target, value, home, _KEEP_LIST)
                key = index.value if isinstance(index, ast.Constant) else None
                self._store(owner, key, value, home)

    def _store(self, owner: ast.expr, key: Any, value: Carried, home: Home) -> None:
        held = self.place(owner, home)
        if key is None:
            held.absorb(value.flat())
        elif key in held.items:
            held.items[key] = held.items[key].copy().absorb(value)
        else:
            held.items[key] = value

    def _is_array(self, owner: ast.expr) -> bool:
        names = base_name(owner)
        kinds = [type(self.root.scope.namespace.get(name)).__module__.partition(".")[0] for name in names]
        return bool(names & self._arrays) or any(kind in ("numpy", "pandas") for kind in kinds)


def _may_keep(value: Any) -> bool:
    """Return whether a function may store something in an object that it is given."""
    fixed = isinstance(value, types.ModuleType | types.FunctionType | type | str | int | float)
    return not (fixed or is_tensor(value) or is_variable(value) or is_module(value))
