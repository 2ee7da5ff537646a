"""Why a derivative is ``None``: the path from source to target that is cut, or is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from tape_magic.engine.diagnosis.counted import is_only_counted, metric_handles
from tape_magic.engine.diagnosis.cures import CURE_FOR_METRIC, cure_for_assignment
from tape_magic.engine.diagnosis.earlier import computed_before
from tape_magic.engine.diagnosis.evidence import (
    NamedTensors,
    RunEvidence,
    at_line,
    too_long_reason,
    unknown_reason,
)
from tape_magic.engine.diagnosis.leaving import SHAPE_OPERATIONS, LeavingExplainer
from tape_magic.engine.internals.operations import is_registered
from tape_magic.engine.record.entry import PY_FUNCTION, Entry, writes
from tape_magic.engine.record.frames import is_backward
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.leaves import item_name, items_of
from tape_magic.engine.values.tensors import is_variable
from tape_magic.results.reasons import Cause, Reason, Where

_STOPPING_OPERATIONS = frozenset({"StopGradient", "PreventGradient"})
_NUMPY_FUNCTIONS = frozenset({"PyFunc", "PyFuncStateless"})
_HISTORY = frozenset({"In", "Out"})  # what IPython keeps of the cells before
_MAX_REASONS = 3

# The gradient of EagerPyFunc takes the inner tape from a cache and removes it (TensorFlow 2.21,
# python/ops/script_ops.py, tape_cache; https://github.com/tensorflow/tensorflow/issues/38870 quotes it).
ONLY_ONCE = Reason(
    Cause.UNKNOWN,
    "tf.py_function can be differentiated only once in a run",
    "write it in TensorFlow, or take --jvp",
)


class MissingExplainer:
    """Finds the reason for a derivative that is ``None``.

    Parameters
    ----------
    evidence
        The evidence of the run.

    Attributes
    ----------
    leaving
        The explainer of values that left TensorFlow.
    """

    def __init__(self, evidence: RunEvidence) -> None:
        self._evidence = evidence
        self.leaving = LeavingExplainer(evidence)

    def explain(self, target: NamedTensors, source: NamedTensors) -> Reason:
        """Return why there is no derivative of a target by a source of one tensor or variable.

        For ``i = tf.argmax(p)`` on line 3 of the cell: "cut at ArgMax, line 3: i = tf.argmax(p)".
        """
        if not self._evidence.recorder.complete:
            return unknown_reason("not every operation could be followed")
        (key,) = source.keys
        flow = self._evidence.flow
        path = flow.between([key], target.keys)
        if not path:
            return self._explain_no_path(target, source)
        carrying, stops = flow.follow_derivative(key, target.keys, path)
        if not carrying.isdisjoint(target.keys):
            return self._explain_uncut_path(target, source, path)
        entries = self._stopping(stops)
        if all(entry.type in SHAPE_OPERATIONS for entry in entries):
            left = self.leaving.explain(target, source)
            if left is not None:
                return left
            if _is_derivative(target) or all(is_backward(entry.frames) for entry in entries):
                return _independent(target, source)
        reason = self.explain_stops(source, stops)
        if is_only_counted(self._evidence, entries, target, self._metric_handles):
            return replace(reason, cure=CURE_FOR_METRIC)
        return reason

    @cached_property
    def _metric_handles(self) -> frozenset[int]:
        return metric_handles(self._evidence)

    # -- a path that is cut ------------------------------------------------------------------------

    def explain_stops(self, source: NamedTensors, stops: Sequence[int]) -> Reason:
        """Return why the derivative by a source stops at the entries of some indices."""
        reasons = [self.explain_stop(entry, source) for entry in self._stopping(stops)]
        distinct = list({reason.text: reason for reason in reasons}.values())
        first = distinct[0]
        if len(distinct) == 1:
            return first
        text = "; also ".join(reason.text for reason in distinct[:_MAX_REASONS])
        if len(distinct) > _MAX_REASONS:
            text += f", and {len(distinct) - _MAX_REASONS} more"
        return Reason(first.cause, text, first.cure, first.operation, first.where)

    def _stopping(self, stops: Sequence[int]) -> list[Entry]:
        return without_shape_reads([self._evidence.flow.entries[index] for index in stops])

    def explain_stop(self, entry: Entry, source: NamedTensors) -> Reason:
        """Return why the derivative by a source stops at an entry. A new cause becomes a line here."""
        where = self._evidence.where(entry.frames)
        kind = entry.type

        def reason(cause: Cause, text: str, cure: str = "") -> Reason:
            return Reason(cause, f"{text}{at_line(where)}", cure, kind, where)

        # Variables are state, which no tape follows: https://github.com/tensorflow/tensorflow/issues/54532.
        if writes(kind):
            cure = cure_for_assignment(kind, where, entry.frames)
            return reason(Cause.STATE, "a variable's state carries no derivative", cure)
        if kind == "ReadVariableOp" and not entry.taped and self._feeds(entry, {"AssignVariableOp"}):
            cure = cure_for_assignment("AssignVariableOp", where, entry.frames)
            return reason(Cause.STATE, "a variable's state carries no derivative", cure)
        if kind in _STOPPING_OPERATIONS or (not entry.taped and self._reads_to_stop(entry)):
            return reason(Cause.STOPPED, "tf.stop_gradient")
        if not entry.taped:
            return reason(Cause.STOPPED, "not recorded")
        if kind in _NUMPY_FUNCTIONS:
            return reason(Cause.LEFT, "leaves TensorFlow", "compute it with TensorFlow's operations")
        if entry.too_long:
            return too_long_reason(entry, where)
        if entry.custom is not None:
            return reason(Cause.CUSTOM, f"the custom gradient of {entry.custom.name} returns None")
        outputs = [self._evidence.recorder.tensor(key) for key in entry.outputs]
        if kind == "Cast" and outputs and outputs[0] is not None:
            return reason(Cause.INTEGER, f"cast to {outputs[0].dtype.name}")
        if kind == "AsString":
            return reason(Cause.INTEGER, "made a string")
        if kind in SHAPE_OPERATIONS:
            return reason(Cause.NOT_READ, f"only the shape of {source.name} is read")
        if not is_registered(kind):
            return reason(Cause.UNREGISTERED, f"no gradient is registered for {kind}")
        return reason(Cause.CUT, f"cut at {kind}")

    def _reads_to_stop(self, entry: Entry) -> bool:
        """Return whether an entry only reads a variable for ``tf.stop_gradient``."""
        return entry.type == "ReadVariableOp" and self._feeds(entry, _STOPPING_OPERATIONS)

    def _feeds(self, entry: Entry, kinds: frozenset[str] | set[str]) -> bool:
        """Return whether an operation of some kinds reads an output of an entry."""
        return any(
            other.type in kinds and not set(entry.outputs).isdisjoint(other.inputs)
            for other in self._evidence.flow.entries
        )

    # -- no path -----------------------------------------------------------------------------------

    def _explain_no_path(self, target: NamedTensors, source: NamedTensors) -> Reason:
        left, where = self.leaving.explain(target, source), self._condition(source)
        if left is not None and left.cause is Cause.LEFT:
            return left
        earlier = None if _is_derivative(target) else self._explain_earlier(target, source)
        if left is not None and where is None:
            return earlier or left
        flow = self._evidence.flow
        leading = [flow.entries[index] for index in flow.leading_to(target.keys)]
        if _is_derivative(target):
            return (
                ONLY_ONCE if any(one.type == PY_FUNCTION for one in leading) else _independent(target, source)
            )
        other = self._explain_other_object(target, source)
        if other is not None:
            return other
        if any(is_backward(one.frames) for one in leading) and len(flow.downstream(source.keys)) > 1:
            return _independent(target, source)  # it dropped out of a derivative that the user took
        text = f"{_output_name(target.name)} does not read {source.name}"
        if earlier is not None:
            return earlier
        if where is not None:
            text += f"; a condition does{at_line(where)}"
        return Reason(Cause.NOT_READ, text, "", "", where)

    def _explain_earlier(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return what a target reads that an earlier cell computed from a source, which no tape follows."""
        before = computed_before(self._evidence, target, partial(self.leaving.leads, source))
        if before is None:
            return None
        name, where = before
        text = (
            f"{_output_name(target.name)} does not read {source.name} in this cell: "
            f"it reads {name}, which was computed before{at_line(where)}"
        )
        return Reason(Cause.NOT_READ, text, f"compute {name} in this cell", "", where)

    def _condition(self, source: NamedTensors) -> Where | None:
        """Return the line of a condition that a source decides, if its value is taken out by nothing else."""
        entry = self._evidence.decided_by(source.keys[0])
        if entry is not None and not self.leaving.exits(source):
            return self._evidence.where(entry.frames)
        return self.leaving.decided_by(source)

    def _explain_other_object(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return that the target reads an older variable of the source's name from a list, tuple or dict.

        For ``params = [w, b]`` above and ``w = tf.Variable(1.0, name="w")`` since: "y does not read w: it
        reads params[0], which was called that before w was bound anew". That the variable bears the name is
        the evidence: lists of parameters are full of variables of one shape.
        """
        (mine,) = source.tensors
        if self._evidence.text.namespace.get(source.name) is not mine or not is_variable(mine):
            return None
        upstream = self._evidence.flow.upstream(target.keys)
        for container, items in self._variables_in_containers():
            if any(item is mine for item in items.values()):
                continue
            for label, item in items.items():
                if _name_of(item) == source.name and NamedTensors("", (item,)).keys[0] in upstream:
                    text = (
                        f"{_output_name(target.name)} does not read {source.name}: it reads "
                        f"{label}, which was called that before {source.name} was bound anew"
                    )
                    return Reason(Cause.NOT_READ, text, f"make {container} again from the new {source.name}")
        return None

    def _variables_in_containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the names of the user's lists, tuples and dicts, each with its variables by their places."""
        for name, value in list(self._evidence.text.namespace.items()):
            if not name.startswith("_") and name not in _HISTORY and is_a(value, list | tuple | dict):
                found = {item_name(value, name, key): item for key, item in items_of(value)}
                yield name, {label: item for label, item in found.items() if is_variable(item)}

    # -- a path that seems not to be cut -----------------------------------------------------------

    def _explain_uncut_path(self, target: NamedTensors, source: NamedTensors, path: Sequence[int]) -> Reason:
        """Return the first operation that was guessed to pass a derivative, and so may cut the path."""
        flow = self._evidence.flow
        for entry in (flow.entries[index] for index in path if flow.is_guess(index)):
            where = self._evidence.where(entry.frames)
            if entry.too_long:
                return too_long_reason(entry, where)
            if where is not None:
                name = "a custom gradient" if entry.type.startswith("CustomGradient") else entry.type
                text = f"the reason is not known: it may be {name}, {where}, which could not be looked into"
                return Reason(Cause.UNKNOWN, text, "", entry.type, where)
        (key,) = source.keys
        if key in flow.makers:
            name = _output_name(target.name)
            return unknown_reason(
                f"perhaps {name} was computed before {source.name} was assigned, and watched"
            )
        return unknown_reason("the operations on the way all have a gradient")


def without_shape_reads(entries: list[Entry]) -> list[Entry]:
    """Return some entries without those that read only a shape, if there are others."""
    return [entry for entry in entries if entry.type not in SHAPE_OPERATIONS] or entries


def _is_derivative(target: NamedTensors) -> bool:
    """Return whether a target is a derivative that is differentiated again."""
    return target.name.startswith("∂")


def _independent(target: NamedTensors, source: NamedTensors) -> Reason:
    return Reason(Cause.NOT_READ, f"{target.name} does not depend on {source.name}")


def _output_name(name: str) -> str:
    return "the output" if name == "_" else name


def _name_of(variable: Any) -> str:
    return str(getattr(variable, "name", "")).removesuffix(":0")
