"""Which operation first turned finite numbers into infinite or undefined ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.flow import Flow
from tape_magic.engine.diagnosis.replay import Replay
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.tensors import is_finite, to_array


@dataclass(frozen=True, eq=False)
class Culprit:
    """Where it began.

    Attributes
    ----------
    index
        The entry's position in the flow.
    backward
        Whether it was the operation's gradient, and not the operation.
    gives
        What came out: ``inf``, ``-inf`` or ``nan``.
    inputs
        The operation's inputs there, where they stand element by element.
    place
        The index of the element.
    dtype
        Of what came out.
    shielded
        The position of the ``tf.where`` that chose the other branch there, if one did.
    """

    index: int
    backward: bool
    gives: str
    inputs: tuple[float, ...]
    place: tuple[int, ...]
    dtype: str = "float32"
    shielded: int | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What a search came to.

    Attributes
    ----------
    culprit
        The first in order of execution, forward and then backward; ``None`` where there is none.
    given
        The keys of tensors that were not finite to begin with.
    """

    culprit: Culprit | None
    given: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Origin:
    """Where values that are not finite are from.

    Attributes
    ----------
    made
        The first entry that made such a value of finite ones; ``None`` where none did.
    given
        The keys of tensors that were not finite to begin with.
    """

    made: int | None
    given: frozenset[int]

    def joined(self, other: _Origin) -> _Origin:
        """Those of two values together."""
        if self is _NOWHERE or self is other:
            return other
        if other is _NOWHERE:
            return self
        made = [index for index in (self.made, other.made) if index is not None]
        return _Origin(min(made, default=None), self.given | other.given)


_NOWHERE = _Origin(None, frozenset())


class Search:
    """The causes of gradients that are not finite, followed back through values that are not finite.

    Parameters
    ----------
    flow, recorder, replay
        The record, and the backward pass over it.
    """

    def __init__(self, flow: Flow, recorder: Recorder, replay: Replay) -> None:
        self._flow, self._recorder = flow, recorder
        self._made_by: dict[int, int] = {}
        for index, entry in enumerate(flow.entries):
            for key in entry.outputs:  # first what computed it, and not what stands around that
                self._made_by.setdefault(key, index)
        self._steps = {step.index: step for step in replay.steps}
        # By the tensor whose gradient it is: the steps that passed on something that is not finite.
        self._passed: dict[int, list[int]] = {}
        for step in replay.steps:
            for key, found in zip(flow.entries[step.index].inputs, step.found, strict=False):
                if not is_finite(found):
                    self._passed.setdefault(key, []).append(step.index)
        self._known: dict[int, bool] = {}
        self._readers: dict[int, int] = {}
        self._origins: dict[int, _Origin] = {}
        self._upstream: dict[int, tuple[list[int], list[int], _Origin]] = {}

    def find(self, source: int) -> Found:
        """What made the gradient by a source what it is."""
        backward: list[int] = []
        origin = _NOWHERE
        queue, seen = [source], {source}
        while queue:
            for index in self._passed.get(queue.pop(), ()):
                bad, held, held_from = self._behind(index)
                origin = origin.joined(held_from)
                queue += [key for key in bad if key not in seen]
                seen.update(bad)
                if not bad and not held:
                    backward.append(index)
        if origin.made is not None:
            for key in self._hidden_before(origin.made):
                origin = origin.joined(self._origin(key))
        given = tuple(sorted(origin.given, key=lambda key: (not self._is_nan(key), self._read_at(key))))
        # What is not a number was wrong before anything that comes of it, though an operation may hide it.
        first = min((self._read_at(key) for key in given if self._is_nan(key)), default=None)
        if origin.made is not None:
            later = first is not None and first < origin.made
            return Found(None if later else self._culprit(origin.made, backward=False), given)
        if backward and first is None:
            return Found(self._culprit(max(backward), backward=True), given)
        return Found(None, given)

    def _hidden_before(self, index: int) -> list[int]:
        """Values that are not finite, and that an operation before an entry made the least number of."""
        entries = self._flow.entries
        before = self._flow.before(entries[index].inputs)
        return [
            entry.inputs[0]
            for entry in entries[:index]
            if entry.type in _HIDING
            and not before.isdisjoint(entry.outputs)
            and self._is_finite(entry.outputs[0])
            and not self._is_finite(entry.inputs[0])
        ]

    def _behind(self, index: int) -> tuple[list[int], list[int], _Origin]:
        """Of a step: the gradients given and the values held that are not finite; where these are from."""
        if index not in self._upstream:
            entry = self._flow.entries[index]
            upstream = zip(entry.outputs, self._steps[index].given, strict=True)
            bad = [key for key, gradient in upstream if not is_finite(gradient)]
            held = [key for key in (*entry.inputs, *entry.outputs) if not self._is_finite(key)]
            origin = _NOWHERE
            for key in held:
                origin = origin.joined(self._origin(key))
            self._upstream[index] = bad, held, origin
        return self._upstream[index]

    def _origin(self, key: int) -> _Origin:
        """Where a value that is not finite is from, found out for those that it was made of first."""
        stack = [] if key in self._origins else [key]
        while stack:
            top = stack[-1]
            index = self._made_by.get(top)
            entry = None if index is None else self._flow.entries[index]
            if index is None or entry is None or entry.type in _READING:
                self._origins[top] = _Origin(None, frozenset({top}))
                stack.pop()
                continue
            bad = [one for one in entry.inputs if not self._is_finite(one)]
            if top not in self._origins:
                self._origins[top] = _NOWHERE  # while it is looked for
                stack += [one for one in bad if one not in self._origins]
                continue
            stack.pop()
            if not bad and all(self._value(one) is not None for one in entry.inputs):
                self._origins[top] = _Origin(index, frozenset())
            for one in bad:
                self._origins[top] = self._origins[top].joined(self._origins[one])
        return self._origins[key]

    def _read_at(self, key: int) -> int:
        """The position of the first entry that reads a tensor."""
        entries = self._flow.entries
        if key not in self._readers:
            reading = (index for index, entry in enumerate(entries) if key in entry.inputs)
            self._readers[key] = next(reading, len(entries))
        return self._readers[key]

    def _is_nan(self, key: int) -> bool:
        value = self._value(key)
        return value is not None and bool(np.isnan(to_array(value)).any())

    def _culprit(self, index: int, *, backward: bool) -> Culprit:
        entry = self._flow.entries[index]
        results = self._steps[index].found if backward else [self._value(key) for key in entry.outputs]
        bad = next(result for result in results if not is_finite(result))
        place, inputs, gives = self._told(entry, bad)
        shielded = self._where(index, place, backward)
        return Culprit(index, backward, gives, inputs, place, str(bad.dtype.name), shielded)

    def _is_finite(self, key: int) -> bool:
        if key not in self._known:
            self._known[key] = is_finite(self._value(key))
        return self._known[key]

    def _value(self, key: int) -> Any:
        return self._recorder.tensor(key)

    def _told(self, entry: Entry, bad: Any) -> tuple[tuple[int, ...], tuple[float, ...], str]:
        """Where the first element that is not finite is, what went in there, and what came out."""
        array = to_array(bad)
        flat = int(np.flatnonzero(~np.isfinite(array))[0])
        place = tuple(int(i) for i in np.unravel_index(flat, array.shape))
        inputs: list[float] = []
        for key in entry.inputs:
            value = self._value(key)
            if value is None or not (value.dtype.is_floating or value.dtype.is_integer):
                continue
            held = to_array(value)
            if held.shape == array.shape or held.ndim == 0:
                inputs.append(float(held[place] if held.ndim else held))
        value = complex(array[place])
        gives = "nan" if np.isnan(value) else "inf" if value.real > 0 else "-inf"
        return place, tuple(inputs), gives

    def _where(self, index: int, place: tuple[int, ...], backward: bool) -> int | None:
        """A choice between branches after the entry that did not take what the entry gave."""
        entries = self._flow.entries
        after = self._flow.after(entries[index].outputs)
        for position in range(index + 1, len(entries)):
            entry = entries[position]
            if entry.type not in ("SelectV2", "Select") or after.isdisjoint(entry.inputs[1:]):
                continue
            if not backward:
                return position if self._is_finite(entry.outputs[0]) else None
            given = next((gradient for gradient in self._steps[index].given if gradient is not None), None)
            if given is None or given.shape.rank != len(place):
                return None
            return position if float(np.abs(to_array(given)[place])) == 0.0 else None
        return None


_READING = frozenset({"ReadVariableOp", "Const", "Placeholder"})
_HIDING = frozenset({"MaxPool", "MaxPool3D", "MaxPoolV2", "MaxPoolWithArgmax"})
"""Of nothing but NaN they give the least number that there is."""
