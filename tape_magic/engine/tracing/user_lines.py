"""The user's lines that the operations of a graph come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tape_magic.engine.internals.graphs import called_graphs


class UserLines:
    """The lines of a program that made the operations of its graph.

    Attributes
    ----------
    filenames
        The files that hold the program's text.
    """

    def __init__(self, filename: str) -> None:
        self.filenames = {filename}

    def of(self, operation: Any) -> int | None:
        """Return the line that made an operation; ``None`` for one that is not the program's."""
        lines = [frame.lineno for frame in operation.traceback or () if frame.filename in self.filenames]
        return int(lines[-1]) if lines else None

    def of_message(self, graph: Any, message: str) -> int | None:
        """Return the line of the operations of the type that an error message names, if it is one line.

        Else it is that of the first operation of a graph that the message names.
        """
        kind = re.search(r"no entry for: (\w+)|op type: (\w+)|unsupported operations[^:]*:\s*(\w+)", message)
        lines = set() if kind is None else set(self._of_type(graph, next(filter(None, kind.groups()))))
        if len(lines) == 1 and (line := lines.pop()):
            return line
        operations = {operation.name: operation for operation in graph.get_operations()}
        named = re.findall(r"\{\{node ([^}]+)\}\}|operation '([^']+)'", message)
        for node in (one or other for one, other in named):
            parts = node.split("/")
            # An operation within a loop or a branch bears the name of that as a prefix.
            for end in range(len(parts), 0, -1):
                operation = operations.get("/".join(parts[:end]))
                line = None if operation is None else self.of(operation)
                if line:
                    return line
        return None

    def _of_type(self, graph: Any, kind: str, outer: int | None = None) -> Iterator[int | None]:
        """Yield the line of each operation of a type; for a function from elsewhere, that of its call."""
        for operation in graph.get_operations():
            line = self.of(operation) or outer
            if operation.type == kind:
                yield line
            for inner in called_graphs(operation):
                yield from self._of_type(inner, kind, line)
