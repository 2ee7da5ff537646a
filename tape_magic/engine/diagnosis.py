"""Why a derivative is ``None``, zero or not finite, from the record of the one run.

Nothing of the user's code runs again: TensorFlow's own operations may, where their values are needed.
"""

from __future__ import annotations

import enum
import linecache
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.engine import nonfinite, op_events, py_functions
from tape_magic.engine.arrays import to_array
from tape_magic.engine.expansion import Expansion
from tape_magic.engine.flow import ZERO_BY_RULE, Flow
from tape_magic.engine.frames import Frame, is_users
from tape_magic.engine.kinds import is_a
from tape_magic.engine.leaving import leaving
from tape_magic.engine.program import Text
from tape_magic.engine.recording import MORE_ROOM, Entry, Recorder
from tape_magic.engine.replay import Replay, Unknown
from tape_magic.engine.sources import is_tensor, is_variable, items_of, watched
from tape_magic.results.reasons import Cause, Reason, Where

_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_STOPPING = frozenset({"StopGradient", "PreventGradient"})
_PYTHON = frozenset({"PyFunc", "PyFuncStateless"})
ONLY_ONCE = Reason(
    Cause.UNKNOWN,
    "tf.py_function can be differentiated only once in a run",
    "write it in TensorFlow, or take --jvp",
)
_INVERTIBLE = "the matrix is singular: add a small multiple of the identity"
_ASSIGNING = {
    "AssignAddVariableOp": "{0} = {0} + …",
    "AssignSubVariableOp": "{0} = {0} - …",
    "AssignVariableOp": "{0} = …",
}


class Condition(enum.Enum):
    """What a derivative is like, as far as it asks for an explanation."""

    REGULAR = enum.auto()
    MISSING = enum.auto()
    ZERO = enum.auto()
    NOT_FINITE = enum.auto()

    @classmethod
    def of(cls, value: Any) -> Condition:
        """The condition of a derivative, a tensor or ``None``, at the price of one pass over it."""
        if value is None:
            return cls.MISSING
        value = getattr(value, "values", value)  # of a lookup: the rows that it names
        if value.dtype.is_floating and 0 < _squares(value) < math.inf:
            return cls.REGULAR
        array = to_array(value)
        if not np.isfinite(array).all():
            return cls.NOT_FINITE
        return cls.REGULAR if array.size == 0 or array.any() else cls.ZERO


@dataclass(frozen=True, eq=False)
class Quantity:
    """What was differentiated, or what it was differentiated by.

    Attributes
    ----------
    name
        ``y``, ``dense/kernel``, or ``∂y/∂x`` where a derivative is differentiated again.
    tensors
        Its tensors and variables.
    """

    name: str
    tensors: tuple[Any, ...]

    @property
    def keys(self) -> list[int]:
        """By which the record knows the tensors."""
        return [
            op_events.key_of_variable(watched(tensor)) if is_variable(tensor) else op_events.key_of(tensor)
            for tensor in self.tensors
        ]


class Diagnosis:
    """Reasons, from what a recorder heard.

    Parameters
    ----------
    recorder
        It heard the run, and the derivatives that were differentiated again.
    text
        The user's code.
    """

    def __init__(self, recorder: Recorder, text: Text) -> None:
        self._recorder, self._text = recorder, text

    def reasons(
        self, target: Quantity, sources: Sequence[Quantity], values: Sequence[Any]
    ) -> list[Reason | None]:
        """For each source, why the derivative of a target by it is as it is.

        ``None`` where there is nothing to say. `values` are the derivatives, ``None`` among them.
        """
        conditions = [Condition.of(value) for value in values]
        if set(conditions) <= {Condition.REGULAR}:
            return [None] * len(values)
        self._meet(target)
        bad = [
            source
            for source, condition in zip(sources, conditions, strict=True)
            if condition is Condition.NOT_FINITE
        ]
        not_finite = dict(zip(bad, self._not_finite(target, bad), strict=True))
        found: list[Reason | None] = []
        for source, condition in zip(sources, conditions, strict=True):
            if condition is Condition.MISSING:
                found.append(self.missing(target, source))
            elif condition is Condition.ZERO:
                found.append(self.zero(target, source))
            else:
                found.append(not_finite.get(source))
        return found

    def _meet(self, target: Quantity) -> None:
        """Keep what no operation read, and so was not met."""
        for tensor in target.tensors:
            if is_tensor(tensor):
                self._recorder.keep(tensor)

    @cached_property
    def flow(self) -> Flow:
        """The record, with what ran within the calls of functions."""
        self._recorder.room = MORE_ROOM
        expansion = Expansion(self._recorder, self._graph_frames)
        for position, entry in py_functions.opened(self._recorder.entries):
            if entry.graph is not None:
                expansion.expand(entry, position)
            else:
                expansion.entries.append(entry)
        return Flow(expansion.entries, self._recorder)

    # -- no derivative -----------------------------------------------------------------------------

    def missing(self, target: Quantity, source: Quantity) -> Reason:
        """Why there is no derivative of a target by a source that is one tensor or variable."""
        if not self._recorder.complete:
            return _unknown("not every operation could be followed")
        (key,) = source.keys
        path = self.flow.between(key, target.keys)
        if not path:
            return self._not_read(target, source)
        carrying, stops = self.flow.carried(key, target.keys, path)
        if not carrying.isdisjoint(target.keys):
            return self._undecided(path)
        return self._stopped(target, source, stops)

    def _not_read(self, target: Quantity, source: Quantity) -> Reason:
        if not target.name.startswith("∂"):
            left = self._left(target, source)
            if left is not None:
                return left
            older = self._older(target, source)
            if older is not None:
                return older
            return Reason(Cause.NOT_READ, f"{_output(target.name)} does not read {source.name}")
        if any(
            self.flow.entries[index].type == py_functions.NAME for index in self.flow.leading(target.keys)
        ):
            return ONLY_ONCE
        return Reason(Cause.NOT_READ, f"{target.name} does not depend on {source.name}")

    def _left(self, target: Quantity, source: Quantity) -> Reason | None:
        """Where a value left TensorFlow, if the target reads one that came from outside during the run."""
        recorder = self._recorder
        before = self.flow.before(target.keys)
        made = {key for entry in self.flow.entries for key in entry.outputs}
        outside = [
            key
            for key in before
            if key > recorder.start and key not in made and _inexact(recorder.tensor(key))
        ]
        return self.left_by_text(target.name, source.name) if outside else None

    def left_by_text(self, target: str, source: str) -> Reason | None:
        """Where the user's text takes what is computed from a source out of TensorFlow, if it does."""
        text = self._text
        base = source.partition("[")[0].partition(".")[0]
        wanted = "" if target == "_" else target.partition("[")[0].partition(".")[0]
        if not text.filename:
            return None
        found = leaving(text.filename, text.lines, text.namespace, base, wanted)
        if found is None:
            return None
        label = text.label(found.filename)
        place = f"{label}, line {found.line}" if label else f"line {found.line}"
        where = Where(found.line, linecache.getline(found.filename, found.line).strip(), label)
        return Reason(Cause.LEFT, f"{place} leaves TensorFlow: {found.text}", found.cure, "", where)

    def _older(self, target: Quantity, source: Quantity) -> Reason | None:
        """Another variable or tensor of the source's kind that the target reads in its place."""
        before = self.flow.before(target.keys)
        (mine,) = source.tensors
        for name, value in list(self._text.namespace.items()):
            if name.startswith("_") or not is_a(value, list | tuple | dict):
                continue
            for key, item in items_of(value):
                if not (is_variable(item) or is_tensor(item)) or item is mine:
                    continue
                tensor = watched(item) if is_variable(item) else item
                number = Quantity("", (item,)).keys[0]
                if number in before and tensor.shape == mine.shape and tensor.dtype == mine.dtype:
                    place = f"{name}[{key!r}]"
                    text = f"{_output(target.name)} does not read {source.name}: it reads {place}, "
                    if _same_name(tensor, source.name):
                        text += f"which was called that before {source.name} was bound anew"
                    else:
                        text += "another object"
                    return Reason(Cause.NOT_READ, text, f"make {name} again from the new {source.name}")
        return None

    def _stopped(self, target: Quantity, source: Quantity, stops: Sequence[int]) -> Reason:
        reasons = [self._stop(entry, source) for entry in self._telling(stops)]
        distinct = list({reason.text: reason for reason in reasons}.values())
        first = distinct[0]
        if len(distinct) == 1:
            return first
        more = "; also ".join(reason.text for reason in distinct[:3])
        rest = f", and {len(distinct) - 3} more" if len(distinct) > 3 else ""
        return Reason(first.cause, more + rest, first.cure, first.operation, first.where)

    def _telling(self, stops: Sequence[int]) -> list[Entry]:
        """The entries at some positions, without those that read only a shape if there are others."""
        entries = [self.flow.entries[index] for index in stops]
        return [entry for entry in entries if entry.type not in _SHAPES] or entries

    def _stop(self, entry: Entry, source: Quantity) -> Reason:
        where = self._where(entry.frames)
        at = f", {where}" if where else ""
        kind = entry.type

        def reason(cause: Cause, text: str, cure: str = "") -> Reason:
            return Reason(cause, f"{text}{at}", cure, kind, where)

        if kind in _ASSIGNING:
            return reason(
                Cause.STATE,
                "a variable's state carries no derivative",
                f"compute a new tensor, {_functional(kind, where)}",
            )
        if kind in _STOPPING or (not entry.taped and self._read_to_stop(entry)):
            return reason(Cause.STOPPED, "tf.stop_gradient")
        if not entry.taped:
            return reason(Cause.STOPPED, "not recorded")
        if kind in _PYTHON:
            return reason(Cause.LEFT, "leaves TensorFlow", "compute it with TensorFlow's operations")
        if entry.custom is not None:
            return reason(Cause.CUSTOM, f"the custom gradient of {entry.custom.name} returns None")
        outputs = [self._recorder.tensor(key) for key in entry.outputs]
        if kind == "Cast" and outputs and outputs[0] is not None:
            return reason(Cause.INTEGER, f"cast to {outputs[0].dtype.name}")
        if kind == "AsString":
            return reason(Cause.INTEGER, "made a string")
        if kind in _SHAPES:
            return reason(Cause.NOT_READ, f"only the shape of {source.name} is read")
        if not op_events.is_registered(kind):
            return reason(Cause.UNREGISTERED, f"no gradient is registered for {kind}")
        return reason(Cause.CUT, f"cut at {kind}")

    def _read_to_stop(self, entry: Entry) -> bool:
        """Whether an entry only gave ``tf.stop_gradient`` the value of a variable."""
        return entry.type == "ReadVariableOp" and any(
            other.type in _STOPPING and not set(entry.outputs).isdisjoint(other.inputs)
            for other in self.flow.entries
        )

    def _undecided(self, path: Sequence[int]) -> Reason:
        unsure = [index for index in path if self.flow.unsure(index)]
        for index in unsure:
            where = self._where(self.flow.entries[index].frames)
            if where is not None:
                kind = self.flow.entries[index].type
                name = "a custom gradient" if kind.startswith("CustomGradient") else kind
                text = f"it may be {name}, {where}, which could not be looked into"
                return Reason(Cause.UNKNOWN, f"the reason is not known: {text}", "", kind, where)
        return _unknown("the operations on the way all have a gradient")

    # -- what TensorFlow refused -------------------------------------------------------------------

    def alone(self, target: Quantity, source: Quantity, refusal: Reason) -> tuple[Any, Reason | None]:
        """The derivative by one source, where TensorFlow refused to give all together.

        `refusal` is what it said. One watched tensor whose way has no gradient spoils the others.
        """
        (key,) = source.keys
        self._meet(target)
        try:
            value = Replay(self.flow, self._recorder, [key], target.keys).gradient(key)
        except LookupError:
            return None, self.refused(target, source, refusal)
        except Unknown as unknown:
            if unknown.entry is not None and unknown.entry.type != py_functions.NAME:
                return None, self._failed(unknown.entry, refusal)
            return None, self.refused(target, source, refusal)
        return value, self.reasons(target, [source], [value])[0]

    def refused(self, target: Quantity, source: Quantity, refusal: Reason) -> Reason:
        """Which operation on the way has no gradient, where TensorFlow raised ``LookupError``."""
        (key,) = source.keys
        for index in self.flow.between(key, target.keys) if refusal.cause is Cause.UNREGISTERED else ():
            entry = self.flow.entries[index]
            if entry.custom is None and not op_events.is_registered(entry.type):
                return self._stop(entry, source)
        return refusal

    def _failed(self, entry: Entry, refusal: Reason) -> Reason:
        """An operation whose gradient TensorFlow could not compute from the values that it had."""
        where = self._where(entry.frames)
        said = refusal.text.rstrip(".")
        cure = _INVERTIBLE if "invertible" in said or "Cholesky" in said else ""
        text = f"the gradient of {entry.type} fails ({said}){f', {where}' if where else ''}"
        return Reason(Cause.CUT, text, cure, entry.type, where)

    # -- zero --------------------------------------------------------------------------------------

    def zero(self, target: Quantity, source: Quantity) -> Reason | None:
        """Why a derivative that is 0 is so wherever it exists; ``None`` where it may be otherwise."""
        if not self._recorder.complete:
            return None
        (key,) = source.keys
        path = self.flow.between(key, target.keys)
        if not path:
            return self._zero_of_function(target, source)
        carrying, stops = self.flow.carried(key, target.keys, path, zeros=True)
        if not carrying.isdisjoint(target.keys) or not stops:
            return self._zero_of_closed(path)
        first = self._stopped(target, source, stops)
        entry = self._telling(stops)[0]
        where = self._where(entry.frames)
        if first.cause in (Cause.CUT, Cause.INTEGER) or entry.type in ZERO_BY_RULE:
            at = f", {where}" if where else ""
            return Reason(Cause.ZERO, f"0 wherever it exists: {entry.type}{at}", "", entry.type, where)
        return Reason(Cause.ZERO, f"0 because {first.text}", first.cure, first.operation, first.where)

    def _zero_of_function(self, target: Quantity, source: Quantity) -> Reason | None:
        """Where no way leads through a ``tf.py_function``, the zeros that it passes on all the same."""
        (key,) = source.keys
        after, before = self.flow.after([key]), self.flow.before(target.keys)
        for entry in self._recorder.entries:
            if entry.within is None or after.isdisjoint(entry.inputs) or before.isdisjoint(entry.outputs):
                continue
            where = self._where(entry.frames)
            at = f", {where}" if where else ""
            left = self.left_by_text(target.name, source.name)
            if left is not None:
                return Reason(Cause.ZERO, f"0 because {left.text}", left.cure, entry.type, left.where)
            text = (
                f"0 because the function of tf.py_function does not read {source.name}, or leaves TensorFlow"
            )
            return Reason(Cause.ZERO, text + at, "", entry.type, where)
        return None

    def _zero_of_closed(self, path: Sequence[int]) -> Reason | None:
        """Of a ``tf.py_function`` that could not be looked into, as within a ``tf.function``."""
        for index in path:
            entry = self.flow.entries[index]
            if entry.type == py_functions.NAME:
                where = self._where(entry.frames)
                at = f", {where}" if where else ""
                text = f"tf.py_function gives 0 also where its function leaves TensorFlow{at}"
                return Reason(Cause.UNKNOWN, text, "", entry.type, where)
        return None

    # -- not finite --------------------------------------------------------------------------------

    def _not_finite(self, target: Quantity, sources: Sequence[Quantity]) -> list[Reason]:
        """Which operation made the derivatives by some sources infinite or undefined."""
        if not sources:
            return []
        if not self._recorder.complete:
            return [_unknown("not every operation could be followed")] * len(sources)
        keys = [source.keys[0] for source in sources]
        try:
            replay = Replay(self.flow, self._recorder, keys, target.keys)
        except (Unknown, LookupError):
            return [_unknown("a value on the way was not kept, or could not be looked into")] * len(sources)
        search = nonfinite.Search(self.flow, self._recorder, replay)
        told: dict[int, Reason] = {}
        found: list[Reason] = []
        for key, source in zip(keys, sources, strict=True):
            result = search.find(key)
            if result.culprit is None:
                found.append(self._given(result.given, source))
                continue
            index = result.culprit.index
            if index not in told:
                told[index] = self._told(result.culprit)
            found.append(told[index])
        return found

    def _told(self, culprit: nonfinite.Culprit) -> Reason:
        entry = self.flow.entries[culprit.index]
        where = self._where(entry.frames)
        return Reason(
            Cause.NOT_FINITE,
            f"{_told(entry, culprit)}{f', {where}' if where else ''}",
            nonfinite.cure(culprit, self.flow, where.text if where else "", self._line),
            entry.type,
            where,
        )

    def _given(self, keys: Iterable[int], source: Quantity) -> Reason:
        """Values that were not finite before any operation read them."""
        (mine,) = source.keys
        keys = list(dict.fromkeys(keys))
        made_by = {key: entry for entry in self.flow.entries for key in entry.outputs}
        for key in keys:
            maker = made_by.get(key)
            if key == mine or (maker is not None and mine in maker.inputs):
                return Reason(Cause.NOT_FINITE, f"{source.name} itself is not finite")
        for key in keys:
            reader = next((entry for entry in self.flow.entries if key in entry.inputs), made_by.get(key))
            where = self._where(reader.frames) if reader else None
            if where is not None:
                text = f"a value that is not finite is read, {where}"
                return Reason(Cause.NOT_FINITE, text, "", reader.type if reader else "", where)
        return _unknown("no operation on the way made it so")

    # -- the user's lines --------------------------------------------------------------------------

    def _line(self, index: int) -> str:
        where = self._where(self.flow.entries[index].frames)
        if where is None:
            return self.flow.entries[index].type
        return f"{where.file}, line {where.line}" if where.file else f"line {where.line}"

    def _where(self, frames: Sequence[Frame]) -> Where | None:
        if not frames:
            return None
        filename, line = frames[0]
        return Where(line, " ".join(linecache.getline(filename, line).split()), self._text.label(filename))

    def _graph_frames(self, operation: Any) -> tuple[Frame, ...]:
        """The user's lines in the traceback that TensorFlow keeps of a graph's operation."""
        frames = [(str(frame.filename), int(frame.lineno)) for frame in operation.traceback or ()]
        return tuple(frame for frame in reversed(frames) if is_users(frame[0]))


def _squares(value: Any) -> float:
    """The sum of the squares of a tensor, as fast as the machine goes: it may overflow, or vanish."""
    import tensorflow as tf

    if value.dtype.size < 4:  # half precision overflows all too soon
        return math.nan
    if "CPU" not in value.backing_device:  # one number comes from there, and not the array
        return float(tf.nn.l2_loss(value))
    flat = np.asarray(value).reshape(-1)  # on the CPU, the tensor's own memory
    with np.errstate(all="ignore"):
        return float(np.dot(flat, flat))


def _unknown(why: str) -> Reason:
    return Reason(Cause.UNKNOWN, f"the reason is not known: {why}")


def _output(name: str) -> str:
    return "the output" if name == "_" else name


def _inexact(tensor: Any) -> bool:
    return tensor is not None and bool(tensor.dtype.is_floating or tensor.dtype.is_complex)


def _same_name(tensor: Any, name: str) -> bool:
    return str(getattr(tensor, "name", "")).removesuffix(":0") == name if is_variable(tensor) else False


def _functional(kind: str, where: Where | None) -> str:
    name = where.text.partition(".assign")[0] if where and ".assign" in where.text else "x"
    name = name.strip() if name.strip().isidentifier() else "x"
    return f"{name}_new = " + _ASSIGNING[kind].format(name).partition(" = ")[2]


def _told(entry: Entry, culprit: nonfinite.Culprit) -> str:
    gives = culprit.gives.replace("-", "−")
    values = " and ".join(f"{value:.4g}".replace("-", "−") for value in culprit.inputs)
    for_ = f" for {values}" if values else ""
    place = f" at [{', '.join(map(str, culprit.place))}]" if culprit.place else ""
    what = f"the gradient of {entry.type}" if culprit.backward else entry.type
    return f"{what} is {gives}{for_}{place}"
