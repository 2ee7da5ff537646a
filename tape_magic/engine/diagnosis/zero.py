"""Why a derivative is zero by construction, and not by accident."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line
from tape_magic.engine.diagnosis.flow import ZERO_BY_RULE
from tape_magic.engine.diagnosis.missing import MissingExplainer
from tape_magic.engine.record.entry import PY_FUNCTION, Entry
from tape_magic.results.reasons import Cause, Reason


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
        carrying, stops = flow.follow_derivative(key, target.keys, path, stop_at_zeros=True)
        if not carrying.isdisjoint(target.keys) or not stops:
            return self._explain_closed_py_function(path)
        first = self._missing.explain_stops(source, stops)
        entry = self._missing.without_shape_reads(stops)[0]
        if first.cause in (Cause.CUT, Cause.INTEGER) or entry.type in ZERO_BY_RULE:
            where = self._evidence.where(entry.frames)
            text = f"0 wherever it exists: {entry.type}{at_line(where)}"
            return Reason(Cause.ZERO, text, "", entry.type, where)
        return Reason(Cause.ZERO, f"0 because {first.text}", first.cure, first.operation, first.where)

    # In TensorFlow 2.21, the gradient function of EagerPyFunc replaces None by zeros, since the kernel takes
    # tensors only (python/ops/script_ops.py, EagerFunc._convert).

    def _explain_opened_py_function(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return why a ``tf.py_function`` gives 0, where its inside was recorded and holds no path."""
        entry = self._py_function_around(target, source)
        if entry is None:
            return None
        where = self._evidence.where(entry.frames)
        left = self._evidence.explain_leaving(target.name, source)
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
