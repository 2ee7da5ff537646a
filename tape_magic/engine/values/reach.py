"""The objects that can be reached from some values through containers and functions."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tape_magic.engine.values.functions import filled_cells, mentioned_names, unwrapped
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.leaves import items_of
from tape_magic.engine.values.ownership import is_own
from tape_magic.engine.values.tensors import is_module, is_variable


def mentions_variables(values: Iterable[Any], home: Mapping[str, Any]) -> bool:
    """Return whether a trainable variable can be reached from the values, through functions too."""
    return any(
        (is_variable(value) and value.trainable) or (is_module(value) and value.trainable_variables)
        for value in reachable(values, home)
    )


def reachable(values: Iterable[Any], home: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the values, the items of lists and dicts among them, and the objects that functions mention.

    The functions of the notebook, whose names are `home`, lead to the globals and the enclosing names that
    their code mentions: a loss defined in another cell reads the variables of that notebook.
    """
    seen: set[int] = set()
    queue = list(values)
    while queue:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if is_a(value, list | tuple | dict):
            queue += [item for _, item in items_of(value)]
        queue += reached_from(value, home)


def reached_from(value: Any, home: Mapping[str, Any]) -> list[Any]:
    """Return the globals and the closure that a function of the notebook mentions."""
    function = unwrapped(value)
    if is_a(function, types.MethodType):
        return [function.__self__, function.__func__]
    if not is_a(function, types.FunctionType) or not is_own(function, home):
        return []
    mentioned = [home[name] for name in mentioned_names(function.__code__) if name in home]
    return mentioned + [held for _, held in filled_cells(function)]
