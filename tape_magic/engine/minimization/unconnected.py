"""Why the loss does not depend on some of what it is minimised over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tape_magic.engine.diagnosis.diagnosis import Diagnosis
from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.program.program import Text
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.leaves import Leaf
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.results.reasons import Cause

MOST_NAMES = 8


@dataclass(frozen=True)
class Unconnected:
    """Leaves that the loss does not depend on, for one reason.

    Attributes
    ----------
    names
        The names of the leaves.
    reason
        The reason in one clause; empty where it is not known.
    """

    names: tuple[str, ...]
    reason: str

    @property
    def listed(self) -> str:
        """The names, as many as there is room for."""
        more = len(self.names) - MOST_NAMES
        return ", ".join(self.names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def explained(
    record: LossRecord, text: Text, loss_name: str | None, leaves: Sequence[Leaf]
) -> list[Unconnected]:
    """Return the leaves without a gradient, grouped by reason.

    Nothing of the program's Python runs again, but TensorFlow's operations may.

    Parameters
    ----------
    record
        An evaluation of the loss.
    text
        The user's code.
    loss_name
        The loss's name on the line; ``None`` for the last expression.
    leaves
        The leaves that the loss has no gradient by.
    """
    record.recorder.keep(record.loss)
    target = NamedTensors(loss_name or LAST_EXPRESSION, (record.loss,))
    diagnosis = Diagnosis(RunEvidence(record.recorder, text))
    by_reason: dict[str, list[str]] = {}
    for leaf in leaves:
        reason = _reason(diagnosis, target, NamedTensors(leaf.name, (leaf.value,)))
        by_reason.setdefault(reason, []).append(leaf.name)
    return [Unconnected(tuple(names), reason) for reason, names in by_reason.items()]


def _reason(diagnosis: Diagnosis, target: NamedTensors, source: NamedTensors) -> str:
    try:
        reason = diagnosis.explain_missing(target, source)
    except Exception:  # whatever the record holds, the run goes on without a reason
        return ""
    if reason.cause is Cause.UNKNOWN:
        return ""
    if reason.cause is Cause.NOT_READ and reason.where is None:
        return str(reason).partition(f"does not read {source.name}: ")[2] or "never read"
    return str(reason)
