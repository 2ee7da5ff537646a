"""The parts of a batch as tensors and arrays, one for each name that the batch is bound to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.values.rows import is_ragged_or_sparse
from tape_magic.errors import SourceError, a_kind


@dataclass(frozen=True)
class BatchParts:
    """How the parts of a batch become values of names.

    Attributes
    ----------
    names
        The names that the parts are bound to.
    label
        What messages call the data.
    floats
        The dtype that NumPy's float32 and float64 take.
    pattern
        The names in tuples, as the parts nest; empty where each part is bound to a name.
    """

    names: tuple[str, ...]
    label: str
    floats: str
    pattern: tuple[Any, ...] = ()

    def columns(self, data: Any) -> tuple[Any, ...]:
        """Return arrays, one structure a name, from one array or a structure of them; see :meth:`values`."""
        return self.values(data, one="is one array")

    def values(self, batch: Any, one: str = "gives one value in a batch") -> tuple[Any, ...]:
        """Return the parts of a batch, one for each name: arrays and tensors in tuples and dicts.

        `one` says in a message what a batch of one part is. Raises :class:`SourceError` for another number of
        parts, and for values that are no numbers.
        """
        return tuple(self._structure(part) for part in self.parts(batch, one))

    def check(self, spec: Any) -> None:
        """Raise :class:`SourceError` where elements of such a kind do not fit the names."""
        self.parts(spec, "gives one value in a batch")

    def spec(self, values: Any, known: Any = None) -> Any:
        """Return the specs of the parts of a batch, wide enough for a `known` spec, too.

        The first dimension is open, and each dimension in which the two differ.
        """
        import tensorflow as tf

        def of(value: Any) -> Any:
            return tf.TensorSpec([None, *value.shape[1:]] if len(value.shape) else [], value.dtype)

        def wider(spec: Any, known: Any) -> Any:
            pairs = zip(spec.shape, known.shape, strict=True)
            return tf.TensorSpec([one if one == two else None for one, two in pairs], spec.dtype)

        spec = tf.nest.map_structure(of, values)
        if known is None:
            return spec
        opened = tf.nest.map_structure(lambda one: tf.TensorSpec([None] * one.shape.rank, one.dtype), known)
        self.refuse_unlike(values, opened, 1)
        return tf.nest.map_structure(wider, spec, known)

    def refuse_unlike(self, values: Any, spec: Any, index: int) -> None:
        """Raise :class:`SourceError` where a batch is not of a spec; `index` is its place in the epoch."""
        import tensorflow as tf

        where = f"batch {index} of {self.label}"
        try:
            tf.nest.assert_same_structure(values, spec)
        except (TypeError, ValueError):
            raise SourceError(
                f"{where} is built otherwise than the first: give all of them one form."
            ) from None
        for value, wanted in zip(tf.nest.flatten(values), tf.nest.flatten(spec), strict=True):
            dtype = tf.as_dtype(value.dtype)
            if dtype != wanted.dtype or not wanted.shape.is_compatible_with(value.shape):
                raise SourceError(
                    f"{where} has {dtype.name} of shape {tuple(value.shape)}, and those before have "
                    f"{wanted.dtype.name} of shape {tuple(wanted.shape)}: give all of them one form."
                )

    def parts(self, batch: Any, one: str = "gives one value in a batch") -> tuple[Any, ...]:
        """Return the parts of a batch, one for each name; raises as :meth:`values`."""
        if not self.pattern:
            return self._flat(batch, self.names, one)
        found: list[Any] = []

        def nested(value: Any, pattern: tuple[Any, ...]) -> None:
            shown = tuple(
                name if isinstance(name, str) else f"({', '.join(map(str, name))})" for name in pattern
            )
            for part, name in zip(self._flat(value, shown, one), pattern, strict=True):
                if isinstance(name, str):
                    found.append(part)
                else:
                    nested(part, name)

        nested(batch, self.pattern)
        return tuple(found)

    def _flat(self, batch: Any, of: tuple[str, ...], one: str) -> tuple[Any, ...]:
        count, names = len(of), ", ".join(of)
        if count == 1:
            return tuple(batch) if isinstance(batch, tuple) and len(batch) == 1 else (batch,)
        if isinstance(batch, Mapping):
            raise SourceError(
                f"{self.label} gives a dict with {', '.join(map(repr, batch))}, and for names {names}: "
                f'name the dict, for example "batch in {self.label}".'
            )
        if not isinstance(batch, tuple | list):
            raise SourceError(f"{self.label} {one}, and for names {count}: {names}.")
        if len(batch) != count:
            values = "value" if len(batch) == 1 else "values"
            raise SourceError(f"{self.label} gives {len(batch)} {values}, and for names {count}: {names}.")
        return tuple(batch)

    def _structure(self, value: Any) -> Any:
        """Turn lists of numbers into arrays, and other lists into tuples: TensorFlow knows no lists."""
        if isinstance(value, Mapping):
            return {key: self._structure(item) for key, item in value.items()}
        if isinstance(value, tuple) or (isinstance(value, list) and not _numeric(value)):
            return tuple(self._structure(item) for item in value)
        return self._array(value)

    def _array(self, value: Any) -> Any:
        import tensorflow as tf

        if isinstance(value, tf.Tensor):
            return value
        if is_ragged_or_sparse(value):
            raise SourceError(
                f"{self.label} has {a_kind(value)}, whose rows cannot be picked: "
                "give tf.data.Dataset.from_tensor_slices(…).batch(32)."
            )
        try:
            array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{self.label} has {a_kind(value)}, no array: {error}.") from None
        if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
            what = "strings" if array.dtype.kind in "SUT" else f"values of dtype {array.dtype}"
            raise SourceError(f"{self.label} has {what}: turn them into numbers first.")
        if array.dtype in (np.float32, np.float64):
            array = array.astype(self.floats, copy=False)
        return array


def _numeric(value: Any) -> bool:
    """Return whether a list holds nothing but numbers, however deep."""
    return all(_numeric(item) if isinstance(item, list) else isinstance(item, int | float) for item in value)
