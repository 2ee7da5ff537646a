"""What the expressions of the user's text carry of the source, read without running them."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tape_magic.engine.static_analysis.carried import Carried, TensorFlowExit, together
from tape_magic.engine.static_analysis.leaving_calls import cure_for_call
from tape_magic.engine.static_analysis.scope import UNRESOLVED, Scope
from tape_magic.engine.static_analysis.statements import base_name, calls_within, reads_shape
from tape_magic.engine.values.tensors import is_module, is_tensor, is_variable

_OF_AN_INDEX = "an index has no derivative: differentiate by what it selects"


@dataclass(eq=False)
class Home:
    """A function or cell whose text is read.

    Attributes
    ----------
    filename, scope
        Its file, and the objects that names stand for.
    names
        What the names that it assigned carry.
    outer
        The function that called it, or that it is defined in.
    returned
        What it returned so far.
    shared
        The names that it assigns in the module, as ``global`` says.
    """

    filename: str
    scope: Scope
    names: dict[str, Carried]
    outer: Home | None = None
    returned: Carried = field(default_factory=Carried)
    shared: set[str] = field(default_factory=set)

    @property
    def outermost(self) -> Home:
        """The module or cell around a function."""
        return self if self.outer is None else self.outer.outermost

    def find(self, name: str) -> Carried | None:
        """Return what a name carries; ``None`` where nothing was assigned to it."""
        home: Home | None = self
        while home is not None:
            if name in home.names:
                return home.names[name]
            home = home.outer
        return None


class ExpressionReader(ABC):
    """Reads expressions; statements are for the subclass.

    Parameters
    ----------
    others
        Expressions that begin with the name of a source and are not the source.

    Attributes
    ----------
    sources
        The objects that are the source or lead to it.
    marked
        By the identity of nodes, the expressions under which a value of the source left at run time.
    called
        By the identity of nodes, the functions of the user's that were called there at run time.
    leads
        Says whether an object is the source, or leads to it as a model does.
    """

    def __init__(self, others: Collection[str]) -> None:
        self._others = others
        self.sources: list[Any] = []
        self.marked: set[int] = set()
        self.called: Mapping[int, list[Any]] = {}
        self.leads: Callable[[Any], bool] = lambda value: False

    @abstractmethod
    def run_noted(
        self,
        node: ast.AST,
        bound: list[Carried],
        given: list[Carried],
        named: Mapping[str, Carried],
        home: Home,
    ) -> Carried | None:
        """Return what the functions gave that ran under a call at run time; ``None`` where there was none."""

    @abstractmethod
    def read_call(self, node: ast.Call, home: Home) -> Carried:
        """Return what a call gives."""

    @abstractmethod
    def bind(self, target: ast.AST, value: Carried, home: Home, statement: ast.stmt | None = None) -> None:
        """Assign to a target of a statement or expression."""

    @abstractmethod
    def arrived(self, node: ast.expr, parts: list[Carried]) -> None:
        """Take note that an expression was read, with what its parts carry."""

    # -- any expression ----------------------------------------------------------------------------

    def read(self, node: ast.AST | None, home: Home) -> Carried:
        """Return what an expression carries."""
        if node is None or isinstance(node, ast.Constant) or reads_shape(node):
            return Carried()
        if isinstance(node, ast.Attribute) and self._others and ast.unparse(node) in self._others:
            return Carried()
        special = self._READERS.get(type(node))
        if special is not None:
            found: Carried = special(self, node, home)
        else:
            parts = [
                self.read(child, home) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
            ]
            self.arrived(node, parts)  # type: ignore[arg-type]
            found = together(parts)
        if isinstance(node, ast.Call):
            return found
        if id(node) in self.called:  # a property, or an operator of a class of the user's
            base = node.value if isinstance(node, ast.Attribute | ast.Subscript) else None
            owner = found if base is None else self.read(base, home)
            ran = self.run_noted(node, [owner], [found], {}, home)
            found = found.copy().absorb(*([] if ran is None else [ran]))
        return self.leave(node, found, home) if id(node) in self.marked else found

    def place(self, node: ast.expr, home: Home) -> Carried:
        """Return what an object carries, to be added to."""
        if isinstance(node, ast.Name):
            found = home.find(node.id)
            return home.outermost.names.setdefault(node.id, Carried()) if found is None else found
        key = _key_of(node)
        if key is not None:
            return self.place(node.value, home).items.setdefault(key, Carried())  # type: ignore[attr-defined]
        return self.place(node.value, home) if isinstance(node, ast.Subscript) else self.read(node, home)

    def leave(self, node: ast.AST, value: Carried, home: Home, cure: str | None = None) -> Carried:
        """Return what a value carries that an expression took out of TensorFlow."""
        made = value.flat()
        made.computed = False
        made.exits[self.exit_at(node, home, cure)] = None
        return made

    def exit_at(self, node: ast.AST, home: Home, cure: str | None = None) -> TensorFlowExit:
        """Return an expression as an exit: the call within it that is known to be one, or all of it."""
        if cure is None:
            for call in calls_within(node):
                known = cure_for_call(call, home.scope.visible)
                if known is not None:
                    return TensorFlowExit(home.filename, call.lineno, on_one_line(call), known)
        return TensorFlowExit(home.filename, getattr(node, "lineno", 0), on_one_line(node), cure or "")

    # -- kinds of expressions ----------------------------------------------------------------------

    def _read_name(self, node: ast.Name, home: Home) -> Carried:
        found = home.find(node.id)
        if found is None:  # a closure may hold the source under a name of its own
            value = home.scope.look_up(node.id)
            return Carried(computed=any(value is one for one in self.sources))
        if found.perhaps and home.outer is None:
            value = home.scope.namespace.get(node.id)
            if (
                is_tensor(value) or is_variable(value) or is_module(value)
            ):  # it has not left, as the run showed
                kept = Carried(computed=found.computed)
                kept.exits.update(found.exits)
                return kept
        return found

    def _read_attribute(self, node: ast.Attribute, home: Home) -> Carried:
        owner, key = self.read(node.value, home), f".{node.attr}"
        held = owner.items.get(key, Carried())
        if owner.computed and not (held.is_tainted or held.items) and "self" in base_name(node):
            value = home.scope.resolve(node)  # what the object of the method holds, which is known
            if value is not UNRESOLVED and not is_tensor(value):
                return Carried(computed=self.leads(value))
        return owner.item(key)

    def _read_subscript(self, node: ast.Subscript, home: Home) -> Carried:
        value, index = self.read(node.value, home), self.read(node.slice, home)
        key = _key_of(node)
        found = value.element() if key is None else value.item(key)
        if index.exits:
            index = index.flat()
            index.exits = {replace(one, cure=_OF_AN_INDEX): None for one in index.exits}
        self.arrived(node, [found, index])
        return Carried().absorb(found, index.flat()) if index.exits or index.perhaps else found

    def _read_sequence(self, node: ast.List | ast.Tuple | ast.Set, home: Home) -> Carried:
        made = Carried()
        for place, item in enumerate(node.elts):
            if isinstance(item, ast.Starred):
                made.absorb(self.read(item.value, home).flat())
            else:
                made.items[place] = self.read(item, home)
        self.arrived(node, [made])
        return made

    def _read_dict(self, node: ast.Dict, home: Home) -> Carried:
        made = Carried()
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.read(item, home)
            if key is None:
                made.absorb(value)
            elif isinstance(key, ast.Constant):
                made.items[key.value] = value
            else:
                made.absorb(value.flat())
        return made

    def _read_choice(self, node: ast.IfExp, home: Home) -> Carried:
        self.read(node.test, home)
        return self.read(node.body, home).copy().absorb(self.read(node.orelse, home))

    def _read_walrus(self, node: ast.NamedExpr, home: Home) -> Carried:
        value = self.read(node.value, home)
        self.bind(node.target, value, home)
        return value

    def _read_lambda(self, node: ast.Lambda, home: Home) -> Carried:
        return Carried()  # its text is read where it is called

    def _read_comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, home: Home
    ) -> Carried:
        inner = Home(home.filename, home.scope, {}, home, home.returned)
        for part in node.generators:
            self.bind(part.target, self.elements(part.iter, inner), inner)
            for test in part.ifs:
                self.read(test, inner)
        ends = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return together([self.read(end, inner) for end in ends])

    def _read_yield(self, node: ast.Yield | ast.YieldFrom, home: Home) -> Carried:
        home.returned.absorb(self.read(node.value, home).flat())
        return Carried()

    def _read_text(self, node: ast.JoinedStr, home: Home) -> Carried:
        value = together(
            [self.read(part.value, home) for part in node.values if isinstance(part, ast.FormattedValue)]
        )
        return self.leave(node, value, home, "") if value.computed else value

    def elements(self, node: ast.expr, home: Home) -> Carried:
        """Return what the items carry that a loop over an expression gets."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id == "zip":
                parts = [self.elements(one, home) for one in node.args]
                return Carried.of_items(dict(enumerate(parts)))
            if node.func.id == "enumerate" and node.args:
                return Carried.of_items({0: Carried(), 1: self.elements(node.args[0], home)})
        return self.read(node, home).element()

    _READERS: Mapping[type, Callable[..., Carried]] = {
        ast.Name: _read_name,
        ast.Attribute: _read_attribute,
        ast.Subscript: _read_subscript,
        ast.List: _read_sequence,
        ast.Tuple: _read_sequence,
        ast.Set: _read_sequence,
        ast.Dict: _read_dict,
        ast.IfExp: _read_choice,
        ast.NamedExpr: _read_walrus,
        ast.Lambda: _read_lambda,
        ast.ListComp: _read_comprehension,
        ast.SetComp: _read_comprehension,
        ast.GeneratorExp: _read_comprehension,
        ast.DictComp: _read_comprehension,
        ast.Yield: _read_yield,
        ast.YieldFrom: _read_yield,
        ast.JoinedStr: _read_text,
        ast.Call: lambda self, node, home: self.read_call(node, home),
    }


def _key_of(node: ast.expr) -> Any:
    """Return the key under which `Carried` holds an attribute or an item; ``None`` where it is not known."""
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    key = (
        node.slice.value if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) else None
    )
    return key if isinstance(key, str) or (isinstance(key, int) and key >= 0) else None


def on_one_line(node: ast.AST) -> str:
    """Return the text of an expression or statement on one line."""
    return " ".join(ast.unparse(node).split())
