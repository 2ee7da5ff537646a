"""The loop of the user's that Python unrolled while it was traced, so that each round is in the graph."""

from __future__ import annotations

import ast
import linecache
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tape_magic.engine.internals.graphs import CALLING, function_graph
from tape_magic.engine.values.functions import OWN, USER, origin_of

SAMPLE = 400
"""About the most operations that are looked at."""

LEAST_SHARE = 0.5
"""The least share of the operations with a line of the user's that a loop must have made to be named."""

_LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
_COMPREHENSIONS = ("<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>")
_Loop = tuple[str, int]
"""The file of a loop and its first line."""


@dataclass(frozen=True)
class Unrolled:
    """A loop that was unrolled.

    Attributes
    ----------
    where
        ``the loop of line 3``, or ``the loop in simulate``, for a function that the program calls.
    over_range
        Whether it is a ``for`` over ``range(…)``, in whose place TensorFlow's range keeps the loop.
    """

    where: str
    over_range: bool

    @property
    def sentence(self) -> str:
        """What it does, and the way around where there is a general one."""
        cure = ": `for … in tf.range(…)` keeps the loop" if self.over_range else ""
        return f"{self.where} is unrolled{cure}"


def unrolled_loop(graph: Any, own: Collection[str]) -> Unrolled | None:
    """Return the loop that made most of a graph's operations; ``None`` where there is no such loop.

    Parameters
    ----------
    graph
        The graph of a program.
    own
        The files that the program's own lines stand in.
    """
    operations = list(_traced_operations(graph, set()))
    seen, loops = 0, Counter[_Loop]()
    for operation in operations[:: max(1, len(operations) // SAMPLE)]:
        frames = _users_frames(operation)
        seen += bool(frames)
        loops.update({loop for frame in frames for loop in _loops_around(frame)})
    # Of loops within each other, the outer one; it stands first.
    found = max(loops, key=lambda loop: (loops[loop], loop[0], -loop[1]), default=None)
    if found is None or loops[found] < LEAST_SHARE * seen:
        return None
    filename, line = found
    node, name = _loops_of(filename)[line]
    where = f"the loop of line {line}" if filename in own or name[0] == "<" else f"the loop in {name}"
    return Unrolled(where, isinstance(node, ast.For) and _is_range(node.iter))


def _users_frames(operation: Any) -> list[Any]:
    """Return the user's frames within the traced program, not those of whoever called this package."""
    frames: list[Any] = []
    for frame in operation.traceback or ():
        origin = origin_of(frame.filename)
        if origin == OWN:
            frames = []
        elif origin == USER:
            frames.append(frame)
    return frames


def _traced_operations(graph: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the operations of a graph, and of each function that it calls once."""
    seen.add(id(graph))
    for operation in graph.get_operations():
        yield operation
        if operation.type in CALLING:
            inner = function_graph(operation)
            if inner is not None and id(inner) not in seen:
                yield from _traced_operations(inner, seen)


def _loops_around(frame: Any) -> list[_Loop]:
    """Return the loops around a frame's line that run in the frame itself."""
    return [
        (frame.filename, first)
        for first, (node, scope) in _loops_of(frame.filename).items()
        if first <= frame.lineno <= (node.end_lineno or first)
        and (scope == frame.name or frame.name in _COMPREHENSIONS)
    ]


def _loops_of(filename: str) -> dict[int, tuple[Any, str]]:
    return _parsed("".join(linecache.getlines(filename)))


@lru_cache(maxsize=16)
def _parsed(text: str) -> dict[int, tuple[Any, str]]:
    """Return the loops of a text by their first lines, each with the name of the frame that it runs in."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    found: dict[int, tuple[Any, str]] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef) else name
            inner = "<lambda>" if isinstance(child, ast.Lambda) else inner
            if isinstance(child, _LOOPS):
                found.setdefault(child.lineno, (child, inner))
            visit(child, inner)

    visit(tree, "<module>")
    return found


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"
