"""The user's lines that the operations of a graph come from."""

from __future__ import annotations

import re
from typing import Any


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
        lines = [frame.lineno for frame in operation.traceback if frame.filename in self.filenames]
        return int(lines[-1]) if lines else None

    def of_message(self, graph: Any, message: str) -> int | None:
        """Return the line of the first operation of a graph that an error message names."""
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
