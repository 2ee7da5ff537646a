"""The names that a line can be completed with: of the notebook, and of the cell below the line."""

from __future__ import annotations

import ast
import builtins
import keyword
import numbers
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tape_magic.magics.cell.names import names_of

_ASSIGNED = re.compile(r"^[ \t]*([^\W\d]\w*)[ \t]*(?:[-+*/@]|\*\*|//)?=(?!=)", re.MULTILINE)
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")

_VARIABLE, _VALUE, _OTHER = range(3)

_LIBRARIES = "tensorflow", "keras", "numpy", "jax", "pandas"


class NamesOffered:
    """The names of a notebook and of a cell, sorted by what they can be used for.

    Only types are looked at, so that nothing of the user's runs, and TensorFlow is not imported.

    Parameters
    ----------
    namespace
        The names of the notebook.
    text
        The cell, the line of the magic included.
    """

    def __init__(self, namespace: Mapping[str, Any], text: str) -> None:
        self._body = text.partition("\n")[2]
        shown = {name: value for name, value in dict(namespace).items() if not name.startswith("_")}
        self._values = {name: value for name, value in shown.items() if name not in _IPYTHONS}

    @cached_property
    def _used(self) -> tuple[list[str], list[str]]:
        """The names that the cell reads, and those that it assigns."""
        try:
            names = names_of(ast.parse(self._body))
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # it is still being written
            assigned = list(dict.fromkeys(_ASSIGNED.findall(self._body)))
            words = dict.fromkeys(_NAME.findall(self._body))
            return [word for word in words if not keyword.iskeyword(word)], assigned
        return list(names.reads), list(names.assigns)

    def _sorted(self, found: Mapping[str, int]) -> list[str]:
        """Return names, those that the cell reads first, by their ranks."""
        reads = set(self._used[0])
        return sorted(found, key=lambda name: (name not in reads, found[name], name.casefold()))

    @cached_property
    def sources(self) -> list[str]:
        """The names of the notebook that hold something to differentiate by: variables and models first."""
        ranks = {name: _rank(value) for name, value in self._values.items()}
        return self._sorted({name: rank for name, rank in ranks.items() if rank < _OTHER})

    def within(self, place: str) -> list[str]:
        """Return the places within a dotted place that hold something to differentiate by."""
        first, *attributes = place.split(".")
        value = self._values.get(first)
        for attribute in attributes:
            value = getattr(value, attribute, None)
        found = {name: _rank(held) for name, held in getattr(value, "__dict__", {}).items()}
        if _rank(value) == _VARIABLE and hasattr(type(value), "trainable_variables"):
            own = (str(getattr(one, "name", "")) for one in value.trainable_variables)  # type: ignore[union-attr]
            found |= {name: _VARIABLE for name in own if hasattr(type(value), name)}
        shown = sorted((rank, name) for name, rank in found.items() if rank < _OTHER and name[:1] != "_")
        return [f"{place}.{name}" for _, name in shown]

    @cached_property
    def assigned(self) -> list[str]:
        """The names that the cell assigns, the last one first."""
        return self._used[1][::-1]

    @cached_property
    def unknown(self) -> list[str]:
        """The names that the cell reads and nobody has: those of a batch."""
        return [name for name in self._used[0] if name not in self._values and not hasattr(builtins, name)]

    @cached_property
    def data(self) -> list[str]:
        """The names that hold data for ``--for``: datasets first."""
        found = {name: _data_rank(value) for name, value in self._values.items()}
        return self._sorted({name: rank for name, rank in found.items() if rank < _OTHER})

    @cached_property
    def optimizers(self) -> list[str]:
        """The names that hold an optimizer, or a class of optimizers."""
        return [name for name, value in self._values.items() if _is_optimizer(value)]

    @cached_property
    def numbers(self) -> list[str]:
        """The names that hold a number."""
        return [name for name, value in self._values.items() if _is_number(value)]


_IPYTHONS = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})


def _library(kind: type) -> str:
    """Return the library that a class, or one that it is derived from, comes from."""
    tops = {str(getattr(one, "__module__", "")).partition(".")[0] for one in kind.__mro__}
    return next((name for name in _LIBRARIES if name in tops), "")


def _rank(value: Any) -> int:
    kind = type(value)
    if _library(kind) in ("tensorflow", "keras") and not _is_optimizer(value):
        if hasattr(kind, "trainable_variables") or (hasattr(kind, "assign") and hasattr(kind, "dtype")):
            return _VARIABLE
        return _VALUE if hasattr(kind, "dtype") and hasattr(kind, "shape") else _OTHER
    if kind in (list, tuple) and value:
        return min(_rank(value[0]), _VALUE) if type(value[0]) not in (list, tuple, dict) else _OTHER
    if kind is dict and value:
        return _rank(next(iter(value.values()), None)) if len(value) < 1000 else _OTHER
    if kind in (float, complex):
        return _VALUE
    floats = _library(kind) == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") in ("f", "c")
    return _VALUE if floats else _OTHER


def _data_rank(value: Any) -> int:
    kind = type(value)
    if kind in (str, bytes) or isinstance(value, type) or _is_optimizer(value) or hasattr(kind, "call"):
        return _OTHER
    if hasattr(kind, "batch") or (_library(kind) == "keras" and hasattr(kind, "__getitem__")):
        return _VARIABLE
    iterable = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    return _VALUE if iterable and not callable(value) and not hasattr(kind, "assign") else _OTHER


def _is_optimizer(value: Any) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return _library(kind) in ("tensorflow", "keras") and hasattr(kind, "apply_gradients")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Number) and not isinstance(value, bool | complex)
