"""`GradientTable`: the derivatives of one run, a record for each value that is differentiated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from tape_magic.engine.derivatives.outputs import parts_of, reason_of_type, size_of, summands
from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.diagnosis import Diagnosis
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.diagnosis.missing import ONLY_ONCE
from tape_magic.engine.record.entry import PY_FUNCTION
from tape_magic.engine.record.frames import failing_rule
from tape_magic.engine.values.leaves import Leaf
from tape_magic.notation import Kind, Target
from tape_magic.results.reasons import Cause, Reason

T = TypeVar("T")

Leaves = tuple[Leaf, ...]


@dataclass
class GradientRecord:
    """The derivatives of one value, which is an output or a derivative of an output.

    Attributes
    ----------
    output
        Name of the output.
    before
        Leaves that the output was differentiated by to give `value`; empty for the output itself.
    value
        What is differentiated; ``None`` where the derivative before this one is missing.
    derivatives
        The derivative by each leaf, ``None`` where there is none.
    summed
        Number of elements whose sum is differentiated.
    known_reason
        Why the value has no derivative by any leaf, where its type or TensorFlow's refusal says it all.
    refusal
        What TensorFlow refused when it was asked for the derivatives by all leaves at once.
    reasons
        Why the derivative by a leaf is missing, zero or not finite, as the diagnosis found.
    hints
        What the data made of a derivative by a leaf that is 0 and has no reason.
    """

    output: str
    before: Leaves
    value: Any
    derivatives: dict[Leaf, Any]
    summed: int = 1
    known_reason: Reason | None = None
    refusal: Reason | None = None
    reasons: dict[Leaf, Reason] = field(default_factory=dict)
    hints: dict[Leaf, str] = field(default_factory=dict)

    @property
    def leaves(self) -> list[Leaf]:
        """The leaves that the value is differentiated by."""
        return list(self.derivatives)

    @property
    def is_explained(self) -> bool:
        """Whether the reason for missing derivatives is known without the diagnosis."""
        return self.known_reason is not None or self.refusal is not None

    def fill(self, take: Callable[[GradientRecord], Sequence[Any]]) -> None:
        """Fill in the derivatives that `take` gives, or the reason why there are none."""
        if self.value is None and self.before:  # the derivative before this one is missing
            return
        self.known_reason = reason_of_type(self.value, self.output)
        if self.known_reason is not None:
            return
        found = value_or_refusal(partial(take, self))
        if isinstance(found, Reason):
            self.refusal = found
        else:
            self.derivatives = dict(zip(self.derivatives, found, strict=True))

    def diagnose(self, diagnosis: Callable[[], Diagnosis], kind: Kind) -> None:
        """Find out why derivatives are missing, zero or not finite."""
        if self.known_reason is not None:
            if self.known_reason.cause is Cause.LEFT:
                self._find_where_it_left(diagnosis, self.known_reason)
            return
        if self.value is None or all(
            Condition.of(one) is Condition.REGULAR for one in self.derivatives.values()
        ):
            return
        try:
            reasons = self._diagnosed(diagnosis(), kind)
        except Exception:  # the derivatives are right, however little the record of the run tells
            reasons = [_reason_unknown(one) for one in self.derivatives.values()]
        pairs = zip(self.derivatives, reasons, strict=True)
        self.reasons |= {leaf: reason for leaf, reason in pairs if reason is not None}
        with suppress(Exception):
            self._find_hints(diagnosis(), kind)

    def _find_hints(self, diagnosis: Diagnosis, kind: Kind) -> None:
        """Find out which units are off where derivatives are 0 without a reason."""
        zero = [
            leaf
            for leaf, derivative in self.derivatives.items()
            if kind is Kind.GRADIENT
            and leaf not in self.reasons
            and derivative is not None
            and Condition.of(derivative) is Condition.ZERO
        ]
        target = named_tensors(self.output, self.before, self.value)
        found = diagnosis.explain_units(target, [NamedTensors(leaf.name, (leaf.value,)) for leaf in zero])
        self.hints = {leaf: hint for leaf, hint in zip(zero, found, strict=True) if hint}

    def _find_where_it_left(self, diagnosis: Callable[[], Diagnosis], known: Reason) -> None:
        """Find the line where an output that is no tensor left TensorFlow on its way from each leaf."""
        for leaf in self.derivatives:
            try:
                reason = diagnosis().explain_no_tensor(
                    self.output, NamedTensors(leaf.name, (leaf.value,)), known
                )
            except Exception:  # the text of the program may be such that nothing can be read from it
                reason = known
            self.reasons[leaf] = reason

    def _diagnosed(self, diagnosis: Diagnosis, kind: Kind) -> list[Reason | None]:
        """Return a reason for each leaf; where TensorFlow refused all leaves at once, try one by one."""
        target = named_tensors(self.output, self.before, self.value)
        sources = [NamedTensors(leaf.name, (leaf.value,)) for leaf in self.derivatives]
        if self.refusal is None:
            return diagnosis.explain(target, sources, list(self.derivatives.values()))
        if kind is not Kind.GRADIENT:
            return [diagnosis.explain_refusal(target, source, self.refusal) for source in sources]
        apart = [diagnosis.differentiate_alone(target, source, self.refusal) for source in sources]
        self.derivatives = dict(zip(self.derivatives, (found for found, _ in apart), strict=True))
        return [reason for _, reason in apart]


class GradientTable:
    """The derivatives of one run by output and leaves, and the reasons for missing, zero or infinite ones.

    A derivative of order n is found in two steps: its output and first n − 1 leaves lead to a record, and its
    last leaf to a derivative in that record. For d2y/dxda these are ``table["y", (x,)].derivatives[a]``.

    Parameters
    ----------
    kind
        What is computed of an output.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._records: dict[tuple[str, Leaves], GradientRecord] = {}

    def __getitem__(self, prefix: tuple[str, Leaves]) -> GradientRecord:
        return self._records[prefix]

    def differentiate(
        self,
        output: str,
        before: Leaves,
        value: Any,
        by: Iterable[Leaf],
        take: Callable[[GradientRecord], Sequence[Any]],
    ) -> GradientRecord:
        """Differentiate a value by leaves, and record what comes of it.

        Parameters
        ----------
        output, before, value
            Name of the output, the leaves that it was differentiated by already, and what this gave.
        by
            Leaves to differentiate by.
        take
            Gives the derivatives of a record's value, one for each of its leaves. Called only where the
            type of the value has derivatives.
        """
        record = GradientRecord(output, before, value, dict.fromkeys(by))
        self._records[output, before] = record
        record.fill(take)
        return record

    def derivative(self, output: str, leaves: Leaves) -> Any:
        """Return a derivative, ``None`` where there is none."""
        return self._records[output, leaves[:-1]].derivatives[leaves[-1]]

    def records(self, output: str, leaves: Leaves) -> list[GradientRecord]:
        """Return the records that lead to a derivative: of the output, and of each lower derivative."""
        return [self._records[output, leaves[:order]] for order in range(len(leaves))]

    def is_unconnected(self, output: str, leaves: Leaves) -> bool:
        """Return whether a derivative is missing only because the output does not depend on the leaves."""
        explained = any(record.is_explained for record in self.records(output, leaves))
        return self.derivative(output, leaves) is None and not explained

    def reason(self, output: str, leaves: Leaves) -> Reason | None:
        """Return why a derivative is missing, zero or not finite; ``None`` where it is regular."""
        records = self.records(output, leaves)
        known = [record.known_reason for record in records if record.known_reason is not None]
        if self.derivative(output, leaves) is None:
            known += [record.refusal for record in records if record.refusal is not None]
        return self.diagnosed_reason(output, leaves) or next(iter(known), None)

    def diagnosed_reason(self, output: str, leaves: Leaves) -> Reason | None:
        """Return the diagnosis of a derivative, or of the first missing one that leads to it."""
        steps = list(zip(self.records(output, leaves), leaves, strict=True))
        missing = (step for step in steps if step[0].derivatives[step[1]] is None)
        record, leaf = next(missing, steps[-1])
        return record.reasons.get(leaf)

    def hints(self) -> dict[str, list[str]]:
        """Return the hints on derivatives that are 0, each with the labels of the derivatives."""
        found: dict[str, list[str]] = {}
        for (output, before), record in self._records.items():
            for leaf, hint in record.hints.items():
                label = Target(output, tuple(one.name for one in (*before, leaf))).label
                plain = leaf.of_model and not before  # as the table of a model's variables calls it
                found.setdefault(hint, []).append(leaf.name if plain else label)
        return found

    def diagnose(self, diagnosis: Callable[[], Diagnosis]) -> None:
        """Find out why derivatives are missing, zero or not finite, once the tapes have ended.

        `diagnosis` gives the diagnosis of the run, and is called only where it is needed. It is not kept:
        a run that its own table refers to would stay in memory, with all its tensors, after the cell.
        """
        import tensorflow as tf

        if not tf.executing_eagerly():  # a graph has no values to look at
            return
        for record in self._records.values():
            record.diagnose(diagnosis, self._kind)


def tape_gradient(tape: Any, record: GradientRecord) -> list[Any]:
    """Return what ``tape.gradient`` gives of a record's value, and note how many elements are summed.

    The value is a tensor, or a structure, all elements of which are summed.
    """
    parts, leaves = parts_of(record.value), record.leaves
    record.summed = sum(size_of(item) for item in parts)
    if len(parts) == len(leaves) == 1:  # tape.gradient flattens structures, which takes it longer
        return [tape.gradient(summands(parts[0]), leaves[0].value)]
    return list(tape.gradient([summands(item) for item in parts], [leaf.value for leaf in leaves]))


def value_or_refusal(take: Callable[[], T]) -> T | Reason:
    """Return what `take` gives, or the reason where TensorFlow refuses. What user code raises passes."""
    import tensorflow as tf

    try:
        return take()
    except LookupError as error:
        return Reason(Cause.UNREGISTERED, str(error).partition(" (")[0])
    except tf.errors.OpError as error:
        return _reason_of_message(str(error))
    except Exception as error:
        operation = failing_rule(error)
        if not operation:
            raise
        message = " ".join(str(error).split()).partition(". ")[0]
        return Reason(Cause.UNKNOWN, message, "", operation)


def named_tensors(output: str, before: Leaves, value: Any) -> NamedTensors:
    """Return an output, or a derivative of it, with its label, as the diagnosis takes it."""
    label = Target(output, tuple(leaf.name for leaf in before)).label if before else output
    return NamedTensors(label, tuple(summands(item) for item in parts_of(value)))


def reason_not_finite(
    diagnosis: Callable[[], Diagnosis], gradient: NamedTensors, by: Sequence[Leaf], value: Any
) -> Reason | None:
    """Return why a derivative of a gradient is infinite or NaN, ``None`` where it is finite.

    Parameters
    ----------
    diagnosis
        Gives the diagnosis of the run; called only where it is needed.
    gradient, by, value
        The gradient, the leaves that it is differentiated by, and its derivative.
    """
    import tensorflow as tf

    if not tf.executing_eagerly() or Condition.of(value) is not Condition.NOT_FINITE:
        return None
    sources = [NamedTensors(leaf.name, (leaf.value,)) for leaf in by]
    return first_known(diagnosis().explain(gradient, sources, [value] * len(sources)))


def first_known(reasons: Iterable[Reason | None]) -> Reason | None:
    """Return the first reason whose cause is known, else the first one, else ``None``."""
    given = [reason for reason in reasons if reason is not None]
    known = [reason for reason in given if reason.cause is not Cause.UNKNOWN]
    return next(iter([*known, *given]), None)


def _reason_unknown(value: Any) -> Reason | None:
    """Return the reason of a derivative that could not be diagnosed; ``None`` where it needs none."""
    if Condition.of(value) in (Condition.REGULAR, Condition.ZERO):
        return None
    return Reason(Cause.UNKNOWN, "the reason is not known: the record of the run could not be read")


def _reason_of_message(message: str) -> Reason:
    """Return TensorFlow's message on an operation that failed, without the node of the graph in it."""
    if PY_FUNCTION in message:
        return ONLY_ONCE
    text = re.sub(r"^(\{\{.*?\}\}\s*)+", "", message).partition("\n")[0]
    return Reason(Cause.UNKNOWN, text.partition(" [Op:")[0])
