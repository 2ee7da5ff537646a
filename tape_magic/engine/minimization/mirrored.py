"""Variables that a strategy made with a copy on each device: the first is moved, and the others follow."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tape_magic.engine.internals.contexts import copies_of
from tape_magic.engine.values.leaves import Leaf


def first_copy(leaf: Leaf, at_close: ExitStack) -> Leaf:
    """Return a leaf that is minimised over as if its variable had no other copies; see :func:`follow`.

    Keras's optimizers cannot assign a variable of several copies outside of a replica (Keras 3.15).
    """
    return replace(leaf, owner=leaf.value) if follow(leaf.value, at_close) else leaf


def follow(variable: Any, at_close: ExitStack) -> bool:
    """Have the other copies of a variable take its value in the end; return whether there are any."""
    others = [copy for copy in copies_of(variable) if copy is not variable]
    for copy in others:
        at_close.callback(_assign, copy, variable)
    return bool(others)


def _assign(copy: Any, variable: Any) -> None:
    copy.assign(variable.read_value())
