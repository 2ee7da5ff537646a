"""Which operation made the loss or a gradient infinite or NaN, at the step at which a run diverged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.diagnosis import Diagnosis
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.verdict.facts import Probe, RunFacts
from tape_magic.engine.verdict.recorded_loss import RecordedLoss
from tape_magic.results.findings import Finding, FindingKind
from tape_magic.results.minimum import Divergence
from tape_magic.results.reasons import Cause, Reason

RAN_AWAY = 1e6
"""By how much the losses of a run have grown where it is the steps that made them infinite."""


def look(facts: RunFacts) -> list[Finding]:
    """Return which operation was the first to make values that are not finite; nothing where data were.

    For ``y = tf.math.log(x)`` at −0.12: "y became nan at step 1: Log is nan for −0.12, line 1: …".
    """
    lost = facts.divergence
    if lost is None or lost.cause or _ran_away(facts):
        return []
    if facts.probe is None:
        sentence = f"not looked into: {facts.unsafe}"
        return [Finding(FindingKind.NOT_FINITE, sentence, {"step": lost.step}, facts.unsafe_line)]
    batch = facts.probe.fail()
    if not all(np.isfinite(value).all() for value in facts.probe.values()):
        return []  # the step itself went there, and no operation of the loss
    found = _reason(facts, facts.probe, lost, batch)
    if found is None:
        return []
    what, reason = found
    step = f"at step {lost.step:,}" if lost.step else "at the start"
    return [
        Finding(
            FindingKind.NOT_FINITE,
            f"{what} {step}: {reason.text}",
            {"step": lost.step, "operation": reason.operation},
            reason.where,
            reason.cure,
        )
    ]


def _reason(
    facts: RunFacts, probe: Probe, lost: Divergence, batch: Sequence[Any] | None
) -> tuple[str, Reason] | None:
    """Return what was not finite, and why; ``None`` where an evaluation does not tell."""
    import tensorflow as tf

    gradients = [] if lost.what == "loss" else probe.evaluate(batch).gradients
    recorded = RecordedLoss(probe.record(batch), facts.text, lambda: facts.clock.left)
    if recorded.loss is None:
        return None
    target, diagnosis = NamedTensors(facts.name, (recorded.loss,)), Diagnosis(recorded.evidence)
    if lost.what == "loss":
        made = diagnosis.explain_value(target)
        if made is None or not made.operation:
            return None
        text = made.text.partition(": ")[2]  # what comes before says the same as the report
        became = "became" if lost.step else "is"
        word = str(lost.loss).replace("-", "−")
        return f"{facts.name} {became} {word}", replace(made, text=text)
    bad = [
        (NamedTensors(leaf.name, (leaf.value,)), tf.convert_to_tensor(gradient))
        for leaf, gradient in zip(facts.leaves, gradients, strict=True)
        if not np.isfinite(gradient).all()
    ]
    sources = [source for source, _ in bad]
    reasons = diagnosis.explain(target, sources, [gradient for _, gradient in bad])
    for source, why in zip(sources, reasons, strict=True):
        if why is not None and why.cause is Cause.NOT_FINITE and why.operation:
            return f"the gradient by {source.name} is not finite", why
    return None


def _ran_away(facts: RunFacts) -> bool:
    """Return whether the losses grew until they, or what makes them, had no place in the dtype."""
    sizes = np.abs(facts.losses[np.isfinite(facts.losses)])
    return len(sizes) > 1 and bool(sizes[-1] > RAN_AWAY * max(1.0, float(sizes[0])))
