"""Sentences on derivatives that are right, and not what one may take them for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tape_magic.engine.derivatives.gradient_table import named_tensors
from tape_magic.engine.derivatives.outputs import parts_of, summands
from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.diagnosis import Diagnosis
from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import is_inexact, is_tensor, is_variable
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.results.gradients import Derivative


def complex_note(name: str, output: Any, source: str, leaves: Sequence[Leaf], order: int) -> str:
    """Return what TensorFlow's derivative of an output by a source is, where one of them is complex.

    Empty where both are real, and for derivatives of a higher order by several kinds of numbers.
    """
    shown = "the output" if name == LAST_EXPRESSION else name
    is_complex = any(_is_complex(summands(part)) for part in parts_of(output))
    by_complex = {_is_complex(leaf.value) for leaf in leaves}
    if by_complex == {False}:
        if not is_complex:
            return ""
        return f"{shown} is complex: the derivative is that of its real part; tf.math.imag gives the other"
    if by_complex != {True}:
        return ""
    if order > 1:
        return f"{source} is complex: where {shown} is holomorphic, this is the conjugate of its derivative"
    if not is_complex:
        return f"{source} is complex: the derivative is ∂{shown}/∂Re({source}) + i·∂{shown}/∂Im({source})"
    real = f"∂Re({shown})"
    return (
        f"{source} is complex: the derivative is {real}/∂Re({source}) + i·{real}/∂Im({source}), "
        f"the conjugate of the complex one where {shown} is holomorphic"
    )


def _is_complex(tensor: Any) -> bool:
    dtype = getattr(tensor, "dtype", None)
    return bool(getattr(dtype, "is_complex", False))


def assignment_notes(evidence: RunEvidence, target: NamedTensors, leaves: Iterable[Leaf]) -> list[str]:
    """Return a sentence for each source that the program assigns before the target reads it.

    A variable is one source to a tape, whatever its values: what an assignment took over is constant.
    """
    variables = [leaf for leaf in leaves if is_variable(leaf.value)]
    keys = {leaf: NamedTensors(leaf.name, (leaf.value,)).keys[0] for leaf in variables}
    found = []
    for leaf, key in keys.items():
        index = _assigned_before_read(evidence, target, key)
        if index is None:
            continue
        entry = evidence.flow.entries[index]
        if not entry.frames or _makes(evidence, index, key):
            continue
        more = ""
        if evidence.flow.upstream(entry.inputs[1:]) & set(keys.values()):
            more = ", not through the assignment; to go through it, compute a new tensor instead"
        line = evidence.line_label(index)
        found.append(f"{line} assigns {leaf.name}: the derivative is by its value from there on{more}")
    return found


def _makes(evidence: RunEvidence, index: int, key: int) -> bool:
    """Return whether an assignment gives a variable that the program makes its first value."""
    before = evidence.flow.entries[:index]
    return any(key in one.outputs for one in before) and not any(one.changes == key for one in before)


def _assigned_before_read(evidence: RunEvidence, target: NamedTensors, key: int) -> int | None:
    """Return the last assignment to a variable before the reads that a target depends on.

    ``None`` where there is none, and where the target also depends on reads before it.
    """
    reached, assigned = set(target.keys), None
    for index, entry in reversed(list(enumerate(evidence.flow.entries))):
        if entry.changes == key and key in reached:
            assigned = index
            reached.discard(key)
        elif entry.changes in reached or not reached.isdisjoint(entry.outputs):
            if assigned is not None and key in entry.inputs:
                return None
            reached.update(entry.inputs)
    return assigned


def not_finite_notes(
    rows: Sequence[Derivative], output: Callable[[str], Any], diagnosis: Callable[[], Diagnosis]
) -> list[str]:
    """Return which outputs are infinite or NaN, and why unless the reason for a derivative says it.

    `output` gives the value of an output by its name, and `diagnosis` the diagnosis of the run.
    """
    import tensorflow as tf

    found: list[str] = []
    for name in dict.fromkeys(row.target for row in rows) if tf.executing_eagerly() else ():
        named = named_tensors(name, (), output(name))
        tensors = [tensor for tensor in named.tensors if is_tensor(tensor) and is_inexact(tensor)]
        if all(Condition.of(tensor) is not Condition.NOT_FINITE for tensor in tensors):
            continue
        try:
            reason = diagnosis().explain_value(named)
        except Exception:  # as in `GradientRecord.diagnose`
            reason = None
        said = [row.reason for row in rows if row.target == name and row.reason is not None]
        if reason is None or reason in said:
            continue
        told = any((one.operation, one.where) == (reason.operation, reason.where) for one in said)
        found.append(reason.text.partition(":")[0] if told else str(reason))
    return found
