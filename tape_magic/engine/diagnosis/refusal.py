"""Why TensorFlow refused to differentiate: the operation on the path that made it raise."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line
from tape_magic.engine.diagnosis.missing import MissingExplainer
from tape_magic.engine.diagnosis.replay import BackwardReplay, CannotReplay
from tape_magic.engine.diagnosis.singular_points import SINGULAR_MATRIX
from tape_magic.engine.internals.operations import is_registered
from tape_magic.engine.record.entry import PY_FUNCTION, Entry
from tape_magic.results.reasons import Cause, Reason


class RefusalExplainer:
    """Finds the operation for which TensorFlow raised an error while it differentiated.

    Parameters
    ----------
    evidence
        The evidence of the run.
    missing
        The explainer of derivatives that stop.
    """

    def __init__(self, evidence: RunEvidence, missing: MissingExplainer) -> None:
        self._evidence, self._missing = evidence, missing

    def explain(self, target: NamedTensors, source: NamedTensors, refusal: Reason) -> Reason:
        """Return which operation between source and target TensorFlow refused; else the refusal itself.

        For ``y = tf.image.adjust_saturation(x, 2.0)``: "no gradient is registered for AdjustSaturation,
        line 2: y = tf.image.adjust_saturation(x, 2.0)".
        """
        (key,) = source.keys
        flow = self._evidence.flow
        for entry in (flow.entries[index] for index in flow.between([key], target.keys)):
            if refusal.cause is not Cause.UNREGISTERED:
                if entry.type == refusal.operation:
                    return self._explain_failure(entry, refusal)
            elif entry.custom is None and not is_registered(entry.type):
                return self._missing.explain_stop(entry, source)
        return refusal

    def differentiate(
        self, target: NamedTensors, source: NamedTensors, refusal: Reason
    ) -> tuple[Any, Reason | None]:
        """Return the derivative by one source, or else the reason why there is none.

        A tape raises for all sources together if the path of one has an operation without a gradient. The
        replay takes one source at a time.
        """
        (key,) = source.keys
        flow, recorder = self._evidence.flow, self._evidence.recorder
        try:
            return BackwardReplay(flow, recorder, [key], target.keys).gradient(key), None
        except LookupError:
            return None, self.explain(target, source, refusal)
        except CannotReplay as error:
            if error.entry is not None and error.entry.type != PY_FUNCTION:
                return None, self._explain_failure(error.entry, refusal)
            return None, self.explain(target, source, refusal)

    def _explain_failure(self, entry: Entry, refusal: Reason) -> Reason:
        """Return that TensorFlow could not compute the gradient of an operation from its values."""
        where = self._evidence.where(entry.frames)
        message = refusal.text.rstrip(".")
        cure = SINGULAR_MATRIX if "invertible" in message or "Cholesky" in message else ""
        text = f"the gradient of {entry.type} fails ({message}){at_line(where)}"
        return Reason(Cause.CUT, text, cure, entry.type, where)
