"""Which units are off, where a derivative is 0 by its data and not by construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line
from tape_magic.engine.diagnosis.replay import BackwardReplay, BackwardStep, CannotReplay
from tape_magic.engine.values.tensors import to_array

_OFF = "{kind} is off{units}"
_SATURATED = "{kind} is saturated{units}"
_GATES = {
    "ClipByValue": "{kind} clips{units}",
    "Relu": _OFF,
    "Relu6": _OFF,
    "Sigmoid": _SATURATED,
    "Softmax": _SATURATED,
    "Tanh": _SATURATED,
}
"""Operations that pass no derivative where their values say so, with what to say then."""


class UnitsExplainer:
    """Finds the units that are off where a derivative is 0 and has no reason.

    Parameters
    ----------
    evidence
        The evidence of the run.
    """

    def __init__(self, evidence: RunEvidence) -> None:
        self._evidence = evidence

    def explain(self, target: NamedTensors, sources: Sequence[NamedTensors]) -> list[str]:
        """Return for each source which units pass nothing of the target's derivative; empty where none do.

        For ``h = tf.nn.relu(x)`` below 0: "Relu is off in all 3 units, line 3: h = tf.nn.relu(x)".
        """
        evidence, keys = self._evidence, [source.keys[0] for source in sources]
        if not sources or not evidence.recorder.complete:
            return [""] * len(sources)
        try:
            replay = BackwardReplay(evidence.flow, evidence.recorder, keys, target.keys)
        except (CannotReplay, LookupError):
            return [""] * len(sources)
        return [self._explain(key, target, replay) for key in keys]

    def _explain(self, source: int, target: NamedTensors, replay: BackwardReplay) -> str:
        """Return the same for one source: where all gradients on the way to it end in such units."""
        flow = self._evidence.flow
        path, downstream = set(flow.between([source], target.keys)), flow.downstream([source])
        ends: list[BackwardStep] = []
        for step in replay.steps:
            pairs = zip(flow.entries[step.index].inputs, step.input_gradients, strict=False)
            left = [gradient for key, gradient in pairs if key in downstream and gradient is not None]
            ended = left and not any(map(_is_something, left))
            if step.index in path and ended and any(map(_is_something, step.output_gradients)):
                ends.append(step)
        if not ends or not all(map(self._is_off, ends)):
            return ""
        return "; ".join(dict.fromkeys(self._sentence(step) for step in reversed(ends)))

    def _is_off(self, step: BackwardStep) -> bool:
        """Return whether the values of an operation are the reason that it passes nothing on."""
        flow = self._evidence.flow
        entry = flow.entries[step.index]
        words, output = _GATES.get(entry.type), flow.value(entry.outputs[0])
        if words is None or output is None:
            return False
        # A softmax whose sum is differentiated passes nothing on either, wherever it is.
        return words is not _SATURATED or bool(np.isin(np.abs(to_array(output)), (0, 1)).all())

    def _sentence(self, step: BackwardStep) -> str:
        entry = self._evidence.flow.entries[step.index]
        (given,) = step.output_gradients[:1]
        asked = to_array(given) != 0
        text = _GATES[entry.type].format(kind=entry.type, units=_counted(asked))
        return f"{text}{at_line(self._evidence.where(entry.frames))}"


def _counted(asked: np.ndarray[Any, Any]) -> str:
    """Return which units were asked for a derivative, in words: those of the last axis, in rows of these.

    For an array of shape (3, 8), all of it asked: " in all 8 units of every row".
    """
    rows = asked.reshape(-1, asked.shape[-1]) if asked.ndim else asked.reshape(1, 1)
    units = rows.any(axis=0)
    several, number = len(rows) > 1, int(np.count_nonzero(units))
    if units.size == 1:
        whole = " in every row" if several else ""
        return whole if rows.all() else f" in the {np.count_nonzero(rows):,} of {len(rows):,} rows that count"
    if number < units.size:
        return f" in the {number:,} of {units.size:,} units that count"
    some = " of every row" if rows.all() else ", where they count"
    return f" in all {units.size:,} units{some if several else ''}"


def _is_something(gradient: Any) -> bool:
    return gradient is not None and Condition.of(gradient) is not Condition.ZERO
