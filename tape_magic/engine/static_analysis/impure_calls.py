"""Which calls and changes are Python's own affair, so that a compiled loop does not repeat them."""

from __future__ import annotations

import ast
import builtins
import enum
import io
import logging
import pathlib
import random
import sys
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from typing import Any

import numpy as np

from tape_magic.engine.values.functions import is_users


class Advice(enum.Enum):
    """What to do about a side effect; the value is the clause that says it."""

    PRINT = "use tf.print"
    RECORD = "record a scalar with --track, or do it in a cell below"
    RANDOM = "use tf.random"
    BATCH = "take batches with --for"
    CLOCK = "use tf.timestamp"
    ABOVE = "do it in a cell above"
    BELOW = "do it in a cell below"


# fmt: off
_CHANGING = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft",
    "insert", "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "setdefault", "sort",
    "symmetric_difference_update", "update",
})
# fmt: on
_ARRAY_CHANGING = frozenset({"fill", "itemset", "partition", "put", "resize", "sort"})
_WRITING = frozenset({"write", "writelines", "truncate"})
_FILING = frozenset({"write_text", "write_bytes", "touch", "mkdir", "unlink"})
_LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log"})
_NOT_DRAWING = frozenset({"seed", "getstate", "setstate", "get_state", "set_state", "spawn"})
_BY_NAME = {
    ("pprint", "pprint"): Advice.PRINT,
    ("pprint", "pp"): Advice.PRINT,
    ("IPython.core.display_functions", "display"): Advice.PRINT,
    ("IPython.core.display", "display"): Advice.PRINT,
    ("IPython.core.display_functions", "clear_output"): Advice.PRINT,
    **{("logging", level): Advice.PRINT for level in _LEVELS},
    **{
        ("time", name): Advice.CLOCK
        for name in (
            "time",
            "time_ns",
            "perf_counter",
            "perf_counter_ns",
            "monotonic",
            "process_time",
            "ctime",
        )
    },
    ("time", "sleep"): Advice.ABOVE,
    ("getpass", "getpass"): Advice.ABOVE,
    ("os", "urandom"): Advice.RANDOM,
    ("posix", "urandom"): Advice.RANDOM,
    ("uuid", "uuid1"): Advice.RANDOM,
    ("uuid", "uuid4"): Advice.RANDOM,
    **{("secrets", name): Advice.RANDOM for name in ("choice", "randbelow", "token_bytes", "token_hex")},
}


def of_method(owner: Any, name: str) -> Advice | None:
    """The cure of calling a method of an object from outside; ``None`` where that changes nothing."""
    if isinstance(owner, random.Random | np.random.RandomState | np.random.Generator):
        return None if name in _NOT_DRAWING else Advice.RANDOM
    if owner is sys.stdout or owner is sys.stderr:
        return Advice.PRINT if name in _WRITING else None
    if isinstance(owner, io.IOBase):
        return Advice.BELOW if name in _WRITING else None
    if isinstance(owner, logging.Logger):
        return Advice.PRINT if name in _LEVELS else None
    if isinstance(owner, pathlib.Path):
        return Advice.BELOW if name in _FILING else None
    if name == "__next__" and is_iterator(owner):
        return Advice.BATCH
    changing = _ARRAY_CHANGING if isinstance(owner, np.ndarray) else _CHANGING
    return Advice.RECORD if name in changing and is_container(owner) else None


def of_call(function: Any, call: ast.Call, argument: Any) -> Advice | None:
    """The cure of calling a function.

    `argument` is its first one, if that comes from outside, and else ``None``.
    """
    if _draws(function, call):
        return Advice.RANDOM
    if function is builtins.print:
        return Advice.PRINT
    if function is builtins.input:
        return Advice.ABOVE
    if function is builtins.next:
        return Advice.BATCH if is_iterator(argument) else None
    if function is builtins.setattr or function is builtins.delattr:
        name = call.args[1].value if isinstance(call.args[1], ast.Constant) else ""
        return Advice.RECORD if changes_by_assignment(argument, str(name)) else None
    name, module = str(getattr(function, "__name__", "")), str(getattr(function, "__module__", ""))
    if name == "open" and module.partition(".")[0] in ("io", "_io", "IPython"):
        return Advice.BELOW if _opens_for_writing(call) else None
    owner = getattr(function, "__objclass__", getattr(function, "__self__", None))
    if getattr(owner, "__module__", "") == "datetime" and name in ("now", "today", "utcnow"):
        return Advice.CLOCK
    return _BY_NAME.get((module, name))


def is_container(value: Any) -> bool:
    """Whether a value is a list, dict or set of Python's, or an array, that changes in place."""
    return isinstance(
        value, MutableSequence | MutableMapping | MutableSet | np.ndarray
    ) and not is_tensorflows(value)


def is_iterator(value: Any) -> bool:
    """Whether a value is one of Python's iterators; TensorFlow's own go on within a graph."""
    return isinstance(value, Iterator) and not is_tensorflows(value)


def changes_by_assignment(value: Any, attribute: str | None = None) -> bool:
    """Whether assigning an item or attribute of a value is Python's affair: not where a property hears it."""
    if value is None:
        return False
    if attribute is None:
        return is_container(value) or is_users(_file_of(type(value)))
    return not hasattr(getattr(type(value), attribute, None), "__set__")


def is_tensorflows(value: Any) -> bool:
    """Whether a value's class is TensorFlow's or Keras's, as tracked lists of a model's are."""
    module = str(type(value).__module__).partition(".")[0]
    return module in ("tensorflow", "keras") and not isinstance(value, list | dict | set)


def _draws(function: Any, call: ast.Call) -> bool:
    """Whether a function draws random numbers, or makes a generator that no seed fixes."""
    if any(function is make for make in (np.random.default_rng, np.random.RandomState, random.Random)):
        return not call.args and not call.keywords
    owner = getattr(function, "__self__", None)
    return (
        isinstance(owner, random.Random | np.random.RandomState | np.random.Generator)
        and function.__name__ not in _NOT_DRAWING
    )


def _opens_for_writing(call: ast.Call) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[1:2]
    mode = given[0].value if given and isinstance(given[0], ast.Constant) else "r"
    return not set("wax+").isdisjoint(str(mode))


def _file_of(kind: type) -> str:
    """The file of a class; what has none counts as a library's."""
    module = sys.modules.get(kind.__module__)
    if kind.__module__ == "__main__":
        return "<notebook>"
    return str(getattr(module, "__file__", None) or "<frozen>")
