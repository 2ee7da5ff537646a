"""Which calls and changes are side effects of Python, which a compiled loop does not repeat.

TensorFlow runs the Python code of a function while it traces it, and not at each step:
https://github.com/tensorflow/tensorflow/issues/31362.
"""

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

from tape_magic.engine.static_analysis.statements import depends_on_itself
from tape_magic.engine.values.functions import is_users


class Advice(enum.Enum):
    """The advice on a side effect; the value is the clause that gives it."""

    PRINT = "use tf.print"
    RECORD = "record a scalar with --track, or do it in a cell below"
    RANDOM = "use tf.random"
    BATCH = "take batches with --for"
    CLOCK = "use tf.timestamp"
    ABOVE = "do it in a cell above"
    BELOW = "do it in a cell below"


# fmt: off
_CHANGING_METHODS = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft",
    "insert", "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "setdefault", "sort",
    "symmetric_difference_update", "update",
})
# fmt: on
_ARRAY_CHANGING_METHODS = frozenset({"fill", "itemset", "partition", "put", "resize", "sort"})
_STREAM_WRITING_METHODS = frozenset({"write", "writelines", "truncate"})
_PATH_WRITING_METHODS = frozenset({"write_text", "write_bytes", "touch", "mkdir", "unlink"})
_LOGGING_METHODS = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log"})
_METHODS_WITHOUT_DRAWING = frozenset({"seed", "getstate", "setstate", "get_state", "set_state", "spawn"})
_ADVICE_BY_NAME = {
    ("pprint", "pprint"): Advice.PRINT,
    ("pprint", "pp"): Advice.PRINT,
    ("IPython.core.display_functions", "display"): Advice.PRINT,
    ("IPython.core.display", "display"): Advice.PRINT,
    ("IPython.core.display_functions", "clear_output"): Advice.PRINT,
    **{("logging", level): Advice.PRINT for level in _LOGGING_METHODS},
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


def advice_for_method(owner: Any, name: str) -> Advice | None:
    """Return the advice on calling a method of an object from outside; ``None`` where it changes nothing."""
    if isinstance(owner, random.Random | np.random.RandomState | np.random.Generator):
        return None if name in _METHODS_WITHOUT_DRAWING else Advice.RANDOM
    if owner is sys.stdout or owner is sys.stderr:
        return Advice.PRINT if name in _STREAM_WRITING_METHODS else None
    if isinstance(owner, io.IOBase):
        return Advice.BELOW if name in _STREAM_WRITING_METHODS else None
    if isinstance(owner, logging.Logger):
        return Advice.PRINT if name in _LOGGING_METHODS else None
    if isinstance(owner, pathlib.Path):
        return Advice.BELOW if name in _PATH_WRITING_METHODS else None
    if name == "__next__" and is_iterator(owner):
        return Advice.BATCH
    changing = _ARRAY_CHANGING_METHODS if isinstance(owner, np.ndarray) else _CHANGING_METHODS
    return Advice.RECORD if name in changing and is_container(owner) else None


def advice_for_call(function: Any, call: ast.Call, argument: Any) -> Advice | None:
    """Return the advice on calling a function; ``None`` where the call has no side effect.

    `argument` is the first argument where it is an object from outside, and else ``None``.
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
        target = ast.Attribute(call.args[0], str(name), ast.Store())
        again = len(call.args) < 3 or depends_on_itself(ast.Expr(call.args[2]), target)
        return Advice.RECORD if again and changes_by_assignment(argument, str(name)) else None
    name, module = str(getattr(function, "__name__", "")), str(getattr(function, "__module__", ""))
    if name == "open" and module.partition(".")[0] in ("io", "_io", "IPython"):
        return Advice.BELOW if _opens_for_writing(call) else None
    owner = getattr(function, "__objclass__", getattr(function, "__self__", None))
    if getattr(owner, "__module__", "") == "datetime" and name in ("now", "today", "utcnow"):
        return Advice.CLOCK
    return _ADVICE_BY_NAME.get((module, name))


def is_container(value: Any) -> bool:
    """Return whether a value is a mutable container of Python's or an array, which changes in place."""
    return isinstance(
        value, MutableSequence | MutableMapping | MutableSet | np.ndarray
    ) and not _is_of_tensorflow(value)


def is_iterator(value: Any) -> bool:
    """Return whether a value is an iterator of Python's; TensorFlow's iterators advance within a graph."""
    return isinstance(value, Iterator) and not _is_of_tensorflow(value)


def changes_by_assignment(value: Any, attribute: str | None = None) -> bool:
    """Return whether assigning an item or attribute of a value changes a Python object.

    It does not where a property or another descriptor takes the assignment, as those of Keras do.
    """
    if value is None:
        return False
    if attribute is None:
        return is_container(value) or is_users(_file_of(type(value)))
    return not hasattr(getattr(type(value), attribute, None), "__set__")


def _is_of_tensorflow(value: Any) -> bool:
    """Return whether TensorFlow or Keras defines a value's class.

    The tracked lists, dicts and sets of a model do not count, since they change in place as Python's do.
    """
    module = str(type(value).__module__).partition(".")[0]
    return module in ("tensorflow", "keras") and not isinstance(value, list | dict | set)


def _draws(function: Any, call: ast.Call) -> bool:
    """Return whether a function draws random numbers, or makes a generator without a seed."""
    if any(function is make for make in (np.random.default_rng, np.random.RandomState, random.Random)):
        return not call.args and not call.keywords
    owner = getattr(function, "__self__", None)
    return (
        isinstance(owner, random.Random | np.random.RandomState | np.random.Generator)
        and function.__name__ not in _METHODS_WITHOUT_DRAWING
    )


def _opens_for_writing(call: ast.Call) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[1:2]
    mode = given[0].value if given and isinstance(given[0], ast.Constant) else "r"
    return not set("wax+").isdisjoint(str(mode))


def _file_of(kind: type) -> str:
    """Return the file of a class; a class without one counts as a library's."""
    module = sys.modules.get(kind.__module__)
    if kind.__module__ == "__main__":
        return "<notebook>"
    return str(getattr(module, "__file__", None) or "<frozen>")
