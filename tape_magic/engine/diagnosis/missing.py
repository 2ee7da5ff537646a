"""Why there is no derivative of one thing by another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.diagnosis.evidence import Evidence, NamedTensors, at, unknown
from tape_magic.engine.internals.operations import is_registered
from tape_magic.engine.record.entry import PY_FUNCTION, Entry, writes
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.leaves import items_of
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable
from tape_magic.results.reasons import Cause, Reason, Where

SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_STOPPING = frozenset({"StopGradient", "PreventGradient"})
_PYTHON = frozenset({"PyFunc", "PyFuncStateless"})
ONLY_ONCE = Reason(
    Cause.UNKNOWN,
    "tf.py_function can be differentiated only once in a run",
    "write it in TensorFlow, or take --jvp",
)
_ASSIGNING = {
    "AssignAddVariableOp": "{0}_new = {0} + …",
    "AssignSubVariableOp": "{0}_new = {0} - …",
    "AssignVariableOp": "{0}_new = …",
    "ResourceStridedSliceAssign": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterUpdate": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterNdUpdate": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterAdd": "tf.tensor_scatter_nd_add({0}, indices, values)",
    "ResourceScatterNdAdd": "tf.tensor_scatter_nd_add({0}, indices, values)",
}
"""How else to write what changes a variable."""


class Missing:
    """Reasons for what is ``None``.

    Parameters
    ----------
    evidence
        Of the run.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def reason(self, target: NamedTensors, source: NamedTensors) -> Reason:
        """Why there is no derivative of a target by a source that is one tensor or variable."""
        if not self._evidence.recorder.complete:
            return unknown("not every operation could be followed")
        (key,) = source.keys
        path = self._evidence.flow.between([key], target.keys)
        if not path:
            return self._not_read(target, source)
        carrying, stops = self._evidence.flow.carried(key, target.keys, path)
        if not carrying.isdisjoint(target.keys):
            return self._undecided(target, source, path)
        if target.name.startswith("∂") and all(one.type in SHAPES for one in self.telling(stops)):
            return _independent(target, source)
        return self.stopped(source, stops)

    def _not_read(self, target: NamedTensors, source: NamedTensors) -> Reason:
        if not target.name.startswith("∂"):
            left = self._left(target, source)
            if left is not None:
                return left
            older = self._older(target, source)
            if older is not None:
                return older
            return Reason(Cause.NOT_READ, f"{_output(target.name)} does not read {source.name}")
        flow = self._evidence.flow
        if any(flow.entries[index].type == PY_FUNCTION for index in flow.leading(target.keys)):
            return ONLY_ONCE
        return _independent(target, source)

    def _left(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Where a value left TensorFlow, if the target reads one that came from outside during the run."""
        recorder = self._evidence.recorder
        before = self._evidence.flow.before(target.keys)
        made = {key for entry in self._evidence.flow.entries for key in entry.outputs}
        outside = [
            key
            for key in before
            if key > recorder.start and key not in made and recorder.tensor(key) is not None
        ]
        return self._evidence.left_by_text(target.name, source) if outside else None

    def _older(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Another variable or tensor of the source's kind that the target reads in its place."""
        before = self._evidence.flow.before(target.keys)
        (mine,) = source.tensors
        for name, value in list(self._evidence.text.namespace.items()):
            if name.startswith("_") or not is_a(value, list | tuple | dict):
                continue
            for key, item in items_of(value):
                if not (is_variable(item) or is_tensor(item)) or item is mine:
                    continue
                tensor = tf_variable(item) if is_variable(item) else item
                number = NamedTensors("", (item,)).keys[0]
                if number in before and tensor.shape == mine.shape and tensor.dtype == mine.dtype:
                    place = f"{name}[{key!r}]"
                    text = f"{_output(target.name)} does not read {source.name}: it reads {place}, "
                    if _same_name(tensor, source.name):
                        text += f"which was called that before {source.name} was bound anew"
                    else:
                        text += "another object"
                    return Reason(Cause.NOT_READ, text, f"make {name} again from the new {source.name}")
        return None

    def stopped(self, source: NamedTensors, stops: Sequence[int]) -> Reason:
        """Why a derivative by a source stops at the operations at some positions."""
        reasons = [self.stop(entry, source) for entry in self.telling(stops)]
        distinct = list({reason.text: reason for reason in reasons}.values())
        first = distinct[0]
        if len(distinct) == 1:
            return first
        more = "; also ".join(reason.text for reason in distinct[:3])
        rest = f", and {len(distinct) - 3} more" if len(distinct) > 3 else ""
        return Reason(first.cause, more + rest, first.cure, first.operation, first.where)

    def telling(self, stops: Sequence[int]) -> list[Entry]:
        """The entries at some positions, without those that read only a shape if there are others."""
        entries = [self._evidence.flow.entries[index] for index in stops]
        return [entry for entry in entries if entry.type not in SHAPES] or entries

    def stop(self, entry: Entry, source: NamedTensors) -> Reason:
        """Why a derivative stops at an operation."""
        where = self._evidence.where(entry.frames)
        kind = entry.type

        def reason(cause: Cause, text: str, cure: str = "") -> Reason:
            return Reason(cause, f"{text}{at(where)}", cure, kind, where)

        if writes(kind):
            return reason(Cause.STATE, "a variable's state carries no derivative", _functional(kind, where))
        if kind == "ReadVariableOp" and not entry.taped and self._read_for_another(entry):
            cure = _functional("AssignVariableOp", where)
            return reason(Cause.STATE, "a variable's state carries no derivative", cure)
        if kind in _STOPPING or (not entry.taped and self._read_to_stop(entry)):
            return reason(Cause.STOPPED, "tf.stop_gradient")
        if not entry.taped:
            return reason(Cause.STOPPED, "not recorded")
        if kind in _PYTHON:
            return reason(Cause.LEFT, "leaves TensorFlow", "compute it with TensorFlow's operations")
        if entry.custom is not None:
            return reason(Cause.CUSTOM, f"the custom gradient of {entry.custom.name} returns None")
        outputs = [self._evidence.recorder.tensor(key) for key in entry.outputs]
        if kind == "Cast" and outputs and outputs[0] is not None:
            return reason(Cause.INTEGER, f"cast to {outputs[0].dtype.name}")
        if kind == "AsString":
            return reason(Cause.INTEGER, "made a string")
        if kind in SHAPES:
            return reason(Cause.NOT_READ, f"only the shape of {source.name} is read")
        if not is_registered(kind):
            return reason(Cause.UNREGISTERED, f"no gradient is registered for {kind}")
        return reason(Cause.CUT, f"cut at {kind}")

    def _read_to_stop(self, entry: Entry) -> bool:
        """Whether an entry only gave ``tf.stop_gradient`` the value of a variable."""
        return entry.type == "ReadVariableOp" and any(
            other.type in _STOPPING and not set(entry.outputs).isdisjoint(other.inputs)
            for other in self._evidence.flow.entries
        )

    def _read_for_another(self, entry: Entry) -> bool:
        """Whether an entry only gave another variable the value of one."""
        return any(
            other.type == "AssignVariableOp" and not set(entry.outputs).isdisjoint(other.inputs)
            for other in self._evidence.flow.entries
        )

    def _undecided(self, target: NamedTensors, source: NamedTensors, path: Sequence[int]) -> Reason:
        unsure = [index for index in path if self._evidence.flow.unsure(index)]
        for index in unsure:
            where = self._evidence.where(self._evidence.flow.entries[index].frames)
            if where is not None:
                kind = self._evidence.flow.entries[index].type
                name = "a custom gradient" if kind.startswith("CustomGradient") else kind
                text = f"it may be {name}, {where}, which could not be looked into"
                return Reason(Cause.UNKNOWN, f"the reason is not known: {text}", "", kind, where)
        (key,) = source.keys
        if any(key in entry.outputs for entry in self._evidence.flow.entries):
            name = _output(target.name)
            return unknown(f"perhaps {name} was computed before {source.name} was assigned, and watched")
        return unknown("the operations on the way all have a gradient")


def _independent(target: NamedTensors, source: NamedTensors) -> Reason:
    return Reason(Cause.NOT_READ, f"{target.name} does not depend on {source.name}")


def _output(name: str) -> str:
    return "the output" if name == "_" else name


def _same_name(tensor: Any, name: str) -> bool:
    return str(getattr(tensor, "name", "")).removesuffix(":0") == name if is_variable(tensor) else False


def _functional(kind: str, where: Where | None) -> str:
    text = where.text if where else ""
    if kind == "AssignVariableOp" and "Variable(" in text:
        return "leave out tf.Variable()"
    if kind not in _ASSIGNING:
        return "compute a new tensor"
    name = re.search(r"([^\W\d]\w*)(\[.*?\])?\.(assign|scatter)", text)
    return f"compute a new tensor, {_ASSIGNING[kind].format(name.group(1) if name else 'x')}"
