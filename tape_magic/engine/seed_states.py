"""The states of Keras's random layers, which go on from run to run unless a seed sets them back."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from typing import Any

from tape_magic.engine import sources as src
from tape_magic.engine.program import Namespace, Program
from tape_magic.engine.source_text import closure_of

_NAME = "seed_generator_state"
"""What Keras calls the variable of a ``SeedGenerator``: the seed, and how many numbers it has given."""


def among(variables: Iterable[Any]) -> list[Any]:
    """Those of some variables that are the state of a ``SeedGenerator``."""
    return [variable for variable in variables if variable.name.rpartition("/")[2].startswith(_NAME)]


def read_by(program: Program, namespace: Namespace) -> list[Any]:
    """Those of the layers, models and generators that a program names, and the functions beside it."""
    import keras

    known, home = program.text(namespace).namespace, program.home(namespace)
    pending = [*program.roots(), *(known[name] for name in program.names.reads if name in known)]
    seen: dict[int, Any] = {}
    found: list[Any] = []
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, keras.layers.Layer):
            found += among(value.variables)
        elif isinstance(value, keras.random.SeedGenerator):
            found.append(value.state)
        elif isinstance(value, types.FunctionType) and value.__globals__ is home:
            pending += _named_in(value)
    return [src.watched(variable) for variable in found]


def set_back(states: Iterable[Any], seed: int) -> None:
    """Let each begin anew, with a seed of its own that follows from `seed`."""
    different = {id(state): state for state in states}
    for number, state in enumerate(different.values()):
        state.assign([(seed + number) % 2**31, 0])


def _named_in(function: types.FunctionType) -> list[Any]:
    code = inspect.unwrap(function).__code__
    known = {**function.__globals__, **closure_of(function)}
    return [known[name] for name in (*code.co_names, *code.co_freevars) if name in known]
