"""`Precisions`: in which dtypes a run computes between its leaves and its outputs, as its record shows."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.outputs import parts_of, reason_of_type, summands
from tape_magic.engine.derivatives.run import Run
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.graphs import function_graph
from tape_magic.engine.record.entry import splice_py_functions
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.leaves import own_name
from tape_magic.engine.values.precision import double_of, epsilon
from tape_magic.engine.values.tensors import is_keras_variable, is_tensor, is_variable, tf_variable
from tape_magic.errors import TapeMagicError

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})

DOUBLE = "float64"

COARSE = 1e-4
"""Machine epsilon above which a precision is coarse, as that of float16 and bfloat16 is: its steps are too
large for differences to be exact to a few per cent."""


_EXACT = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "string"}
)
"""Dtypes through which no small change of a number passes."""


@dataclass(frozen=True)
class Precisions:
    """The least precise dtypes of a run.

    Attributes
    ----------
    leading
        By output: the least precise dtype of all that leads to it, which limits the derivative's precision.
    between
        By output and leaf: the least precise dtype on the way from the leaf to the output, ends included,
        which limits the precision of differences.
    """

    leading: Mapping[str, str] = field(default_factory=dict)
    between: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, outputs: Iterable[str]) -> Precisions:
        """Return the precisions of a run that has just ended."""
        leaves = [
            NamedTensors(leaf.name, (leaf.value,)) for one in run.selection.sources for leaf in one.leaves
        ]
        leading, between = dict[str, str](), dict[tuple[str, str], str]()
        for name in outputs:
            target = target_of(run, name)
            if target is None:
                continue
            ways = _Ways(run, target)
            leading[name] = ways.leading()
            between |= {(name, leaf.name): ways.between(leaf) for leaf in leaves}
        return cls(leading, between)

    def of_output(self, output: str) -> str:
        """Return the least precise dtype of all that leads to an output."""
        return self.leading.get(output, DOUBLE)

    def of_row(self, output: str, leaves: Iterable[str]) -> str:
        """Return the least precise dtype on the ways from some leaves to an output."""
        return least(self.between.get((output, leaf), DOUBLE) for leaf in leaves)


def least(dtypes: Iterable[str]) -> str:
    """Return the least precise of some dtypes; float64 where none is narrower.

    >>> least(["float32", "bfloat16", "float64", "int32"])
    'bfloat16'
    """
    return max((dtype for dtype in dtypes if double_of(dtype) is not None), key=epsilon, default=DOUBLE)


def is_coarse(dtype: str) -> bool:
    """Return whether a dtype is coarse; see :data:`COARSE`.

    >>> is_coarse("float16"), is_coarse("float32")
    (True, False)
    """
    return epsilon(dtype) > COARSE


def target_of(run: Run, name: str) -> NamedTensors | None:
    """Return an output of a run; ``None`` where it holds no numbers that can be differentiated."""
    try:
        value = run.output(name)
    except TapeMagicError:
        return None
    if reason_of_type(value, name) is not None:
        return None
    return NamedTensors(name, tuple(summands(part) for part in parts_of(value)))


class _Ways:
    """The ways to one output of a run.

    Only tensors that are narrower than double precision are looked at: most runs in double precision have
    none, and are done with at once.
    """

    def __init__(self, run: Run, target: NamedTensors) -> None:
        self._target, self._ends = target, [str(tensor.dtype.name) for tensor in target.tensors]
        self._recorder = run.tapes.recorder
        try:
            # Calls of functions stay closed: to open them, their operations would have to run once more.
            entries = [entry for _, entry in splice_py_functions(self._recorder.entries)]
            self._flow: DataFlow | None = DataFlow(entries, self._recorder)
            self._narrow = _narrow_tensors(self._flow, self._recorder)
            self._upstream = self._flow.upstream(target.keys)
        except Exception:  # the record may be such that nothing can be read from it
            self._flow, self._narrow, self._upstream = None, {}, set()

    def leading(self) -> str:
        """Return the least precise dtype of all that leads to the output."""
        return least([*self._ends, *(dtype for key, dtype in self._narrow.items() if key in self._upstream)])

    def between(self, leaf: NamedTensors) -> str:
        """Return the least precise dtype on the way from a leaf; of all, where no way was recorded."""
        ends = least([*self._ends, *(str(tensor.dtype.name) for tensor in leaf.tensors)])
        if self._flow is None or least([ends, *self._narrow.values()]) == ends:
            return ends
        reached = self._flow_of_numbers(leaf.keys) & self._upstream
        if reached.isdisjoint(self._target.keys):
            return least([ends, self.leading()])
        return least([ends, *(self._narrow.get(key, DOUBLE) for key in reached)])

    def _flow_of_numbers(self, keys: Iterable[int]) -> set[int]:
        """Return what some tensors flow into, past truth values and whole numbers; those are included."""
        assert self._flow is not None
        reached = set(keys)
        for entry in self._flow.entries:
            if not reached.isdisjoint(entry.inputs):
                reached.update(key for key in entry.outputs if _dtype(self._recorder, key) not in _EXACT)
                if entry.changes is not None:
                    reached.add(entry.changes)
        return reached


def _narrow_tensors(flow: DataFlow, recorder: Recorder) -> dict[int, str]:
    """Return the tensors of a record that are narrower than double precision, by key, with their dtypes.

    Truth values made numbers, as for a mask, are exact in any precision and do not count.
    """
    found: dict[int, str] = {}
    known: dict[str, bool] = {}
    for entry in flow.entries:
        if entry.type == "Cast" and _dtype(recorder, entry.inputs[0]) == "bool":
            continue
        within = [] if entry.graph is None else _dtypes_within(entry.graph)
        for key in entry.outputs:
            dtype = _dtype(recorder, key)
            dtype = least([dtype, *within]) if within else dtype
            if dtype not in known:
                known[dtype] = double_of(dtype) is not None
            if known[dtype]:
                found[key] = dtype
    return found


def _dtype(recorder: Recorder, key: int) -> str:
    """Return the dtype of a tensor in the record; empty where it holds no numbers or is gone."""
    held = recorder.tensors.get(key)
    tensor = held() if isinstance(held, weakref.ref) else held
    return "" if tensor is None else str(tensor.dtype.name)


def _dtypes_within(graph: Any) -> list[str]:
    """Return the dtypes in the graph of a function and of those that it calls, as `_narrow_tensors` does."""
    found: set[str] = set()
    for operation in graph.get_operations():
        if operation.type == "Cast" and operation.inputs[0].dtype.name == "bool":
            continue
        found |= {str(tensor.dtype.name) for tensor in operation.outputs}
        called = function_graph(operation) if operation.type in CALLS else None
        if called is not None:
            found |= set(_dtypes_within(called))
    return list(found)


def widened(value: Any) -> Any:
    """Return a copy in double precision of a narrower tensor, variable or array; any other value as it is."""
    import tensorflow as tf

    if isinstance(value, np.ndarray):
        double = double_of(value.dtype.name)
        return value if double is None else value.astype(double)
    if is_keras_variable(value):
        return value  # `widen` changes it in place, since its layer holds it
    held = tf_variable(value) if is_variable(value) else value
    double = double_of(held.dtype.name) if is_variable(value) or is_tensor(value) else None
    if double is None:
        return value
    wide = tf.cast(held, double)
    if is_variable(value):
        return tf.Variable(wide, trainable=value.trainable, name=own_name(value))
    return wide
