"""Why a derivative is ``None``, zero or not finite, from the record of the one run.

The user's code does not run again. TensorFlow's own operations may, where a value was not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.elementwise import is_elementwise
from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.diagnosis.missing import MissingExplainer
from tape_magic.engine.diagnosis.not_finite import NotFiniteExplainer
from tape_magic.engine.diagnosis.refusal import RefusalExplainer
from tape_magic.engine.diagnosis.units import UnitsExplainer
from tape_magic.engine.diagnosis.zero import ZeroExplainer
from tape_magic.results.reasons import Cause, Reason


class Diagnosis:
    """The reasons for derivatives of one run; hands each to the explainer of its condition.

    Parameters
    ----------
    evidence
        The evidence of the run.
    """

    def __init__(self, evidence: RunEvidence) -> None:
        self._evidence = evidence
        self._missing = MissingExplainer(evidence)
        self._zero = ZeroExplainer(evidence, self._missing)
        self._not_finite = NotFiniteExplainer(evidence)
        self._units = UnitsExplainer(evidence)
        self._refusal = RefusalExplainer(evidence, self._missing)

    def explain(
        self, target: NamedTensors, sources: Sequence[NamedTensors], derivatives: Sequence[Any]
    ) -> list[Reason | None]:
        """Return, for each source, why the derivative of a target by it is as it is.

        A derivative that is regular has no reason, and costs one pass over it.

        Parameters
        ----------
        target, sources
            The output, and what it was differentiated by, one tensor or variable each.
        derivatives
            The derivative by each source; ``None`` where there is none.
        """
        conditions = [Condition.of(derivative) for derivative in derivatives]
        if set(conditions) <= {Condition.REGULAR}:
            return [None] * len(derivatives)
        self._evidence.keep_target(target)
        not_finite = [
            source
            for source, condition in zip(sources, conditions, strict=True)
            if condition is Condition.NOT_FINITE
        ]
        made = dict(zip(not_finite, self._not_finite.explain(target, not_finite), strict=True))
        reasons: list[Reason | None] = []
        for source, condition in zip(sources, conditions, strict=True):
            if condition is Condition.MISSING:
                reasons.append(self.explain_missing(target, source))
            elif condition is Condition.ZERO:
                # The derivative is 0 also where the value that would have another one is not finite itself.
                reasons.append(self.explain_zero(target, source) or self.explain_value(target))
            else:
                reasons.append(made.get(source))
        return reasons

    def explain_missing(self, target: NamedTensors, source: NamedTensors) -> Reason:
        """Return why there is no derivative of a target by a source of one tensor or variable."""
        return self._missing.explain(target, source)

    def explain_zero(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return why a derivative is 0 wherever it exists; ``None`` where it may be 0 by accident."""
        return self._zero.explain(target, source)

    def explain_value(self, target: NamedTensors) -> Reason | None:
        """Return which operation made a target itself infinite or NaN; ``None`` where it is finite."""
        self._evidence.keep_target(target)
        return self._not_finite.explain_value(target)

    def explain_units(self, target: NamedTensors, sources: Sequence[NamedTensors]) -> list[str]:
        """Return, for sources by which the derivative is 0 without a reason, which units are off."""
        return self._units.explain(target, sources)

    def explain_no_tensor(self, name: str, source: NamedTensors, plain: Reason) -> Reason:
        """Return where an output that is no tensor left TensorFlow; `plain` where the text does not tell."""
        found = self._missing.leaving.explain_output(name, source)
        if found is None:
            left = ": it left TensorFlow" if self._missing.leaving.exits(source) else ""
            return Reason(plain.cause, plain.text + left, plain.cure, plain.operation, plain.where)
        text = f"{plain.text.partition(':')[0]}: {found.text}"
        return Reason(Cause.LEFT, text, found.cure, found.operation, found.where)

    def is_elementwise(self, target: NamedTensors, source: NamedTensors, derivative: Any) -> bool:
        """Return whether a gradient is the derivative of each element by its own; False where not known."""
        return is_elementwise(self._evidence, target, source, derivative)

    # -- errors that TensorFlow raised -------------------------------------------------------------

    def explain_refusal(self, target: NamedTensors, source: NamedTensors, refusal: Reason) -> Reason:
        """Return which operation has no gradient, where TensorFlow raised an error for all sources."""
        return self._refusal.explain(target, source, refusal)

    def differentiate_alone(
        self, target: NamedTensors, source: NamedTensors, refusal: Reason
    ) -> tuple[Any, Reason | None]:
        """Return the derivative by one source and its reason, where TensorFlow raised for all together.

        `refusal` is the error as a reason.
        """
        self._evidence.keep_target(target)
        derivative, reason = self._refusal.differentiate(target, source, refusal)
        if reason is None:
            (reason,) = self.explain(target, [source], [derivative])
        return derivative, reason
