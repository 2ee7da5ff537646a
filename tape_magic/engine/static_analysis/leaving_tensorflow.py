"""Where the user's code takes a value out of TensorFlow, read off its text and what was heard of its run.

The text is read as it ran, from statement to statement, with what each name carries of the source. Functions
of the user's are read where they are called: those that the text names, and those that were seen to run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tape_magic.engine.static_analysis.call_reader import stays
from tape_magic.engine.static_analysis.carried import Carried, together
from tape_magic.engine.static_analysis.expressions import Home
from tape_magic.engine.static_analysis.scope import UNRESOLVED, Callee, Scope
from tape_magic.engine.static_analysis.spots import CalledFunction, Spots
from tape_magic.engine.static_analysis.statement_reader import StatementReader
from tape_magic.engine.static_analysis.statements import function_body, syntax_tree
from tape_magic.engine.values.calls import Calls
from tape_magic.engine.values.functions import closure_of

_MAX_DEPTH, _MAX_RUNS = 12, 2_000


class ExitSearch(StatementReader):
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
        What was under way whenever numbers came in, each with what came in there: numbers, ``None`` for
        all else.
    leads
        Says whether an object is the source, or leads to it as a model does.
    """

    def __init__(
        self,
        filename: str,
        lines: tuple[int, int],
        namespace: Mapping[str, Any],
        sources: Iterable[str],
        others: Collection[str] = (),
        exits: Iterable[Calls] = (),
        arrivals: Sequence[tuple[Calls, Collection[complex | None]]] = (),
        leads: Callable[[Any], bool] = lambda value: False,
    ) -> None:
        self._sources = set(sources)
        names = {name: Carried(computed=True) for name in self._sources}
        super().__init__(others, Home(filename, Scope(namespace, {}), names))
        self.leads = leads
        spots = Spots()
        self.sources = [namespace[name] for name in self._sources if name in namespace]
        self.marked = {id(node) for node in map(spots.add, exits) if node is not None}
        nodes = [spots.add(calls) for calls, _ in arrivals]
        self.called = spots.called
        self._arrivals: dict[int, set[complex | None]] = {}
        for node, (_, numbers) in zip(nodes, arrivals, strict=True):
            if node is not None:
                self._arrivals.setdefault(id(node), set()).update(numbers)
        self._exits = Carried()
        self._running: list[ast.AST] = []
        self._runs = 0
        self._modules: dict[str, Home] = {}
        # Trees must live as long as the identities of their nodes are used.
        self._texts = syntax_tree(filename, lines), spots

    def exits_to_arrivals(self) -> Carried:
        """Return where what came in at the arrivals left before, in the order of the text."""
        self._read_all()
        return self._exits

    def exits_to(self, target: str) -> Carried:
        """Return where what an output holds left; the empty name stands for the last expression."""
        self._read_all()
        names, returned = self.root.names, self.root.returned
        if target and target in returned.items and target not in names:
            return returned.item(target).flat()
        found = names.get(target)
        if not target or found is None:
            found = returned.copy().absorb(*([] if found is None else [found]))
        return found.flat()

    def _read_all(self) -> None:
        tree, _ = self._texts
        if tree is None or self._runs:
            return
        self._runs = 1
        self.read_block(tree.body, self.root)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            self.root.names[""] = self.read(last.value, self.root)

    def _shared(self, namespace: Mapping[str, Any]) -> dict[str, Carried]:
        """Return the names of another module that hold the source."""
        ours = self.root.scope.namespace
        same = [name for name in self._sources if namespace.get(name, self) is ours.get(name)]
        return {name: Carried(computed=True) for name in same}

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
        if function.bound and function.names[:1] == ("self",):
            scope.local["self"] = function.bound[0]
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
            direct = function.direct and calls(node, function.node, home)
            held = closure_of(home.scope.resolve(node.func)) if direct and isinstance(node, ast.Call) else {}
            scope = Scope({**function.namespace, **held}, {})
            results.append(self._run_noted(function, direct, scope, [bound, given], named, home))
        return results[0].copy().absorb(*results[1:]) if results else None

    def _run_noted(
        self,
        function: CalledFunction,
        direct: bool,
        scope: Scope,
        positional: list[list[Carried]],
        named: Mapping[str, Carried],
        home: Home,
    ) -> Carried:
        bound, given = positional
        arguments = function.node.args
        parameters = [one.arg for one in [*arguments.posonlyargs, *arguments.args]]
        more = together([*bound, *given, *named.values()])
        if direct:
            made = [Carried()] if getattr(function.node, "name", "") == "__init__" else None
            owners = (made or bound or [Carried()]) if parameters[:1] in (["self"], ["cls"]) else []
            names = dict(zip(parameters, [*owners, *given], strict=False))
            names |= {name: value for name, value in named.items() if name in parameters}
        else:
            made = None
            names = dict.fromkeys(parameters, more)
        if function.owner is not None and parameters[:1] == ["self"] and made is None:
            scope.local["self"] = function.owner
            if not (direct and bound):
                names["self"] = Carried(computed=self.leads(function.owner))
        names |= {one.arg: named.get(one.arg, Carried()) for one in arguments.kwonlyargs}
        names |= {one.arg: more for one in (arguments.vararg, arguments.kwarg) if one is not None}
        same = function.filename == home.filename
        outer = home if same else self._outer(function.namespace)
        inner = Home(function.filename, scope, names, outer)
        result = self._run(function_body(function.node), inner, more)
        return made[0] if made else result

    def _outer(self, namespace: Mapping[str, Any]) -> Home:
        if namespace.get("__name__") == self.root.scope.namespace.get("__name__"):
            return self.root
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
            self.read_block(tree.body, home)
        finally:
            self._running.pop()
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr) and len(tree.body) == 1:  # a lambda
            home.returned.absorb(self.read(last.value, home))
        return home.returned


def calls(node: ast.AST, function: ast.AST, home: Home) -> bool:
    """Return whether an expression calls a function itself, and gives it its own arguments in their order."""
    name = str(getattr(function, "name", ""))
    if not isinstance(node, ast.Call):
        return True
    if name.startswith("__") and name not in ("__init__", "__call__"):
        return False
    resolved = home.scope.resolve(node.func)
    return resolved is UNRESOLVED or not stays(resolved, node.func)
