"""Whether a loss that takes logits is given probabilities, so that a softmax is taken twice."""

from __future__ import annotations

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.not_finite import computed_loss
from tape_magic.results.findings import Finding, FindingKind

_LOSSES = frozenset({"SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"})
"""Operations whose first input are logits."""

_PROBABILITIES = frozenset({"Sigmoid", "Softmax"})
_PASSING = frozenset({"Cast", "EnsureShape", "ExpandDims", "Identity", "Reshape", "Squeeze"})


def look(facts: RunFacts) -> list[Finding]:
    """Return that the logits of a cross-entropy are the result of a softmax or of a sigmoid.

    Nothing but a change of shape or of dtype may lie between: probabilities that are scaled are logits of
    their own, and the softmax of a log-softmax is the same softmax.
    """
    if facts.probe is None or facts.divergence is not None:
        return []
    record = facts.probe.record()
    if not any(map(_may_be_twice, record.recorder.entries)):
        return []
    return _found(facts, record)


def _may_be_twice(entry: Entry) -> bool:
    """Return whether an entry, or an operation of its graph, is such a loss; costs no time."""
    if entry.graph is None:
        return entry.type in _LOSSES
    kinds = {operation.type for operation in entry.graph.get_operations()}
    return not kinds.isdisjoint(_LOSSES) and not kinds.isdisjoint(_PROBABILITIES)


def _found(facts: RunFacts, record: LossRecord) -> list[Finding]:
    evidence = RunEvidence(record.recorder, facts.text)
    loss = computed_loss(record, evidence)
    if loss is None:
        return []
    flow = evidence.flow
    leaves = [key for leaf in facts.leaves for key in NamedTensors(leaf.name, (leaf.value,)).keys]
    for index in flow.between(leaves, NamedTensors(facts.name, (loss,)).keys):
        entry = flow.entries[index]
        source = _maker(flow, entry.inputs[0]) if entry.type in _LOSSES else None
        if source is None or source.type not in _PROBABILITIES:
            continue
        where = evidence.where(entry.frames)
        text = f"the loss takes logits, and is given the probabilities of a {source.type.lower()}"
        made = evidence.where(source.frames)
        cure = f"drop the {source.type.lower()}" + (f" of line {made.line}" if made and not made.file else "")
        evident = {"operation": entry.type, "activation": source.type}
        return [Finding(FindingKind.SOFTMAX_TWICE, text + at_line(where), evident, where, cure)]
    return []


def _maker(flow: DataFlow, key: int) -> Entry | None:
    """Return the entry that computed a tensor, but for its shape and dtype."""
    maker = flow.makers.get(key)
    while maker is not None and maker.type in _PASSING:
        maker = flow.makers.get(maker.inputs[0])
    return maker
