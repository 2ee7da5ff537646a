"""Whether a loss pairs the prediction of each row with the target of every row: (64, 1) less (64,)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.diagnosis.evidence import at_line
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.verdict.facts import RunFacts
from tape_magic.engine.verdict.recorded_loss import keys_of
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
    recorded = facts.recorded
    if recorded is None or not any(itertools.starmap(_may_pair, recorded.operations())):
        return []
    flow, evidence, leaves = recorded.flow, recorded.evidence, keys_of(facts.leaves)
    path, downstream = recorded.way(facts.leaves), flow.downstream(leaves)
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
            or not _only_reduced(flow, path, entry.outputs[0], key_of(recorded.loss))
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


def _may_pair(kind: str, shapes: Sequence[Any]) -> bool:
    """Return whether an operation may subtract (n,) and (n, 1), by what is known before it runs."""
    if kind not in _DIFFERENCES or any(shape.rank is None for shape in shapes):
        return kind in _DIFFERENCES
    one, two = sorted(shapes, key=len)
    return (len(one), len(two)) == (1, 2) and two[1] in (1, None) and one.is_compatible_with(two[:1])


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


def _only_reduced(flow: DataFlow, path: Sequence[Entry], key: int, target: int) -> bool:
    """Return whether all pairs are taken alike, element by element, until they are added or averaged."""
    open_keys, reduced = {key}, False
    while open_keys:
        now = open_keys.pop()
        if _shape(flow, now) == ():
            reduced = True
            continue
        readers = [entry for entry in path if now in entry.inputs]
        if not readers or now == target:
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
