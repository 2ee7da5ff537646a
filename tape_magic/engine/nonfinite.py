"""Which operation first turned finite numbers into infinite or undefined ones, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    shielded
        The position of the ``tf.where`` that chose the other branch there, if one did.
    """

    index: int
    backward: bool
    gives: str
    inputs: tuple[float, ...]
    place: tuple[int, ...]
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
        place, inputs, gives = self._told(entry, list(results))
        return Culprit(index, bool(backward), gives, inputs, place, self._where(index, place, bool(backward)))

    def _is_finite(self, key: int) -> bool:
        if key not in self._known:
            self._known[key] = is_finite(self._value(key))
        return self._known[key]

    def _value(self, key: int) -> Any:
        return self._recorder.tensor(key)

    def _told(self, entry: Entry, results: Sequence[Any]) -> tuple[tuple[int, ...], tuple[float, ...], str]:
        """Where the first element that is not finite is, what went in there, and what came out."""
        bad = next(result for result in results if not is_finite(result))
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


_EPSILON = "1e-12"

_CURES: dict[str, str] = {
    "Rsqrt": f"keep its argument above 0, for example tf.math.rsqrt(x + {_EPSILON})",
    "Reciprocal": "use tf.math.divide_no_nan, or keep the denominator away from 0",
    "RealDiv": "use tf.math.divide_no_nan, or keep the denominator away from 0",
    "Div": "use tf.math.divide_no_nan, or keep the denominator away from 0",
    "Xdivy": "keep the denominator away from 0",
    "Acos": "keep its argument between −1 and 1, ends excluded",
    "Asin": "keep its argument between −1 and 1, ends excluded",
    "Atanh": "keep its argument between −1 and 1, ends excluded",
    "Acosh": "keep its argument above 1",
    "Svd": "singular values that are equal have no derivative",
    "SelfAdjointEigV2": "eigenvalues that are equal have no derivative",
    "MatrixInverse": "the matrix is singular: add a small multiple of the identity",
    "Cholesky": "the matrix is not positive definite: add a small multiple of the identity",
    "Log1p": "keep its argument above −1",
}


def cure(culprit: Culprit, flow: Flow, text: str, line_of: Callable[[int], str]) -> str:
    """What to do about it, where that is known.

    Parameters
    ----------
    culprit, flow
        What :class:`Search` found, and where.
    text
        The user's line.
    line_of
        The position of an entry → ``line 4``.
    """
    entry = flow.entries[culprit.index]
    if culprit.shielded is not None:
        return (
            f"tf.where ({line_of(culprit.shielded)}) takes the other branch there, but differentiates both: "
            f"choose a safe argument first, {_safe(entry.type)}"
        )
    value = culprit.inputs[0] if culprit.inputs else None
    if entry.type == "Sqrt":
        return _cure_sqrt(value, text)
    if entry.type in ("Log", "Log1p") and value is not None and value <= 0:
        return _cure_log(entry, culprit, flow, value)
    if entry.type == "Pow":
        return _cure_pow(culprit)
    if entry.type == "Exp" and culprit.gives == "inf":
        return _cure_exp(culprit, flow)
    return _CURES.get(entry.type, "")


def _safe(kind: str) -> str:
    safe = "tf.where(ok, x, 1.0)"
    shapes = {
        "Sqrt": f"tf.sqrt({safe})",
        "Log": f"tf.math.log({safe})",
        "Pow": f"{safe}**p",
        "RealDiv": f"1 / {safe}",
        "Reciprocal": f"1 / {safe}",
    }
    return shapes.get(kind, safe)


def _cure_sqrt(value: float | None, text: str) -> str:
    if value is not None and value < 0:
        return "keep its argument above 0"
    if "norm" in text:
        return f"a norm has no derivative at 0: use tf.sqrt(tf.reduce_sum(x**2) + {_EPSILON})"
    return f"the slope of a square root is infinite at 0: add a little, tf.sqrt(x + {_EPSILON})"


def _cure_log(entry: Entry, culprit: Culprit, flow: Flow, value: float) -> str:
    if value < 0:
        return "keep its argument above 0"
    before = flow.before(entry.inputs)
    kinds = {one.type for one in flow.entries[: culprit.index] if not before.isdisjoint(one.outputs)}
    if "Softmax" in kinds or {"Exp", "RealDiv"} <= kinds:
        return "use tf.nn.log_softmax, or a cross-entropy with from_logits=True"
    if "Sigmoid" in kinds:
        return "use tf.math.log_sigmoid, or a cross-entropy with from_logits=True"
    example = f"for example tf.math.log(x + {_EPSILON})"
    return f"keep its argument above 0, {example}; for x*log(x) there is tf.math.xlogy"


def _cure_pow(culprit: Culprit) -> str:
    if len(culprit.inputs) < 2 or culprit.inputs[0] != 0:
        return "keep the base above 0"
    if culprit.inputs[1] >= 1 or not culprit.backward:
        return "keep the base above 0"
    return "a power below 1 has an infinite slope at 0: keep the base above 0"


def _cure_exp(culprit: Culprit, flow: Flow) -> str:
    after = flow.after(flow.entries[culprit.index].outputs)
    kinds = {one.type for one in flow.entries if not after.isdisjoint(one.inputs)}
    if "RealDiv" in kinds:
        return "it overflows: use tf.nn.softmax, or subtract the maximum first"
    if "Log" in kinds:
        return "it overflows: use tf.reduce_logsumexp"
    return "it overflows: keep its argument below 88 (float32), or subtract the maximum first"
