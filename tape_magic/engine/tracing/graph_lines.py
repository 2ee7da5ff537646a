"""The user's lines of a graph's operations."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Any

from tape_magic.engine.tracing.symbolic import parts_of


def line_of_operation(operation: Any, filenames: Container[str]) -> int | None:
    """Return the innermost line in some files that made an operation; ``None`` where there is none."""
    lines = [frame.lineno for frame in operation.traceback if frame.filename in filenames]
    return int(lines[-1]) if lines else None


def line_named(message: str, graph: Any, filenames: Container[str]) -> int | None:
    """Return the line that made the first of a graph's operations that an error message names."""
    operations = {operation.name: operation for operation in graph.get_operations()}
    for node in re.findall(r"\{\{node ([^}]+)\}\}", message):
        parts = node.split("/")
        # An operation within a loop or a branch bears the name of that as a prefix.
        for end in range(len(parts), 0, -1):
            operation = operations.get("/".join(parts[:end]))
            line = None if operation is None else line_of_operation(operation, filenames)
            if line:
                return line
    return None


def lost_sentences(tensors: Iterable[Any], filenames: Container[str]) -> list[str]:
    """Return a sentence on tensors that have no value after a run, with their lines; none without tensors."""
    kept = [part for tensor in tensors for part in parts_of(tensor)]
    lines = sorted({line for part in kept if (line := line_of_operation(part.op, filenames))})
    if not kept:
        return []
    where = f"line {' and '.join(map(str, lines))}: " if lines else ""
    return [f"{where}a tensor of a loop or branch has no value after it; Python's objects do not keep it"]
