"""The Python function behind a value, its closure, and whose code a file holds."""

from __future__ import annotations

import contextlib
import os
import sysconfig
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import tape_magic
from tape_magic.engine.values import creation
from tape_magic.engine.values.introspection import is_proxy

LIBRARY, USER, OWN = range(3)


def is_users(filename: str) -> bool:
    """Return whether a file holds the user's code, and not a library's."""
    return origin_of(filename) == USER


@lru_cache(maxsize=4096)
def origin_of(filename: str) -> int:
    """Return whose code a file holds: a library's, the user's, or this package's."""
    if filename.startswith(_own_folder()):
        # The frames of that module stand between the user's line and TensorFlow.
        return LIBRARY if filename == creation.__file__ else OWN
    if "__autograph_generated_file" in filename or filename.startswith("<frozen"):
        return LIBRARY
    return LIBRARY if filename.startswith(_library_folders()) else USER


@lru_cache(maxsize=1)
def _own_folder() -> str:
    return os.path.dirname(os.path.abspath(tape_magic.__file__)) + os.sep


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    import keras
    import tensorflow as tf

    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.dirname(os.path.dirname(module.__file__ or "")) for module in (keras, tf)}
    return tuple(folder + os.sep for folder in folders if folder)


def unwrapped(value: Any) -> Any:
    """Return the function that ``tf.function`` wraps, or the value itself.

    Only objects of TensorFlow are asked: the user's may do anything when asked for an attribute.
    """
    return value.python_function if is_proxy(value) and hasattr(type(value), "python_function") else value


def function_behind(value: Any) -> types.FunctionType | None:
    """Return the Python function that a call of a value runs, if there is one: for a layer, its ``call``."""
    value = unwrapped(value)
    if not isinstance(value, types.FunctionType | types.MethodType):
        kind = type(value)
        value = getattr(kind, "call", None) or vars(kind).get("__call__")
    function = getattr(value, "__func__", value)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function if isinstance(function, types.FunctionType) else None


def closure_of(function: Any) -> dict[str, Any]:
    """Return the names that a function closes over, with their values; for a method, also its object."""
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    bound = [function.__self__] if hasattr(function, "__self__") else []
    known = dict(zip(code.co_varnames[: code.co_argcount], bound, strict=False))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it has no value yet
            known[name] = cell.cell_contents
    return known


def filled_cells(function: types.FunctionType) -> Iterator[tuple[types.CellType, Any]]:
    """Yield the cells of a function's closure, each with its content, without those that have none yet."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # the enclosing function has not assigned the name yet
            yield cell, cell.cell_contents


def mentioned_names(code: types.CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes that a function's code mentions, inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from mentioned_names(constant)
