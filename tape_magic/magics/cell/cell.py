"""The body of a cell, compiled once and run in the notebook's namespace as IPython would run it."""

from __future__ import annotations

import ast
import functools
import io
import itertools
import os
import re
import tokenize
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from tape_magic.engine.program.program import Hooks, Namespace, Text, Unpack, Untraceable
from tape_magic.errors import LineError, shorten
from tape_magic.magics.cell.assignment_hooks import HOOK, hooked
from tape_magic.magics.cell.autograph import needs_no_autograph
from tape_magic.magics.cell.cache import CellCache, compile_cell
from tape_magic.magics.cell.function_text import function_text, without_global
from tape_magic.magics.cell.names import TIMING_MAGICS, magic_call, names_of
from tape_magic.magics.cell.preamble import is_command, split

_FUNCTION = "__tape_magic_cell__"
_TAPE = "tape"
_OWN = "grad", "minimize"


class CellSyntaxError(Exception):
    """A cell that is not Python; :attr:`error` is the ``SyntaxError`` with the user's line."""

    def __init__(self, error: SyntaxError) -> None:
        super().__init__(str(error))
        self.error = error


# Kernels and saved notebooks show this name. IPython shows a true SyntaxError with frames of the package.
CellSyntaxError.__name__ = "SyntaxError"


class Cell:
    """The body of a cell magic as a :class:`~tape_magic.engine.program.program.Program`.

    Parameters
    ----------
    shell
        The running ``InteractiveShell``.
    body
        The text below the line of the magic.
    magic
        The name of the magic, for messages.
    kept
        The cells that were compiled before.

    Raises :class:`LineError` for an empty cell, ``await`` or another magic, and :class:`CellSyntaxError`.
    Lines are counted as the notebook shows them: the line of the magic is line 1.
    """

    def __init__(self, shell: Any, body: str, magic: str, kept: CellCache) -> None:
        self._shell = shell
        self._number, self._first_line = _position(shell, body)
        self._typed = body.splitlines()
        _refuse_magic(body, magic)
        text = kept.transformed(shell, body)
        # IPython drops blank lines at the top, which count in the numbers of lines.
        blank = sum(1 for _ in itertools.takewhile(lambda line: not line.strip(), body.splitlines()))
        self._body = "\n" * blank + text
        source = "\n" * self._first_line + self._body
        self.filename = shell.compile.cache(source, self._number)
        self._lines = source.splitlines()

        def check(tree: ast.Module) -> None:
            if not tree.body:
                raise LineError(f"the cell is empty: write below %%{magic} what is to be computed.")
            if "await" in text or "async" in text:  # the search in the text is faster than in the tree
                _refuse_await(tree, magic)

        try:
            made = kept.prepared(shell, source, self.filename, check)
        except SyntaxError as error:
            raise CellSyntaxError(error) from None
        self._tree, self._code, self._last, self.names = made.tree, made.code, made.last, made.names
        self._traced_filename = ""
        self._ran_preamble = False

    def run_preamble(self, namespace: Namespace) -> tuple[str, ...]:
        """Run the statements that cannot be part of a step, take them out of the cell, and return remarks.

        Raises :class:`LineError` where the cell has no other statements.
        """
        once, steps = split(self._tree)
        if not once:
            return ()
        if not steps:
            raise LineError(
                f"the cell only runs {self._line(once[-1])}: write below it what is to be minimised."
            )
        tree = ast.Module(steps, type_ignores=[])
        code, last = compile_cell(self._shell, tree, self.filename)
        before = ast.Module(once, type_ignores=[])
        self._ran_preamble = True
        exec(self._shell.compile(before, self.filename, "exec"), self._shell.user_global_ns, namespace)
        self._tree, self._code, self._last, self.names = tree, code, last, names_of(tree)
        lines = self._body.split("\n")
        for each in once:
            for number in range(each.lineno, (each.end_lineno or each.lineno) + 1):
                lines[number - 1 - self._first_line] = ""
        self._body = "\n".join(lines)
        return tuple(f"line {each.lineno} ran once, before the steps: {self._line(each)}" for each in once)

    @property
    def may_bind_any(self) -> bool:
        """Whether the cell may have bound names that neither its steps nor the line mention."""
        return self._ran_preamble or self.names.may_bind_any

    def _line(self, statement: ast.stmt) -> str:
        """Return the first line of a statement as it was typed."""
        index = statement.lineno - 1 - self._first_line
        return shorten(self._typed[index].strip() if index < len(self._typed) else ast.unparse(statement))

    @property
    def silenced(self) -> bool:
        """Whether the cell ends with a semicolon, so that its value is not displayed."""
        if ";" not in self._body:
            return False
        tokens = tokenize.generate_tokens(io.StringIO(self._body).readline)
        blank = {tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT, tokenize.ENDMARKER, tokenize.DEDENT}
        last = ""
        for token in tokens:
            if token.type not in blank:
                last = token.string
        return last == ";"

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Run the cell as without the magic, and return the value of its last expression, or ``None``."""
        code, last = self._code, self._last
        if hooks:
            code, last = compile_cell(self._shell, hooked(self._tree, hooks), self.filename)

        def assigned(name: str) -> None:
            if name in namespace:
                namespace[name] = hooks[name](namespace[name])

        lent = {HOOK: assigned} if hooks else {}
        lent |= {} if tape is None else {_TAPE: tape}
        kept = {name: namespace[name] for name in lent if name in namespace}

        def take_back() -> None:
            for name, object_ in lent.items():
                if namespace.get(name) is object_:
                    del namespace[name]
                    namespace.update({name: kept[name]} if name in kept else {})

        try:
            namespace.update(lent)
            exec(code, self._shell.user_global_ns, namespace)
            return None if last is None else eval(last, self._shell.user_global_ns, namespace)
        finally:
            try:
                take_back()
            except KeyboardInterrupt:
                take_back()
                raise

    @property
    def has_value(self) -> bool:
        """Whether the cell ends with an expression."""
        return self._last is not None

    @property
    def source(self) -> str | None:
        """The text; ``None`` where the cell runs code that its text does not show."""
        return None if self.names.opaque else self._body

    def traceables(
        self, namespace: Namespace, inputs: Sequence[str] = ()
    ) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Yield the body as functions of `inputs`; see :meth:`functions`.

        The names that the cell assigns are local to a function; their values from before are passed in.
        """
        names = [name for name in (*self.names.assigns, *sorted(self.names.deletes)) if name not in inputs]
        entry = {name: namespace[name] for name in names if name in namespace}
        for function, unpack in self.functions((*entry, *inputs)):
            yield functools.partial(function, *entry.values()), unpack

    def functions(self, parameters: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Yield the body as a function, so that TensorFlow can convert its ``if`` and ``while``.

        The first function keeps every name that the cell assigns. TensorFlow requires that both branches
        of an ``if`` assign a kept name, and that its shape is the same in each round of a loop; for other
        cells, the second function drops the names that nothing after the branches and loops reads.
        """
        for node in ast.walk(self._tree):
            call = magic_call(node)
            if call and call[0] in TIMING_MAGICS:
                raise Untraceable(f"line {getattr(node, 'lineno', '?')} calls the magic %{call[0]}")
            if is_command(node):
                raise Untraceable(f"line {getattr(node, 'lineno', '?')} is a command of IPython's")
        assigned = list(self.names.assigns)

        def unpack(returned: Any) -> tuple[Any, dict[str, Any]]:
            value, local = returned
            return value, {name: local[name] for name in assigned if name in local}

        compound = any(isinstance(node, ast.If | ast.For | ast.While) for node in ast.walk(self._tree))
        for keeping in (assigned, []) if compound else ([],):
            yield self._function(parameters, keeping), unpack

    def needs_no_autograph(self, namespace: Namespace) -> bool:
        """Return whether AutoGraph has nothing to convert, or cannot convert the cell."""
        return self._beyond_autograph or needs_no_autograph(self._tree, namespace)

    @property
    def _beyond_autograph(self) -> bool:
        """Whether the cell holds ``:=`` or ``match``, which AutoGraph does not convert."""
        return any(isinstance(node, ast.NamedExpr | ast.Match) for node in ast.walk(self._tree))

    def roots(self) -> list[Any]:
        """Return no objects: a cell reaches its state by names only."""
        return []

    def home(self, namespace: Namespace) -> MutableMapping[str, Any]:
        """Return the notebook's namespace."""
        home: MutableMapping[str, Any] = self._shell.user_global_ns
        return home

    def text(self, namespace: Namespace) -> Text:
        """Return the text of the cell; a line of another cell is labelled by that cell's number."""
        return Text(self.filename, (0, 0), self._label, namespace)

    def _label(self, filename: str) -> str:
        if filename in (self.filename, self._traced_filename):
            return ""
        number = cell_number(self._shell, filename)
        return os.path.basename(filename) if number is None else f"cell {number}"

    def finish(self, namespace: Namespace, assigned: Mapping[str, Any]) -> None:
        """Bind the values of a trace, and run the cell's definitions and imports again.

        A function or class that was made while tracing would hold the graph's tensors.
        """
        namespace.update(assigned)
        for name in self.names.deletes:
            namespace.pop(name, None)
        definitions: list[ast.stmt] = [
            node
            for node in self._tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
            or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda))
        ]
        if definitions:
            module = ast.Module(definitions, type_ignores=[])
            code = self._shell.compile(module, self.filename, "exec")
            exec(code, self._shell.user_global_ns, namespace)

    def line_of(self, error: BaseException) -> tuple[int, str] | None:
        """Return the innermost line of the cell in an exception's traceback, and its text."""
        found = None
        metadata = getattr(error, "ag_error_metadata", None)  # the lines of code that AutoGraph converted
        for frame in getattr(metadata, "translated_stack", None) or ():
            if frame.filename in (self.filename, self._traced_filename):
                found = found or frame.lineno
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename in (self.filename, self._traced_filename):
                found = traceback.tb_lineno
            traceback = traceback.tb_next
        if found is None or not 0 < found <= len(self._lines):
            return None
        return found, self._lines[found - 1].strip()

    def own_traceback(self, error: BaseException) -> types.TracebackType | None:
        """Return the traceback from the cell's own frame on; ``None`` where the cell is not in it."""
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename != self.filename:
            traceback = traceback.tb_next
        return traceback

    def _function(self, parameters: Sequence[str], keeping: Sequence[str]) -> Callable[..., Any]:
        """Return the body as a function that keeps some of its local names."""
        local = {*parameters, *self.names.assigns}
        body = without_global(self._body, self._tree, self._first_line, local)
        text = "\n" * (self._first_line - 1) + function_text(
            _FUNCTION, body, self._tree.body[-1], self._first_line, parameters, keeping
        )
        self._traced_filename = self._shell.compile.cache(text, self._number)
        code = self._shell.compile(text, self._traced_filename, "exec")
        inner = next(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
        return types.FunctionType(inner, self._shell.user_global_ns, _FUNCTION)


def _position(shell: Any, body: str) -> tuple[int, int]:
    """Return the number of the running cell, and the line of the magic in it.

    Another magic may stand above this one. Versions of IPython differ in whether the execution count rises
    before or after the cell runs; the running cell is the last of the history in all of them.
    """
    history = getattr(shell.history_manager, "input_hist_raw", None) or [""]
    raw = history[-1]
    if body.strip() and raw.rstrip().endswith(body.rstrip()):
        above = raw.rstrip()[: -len(body.rstrip())]
        return len(history) - 1, max(above.count("\n"), 1)
    return int(shell.execution_count), 1


def cell_number(shell: Any, filename: str) -> int | None:
    """Return the number of the cell whose code has a file name; ``None`` for a file that is no cell.

    IPython 8 and later keep a table; before, the name holds the number: ``<ipython-input-3-1b2f…>``.
    """
    number = getattr(shell.compile, "_filename_map", {}).get(filename)
    if number is None:
        match = re.match(r"<ipython-input-(\d+)-", filename)
        number = match and match[1]
    return None if number is None else int(number)


def _refuse_magic(body: str, magic: str) -> None:
    """Raise :class:`LineError` for a cell magic in the second line, such as ``%%time``."""
    if below := re.match(r"\s*%%(\w+)", body):
        place = "two cells" if below[1] in _OWN else f"it above %%{magic}"
        raise LineError(f"%%{below[1]} begins a cell, as %%{magic} does: write {place}.")


def _refuse_await(tree: ast.Module, magic: str) -> None:
    """Raise :class:`LineError` for ``await``: the event loop that it needs is busy running the magic."""
    queue: list[ast.AST] = list(tree.body)
    while queue:
        node = queue.pop()
        awaits = isinstance(node, ast.comprehension) and node.is_async
        if awaits or isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            line = getattr(node.target if isinstance(node, ast.comprehension) else node, "lineno", "?")
            raise LineError(
                f"line {line} awaits, which a %%{magic} cell cannot do: await it in a cell above."
            )
        if not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef | ast.Lambda):
            queue += ast.iter_child_nodes(node)
