"""Where the user's code takes a value out of TensorFlow, read off its text and what was heard of its run.

The text is read as it ran, from statement to statement, with what each name carries of the source. Functions
of the user's are read where they are called: those that the text names, and those that were seen to run there.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tape_magic.engine.static_analysis.carried import Carried, TensorFlowExit, together
from tape_magic.engine.static_analysis.expressions import ExpressionReader, Home
from tape_magic.engine.static_analysis.leaving_calls import numeric_function
from tape_magic.engine.static_analysis.scope import UNRESOLVED, Callee, DefinedFunction, Scope
from tape_magic.engine.static_analysis.spots import CalledFunction, Spots
from tape_magic.engine.static_analysis.statements import base_name, function_body, syntax_tree
from tape_magic.engine.values.calls import Calls

_MAX_DEPTH, _MAX_RUNS = 12, 2_000
_KEEP_LIST = "keep the values in a list, and tf.stack them"


class ExitSearch(ExpressionReader):
    """The search for the exits of one source from TensorFlow, in one cell or function.

    Parameters
    ----------
    filename, lines
        The file, as ``linecache`` names it, and the lines of it that count; (0, 0) for all.
    namespace
        The objects that the names stand for.
    sources
        The names that hold the source, or lead to it as a model or a function does.
    others
        Expressions that begin with the name of a source and are not the source.
    exits
        What was under way whenever a value that depends on the source left TensorFlow, as far as was heard.
    arrivals
        What was under way whenever numbers came in, each with the number if it was one.
    """

    def __init__(
        self,
        filename: str,
        lines: tuple[int, int],
        namespace: Mapping[str, Any],
        sources: Iterable[str],
        others: Collection[str] = (),
        exits: Iterable[Calls] = (),
        arrivals: Sequence[tuple[Calls, complex | None]] = (),
    ) -> None:
        super().__init__(others)
        spots = Spots()
        self.marked = {id(node) for node in map(spots.add, exits) if node is not None}
        nodes = [spots.add(calls) for calls, _ in arrivals]
        self.called = spots.called
        self._spots = spots  # its trees must live as long as the identities of their nodes are used
        self._arrivals: dict[int, list[complex | None]] = {}
        for node, (_, number) in zip(nodes, arrivals, strict=True):
            if node is not None:
                self._arrivals.setdefault(id(node), []).append(number)
        self._exits = Carried()
        self._sources, self._namespace = set(sources), namespace
        self._running: list[ast.AST] = []
        self._runs = 0
        self._arrays: set[str] = set()
        self._modules: dict[str, Home] = {}
        self._tree = syntax_tree(filename, lines)
        self._root = Home(filename, Scope(namespace, {}), self._shared(namespace))
        self._last = Carried()

    def exits_to_arrivals(self) -> Carried:
        """Return where what came in at the arrivals left before, in the order of the text."""
        self._read_all()
        return self._exits

    def exits_to(self, target: str) -> Carried:
        """Return where what an output holds left; the empty name stands for the last expression."""
        self._read_all()
        found = self._root.names.get(target) if target else None
        if found is None:
            found = self._root.returned.copy().absorb(self._last)
            found = found.item(target) if target in found.items else found
        return found.flat()

    def _read_all(self) -> None:
        if self._tree is None or self._runs:
            return
        self._runs = 1
        self._block(self._tree.body, self._root)
        last = self._tree.body[-1] if self._tree.body else None
        if isinstance(last, ast.Expr):
            self._last = self.read(last.value, self._root)

    def _shared(self, namespace: Mapping[str, Any]) -> dict[str, Carried]:
        """Return the names of a namespace that hold the source."""
        ours = self._namespace
        return {
            name: Carried(computed=True)
            for name in self._sources
            if namespace is ours or namespace.get(name, self) is ours.get(name)
        }

    # -- arrivals ----------------------------------------------------------------------------------

    def arrived(self, node: ast.expr, parts: list[Carried]) -> None:
        """Take note of what an expression carries at which numbers came in."""
        numbers = self._arrivals.get(id(node))
        if numbers is None:
            return
        carried = together(parts)
        constants = {child.value for child in ast.iter_child_nodes(node) if isinstance(child, ast.Constant)}
        written = all(number is not None and number in constants for number in numbers)
        self._exits.exits.update(carried.exits)
        if not written:
            self._exits.perhaps.update(carried.perhaps)

    def leave(self, node: ast.AST, value: Carried, home: Home, cure: str | None = None) -> Carried:
        """Return what a value carries that an expression took out of TensorFlow, and perhaps in again."""
        found = super().leave(node, value, home, cure)
        if id(node) in self._arrivals:  # tf.constant(v) of a variable takes the numbers out, and in
            self._exits.exits.update(found.exits)
        return found

    # -- statements --------------------------------------------------------------------------------

    def _block(self, body: Iterable[ast.stmt], home: Home) -> None:
        for statement in body:
            self._statement(statement, home)

    def _statement(self, statement: ast.stmt, home: Home) -> None:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if home is not self._root:
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
                self._block(body, home)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                self._branches([[*body, *orelse], *([*body, *one.body] for one in handlers)], home)
                self._block(finalbody, home)
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
            self._block(body, home)
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
                self._block(statement.body, home)

        before = dict(home.names)
        rounds()
        for name, value in before.items():  # the loop may have had no round
            if home.names.get(name) is not value:
                home.names[name] = home.names[name].copy().absorb(value)
        self._block(statement.orelse, home)

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
        self.read(value, home)
        if not isinstance(value, ast.Call) or id(value) in self.called:
            return
        parts = [*value.args, *(one.value for one in value.keywords)]
        function = home.scope.resolve(value.func)
        if not parts or Callee.of(function, home.filename) is not None:
            return  # it was read, and kept what it keeps
        given = together([self.read(one, home) for one in parts])
        owner = value.func.value if isinstance(value.func, ast.Attribute) else None
        if owner is not None and not isinstance(home.scope.resolve(owner), types.ModuleType):
            self.place(owner, home).absorb(given)
        else:
            for one in parts:
                if isinstance(one, ast.Name) and not isinstance(home.scope.resolve(one), types.ModuleType):
                    self.place(one, home).absorb(given)

    def _import(self, statement: ast.Import | ast.ImportFrom, home: Home) -> None:
        if home is self._root:
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
                if home is not self._root:
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
        kinds = [type(self._namespace.get(name)).__module__.partition(".")[0] for name in names]
        return bool(names & self._arrays) or any(kind in ("numpy", "pandas") for kind in kinds)

    # -- functions ---------------------------------------------------------------------------------

    def run(
        self, function: Callee, given: list[Carried], named: Mapping[str, Carried], home: Home
    ) -> Carried:
        """Return what a call of a function of the user's gives."""
        inner = isinstance(function.key, ast.AST)
        outer = home if inner else self._outer(function.scope.namespace)
        names = dict(zip(function.names, given, strict=False)) | {
            name: value for name, value in named.items() if name.isidentifier()
        }
        more = together([*given[len(function.names) :], *named.values()])
        scope = Scope(function.scope.namespace, dict(function.scope.local))
        return self._run(function.tree, Home(function.filename, scope, names, outer), more)

    def run_noted(
        self,
        node: ast.AST,
        bound: list[Carried],
        given: list[Carried],
        named: Mapping[str, Carried],
        home: Home,
    ) -> Carried | None:
        """Return what the functions gave that ran under a call; ``None`` where none was seen to run."""
        results: list[Carried] = []
        for function in self.called.get(id(node), ()):
            results.append(self._run_noted(function, bound, given, named, home))
        return results[0].copy().absorb(*results[1:]) if results else None

    def _run_noted(
        self,
        function: CalledFunction,
        bound: list[Carried],
        given: list[Carried],
        named: Mapping[str, Carried],
        home: Home,
    ) -> Carried:
        arguments = function.node.args
        parameters = [one.arg for one in [*arguments.posonlyargs, *arguments.args]]
        more = together([*bound, *given, *named.values()])
        if function.direct:
            made = [Carried()] if getattr(function.node, "name", "") == "__init__" else None
            owners = (made or bound or [Carried()]) if parameters[:1] in (["self"], ["cls"]) else []
            names = dict(zip(parameters, [*owners, *given], strict=False))
            names |= {name: value for name, value in named.items() if name in parameters}
        else:
            made = None
            names = dict.fromkeys(parameters, more)
        names |= {one.arg: named.get(one.arg, Carried()) for one in arguments.kwonlyargs}
        names |= {one.arg: more for one in (arguments.vararg, arguments.kwarg) if one is not None}
        same = function.filename == home.filename
        outer = home if same else self._outer(function.namespace)
        inner = Home(function.filename, Scope(function.namespace, {}), names, outer)
        result = self._run(function_body(function.node), inner, more)
        return made[0] if made else result

    def _outer(self, namespace: Mapping[str, Any]) -> Home:
        if namespace.get("__name__") == self._namespace.get("__name__"):
            return self._root
        name = str(namespace.get("__name__"))
        if name not in self._modules:
            self._modules[name] = Home("", Scope(namespace, {}), self._shared(namespace))
        return self._modules[name]

    def _run(self, tree: ast.Module, home: Home, more: Carried) -> Carried:
        first = tree.body[0] if tree.body else tree
        if len(self._running) >= _MAX_DEPTH or self._runs > _MAX_RUNS or first in self._running:
            return together([more, *home.names.values()])
        self._runs += 1
        self._running.append(first)
        try:
            self._block(tree.body, home)
        finally:
            self._running.pop()
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr) and len(tree.body) == 1:  # a lambda
            home.returned.absorb(self.read(last.value, home))
        return home.returned


def first_exit(
    filename: str,
    lines: tuple[int, int],
    namespace: Mapping[str, Any],
    sources: set[str],
    target: str,
    others: Collection[str] = (),
) -> TensorFlowExit | None:
    """Return the first expression through which a value computed from a source leaves TensorFlow.

    Only the values that the target is computed of count. With ``h = np.sin(x)`` on line 3 and
    ``y = tf.reduce_sum(h)`` on line 4, the exit of ``x`` before ``y`` is ``np.sin(x)`` on line 3. For the
    parameters see `ExitSearch` and its method `exits_to`.
    """
    search = ExitSearch(filename, lines, namespace, sources, others)
    return next(iter(search.exits_to(target).exits), None)
