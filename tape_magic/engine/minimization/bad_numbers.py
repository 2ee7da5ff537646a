"""Numbers that are not finite, in arrays, tensors, data frames and lists, and the same without them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.values.introspection import elements_of, is_a, pairs_of
from tape_magic.engine.values.leaves import rebuilt
from tape_magic.engine.values.tensors import is_inexact, is_tensor, to_array

Rows = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class BadArray:
    """An array, tensor or data frame with numbers that are not finite; `bad` has its shape."""

    label: str
    value: Any
    bad: np.ndarray[Any, np.dtype[np.bool_]]
    of_batch: str = ""

    @property
    def rows(self) -> Rows:
        """The rows that hold such numbers; empty for a single number."""
        if not self.bad.ndim:
            return np.zeros(0, np.intp)
        return np.flatnonzero(self.bad.reshape(len(self.bad), -1).any(axis=1))

    def word(self, rows: Sequence[int]) -> str:
        """Return ``nan``, ``inf`` or ``−inf``, for what stands in some rows."""
        numbers = np.asarray(_values_of(self.value))[self.bad & self._of(rows)]
        if any(number is None or number != number for number in numbers.tolist()):
            return "nan"
        return "−inf" if np.real(numbers[0]) < 0 else "inf"

    def cleaned(self, kept: Sequence[int] = ()) -> Any:
        """Return the same with 0 in the place of these numbers, but for some rows."""
        return _with_zeros(self.value, self.bad & ~self._of(kept) if len(kept) else self.bad)

    def _of(self, rows: Sequence[int]) -> Any:
        if not self.bad.ndim:
            return np.True_
        chosen = np.zeros(len(self.bad), bool)
        chosen[list(rows)] = True
        return chosen.reshape(-1, *[1] * (self.bad.ndim - 1))


def bad_numbers(value: Any) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Return which numbers of an array, tensor, frame or list of floats are not finite; else ``None``."""
    if is_frame(value):
        return np.asarray(value.isna() | value.isin([np.inf, -np.inf]))
    if is_a(value, list):
        numbers = list(elements_of(value))
        plain = numbers and all(type(one) in (float, int) for one in numbers)
        return ~np.isfinite(np.array(numbers, np.float64)) if plain else None
    if is_a(value, np.ndarray):
        return ~np.isfinite(value) if np.issubdtype(value.dtype, np.inexact) else None
    if is_tensor(value) and hasattr(value, "numpy") and is_inexact(value):
        return np.asarray(~np.isfinite(to_array(value)))
    return None


def _values_of(value: Any) -> Any:
    """Return the numbers of what :func:`bad_numbers` takes."""
    if is_frame(value):
        return value.to_numpy()
    return to_array(value) if is_tensor(value) else value


def _with_zeros(value: Any, at: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    """Return an array, tensor, frame or list with zeros at some places."""
    import tensorflow as tf

    if is_frame(value):
        return value.mask(at, 0)
    if is_a(value, list):
        return np.where(at, 0.0, np.array(value, np.float64)).tolist()
    if is_a(value, np.ndarray):
        cleaned = value.copy()
        cleaned[at] = 0
        return cleaned
    return tf.where(tf.constant(at), tf.zeros_like(value), value)


def is_frame(value: Any) -> bool:
    """Return whether a value is a data frame or a series of pandas."""
    module = str(getattr(type(value), "__module__", ""))
    return module.partition(".")[0] == "pandas" and all(hasattr(value, name) for name in ("isna", "mask"))


def replaced(value: Any, values: Mapping[int, Any], within: Collection[int] = ()) -> Any:
    """Return a structure with other values for some objects in it, given by identity."""
    if id(value) in values:
        return values[id(value)]
    if id(value) in within or not is_a(value, tuple | list | dict):
        return value
    inner = {*within, id(value)}
    if is_a(value, dict):
        items = {key: replaced(item, values, inner) for key, item in pairs_of(value)}
        return value if all(items[key] is item for key, item in pairs_of(value)) else items
    parts = [replaced(item, values, inner) for item in elements_of(value)]
    return value if all(map(lambda a, b: a is b, parts, elements_of(value))) else rebuilt(value, parts)
