"""What a trace of a program depends on, so that an unchanged cell need not be traced again.

A trace holds on to the tensors and variables that the program read, and to the values that Python had:
numbers, the contents of lists and arrays, and what the notebook's own functions read in turn.
"""

from __future__ import annotations

import hashlib
import types
import weakref
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from tape_magic.engine import sources as src


class Same:
    """An object by its identity, which it does not keep alive; one that is gone equals nothing."""

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._held: Any = weakref.ref(value)
        except TypeError:  # what cannot be referred to weakly is small
            self._held = lambda: value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same):
            return NotImplemented
        value = self._held()
        return value is not None and value is other._held()

    def __hash__(self) -> int:
        return self._id


_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})


class Fingerprints:
    """Makes fingerprints of values.

    Parameters
    ----------
    home
        The notebook's names: functions whose globals these are count with what they read.
    """

    def __init__(self, home: Mapping[str, Any]) -> None:
        self._home = home
        self._module = str(home.get("__name__", "__main__"))
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []

    def of_names(
        self, names: Iterable[str], namespace: Mapping[str, Any], lifted: Iterable[str] = ()
    ) -> Hashable:
        """What names of a namespace hold; of those that are `lifted`, floats count by their type only."""
        held = {name: namespace[name] for name in names if name in namespace}
        return tuple((name, self.of(value, lifted=name in lifted)) for name, value in held.items())

    def of(self, value: Any, *, lifted: bool = False) -> Hashable:
        """A hashable that is equal for a value which a trace would treat alike."""
        kind = type(value)
        if lifted and (src.is_liftable(value) or src.is_tensor(value)):
            return kind, np.shape(value), str(np.asarray(value).dtype)
        if kind in _PLAIN or isinstance(value, np.generic):
            return kind, repr(value)
        if id(value) in self._seen:  # met before, maybe within itself
            return "again", self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # so that its id stays its own
        if isinstance(value, np.ndarray):
            return Same(value), value.dtype.str, value.shape, _digest(value)
        if isinstance(value, list | tuple):
            return kind, tuple(self.of(item, lifted=lifted) for item in value)
        if isinstance(value, dict):
            return kind, tuple((self.of(key), self.of(item, lifted=lifted)) for key, item in value.items())
        if isinstance(value, set | frozenset):
            return kind, frozenset(self.of(item) for item in value)
        return self._of_object(value)

    def _of_object(self, value: Any) -> Hashable:
        function = getattr(value, "python_function", value)  # what tf.function wraps
        if isinstance(function, types.MethodType):
            return self.of(function.__self__), self.of(function.__func__)
        if isinstance(function, types.FunctionType):
            reached = src.reached(function, self._home) if function.__globals__ is self._home else []
            return Same(function), self.of(function.__defaults__), tuple(self.of(item) for item in reached)
        if src.is_variable(value) or src.is_tensor(value) or isinstance(value, types.ModuleType | type):
            return Same(value)
        if src.is_module(value):
            inner = value.submodules if hasattr(value, "submodules") else value._flatten_layers()
            return Same(value), self._attributes(value), tuple(self._attributes(part) for part in inner)
        if type(value).__module__ == self._module and hasattr(value, "__dict__"):
            return Same(value), tuple((name, self.of(item)) for name, item in vars(value).items())
        return Same(value), self._attributes(value)

    def _attributes(self, value: Any) -> Hashable:
        """The plain attributes of a library's object: a rate, whether it is trained."""
        named = getattr(value, "__dict__", {})
        plain = tuple((name, repr(item)) for name, item in named.items() if type(item) in _PLAIN)
        return Same(value), plain, bool(getattr(value, "trainable", False))


def _digest(array: np.ndarray[Any, Any]) -> bytes:
    """Of an array's contents, which a trace takes over."""
    if array.dtype.hasobject:
        return repr(array.tolist()).encode()
    return hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data, digest_size=16).digest()
