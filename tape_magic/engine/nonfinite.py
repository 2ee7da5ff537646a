"""Which operation first turned finite numbers into infinite or undefined ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.arrays import is_finite, to_array
from tape_magic.engine.entries import Entry
from tape_magic.engine.flow import Flow
from tape_magic.engine.recording import Recorder
from tape_magic.engine.replay import Replay


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

    def find(self, source: int) -> Found:
        """What made the gradient by a source what it is."""
        found: set[tuple[int, int]] = set()
        given: dict[int, None] = {}
        values: list[int] = []
        queue, seen = [source], {source}
        while queue:
            for index in self._passed.get(queue.pop(), ()):
                entry = self._flow.entries[index]
                upstream = zip(entry.outputs, self._steps[index].given, strict=True)
                bad = [key for key, gradient in upstream if not is_finite(gradient)]
                held = [key for key in (*entry.inputs, *entry.outputs) if not self._is_finite(key)]
                values += held
                queue += [key for key in bad if key not in seen]
                seen.update(bad)
                if not bad and not held:
                    found.add((1, -index))
        self._forward(values, found, given)
        culprit = self._culprit(*min(found)) if found else None
        return Found(culprit, tuple(given))

    def _forward(self, values: list[int], found: set[tuple[int, int]], given: dict[int, None]) -> None:
        """Which operations made some values infinite or undefined, and which values came in as such."""
        queue, seen = list(values), set(values)
        while queue:
            key = queue.pop()
            index = self._made_by.get(key)
            entry = None if index is None else self._flow.entries[index]
            if index is None or entry is None or entry.type in _READING:
                given[key] = None
                continue
            bad = [k for k in entry.inputs if not self._is_finite(k)]
            queue += [k for k in bad if k not in seen]
            seen.update(bad)
            if not bad and all(self._value(k) is not None for k in entry.inputs):
                found.add((0, index))

    def _culprit(self, backward: int, order: int) -> Culprit:
        index = -order if backward else order
        entry = self._flow.entries[index]
        results = self._steps[index].found if backward else [self._value(key) for key in entry.outputs]
        bad = next(result for result in results if not is_finite(result))
        place, inputs, gives = self._told(entry, bad)
        shielded = self._where(index, place, bool(backward))
        return Culprit(index, bool(backward), gives, inputs, place, str(bad.dtype.name), shielded)

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
