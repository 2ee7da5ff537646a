"""The search for the operation that first turned finite values into infinite or undefined ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.replay import BackwardReplay
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.tensors import is_finite, to_array

_READING = frozenset({"ReadVariableOp", "Const", "Placeholder"})

# A pool of nothing but NaN gives the least finite number: seen in TensorFlow 2.21, and reported in
# https://github.com/tensorflow/tensorflow/issues/54841.
_HIDING_NAN = frozenset({"MaxPool", "MaxPool3D", "MaxPoolV2", "MaxPoolWithArgmax"})


@dataclass(frozen=True, eq=False)
class FirstNotFinite:
    """The first operation that gave a value that is not finite for finite inputs, and one such element.

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
    """

    index: int
    in_gradient: bool
    result: str
    inputs: tuple[float, ...]
    element: tuple[int, ...]
    dtype: str = "float32"
    unselected_by: int | None = None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of a search.

    Attributes
    ----------
    first
        The first operation in the order of execution, forward and then backward, or ``None``.
    given
        The keys of tensors that were not finite before any operation read them.
    """

    first: FirstNotFinite | None
    given: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Origin:
    """The origin of values that are not finite.

    Attributes
    ----------
    maker
        The index of the first entry that made such a value of finite ones; ``None`` where none did.
    given
        The keys of tensors that were not finite before any operation read them.
    """

    maker: int | None
    given: frozenset[int]

    def joined(self, other: _Origin) -> _Origin:
        """Return the common origin of two values."""
        if self is _NO_ORIGIN or self is other:
            return other
        if other is _NO_ORIGIN:
            return self
        makers = [index for index in (self.maker, other.maker) if index is not None]
        return _Origin(min(makers, default=None), self.given | other.given)


_NO_ORIGIN = _Origin(None, frozenset())


@dataclass(frozen=True, eq=False)
class _StepOrigin:
    """The origin of a gradient that one step of the backward pass gave, and that is not finite.

    Attributes
    ----------
    gradients
        The keys of its outputs whose gradients were not finite.
    has_values
        Whether one of its inputs or outputs was not finite.
    origin
        The origin of those inputs and outputs.
    """

    gradients: list[int]
    has_values: bool
    origin: _Origin


class NotFiniteSearch:
    """The search for the cause of gradients that are not finite, back through all values that are not.

    Parameters
    ----------
    flow, recorder, replay
        The record, and the backward pass over it.
    """

    def __init__(self, flow: DataFlow, recorder: Recorder, replay: BackwardReplay) -> None:
        self._flow, self._recorder = flow, recorder
        self._first_makers: dict[int, int] = {}
        for index, entry in enumerate(flow.entries):
            for key in entry.outputs:  # the operation that computed it, and not the call around that
                self._first_makers.setdefault(key, index)
        self._steps = {step.index: step for step in replay.steps}
        # The steps that gave a gradient that is not finite, by the tensor whose gradient it is.
        self._bad_steps: dict[int, list[int]] = {}
        for step in replay.steps:
            for key, found in zip(flow.entries[step.index].inputs, step.input_gradients, strict=False):
                if not is_finite(found):
                    self._bad_steps.setdefault(key, []).append(step.index)
        self._finite: dict[int, bool] = {}
        self._first_readers: dict[int, int] = {}
        self._origins: dict[int, _Origin] = {}
        self._step_origins: dict[int, _StepOrigin] = {}

    def find(self, source: int) -> SearchResult:
        """Return the operation that made the gradient by a source infinite or NaN."""
        steps, origin = self._follow_back(source)
        if origin.maker is not None:
            for key in self._hidden_before(origin.maker):
                origin = origin.joined(self._origin(key))
        given = tuple(sorted(origin.given, key=lambda key: (not self._is_nan(key), self._first_reader(key))))
        # A NaN that was given came before all that was computed from it, although an operation may hide it.
        first_nan = min((self._first_reader(key) for key in given if self._is_nan(key)), default=None)
        if origin.maker is not None:
            if first_nan is not None and first_nan < origin.maker:
                return SearchResult(None, given)
            return SearchResult(self._describe(origin.maker, in_gradient=False), given)
        if steps and first_nan is None:
            return SearchResult(self._describe(max(steps), in_gradient=True), given)
        return SearchResult(None, given)

    # -- the backward pass -------------------------------------------------------------------------

    def _follow_back(self, source: int) -> tuple[list[int], _Origin]:
        """Follow gradients that are not finite from a source to where they begin.

        Returns the steps that gave one although all that they were given was finite, and the origin of the
        values from which other steps gave one.
        """
        steps: list[int] = []
        origin = _NO_ORIGIN
        queue, seen = [source], {source}
        while queue:
            for index in self._bad_steps.get(queue.pop(), ()):
                found = self._step_origin(index)
                origin = origin.joined(found.origin)
                queue += [key for key in found.gradients if key not in seen]
                seen.update(found.gradients)
                if not found.gradients and not found.has_values:
                    steps.append(index)
        return steps, origin

    def _step_origin(self, index: int) -> _StepOrigin:
        """Return the origin of the gradient that the step through an entry gave."""
        if index not in self._step_origins:
            entry = self._flow.entries[index]
            given = zip(entry.outputs, self._steps[index].output_gradients, strict=True)
            gradients = [key for key, gradient in given if not is_finite(gradient)]
            values = [key for key in (*entry.inputs, *entry.outputs) if not self._is_finite(key)]
            origin = _NO_ORIGIN
            for key in values:
                origin = origin.joined(self._origin(key))
            self._step_origins[index] = _StepOrigin(gradients, bool(values), origin)
        return self._step_origins[index]

    # -- the forward pass --------------------------------------------------------------------------

    def _origin(self, key: int) -> _Origin:
        """Return the origin of a value that is not finite.

        The values that it was computed from are worked off first, on a stack of our own: a recursion would be
        as deep as the program is long.
        """
        stack = [] if key in self._origins else [key]
        while stack:
            top = stack[-1]
            index = self._first_makers.get(top)
            entry = None if index is None else self._flow.entries[index]
            if index is None or entry is None or entry.type in _READING:
                self._origins[top] = _Origin(None, frozenset({top}))
                stack.pop()
                continue
            bad = [one for one in entry.inputs if not self._is_finite(one)]
            if top not in self._origins:
                self._origins[top] = _NO_ORIGIN  # until its inputs are worked off
                stack += [one for one in bad if one not in self._origins]
                continue
            stack.pop()
            if not bad and all(self._value(one) is not None for one in entry.inputs):
                self._origins[top] = _Origin(index, frozenset())
            for one in bad:
                self._origins[top] = self._origins[top].joined(self._origins[one])
        return self._origins[key]

    def _hidden_before(self, index: int) -> list[int]:
        """Return the values before an entry that are not finite, and that a pool turned into finite ones."""
        entries = self._flow.entries
        upstream = self._flow.upstream(entries[index].inputs)
        return [
            entry.inputs[0]
            for entry in entries[:index]
            if entry.type in _HIDING_NAN
            and not upstream.isdisjoint(entry.outputs)
            and self._is_finite(entry.outputs[0])
            and not self._is_finite(entry.inputs[0])
        ]

    def _first_reader(self, key: int) -> int:
        """Return the index of the first entry that reads a tensor."""
        entries = self._flow.entries
        if key not in self._first_readers:
            reading = (index for index, entry in enumerate(entries) if key in entry.inputs)
            self._first_readers[key] = next(reading, len(entries))
        return self._first_readers[key]

    def _value(self, key: int) -> Any:
        return self._recorder.tensor(key)

    def _is_nan(self, key: int) -> bool:
        value = self._value(key)
        return value is not None and bool(np.isnan(to_array(value)).any())

    def _is_finite(self, key: int) -> bool:
        if key not in self._finite:
            self._finite[key] = is_finite(self._value(key))
        return self._finite[key]

    # -- the operation that was found --------------------------------------------------------------

    def _describe(self, index: int, *, in_gradient: bool) -> FirstNotFinite:
        """Return an entry, or its gradient, as the first operation that gave a value that is not finite."""
        entry = self._flow.entries[index]
        results = self._steps[index].input_gradients if in_gradient else map(self._value, entry.outputs)
        bad = next(result for result in results if not is_finite(result))
        array = to_array(bad)
        flat = int(np.flatnonzero(~np.isfinite(array))[0])
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
        )

    def _inputs_at(self, entry: Entry, element: tuple[int, ...], shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return the elements of an entry's inputs at an index of the result; a scalar has one for all."""
        inputs: list[float] = []
        for key in entry.inputs:
            value = self._value(key)
            if value is None or not (value.dtype.is_floating or value.dtype.is_integer):
                continue
            array = to_array(value)
            if array.shape == shape or array.ndim == 0:
                inputs.append(float(array[element] if array.ndim else array))
        return tuple(inputs)

    def _unselected_by(self, index: int, element: tuple[int, ...], *, in_gradient: bool) -> int | None:
        """Return the index of the ``tf.where`` that took the other branch at an element, if one did.

        It did if its result is finite; in the backward pass, if it sent a gradient of 0.
        """
        where = self._where_after(index)
        if where is None:
            return None
        if not in_gradient:
            return where if self._is_finite(self._flow.entries[where].outputs[0]) else None
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
