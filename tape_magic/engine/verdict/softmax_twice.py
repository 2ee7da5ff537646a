"""Whether a loss that takes logits is given probabilities, so that a softmax is taken twice."""

from __future__ import annotations

from tape_magic.engine.diagnosis.evidence import at_line
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.results.findings import Finding, FindingKind

_LOSSES = frozenset({"SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"})
"""Operations whose first input are logits."""

_SIGMOID_LOSS = "Log1p"
"""The operation by which ``sigmoid_cross_entropy_with_logits`` is known: it has none of its own, and takes
``log1p(exp(−|x|))`` of logits x, where −|x| may be a choice between −x and x."""

_PROBABILITIES = frozenset({"Sigmoid", "Softmax"})
_PASSING = frozenset({"Cast", "EnsureShape", "ExpandDims", "Identity", "Reshape", "Squeeze"})


def look(facts: RunFacts) -> list[Finding]:
    """Return that the logits of a cross-entropy are the result of a softmax or of a sigmoid.

    Nothing but a change of shape or of dtype may lie between: probabilities that are scaled are logits of
    their own, and the softmax of a log-softmax is the same softmax.
    """
    recorded = facts.recorded
    if recorded is None:
        return []
    kinds = {kind for kind, _ in recorded.operations()}
    if kinds.isdisjoint({*_LOSSES, _SIGMOID_LOSS}) or kinds.isdisjoint(_PROBABILITIES):
        return []
    flow, evidence = recorded.flow, recorded.evidence
    for entry in recorded.way(facts.leaves):
        logits = _logits(flow, entry)
        source = None if logits is None else _maker(flow, logits)
        if source is None or source.type not in _PROBABILITIES:
            continue
        where = evidence.where(entry.frames)
        text = f"the loss takes logits, and is given the probabilities of a {source.type.lower()}"
        made = evidence.where(source.frames)
        cure = f"drop the {source.type.lower()}" + (f" of line {made.line}" if made and not made.file else "")
        name = entry.type if entry.type in _LOSSES else "sigmoid_cross_entropy_with_logits"
        evident = {"operation": name, "activation": source.type}
        return [Finding(FindingKind.SOFTMAX_TWICE, text + at_line(where), evident, where, cure)]
    return []


def _logits(flow: DataFlow, entry: Entry) -> int | None:
    """Return the key of the logits that an operation is given; ``None`` if it is no part of such a loss."""
    if entry.type in _LOSSES:
        return entry.inputs[0]
    exponential = flow.makers.get(entry.inputs[0]) if entry.type == _SIGMOID_LOSS else None
    below = flow.makers.get(exponential.inputs[0]) if exponential and exponential.type == "Exp" else None
    if below is None:
        return None
    chosen = below.type in ("Select", "SelectV2")
    made = flow.makers.get(below.inputs[1 if chosen else 0])
    if chosen and made and made.type == "Neg" and made.inputs == below.inputs[2:]:
        return below.inputs[-1]
    return made.inputs[0] if below.type == "Neg" and made and made.type == "Abs" else None


def _maker(flow: DataFlow, key: int) -> Entry | None:
    """Return the entry that computed a tensor, but for its shape and dtype."""
    maker = flow.makers.get(key)
    while maker is not None and maker.type in _PASSING:
        maker = flow.makers.get(maker.inputs[0])
    return maker
