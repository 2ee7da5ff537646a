"""The names that a cell reads and assigns, found in its syntax tree in the order of evaluation."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tape_magic.engine.program.program import Names
from tape_magic.magics.cell.computing import computing_of

TIMING_MAGICS = frozenset({"time"})
"""Line magics that run the rest of their line as Python in the notebook's namespace."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def names_of(tree: ast.Module) -> Names:
    r"""Return the names of a cell; a name that a function of the cell reads counts as read.

    >>> names = names_of(ast.parse("x = x + a\nh = x"))
    >>> names.reads, names.assigns, names.reads_first
    (('x', 'a'), {'x': 1, 'h': 2}, frozenset({'x'}))
    """
    use = _Use()
    use.visit_all(tree.body)
    for name in use.deferred:
        if name not in use.assigns:
            use.reads.setdefault(name)
    first = frozenset(name for name in use.reads if name in use.assigns)
    deleted = frozenset(use.deletes)
    return Names(tuple(use.reads), dict(use.assigns), first, use.opaque, deleted, *computing_of(tree))


def stored_by(node: ast.AST) -> frozenset[str]:
    """Return the names that a statement, or a part of one, assigns."""
    use = _Use()
    use.visit(node)
    return frozenset(use.assigns)


def magic_call(node: ast.AST) -> tuple[str, str] | None:
    """Return the name and the line of a line magic: the arguments of ``get_ipython().run_line_magic(…)``."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "run_line_magic"
        and len(node.args) == 2
        and all(isinstance(arg, ast.Constant) and isinstance(arg.value, str) for arg in node.args)
    ):
        name, line = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
        return str(name), str(line)
    return None


class _Use(ast.NodeVisitor):
    """Collects the names of one scope in the order of evaluation."""

    def __init__(self) -> None:
        self.reads: dict[str, None] = {}
        self.assigns: dict[str, int] = {}
        self.deferred: dict[str, None] = {}
        self.global_names: set[str] = set()
        self.deletes: set[str] = set()
        self.opaque = False

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _load(self, name: str) -> None:
        if name not in self.assigns:
            self.reads.setdefault(name)

    def _store(self, name: str, line: int) -> None:
        self.assigns[name] = line
        self.deletes.discard(name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._store(node.id, node.lineno)
            return
        self._load(node.id)
        if isinstance(node.ctx, ast.Del):
            self.assigns.pop(node.id, None)
            self.deletes.add(node.id)

    # -- statements and expressions whose fields do not stand in the order of evaluation -----------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit_all([node.value, *node.targets])

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._load(node.target.id)
        self.visit_all([node.value, node.target])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit_all([node.annotation, node.value, node.target])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit_all([node.value, node.target])

    def visit_For(self, node: ast.For) -> None:
        self.visit_all([node.iter, node.target, *node.body, *node.orelse])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node, [node.key, node.value])

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node, [node.elt])

    visit_SetComp = visit_GeneratorExp = visit_ListComp  # type: ignore[assignment]

    def _comprehension(self, node: _Comprehension, results: list[ast.expr]) -> None:
        inner = _Use()
        for generator in node.generators:
            inner.visit_all([generator.iter, generator.target, *generator.ifs])
        inner.visit_all(results)
        for name in inner.reads:
            self._load(name)
        for walrus in ast.walk(node):
            if isinstance(walrus, ast.NamedExpr):
                self._store(walrus.target.id, walrus.lineno)

    # -- names that are bound without a Name node --------------------------------------------------

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.opaque = True
            else:
                self._store(alias.asname or alias.name.partition(".")[0], node.lineno)

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        # Python deletes the name at the end of the handler.
        self.visit_all([node.type, *node.body])

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.visit_all([node.pattern])
        if node.name:
            self._store(node.name, node.lineno)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._store(node.name, node.lineno)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self._store(node.rest, node.lineno)

    # -- scopes within -----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit_all(node.decorator_list)
        self._function(node, node.body)
        self._store(node.name, node.lineno)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node, [node.body])

    def _function(self, node: _Function, body: Iterable[ast.AST]) -> None:
        arguments = node.args
        self.visit_all([*arguments.defaults, *arguments.kw_defaults])
        inner = _Use()
        inner.visit_all(body)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
        local = {argument.arg for argument in every} | set(inner.assigns) - inner.global_names
        for name in [*inner.reads, *inner.deferred]:
            if name not in local:
                self.deferred.setdefault(name)
        self.opaque |= inner.opaque or bool(inner.global_names)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_all([*node.decorator_list, *node.bases, *node.keywords])
        inner = _Use()
        inner.visit_all(node.body)
        for name in inner.reads:
            self._load(name)
        self.deferred.update(inner.deferred)
        self._store(node.name, node.lineno)

    def visit_Global(self, node: ast.Global) -> None:
        self.global_names.update(node.names)

    # -- code in strings ---------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        call = magic_call(node)
        if call and call[0] in TIMING_MAGICS:
            try:
                inner = ast.parse(call[1].strip())
            except SyntaxError:
                return  # IPython shows the error when the magic runs
            self.visit_all(ast.increment_lineno(inner, node.lineno - 1).body)
        elif call or (isinstance(node.func, ast.Name) and node.func.id == "exec"):
            self.opaque = True
