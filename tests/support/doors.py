"""Two ways into the engine, the Python functions and the magics, which must give the same."""

from __future__ import annotations

import ast
import linecache
import symtable
import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

import tape_magic
from tape_magic.engine.values.sizes import LIMIT
from tape_magic.errors import TapeMagicError
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.notation import Kind, read_targets
from tape_magic.results.gradients import GradReport
from tape_magic.results.minimum import MinimizeResult
from tape_magic.syntax import place
from tests.support.notebook import Notebook


@dataclass(frozen=True)
class Case:
    """A cell below a magic's line, in a namespace.

    The function door turns the cell into a function of the sources that the line names, with the
    rest of the namespace as its globals. `limit` is the size of the largest derivative, in bytes.
    """

    cell: str
    line: str = ""
    namespace: Mapping[str, Any] = field(default_factory=dict)
    limit: int = LIMIT


class Door:
    """One way in: `name` is "function" or "magic"."""

    def __init__(self, name: str, shell: Notebook) -> None:
        self.name = name
        self.shell = shell

    def grad(self, case: Case) -> GradReport:
        """The report on a case that must succeed."""
        if self.name == "function":
            return _grad_function(case)
        return self._magic("grad", case, "grads")

    def minimize(self, case: Case) -> MinimizeResult:
        """The result of a case that must succeed."""
        if self.name == "function":
            return _minimize_function(case)
        return self._magic("minimize", case, "minimum")

    def refused_grad(self, case: Case) -> str:
        """The sentence with which a case is refused."""
        return self._refused("grad", case, _grad_function)

    def refused_minimize(self, case: Case) -> str:
        """The sentence with which a case is refused."""
        return self._refused("minimize", case, _minimize_function)

    def _magic(self, magic: str, case: Case, bound: str) -> Any:
        self._prepare(case)
        self.shell.ok(f"%%{magic} {case.line}\n{case.cell}")
        return self.shell.ns[bound]

    def _refused(self, magic: str, case: Case, function: Callable[[Case], Any]) -> str:
        if self.name == "magic":
            self._prepare(case)
            return self.shell.refused(f"%%{magic} {case.line}\n{case.cell}")
        try:
            result = function(case)
        except TapeMagicError as error:
            return str(error)
        raise AssertionError(f"not refused: {result!r}")

    def _prepare(self, case: Case) -> None:
        self.shell.ns.update(case.namespace)
        if case.limit != LIMIT:
            self.shell.ok(f"%config TapeMagics.derivative_limit = {case.limit}")


def through_the_magic_once(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return the items with one door for each case, and both doors for each test.

    The first case goes through the magic, and the others through the function; an only case goes through
    both. With the mark ``both_doors``, so it is for each value of the parameters that the mark names.
    """
    items = list(items)
    groups: dict[Any, dict[str, list[pytest.Item]]] = {}
    for item in items:
        call = getattr(item, "callspec", None)
        if call is not None and "door" in call.params:
            mark = item.get_closest_marker("both_doors")
            values = tuple(id(call.params[name]) for name in (mark.args if mark else ()))
            doors = groups.setdefault((item.nodeid.partition("[")[0], values), {})
            doors.setdefault(call.params["door"], []).append(item)
    left_out: set[pytest.Item] = set()
    for doors in groups.values():
        magic, function = doors.get("magic", []), doors.get("function", [])
        left_out.update(magic[1:])
        if magic and len(function) > 1:
            left_out.add(function[0])
    return [item for item in items if item not in left_out]


def function_of(cell: str, parameters: Sequence[str], namespace: Mapping[str, Any], returns: str) -> Any:
    """The cell as a function whose source can be read, as AutoGraph must.

    A text has one file, however often it is used: AutoGraph takes functions of the same text for the same.
    """
    text = f"def cell({', '.join(parameters)}):\n{textwrap.indent(cell, '    ')}\n    return {returns}\n"
    filename = f"<cell of a test {zlib.crc32(text.encode())}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    home = dict(namespace)
    exec(compile(text, filename, "exec"), home)
    return home["cell"]


def _grad_function(case: Case) -> GradReport:
    options = GRAD.parse(case.line)
    assigned, value, body = _parts(case.cell)
    known = {*case.namespace, *assigned}
    targets = read_targets(options.targets, known.__contains__)
    vectors = {name: eval(text, dict(case.namespace)) for name, text in options.vectors}
    named = dict.fromkeys([name for target in targets for name in target.wrt])
    named |= dict.fromkeys([*options.arguments.get("wrt", ()), *vectors])
    sources = {
        base: case.namespace[base]
        for base in dict.fromkeys(place(name)[0] for name in named)
        if base in case.namespace
    }
    by_name = f"(lambda held: {{name: held[name] for name in {assigned} if name in held}})(locals())"
    returns = by_name if options.targets else value
    parameters = [*sources, *(["tape"] if "tape" in case.cell else [])]
    function = function_of(body, parameters, case.namespace, returns)
    kind = options.kind.value.replace(" ", "_")
    kinds = {} if options.kind is Kind.GRADIENT else {kind: vectors or True}
    further = {name: value for name, value in options.arguments.items() if name != "wrt"}
    return tape_magic.grad(
        function, sources or None, options.targets, check=options.check, limit=case.limit, **kinds, **further
    )


def _minimize_function(case: Case) -> MinimizeResult:
    options = MINIMIZE.parse(case.line)
    arguments = dict(options.arguments)
    _, value, body = _parts(case.cell)
    over = {name: case.namespace[name] for name in options.over or ()}
    returns = options.loss[0] if options.loss else value
    if "track" in arguments:
        tracked = ", ".join(f"{name!r}: {name}" for name in arguments["track"])
        returns = f"{{'loss': {returns}, {tracked}}}"

    def evaluated(text: str) -> Any:
        return eval(text, dict(case.namespace)) if text else None

    optimizer = arguments.pop("optimizer", "adam")
    named = optimizer.replace("-", "_").isidentifier()  # l-bfgs-b is one of SciPy's
    if not named or optimizer in case.namespace:
        optimizer = evaluated(optimizer)
    bounds = arguments.pop("bounds", ())
    data = arguments.pop("data", None)
    return tape_magic.minimize(
        function_of(body, [*over, *(data.names if data else ())], case.namespace, returns),
        over or None,
        optimizer,
        data=data and evaluated(data.data),
        bounds={name: (evaluated(low), evaluated(high)) for name, low, high in bounds},
        **arguments,
    )


def _parts(cell: str) -> tuple[list[str], str, str]:
    """The names that a cell assigns, its last expression, and what stands before that."""
    last = ast.parse(cell).body[-1]
    symbols = symtable.symtable(cell, "cell", "exec").get_symbols()
    names = [symbol.get_name() for symbol in symbols if symbol.is_assigned()]
    if not isinstance(last, ast.Expr):
        return names, "None", cell
    lines = cell.splitlines()[: last.lineno - 1]
    return names, ast.unparse(last), "\n".join([*lines, "pass"])
