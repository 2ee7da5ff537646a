"""Whether a loss pairs the prediction of each row with the target of every row: (64, 1) less (64,)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.not_finite import computed_loss
from tape_magic.results.findings import Finding, FindingKind

_DIFFERENCES = frozenset({"Sub", "SquaredDifference"})
_ELEMENTWISE = frozenset({"Abs", "Cast", "Identity", "Mul", "Neg", "Pow", "Square"})
_REDUCTIONS = frozenset({"Mean", "Sum"})

_NEW_AXIS = frozenset({"ExpandDims", "Reshape", "StridedSlice", "Transpose"})
"""Operations by which a program asks for an axis: whoever writes one means what follows from it."""


def look(facts: RunFacts) -> list[Finding]:
    """Return that the difference of predictions and targets has each of one with each of the other.

    It is found where predictions, which depend on what was minimised over and on data of n rows, are
    subtracted from data of n rows, one of them of shape (n, 1) and the other (n,), and where all n × n
    differences are only averaged or added. Distances, kernels and attention have two operands of one kind, an
    axis that the program made, or an operation that keeps the pairs apart.
    """
    if facts.probe is None or facts.divergence is not None:
        return []
    record = facts.probe.record()
    if not any(map(_may_pair, record.recorder.entries)):
        return []
    return _found(facts, record)


def _may_pair(entry: Entry) -> bool:
    """Return whether an entry, or an operation of its graph, may subtract (n,) and (n, 1); costs no time."""
    if entry.graph is None:
        return entry.type in _DIFFERENCES
    for operation in entry.graph.get_operations():
        if operation.type in _DIFFERENCES:
            ranks = [one.shape.rank for one in operation.inputs]
            if None in ranks or sorted(ranks) == [1, 2]:
                return True
    return False


def _found(facts: RunFacts, record: LossRecord) -> list[Finding]:
    evidence = RunEvidence(record.recorder, facts.text)
    loss = computed_loss(record, evidence)
    if loss is None:
        return []
    flow = evidence.flow
    leaves = [key for leaf in facts.leaves for key in NamedTensors(leaf.name, (leaf.value,)).keys]
    targets = NamedTensors(facts.name, (loss,)).keys
    downstream = flow.downstream(leaves)
    path = [flow.entries[index] for index in flow.between(leaves, targets)]
    for entry in path:
        shapes = [_shape(flow, key) for key in entry.inputs]
        if entry.type not in _DIFFERENCES or sorted(map(len, shapes)) != [1, 2]:
            continue
        one, two = shapes
        rows = max(one)
        depends = [key in downstream for key in entry.inputs]
        if (
            rows < 2
            or {one, two} != {(rows,), (rows, 1)}
            or depends[0] == depends[1]
            or any(_made_axis(flow, key) for key in entry.inputs)
            or not _predicts(flow, entry.inputs[depends.index(True)], leaves, downstream, rows)
            or not _only_reduced(flow, path, entry.outputs[0], targets)
        ):
            continue
        where = evidence.where(entry.frames)
        line = f"line {where.line} subtracts" if where and not where.file else "the loss subtracts"
        text = (
            f"{line} {_word(two)} from {_word(one)}: that is {_word((rows, rows))}, "
            f"every prediction against every target{at_line(where) if where and where.file else ''}"
        )
        cure = "give both the same shape: add [:, None] to the one of shape " + _word((rows,))
        return [Finding(FindingKind.BROADCAST, text, {"shapes": (one, two), "rows": rows}, where, cure)]
    return []


def _shape(flow: DataFlow, key: int) -> tuple[int, ...]:
    value = flow.value(key)
    return () if value is None else tuple(value.shape)


def _word(shape: tuple[int, ...]) -> str:
    return str(shape)


def _made_axis(flow: DataFlow, key: int) -> bool:
    maker = flow.makers.get(key)
    return maker is not None and maker.type in _NEW_AXIS


def _predicts(flow: DataFlow, key: int, leaves: Sequence[int], downstream: set[int], rows: int) -> bool:
    """Return whether a tensor is computed from data of so many rows, and not from variables alone."""
    upstream = flow.upstream([key])
    return any(
        one not in downstream and _shape(flow, one)[:1] == (rows,) and _is_number(flow, one)
        for entry in flow.entries
        if not upstream.isdisjoint(entry.outputs) and not downstream.isdisjoint(entry.outputs)
        for one in entry.inputs
    )


def _is_number(flow: DataFlow, key: int) -> bool:
    value: Any = flow.value(key)
    return bool(value is not None and (value.dtype.is_floating or value.dtype.is_integer))


def _only_reduced(flow: DataFlow, path: Sequence[Entry], key: int, targets: Sequence[int]) -> bool:
    """Return whether all pairs are taken alike, element by element, until they are added or averaged."""
    open_keys, reduced = {key}, False
    while open_keys:
        now = open_keys.pop()
        if _shape(flow, now) == ():
            reduced = True
            continue
        readers = [entry for entry in path if now in entry.inputs]
        if not readers or now in targets:
            return False
        for entry in readers:
            pairs = len(_shape(flow, now)) == 2
            others = [one for one in entry.inputs if one != now]
            if entry.type in _REDUCTIONS:
                pass
            elif not pairs or entry.type not in _ELEMENTWISE or any(_shape(flow, one) for one in others):
                return False
            open_keys.update(entry.outputs)
    return reduced
