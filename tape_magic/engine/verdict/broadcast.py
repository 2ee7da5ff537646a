"""Whether a loss pairs the prediction of each row with the target of every row: (64, 1) less (64,)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.diagnosis.evidence import at_line
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.recorded_loss import RecordedLoss, keys_of
from tape_magic.results.findings import Finding, FindingKind

_ADDITIVE = frozenset({"Add", "AddN", "AddV2", "Cast", "Identity", "Maximum", "Mul", "Neg", "Relu", "Sub"})
_COMPARING = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual", "Select", "SelectV2"})
_OF_DIFFERENCES = frozenset(
    {"Abs", "Cosh", "Log", "Log1p", "Minimum", "Pow", "RealDiv", "Sqrt", "Square", *_ADDITIVE, *_COMPARING}
)
_OF_PRODUCTS = frozenset({"Softplus", *_ADDITIVE})
_JOINS = {
    "Mul": ("multiplies {} by {}", _OF_PRODUCTS),
    "Sub": ("subtracts {1} from {0}", _OF_DIFFERENCES),
    "SquaredDifference": ("subtracts {1} from {0}", _OF_DIFFERENCES),
}
"""What operations do with predictions and targets, and what a loss may go on with, element by element.

Exponentials of differences are kernels, and are not among these.
"""

_REDUCTIONS = frozenset({"Mean", "Sum"})

_NEW_AXIS = frozenset({"ExpandDims", "Reshape", "StridedSlice", "Transpose"})
"""Operations by which a program asks for an axis: whoever writes one means what follows from it."""


def look(facts: RunFacts) -> list[Finding]:
    """Return that a loss joins the prediction of each row with the target of each other row.

    It is found where predictions, which depend on what was minimised over and on data of n rows, are
    subtracted from data of n rows, or multiplied by them as in a cross-entropy, one of them of shape (n, 1)
    and the other (n,), and where all n × n results are only averaged or added. Distances, kernels and
    attention have two operands of one kind, an axis that the program made, or an operation that keeps the
    pairs apart.
    """
    recorded = facts.recorded
    if recorded is None or not any(itertools.starmap(_may_pair, recorded.operations())):
        return []
    flow, path = recorded.flow, recorded.way(facts.leaves)
    found = [entry for entry in path if _pairs(recorded, entry, facts.leaves)]
    if not found or not _only_reduced(flow, path, found, key_of(recorded.loss)):
        return []
    entry, where = found[0], recorded.evidence.where(found[0].frames)
    one, two = (_shape(flow, key) for key in entry.inputs)
    rows = max(one)
    does = _JOINS[entry.type][0].format(one, two)
    text = (
        f"{f'line {where.line}' if where and not where.file else 'the loss'} {does}: "
        f"that is {(rows, rows)}, every prediction against every target"
        f"{at_line(where) if where and where.file else ''}"
    )
    cure = f"give both the same shape: add [:, None] to the one of shape {(rows,)}"
    return [Finding(FindingKind.BROADCAST, text, {"shapes": (one, two), "rows": rows}, where, cure)]


def _may_pair(kind: str, shapes: Sequence[Any]) -> bool:
    """Return whether an operation may join (n,) and (n, 1), by what is known before it runs."""
    if kind not in _JOINS or any(shape.rank is None for shape in shapes):
        return kind in _JOINS
    one, two = sorted(shapes, key=len)
    return (len(one), len(two)) == (1, 2) and two[1] in (1, None) and one.is_compatible_with(two[:1])


def _pairs(recorded: RecordedLoss, entry: Entry, leaves: Sequence[Leaf]) -> bool:
    """Return whether an operation joins predictions (n, 1) with targets (n,), or the other way round."""
    flow = recorded.flow
    shapes = [_shape(flow, key) for key in entry.inputs]
    if entry.type not in _JOINS or sorted(map(len, shapes)) != [1, 2]:
        return False
    rows = max(shapes[0])
    if rows < 2 or set(shapes) != {(rows,), (rows, 1)} or any(_made_axis(flow, key) for key in entry.inputs):
        return False
    depends = [key in flow.downstream(keys_of(leaves)) for key in entry.inputs]
    if depends[0] == depends[1]:
        return False
    predictions = entry.inputs[depends.index(True)]
    return any(shape[:1] == (rows,) for shape in recorded.data_behind(predictions, leaves))


def _shape(flow: DataFlow, key: int) -> tuple[int, ...]:
    value = flow.value(key)
    return () if value is None else tuple(value.shape)


def _made_axis(flow: DataFlow, key: int) -> bool:
    maker = flow.makers.get(key)
    if maker is None or maker.type not in _NEW_AXIS:
        return False
    return maker.type == "Transpose" or len(_shape(flow, maker.inputs[0])) < len(_shape(flow, key))


def _only_reduced(flow: DataFlow, path: Sequence[Entry], joins: Sequence[Entry], target: int) -> bool:
    """Return whether all pairs are taken alike, element by element, until they are added or averaged."""
    pairs, sums, reduced = {entry.outputs[0] for entry in joins}, set[int](), False
    allowed = _JOINS[joins[0].type][1]
    for entry in path:
        if entry in joins or (pairs | sums).isdisjoint(entry.inputs):
            continue
        if entry.type in _REDUCTIONS:
            scalar = _shape(flow, entry.outputs[0]) == ()
            reduced = reduced or scalar
            sums.update(() if scalar else entry.outputs)
            continue
        others = [key for key in entry.inputs if key not in pairs]
        kernel = entry.type == "RealDiv" and entry.inputs[0] in others  # such as 1 / (1 + d²)
        if kernel or entry.type not in allowed or any(_shape(flow, key) for key in others):
            return False
        pairs.update(entry.outputs)
    return reduced and target not in pairs | sums
