"""The operation that first turned finite values into infinite or undefined ones, with one such element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.replay import BackwardStep
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.values.tensors import is_finite, to_array

_BROADCASTING = frozenset(
    {"Add", "AddV2", "Atan2", "Div", "Maximum", "Minimum", "Mul", "Pow", "RealDiv", "Sub", "Xdivy", "Xlogy"}
)
"""Operations that take one element of each input for an element of the result, whatever the shapes."""

_MIXING = frozenset(
    {"BatchMatMulV2", "Cholesky", "Cumprod", "Cumsum", "Einsum", "MatMul", "MatrixInverse", "Sum", "Mean"}
)
"""Operations that take many elements for one, although the shapes may be the same."""


@dataclass(frozen=True, eq=False)
class FirstNotFinite:
    """The first operation that gave a value that is not finite for finite inputs, and one such element.

    Where infinities were given, as those of a mask are, it is the first that gave NaN.

    Attributes
    ----------
    index
        The entry's index in the flow.
    in_gradient
        Whether the gradient of the operation gave it, and not the operation itself.
    result
        The element that it gave: ``inf``, ``-inf`` or ``nan``.
    inputs
        The elements of the inputs that it was computed from, where the operation works element by element.
    element
        The index of the element.
    dtype
        The dtype of the result.
    unselected_by
        The index of the ``tf.where`` that chose the other branch at this element, if one did.
    of_infinity
        Whether the inputs were infinite already, and the operation is the first that gave NaN.
    """

    index: int
    in_gradient: bool
    result: str
    inputs: tuple[float, ...]
    element: tuple[int, ...]
    dtype: str = "float32"
    unselected_by: int | None = None
    of_infinity: bool = False


class Description:
    """Describes entries that gave a value that is not finite.

    Parameters
    ----------
    flow
        The record.
    steps
        The steps of the backward pass, by the index of their entry.
    """

    def __init__(self, flow: DataFlow, steps: Mapping[int, BackwardStep]) -> None:
        self._flow, self._steps = flow, steps

    def describe(self, index: int, *, in_gradient: bool = False, of_infinity: bool = False) -> FirstNotFinite:
        """Return an entry, or its gradient, as the first operation that gave a value that is not finite."""
        entry = self._flow.entries[index]
        results = self._steps[index].input_gradients if in_gradient else map(self._flow.value, entry.outputs)
        bad = next(result for result in results if (has_nan if of_infinity else _is_bad)(result))
        array = to_array(bad)
        places = np.isnan(array) if of_infinity else ~np.isfinite(array)
        flat = int(np.flatnonzero(places)[0])
        element = tuple(int(i) for i in np.unravel_index(flat, array.shape))
        number = complex(array[element])
        return FirstNotFinite(
            index,
            in_gradient,
            "nan" if np.isnan(number) else "inf" if number.real > 0 else "-inf",
            self._inputs_at(entry, element, array.shape),
            element,
            str(bad.dtype.name),
            self._unselected_by(index, element, in_gradient=in_gradient),
            of_infinity,
        )

    def _inputs_at(self, entry: Entry, element: tuple[int, ...], shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return the elements of an entry's inputs at an index of the result.

        Empty where the operation does not work element by element, or where the result at that index was
        computed from several elements.
        """
        if entry.type in _MIXING or entry.custom is not None:
            return ()
        inputs: list[float] = []
        for key in entry.inputs:
            value = self._flow.value(key)
            if value is None or not (value.dtype.is_floating or value.dtype.is_integer):
                continue
            array = to_array(value)
            if array.shape == shape or array.ndim == 0:
                inputs.append(float(array[element] if array.ndim else array))
            elif entry.type in _BROADCASTING:
                try:
                    inputs.append(float(np.broadcast_to(array, shape)[element]))
                except ValueError:
                    return ()
        return tuple(inputs)

    def _unselected_by(self, index: int, element: tuple[int, ...], *, in_gradient: bool) -> int | None:
        """Return the index of the ``tf.where`` that took the other branch at an element, if one did.

        It did if its result is finite; in the backward pass, if it sent a gradient of 0.
        """
        where = self._where_after(index)
        if where is None:
            return None
        if not in_gradient:
            return where if is_finite(self._flow.value(self._flow.entries[where].outputs[0])) else None
        given = next((one for one in self._steps[index].output_gradients if one is not None), None)
        if given is None or given.shape.rank != len(element):
            return None
        return where if float(np.abs(to_array(given)[element])) == 0.0 else None

    def _where_after(self, index: int) -> int | None:
        """Return the index of the first ``tf.where`` with a branch that an entry's outputs flow into."""
        entries = self._flow.entries
        downstream = self._flow.downstream(entries[index].outputs)
        for position in range(index + 1, len(entries)):
            entry = entries[position]
            if entry.type in ("SelectV2", "Select") and not downstream.isdisjoint(entry.inputs[1:]):
                return position
        return None


def _is_bad(value: Any) -> bool:
    return not is_finite(value)


def has_nan(value: Any) -> bool:
    """Return whether a tensor has a NaN; ``None`` and whole numbers have none."""
    return not is_finite(value) and bool(np.isnan(to_array(value)).any())
