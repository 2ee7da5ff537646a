"""Why there is nothing to minimise, or nothing to minimise over, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tape_magic.engine.program.program import Program
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.reach import mentions_variables
from tape_magic.engine.values.tensors import is_inexact, is_liftable, is_module, is_tensor
from tape_magic.errors import SourceError, TargetError, closest

_MOST_NAMES = 4


def never_assigned(base: str, assigns: Iterable[str], namespace: Mapping[str, Any]) -> TargetError:
    """Return the refusal of a loss, or of a scalar to track, that the program does not assign."""
    held = namespace.get(base)
    if base not in namespace:
        return TargetError(f"the cell never assigns {base}{closest(base, assigns)}")
    if callable(held) and not is_module(held) and not is_tensor(held):
        return TargetError(f"{base} is a function, and the cell never calls it: write {base}() in the cell.")
    return TargetError(
        f"the cell never assigns {base}; it is assigned in an earlier cell, "
        f"and the loss has to be computed in this one, at each step{closest(base, assigns)}"
    )


def nothing_over(read: Mapping[str, Any]) -> SourceError:
    """Return the refusal of a run that has no variable to move.

    `read` are the objects that the program reads, by name.
    """
    names = candidates(read)
    if not names:
        return SourceError(
            "no trainable variable was read: name what to minimise over, for example --over x."
        )
    return SourceError(f"nothing to minimise over was named: --over {' or --over '.join(names)}.")


def candidates(read: Mapping[str, Any]) -> list[str]:
    """Return the names of numbers that a program reads, or else of its float arrays and tensors."""
    floats = [name for name, value in read.items() if is_a(value, float)]
    others = [
        name for name, value in read.items() if is_liftable(value) or (is_tensor(value) and is_inexact(value))
    ]
    return (floats or others)[:_MOST_NAMES]


def named_nothing(
    program: Program, namespace: Mapping[str, Any], over: Sequence[str] | None
) -> SourceError | None:
    """Return the refusal of a loss that is no tensor since nothing to minimise over was named.

    ``None`` where something was named, where the program reads variables, or where nothing could be named.
    """
    if over is not None:
        return None
    read = {name: namespace[name] for name in program.names.reads if name in namespace}
    if not candidates(read) or mentions_variables([*read.values(), *program.roots()], namespace):
        return None
    return nothing_over(read)
