"""Why a derivative that is 0 is so by construction, and does not only happen to be."""

from __future__ import annotations

from collections.abc import Sequence

from tape_magic.engine.diagnosis.evidence import Evidence, NamedTensors, at
from tape_magic.engine.diagnosis.flow import ZERO_BY_RULE
from tape_magic.engine.diagnosis.missing import Missing
from tape_magic.engine.record.entry import PY_FUNCTION
from tape_magic.results.reasons import Cause, Reason


class Zeros:
    """Reasons for what is 0.

    Parameters
    ----------
    evidence
        Of the run.
    missing
        What tells where a derivative stops.
    """

    def __init__(self, evidence: Evidence, missing: Missing) -> None:
        self._evidence, self._missing = evidence, missing

    def reason(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Why a derivative that is 0 is so wherever it exists; ``None`` where it may be otherwise."""
        if not self._evidence.recorder.complete:
            return None
        (key,) = source.keys
        path = self._evidence.flow.between([key], target.keys)
        if not path:
            return self._of_function(target, source)
        carrying, stops = self._evidence.flow.carried(key, target.keys, path, zeros=True)
        if not carrying.isdisjoint(target.keys) or not stops:
            return self._of_closed(path)
        first = self._missing.stopped(source, stops)
        entry = self._missing.telling(stops)[0]
        where = self._evidence.where(entry.frames)
        if first.cause in (Cause.CUT, Cause.INTEGER) or entry.type in ZERO_BY_RULE:
            return Reason(Cause.ZERO, f"0 wherever it exists: {entry.type}{at(where)}", "", entry.type, where)
        return Reason(Cause.ZERO, f"0 because {first.text}", first.cure, first.operation, first.where)

    def _of_function(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Where no way leads through a ``tf.py_function``, the zeros that it passes on all the same."""
        (key,) = source.keys
        after, before = self._evidence.flow.after([key]), self._evidence.flow.before(target.keys)
        for entry in self._evidence.recorder.entries:
            if entry.within is None or after.isdisjoint(entry.inputs) or before.isdisjoint(entry.outputs):
                continue
            where = self._evidence.where(entry.frames)
            left = self._evidence.left_by_text(target.name, source)
            if left is not None:
                return Reason(Cause.ZERO, f"0 because {left.text}", left.cure, entry.type, left.where)
            text = (
                f"0 because the function of tf.py_function does not read {source.name}, or leaves TensorFlow"
            )
            return Reason(Cause.ZERO, text + at(where), "", entry.type, where)
        return None

    def _of_closed(self, path: Sequence[int]) -> Reason | None:
        """Of a ``tf.py_function`` that could not be looked into, as within a ``tf.function``."""
        for index in path:
            entry = self._evidence.flow.entries[index]
            if entry.type == PY_FUNCTION:
                where = self._evidence.where(entry.frames)
                text = f"tf.py_function gives 0 also where its function leaves TensorFlow{at(where)}"
                return Reason(Cause.UNKNOWN, text, "", entry.type, where)
        return None
