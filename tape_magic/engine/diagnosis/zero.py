"""Why a derivative is zero by construction, and not by accident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line, too_long_reason
from tape_magic.engine.diagnosis.flow import ZERO_BY_RULE, DataFlow, Inside
from tape_magic.engine.diagnosis.graph_gradients import gave_zero
from tape_magic.engine.diagnosis.missing import MissingExplainer, without_shape_reads
from tape_magic.engine.diagnosis.replay import BackwardReplay, CannotReplay
from tape_magic.engine.internals.graphs import custom_gradient_function
from tape_magic.engine.record.entry import PY_FUNCTION, Entry
from tape_magic.engine.record.frames import gradient_of
from tape_magic.results.reasons import Cause, Reason

_LINEAR_IN_PIECES = frozenset(
    {"Abs", "LeakyRelu", "Max", "MaxPool", "MaxPool3D", "Maximum", "Min", "Minimum", "Relu", "Relu6"}
)
"""Operations whose gradients are the same all around almost every point."""


@dataclass(frozen=True, eq=False)
class _Custom:
    """A custom gradient that gave 0.

    Attributes
    ----------
    name
        The name of the function, empty where it is not known.
    results, given
        The keys of the tensors that the function returned, and the gradients that arrived at them.
    inside
        What goes on within the function.
    """

    name: str
    results: Sequence[int]
    given: Sequence[Any]
    inside: Inside


class ZeroExplainer:
    """Finds the reason for a derivative that is 0.

    Parameters
    ----------
    evidence
        The evidence of the run.
    missing
        The explainer of derivatives that stop.
    """

    def __init__(self, evidence: RunEvidence, missing: MissingExplainer) -> None:
        self._evidence, self._missing = evidence, missing

    def explain(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return why a derivative is 0 wherever it exists; ``None`` where it may be 0 by accident.

        For ``y = tf.sign(x)``: "0 wherever it exists: Sign, line 2: y = tf.sign(x)".
        """
        if not self._evidence.recorder.complete:
            return None
        (key,) = source.keys
        flow = self._evidence.flow
        path = flow.between([key], target.keys)
        if not path:
            return self._explain_opened_py_function(target, source)
        customs, within = self._custom_gradients_of_zero(path, target)
        carrying, stops = flow.follow_derivative(key, target.keys, path, stop_at_zeros=True, stop_at=customs)
        stops = [index for index in stops if id(flow.entries[index]) not in within]
        if not carrying.isdisjoint(target.keys) or not stops:
            return self._explain_closed_py_function(path) or self._explain_closed_call(path)
        if stops[0] in customs:
            return customs[stops[0]]
        first = self._missing.explain_stops(source, [index for index in stops if index not in customs])
        entry = without_shape_reads([flow.entries[index] for index in stops])[0]
        if first.cause in (Cause.CUT, Cause.INTEGER) or entry.type in ZERO_BY_RULE:
            return self._explain_rule(entry)
        if first.cause is Cause.UNKNOWN:
            return first
        return Reason(Cause.ZERO, f"0 because {first.text}", first.cure, first.operation, first.where)

    def _explain_rule(self, entry: Entry) -> Reason:
        """Return that an operation has the derivative 0 wherever it has one."""
        where, differentiated = self._evidence.where(entry.frames), gradient_of(entry.frames)
        what = entry.type
        in_pieces = differentiated.removesuffix("Grad")  # ReluGrad, where the user's own tape took the first
        if in_pieces in _LINEAR_IN_PIECES:
            what = f"{in_pieces} is linear in pieces"
        elif differentiated:
            what = f"{entry.type}, in the gradient of {differentiated}"
        text = f"0 wherever it exists: {what}{at_line(where)}"
        return Reason(Cause.ZERO, text, "", differentiated or entry.type, where)

    # -- custom gradients --------------------------------------------------------------------------

    def _custom_gradients_of_zero(
        self, path: Sequence[int], target: NamedTensors
    ) -> tuple[dict[int, Reason], set[int]]:
        """Return the custom gradients on a path that gave 0 by construction, each with its reason.

        The second are the identities of the entries within these functions.
        """
        flow = self._evidence.flow
        found: dict[int, Reason] = {}
        within: set[int] = set()
        for index in path:
            entry = flow.entries[index]
            if entry.operation is not None:
                custom = self._compiled_gradient_of_zero(entry, target)
            else:
                custom = self._gradient_of_zero(entry, index)
            reason = None if custom is None else self._explain_custom(entry, custom)
            if custom is not None and reason is not None:
                found[index] = reason
                within |= custom.inside.entries
        return found, within

    def _gradient_of_zero(self, entry: Entry, index: int) -> _Custom | None:
        """Return the custom gradient of an entry, if it gave 0 for a gradient that is not 0."""
        inside = self._evidence.flow.inside_custom(index) if _gave_zero(entry) else None
        if inside is None or entry.custom is None:
            return None
        return _Custom(entry.custom.name, entry.outputs, entry.custom.calls[-1][0], inside)

    def _compiled_gradient_of_zero(self, entry: Entry, target: NamedTensors) -> _Custom | None:
        """Return a custom gradient within a compiled function, if it gave 0 for a gradient that is not 0."""
        flow, recorder = self._evidence.flow, self._evidence.recorder
        function = custom_gradient_function(entry.type)
        if function is None or not gave_zero(entry, function[1], recorder):
            return None
        name, count = function
        results, sources = entry.inputs[:count], entry.inputs[count:]
        try:
            replay = BackwardReplay(flow, recorder, entry.outputs[:count], target.keys)
        except (CannotReplay, LookupError):
            return None
        given = [replay.gradient(key) for key in entry.outputs[:count]]
        if not any(map(_is_something, given)):
            return None
        path = [flow.entries[index] for index in flow.between(sources, results)]
        as_if = DataFlow([replace(one, taped=True) for one in path], recorder)
        return _Custom(name, results, given, Inside(as_if, list(sources), frozenset(map(id, path))))

    def _explain_custom(self, entry: Entry, custom: _Custom) -> Reason | None:
        """Return why a custom gradient gave 0; ``None`` where the function's own derivative is 0 there, too.

        Within ``tf.recompute_grad``, for ``near = tf.round(v)``: "0 wherever it exists: Round, line 4: …".
        """
        inside, flow = custom.inside, custom.inside.flow
        carrying: set[int] = set()
        stops: list[int] = []
        for source in inside.sources:
            path = flow.between([source], custom.results)
            carried, stopped = flow.follow_derivative(source, custom.results, path, stop_at_zeros=True)
            carrying |= carried
            stops += stopped
        if carrying.isdisjoint(custom.results):
            stopping = without_shape_reads([flow.entries[index] for index in stops])
            return self._explain_rule(stopping[0]) if stopping else None
        recorder = self._evidence.recorder
        try:
            replay = BackwardReplay(flow, recorder, inside.sources, custom.results, custom.given)
        except (CannotReplay, LookupError):
            return None
        if not any(map(_is_something, map(replay.gradient, inside.sources))):
            return None
        where = self._evidence.where(entry.frames)
        called = f"the custom gradient of {custom.name}" if custom.name else "a custom gradient"
        return Reason(Cause.ZERO, f"0 because {called} returns 0{at_line(where)}", "", entry.type, where)

    def _explain_closed_call(self, path: Sequence[int]) -> Reason | None:
        """Return that a call which is too long to be looked into gave 0, if one did."""
        for entry in (self._evidence.flow.entries[index] for index in path):
            if entry.too_long and _gave_zero(entry):
                where = self._evidence.where(entry.frames)
                return too_long_reason(entry, where, "the reason is not known: it may lie in ")
        return None

    # In TensorFlow 2.21, the gradient function of EagerPyFunc replaces None by zeros, since the kernel takes
    # tensors only (python/ops/script_ops.py, EagerFunc._convert).

    def _explain_opened_py_function(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return why a ``tf.py_function`` gives 0, where its inside was recorded and holds no path."""
        entry = self._py_function_around(target, source)
        if entry is None:
            return None
        where = self._evidence.where(entry.frames)
        left = self._missing.leaving.explain_output(target.name, source)
        if left is not None:
            return Reason(Cause.ZERO, f"0 because {left.text}", left.cure, entry.type, left.where)
        text = f"0 because the function of tf.py_function does not read {source.name}, or leaves TensorFlow"
        return Reason(Cause.ZERO, text + at_line(where), "", entry.type, where)

    def _py_function_around(self, target: NamedTensors, source: NamedTensors) -> Entry | None:
        """Return the first ``tf.py_function`` that takes values of the source and leads to the target."""
        flow = self._evidence.flow
        downstream, upstream = flow.downstream(source.keys), flow.upstream(target.keys)
        for entry in self._evidence.recorder.entries:
            opened = entry.within is not None
            if opened and not downstream.isdisjoint(entry.inputs) and not upstream.isdisjoint(entry.outputs):
                return entry
        return None

    def _explain_closed_py_function(self, path: Sequence[int]) -> Reason | None:
        """Return that a ``tf.py_function`` may give 0, where its inside was not recorded.

        That is so within a ``tf.function``.
        """
        for index in path:
            entry = self._evidence.flow.entries[index]
            if entry.type == PY_FUNCTION:
                where = self._evidence.where(entry.frames)
                text = f"tf.py_function gives 0 also where its function leaves TensorFlow{at_line(where)}"
                return Reason(Cause.UNKNOWN, text, "", entry.type, where)
        return None


def _gave_zero(entry: Entry) -> bool:
    """Return whether the gradient of a function gave nothing but 0 for gradients that are not 0."""
    calls = [] if entry.custom is None else entry.custom.calls
    return bool(calls) and all(
        any(map(_is_something, given)) and not any(map(_is_something, found)) for given, found in calls
    )


def _is_something(gradient: Any) -> bool:
    """Return whether a gradient has an element that is not 0."""
    return gradient is not None and Condition.of(gradient) is not Condition.ZERO
