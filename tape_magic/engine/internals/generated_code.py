"""The user's line behind a line of code that AutoGraph has generated."""

from __future__ import annotations

import threading

GENERATED = "__autograph_generated_file"
"""A part of the names of files with generated code."""


def original_line(filename: str, line: int) -> tuple[str, int] | None:
    """Return the file and the line that a line of generated code stands for, while that code runs.

    TensorFlow knows that for the code that runs at the time, to word its own errors; ``None`` where it does
    not, and where TensorFlow is another than those that this was written for (2.20 and 2.21).
    """
    try:
        from tensorflow.python.util import tf_stack

        mappers = tf_stack._source_mapper_stacks.get(threading.get_ident(), ())
        known = mappers[-1].get_effective_source_map() if mappers else {}
        found, number, _ = known[filename, line]
        return str(found), int(number)
    except Exception:
        return None
