"""Values that reach an output only by what a Keras metric counts of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.internals.operations import key_of_variable
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.static_analysis.statements import names_read, syntax_tree
from tape_magic.engine.values.introspection import attributes_of, is_a
from tape_magic.engine.values.objects import is_users_own
from tape_magic.engine.values.reach import reachable
from tape_magic.engine.values.tensors import tf_variable


def metric_handles(evidence: RunEvidence) -> frozenset[int]:
    """Return the keys of the variables in which the metrics count that the user's text reaches."""
    import keras

    text = evidence.text
    tree = syntax_tree(text.filename, text.lines) if text.filename else None
    names = names_read(tree) if tree is not None else set()
    values = [text.namespace[name] for name in names if name in text.namespace]
    queue: list[Any] = list(reachable(values, text.namespace))
    queue += [held for value in queue if is_users_own(type(value)) for held in attributes_of(value).values()]
    return frozenset(
        key_of_variable(tf_variable(variable))
        for metric in queue
        if is_a(metric, keras.metrics.Metric)
        for variable in metric.variables
    )


def is_only_counted(
    evidence: RunEvidence, entries: Iterable[Entry], target: NamedTensors, handles: frozenset[int]
) -> bool:
    """Return whether what some operations give reaches a target by variables of some keys only."""
    if not handles:
        return False
    reached = {key for entry in entries for key in (*entry.outputs, entry.changes)} - handles
    for entry in evidence.flow.entries:
        if handles.isdisjoint((*entry.inputs, entry.changes)) and not reached.isdisjoint(entry.inputs):
            reached.update(entry.outputs, () if entry.changes is None else (entry.changes,))
    return reached.isdisjoint(target.keys)
