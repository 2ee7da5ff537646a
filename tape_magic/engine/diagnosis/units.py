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
_BY_ZERO = "{kind} multiplies by 0{units}"
_CHOSEN = "{kind} takes the other value{units}"
_KINK = "{kind} is at its kink{units}"
_GATES = {
    "Abs": _KINK,
    "BatchMatMulV2": _BY_ZERO,
    "ClipByValue": "{kind} clips{units}",
    "ComplexAbs": _KINK,
    "MatMul": _BY_ZERO,
    "Maximum": _CHOSEN,
    "Minimum": _CHOSEN,
    "Mul": _BY_ZERO,
    "Relu": _OFF,
    "Relu6": _OFF,
    "Select": "tf.where takes the other value{units}",
    "SelectV2": "tf.where takes the other value{units}",
    "Sigmoid": _SATURATED,
    "Softmax": _SATURATED,
    "Tanh": _SATURATED,
}
"""Operations that pass no derivative where their values say so, with what to say then."""
_DECOMPOSITIONS = {
    "SelfAdjointEigV2": ("eigenvalues", "eigenvectors"),
    "Svd": ("singular values", "singular vectors"),
}
"""Operations whose values, their first output, may be equal; what the values and the vectors are called."""


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
        if not evidence.flow.between(keys, target.keys):
            return [self._explain_branch(key) for key in keys]
        try:
            replay = BackwardReplay(evidence.flow, evidence.recorder, keys, target.keys)
        except (CannotReplay, LookupError):
            return [""] * len(sources)
        return [self._explain(key, target, replay) for key in keys]

    def _explain(self, source: int, target: NamedTensors, replay: BackwardReplay) -> str:
        """Return the same for one source: where all gradients on the way to it end in such units."""
        flow = self._evidence.flow
        path = flow.between([source], target.keys)
        carrying, _ = flow.follow_derivative(source, target.keys, path, stop_at_zeros=True)
        ends: list[BackwardStep] = []
        for step in replay.steps:
            pairs = zip(flow.entries[step.index].inputs, step.input_gradients, strict=False)
            left = [gradient for key, gradient in pairs if key in carrying and gradient is not None]
            ended = left and not any(map(_is_something, left))
            carries = not carrying.isdisjoint(flow.entries[step.index].outputs)
            if carries and ended and any(map(_is_something, step.output_gradients)):
                ends.append(step)
        if not ends or not all(map(self._is_off, ends)):
            return ""
        return "; ".join(dict.fromkeys(self._sentence(step) for step in reversed(ends)))

    def _explain_branch(self, source: int) -> str:
        """Return that a branch was taken which does not read a source; empty where none was."""
        entry = self._evidence.decided_by(source)
        where = "" if entry is None else at_line(self._evidence.where(entry.frames))
        return "" if entry is None else f"the branch that was taken does not read it{where}"

    def _is_off(self, step: BackwardStep) -> bool:
        """Return whether the values of an operation are the reason that it passes nothing on."""
        flow = self._evidence.flow
        entry = flow.entries[step.index]
        if entry.type in _DECOMPOSITIONS:
            return _asks_equal_values(step, [flow.value(key) for key in entry.outputs])
        words, output = _GATES.get(entry.type), flow.value(entry.outputs[0])
        if words is None or output is None:
            return False
        if words is _BY_ZERO:  # and not by numbers so small that the product is 0
            return any(
                value is not None and not to_array(value).any() for value in map(flow.value, entry.inputs)
            )
        # A softmax whose sum is differentiated passes nothing on either, wherever it is.
        return words is not _SATURATED or bool(np.isin(np.abs(to_array(output)), (0, 1)).all())

    def _sentence(self, step: BackwardStep) -> str:
        entry = self._evidence.flow.entries[step.index]
        if entry.type in _DECOMPOSITIONS:
            values, vectors = _DECOMPOSITIONS[entry.type]
            given = f"TensorFlow gives 0 for the derivative of their {vectors}"
            text = f"{entry.type} has equal {values}, and {given}"
        else:
            asked = to_array(step.output_gradients[0]) != 0
            text = _GATES[entry.type].format(kind=entry.type, units=_counted(asked))
        return f"{text}{at_line(self._evidence.where(entry.frames))}"


def _asks_equal_values(step: BackwardStep, outputs: Sequence[Any]) -> bool:
    """Return whether a gradient asks how vectors turn into each other that belong to equal values.

    They are any basis of their space: how they turn has no derivative. TensorFlow 2.21 divides by the
    difference of the values, and puts 0 where that is 0 (python/ops/linalg_grad.py, _SafeReciprocal). What
    does not depend on the choice of the basis asks for no turn: the gradient by the turn of vector i towards
    j is the antisymmetric part of Vᵀ ∂y/∂V.
    """
    if outputs[0] is None:
        return False
    values = to_array(outputs[0])
    equal = (values[..., :, None] == values[..., None, :]) & ~np.eye(values.shape[-1], dtype=bool)
    for vectors, given in zip(outputs[1:], step.output_gradients[1:], strict=True):
        if vectors is None or given is None or not to_array(vectors).size:
            continue
        turn = np.swapaxes(to_array(vectors).conj(), -1, -2) @ to_array(given)
        count = min(turn.shape[-1], equal.shape[-1])  # a full basis has more vectors than there are values
        turn = (turn - np.swapaxes(turn.conj(), -1, -2))[..., :count, :count]
        if (np.abs(turn)[equal[..., :count, :count]] > 1e-6 * np.abs(to_array(given)).max()).any():
            return True
    return False


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
