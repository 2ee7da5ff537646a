"""Gradients of any order: each taken of the one before, as nested tapes do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tape_magic.engine.derivatives.forward_mode import Directions
from tape_magic.engine.derivatives.outputs import no_derivative, parts_of, size_of, sum_of
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Run, Structures
from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.diagnosis.missing import ONLY_ONCE
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.record.entry import PY_FUNCTION
from tape_magic.engine.record.frames import failing_rule
from tape_magic.engine.values.leaves import Leaf, regroup
from tape_magic.engine.values.tensors import is_module
from tape_magic.notation import Kind, Target
from tape_magic.results.gradients import Derivative
from tape_magic.results.reasons import Cause, Reason

T = TypeVar("T")
N = TypeVar("N")

Prefix = tuple[str, tuple[Leaf, ...]]
"""An output and the leaves it was differentiated by so far."""


class Gradients(Run):
    """What ``tape.gradient`` gives, of each output by each of its sources."""

    asks_again = False
    """Whether a tape may be asked more than once for one thing."""

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        targets: Sequence[Target],
        request: Request,
        directions: Directions | None = None,
    ) -> None:
        orders = self.orders(targets, request)
        super().__init__(
            program,
            namespace,
            targets,
            request,
            orders=orders,
            persistent=orders > 1 or self.asks_again or len({target.name for target in targets}) != 1,
            directions=directions,
        )
        self.asked: list[Target] = []
        self.found: dict[Prefix, Any] = {}
        self.sums: dict[Prefix, int] = {}
        self.why: dict[Prefix, Reason] = {}
        self.refusals: dict[Prefix, Reason] = {}
        self._taken: dict[Prefix, tuple[Any, list[Leaf]]] = {}
        self._reasons: dict[Prefix, Reason] = {}

    def orders(self, targets: Sequence[Target], request: Request) -> int:
        """How many times the program is differentiated. Raises :class:`LineError` for what makes no sense."""
        return max((target.order or request.order for target in targets), default=request.order)

    def settle(self) -> None:
        """Each target with its sources."""
        outputs = self.outputs()
        by = self.by(outputs)
        self.asked = [
            Target(target.name, wrt)
            for target in outputs
            for wrt in ([target.wrt] if target.wrt else [(name,) * self.request.order for name in by])
        ]

    def combinations(self, target: Target) -> list[tuple[Leaf, ...]]:
        """The leaves that a target is differentiated by, an entry an order.

        By one structure, each leaf by itself; by different sources, each leaf by each.
        """
        leaves = [self.selection[name].leaves for name in target.wrt]
        if len(set(target.wrt)) == 1:
            return [(leaf,) * target.order for leaf in leaves[0]]
        return list(itertools.product(*leaves))

    def differentiate(self, order: int) -> None:
        """All derivatives of one order, with one call of the tape for each thing differentiated."""
        wanted: dict[Prefix, dict[Leaf, None]] = {}
        for target in self.asked:
            if target.order >= order:
                for leaves in self.combinations(target):
                    wanted.setdefault((target.name, leaves[: order - 1]), {})[leaves[order - 1]] = None
        for (name, leaves), by in wanted.items():
            value = self.found[name, leaves] if leaves else self.output(name)
            self._taken[name, leaves] = value, list(by)
            values = self.derivatives(self.tapes[order - 1], (name, leaves), value, list(by))
            for leaf, derivative in zip(by, values, strict=True):
                self.found[name, (*leaves, leaf)] = derivative

    def gradients(self, name: str, leaves: list[Leaf]) -> list[Any]:
        """The first derivatives of one output, for kinds that go on from there in their own way."""
        value = self.output(name)
        self._taken[name, ()] = value, leaves
        found = self.derivatives(self.tapes[0], (name, ()), value, leaves)
        self.found.update({(name, (leaf,)): one for leaf, one in zip(leaves, found, strict=True)})
        return found

    def derivatives(self, tape: Any, prefix: Prefix, value: Any, by: list[Leaf]) -> list[Any]:
        """Those of one thing by some leaves, ``None`` where there is none, with the reason if it is plain."""
        self.sums[prefix] = 1
        nothing = [None] * len(by)
        if value is None and prefix[1]:  # the derivative before this one
            return nothing
        reason = no_derivative(value, prefix[0])
        if reason is not None:
            self.why[prefix] = reason
            return nothing
        return self.attempted(prefix, lambda: self.take(tape, prefix, value, by), nothing)

    def attempted(self, prefix: Prefix, take: Callable[[], T], nothing: N) -> T | N:
        """What `take` gives; `nothing` where TensorFlow refuses, with the reason."""
        import tensorflow as tf

        try:
            return take()
        except LookupError as error:
            self.refusals[prefix] = Reason(Cause.UNREGISTERED, str(error).partition(" (")[0])
        except tf.errors.OpError as error:
            self.refusals[prefix] = _refused(str(error))
        except Exception as error:
            operation = failing_rule(error)
            if not operation:
                raise
            said = " ".join(str(error).split()).partition(". ")[0]
            self.refusals[prefix] = Reason(Cause.UNKNOWN, said, "", operation)
        return nothing

    def take(self, tape: Any, prefix: Prefix, value: Any, by: list[Leaf]) -> list[Any]:
        """The derivatives of a tensor, or of the sum of all that a structure holds."""
        parts = parts_of(value)
        self.sums[prefix] = sum(size_of(item) for item in parts)
        if len(parts) == len(by) == 1:  # TensorFlow takes its time over structures
            return [tape.gradient(sum_of(parts[0]), by[0].value)]
        return list(tape.gradient([sum_of(item) for item in parts], [leaf.value for leaf in by]))

    # -- the report --------------------------------------------------------------------------------

    def rows(self) -> tuple[list[Derivative], Structures]:
        """A row for each leaf of each target's sources."""
        self.find_reasons()
        rows: list[Derivative] = []
        structures: Structures = {}
        for target in self.asked:
            combinations = self.combinations(target)
            found = [self.row(target.name, leaves) for leaves in combinations]
            rows += found
            values = [row.value for row in found]
            if len(set(target.wrt)) == 1:
                structure = self.regrouped(target.wrt[0], [leaves[0] for leaves in combinations], values)
            else:
                structure = values[0] if len(values) == 1 else values
            structures[target.name, target.wrt] = structure
        self.explain_sums(rows)
        return rows, structures

    def explain_sums(self, rows: Sequence[Derivative]) -> None:
        """Say what to do about sums, once for all rows."""
        if any(count != 1 for row in rows for count in row.sums):
            self.note(
                "TensorFlow differentiates the sum of what is not a scalar; "
                "--jacobian keeps its elements apart"
            )

    def regrouped(self, name: str, leaves: Iterable[Leaf], values: Sequence[Any]) -> Any:
        """The structure of a source with a value in the place of each of its leaves."""
        structure = self.selection[name].value
        if is_module(structure):
            return list(values)
        held = {id(leaf.owner): value for leaf, value in zip(leaves, values, strict=True)}
        return regroup(structure, _by_identity(held))

    def row(self, name: str, leaves: tuple[Leaf, ...]) -> Derivative:
        """The record of one output by some leaves."""
        import tensorflow as tf

        prefixes = [(name, leaves[:level]) for level in range(len(leaves))]
        value, last = self.found[name, leaves], leaves[-1]
        plain = next((self.why[prefix] for prefix in prefixes if prefix in self.why), None)
        refusal = next((self.refusals[prefix] for prefix in prefixes if prefix in self.refusals), None)
        why = self.reason(name, leaves) or plain or (refusal if self.found[name, leaves] is None else None)
        connected = value is not None
        shape = self.shape(name, leaves)
        zeros = self.request.zero and not connected and not plain and not refusal
        return Derivative(
            target=name,
            wrt=tuple(leaf.name for leaf in leaves),
            value=tf.zeros(shape, last.value.dtype) if zeros else value,
            shape=shape,
            dtype=last.dtype,
            sums=tuple(self.sums[prefix] for prefix in prefixes),
            connected=connected,
            reason=why,
            of_model=last.of_model,
            kind=self.request.kind,
            source=last.owner if shape == last.shape else None,
        )

    def find_reasons(self) -> None:
        """Find out why derivatives are missing, zero or not finite; the tapes have ended by now."""
        import tensorflow as tf

        if not tf.executing_eagerly():  # within a graph, there are no values to look at
            return
        for (name, before), (value, leaves) in self._taken.items():
            plain = self.why.get((name, before))
            if plain is not None and plain.cause is Cause.LEFT:
                self._explain_left(name, before, leaves, plain)
            if value is None or plain is not None:
                continue
            found = (self.found[name, (*before, leaf)] for leaf in leaves)
            if all(Condition.of(one) is Condition.REGULAR for one in found):
                continue
            target = _quantity(name, before, value)
            sources = [NamedTensors(leaf.name, (leaf.value,)) for leaf in leaves]
            places = [(name, (*before, leaf)) for leaf in leaves]
            try:
                reasons = self._explained(target, sources, places)
            except Exception:  # whatever the record holds, the derivatives stand
                reasons = [unexplained(self.found[place]) for place in places]
            self._reasons.update(
                {place: reason for place, reason in zip(places, reasons, strict=True) if reason is not None}
            )

    def _explain_left(self, name: str, before: Any, leaves: Iterable[Leaf], plain: Reason) -> None:
        """Of an output that is no tensor."""
        for leaf in leaves:
            try:
                reason = self.diagnosis.explain_no_tensor(name, NamedTensors(leaf.name, (leaf.value,)), plain)
            except Exception:  # whatever the text is like, the derivatives stand
                reason = plain
            self._reasons[name, (*before, leaf)] = reason

    def _explained(
        self, target: NamedTensors, sources: Sequence[NamedTensors], places: Sequence[Prefix]
    ) -> list[Reason | None]:
        """Why the derivatives at some places are as they are; those that TensorFlow refused, one by one."""
        refusal = self.refusals.get((places[0][0], places[0][1][:-1]))
        if refusal is None:
            return self.diagnosis.explain(target, sources, [self.found[place] for place in places])
        if self.request.kind is not Kind.GRADIENT:
            return [self.diagnosis.explain_refusal(target, source, refusal) for source in sources]
        apart = [self.diagnosis.differentiate_alone(target, source, refusal) for source in sources]
        self.found.update(zip(places, (found for found, _ in apart), strict=True))
        return [reason for _, reason in apart]

    def reason(self, name: str, leaves: tuple[Leaf, ...]) -> Reason | None:
        """Of a derivative, or of the one before it that is missing."""
        levels = [(name, leaves[:level]) for level in range(1, len(leaves) + 1)]
        missing = next((level for level in levels if self.found.get(level) is None), levels[-1])
        return self._reasons.get(missing)

    def reason_again(
        self, name: str, first: Leaf, gradient: Any, by: Sequence[Leaf], value: Any
    ) -> Reason | None:
        """Why a derivative of a gradient is not finite, as the ways from some leaves to the gradient show."""
        import tensorflow as tf

        if not tf.executing_eagerly() or Condition.of(value) is not Condition.NOT_FINITE:
            return None
        sources = [NamedTensors(leaf.name, (leaf.value,)) for leaf in by]
        target = _quantity(name, (first,), gradient)
        return telling(self.diagnosis.explain(target, sources, [value] * len(sources)))

    def shape(self, name: str, leaves: tuple[Leaf, ...]) -> tuple[int, ...]:
        """The shape of a derivative, also where there is none."""
        return leaves[-1].shape


def _quantity(name: str, before: tuple[Leaf, ...], value: Any) -> NamedTensors:
    """What was differentiated: an output, or a derivative of it."""
    label = Target(name, tuple(leaf.name for leaf in before)).label if before else name
    return NamedTensors(label, tuple(sum_of(item) for item in parts_of(value)))


def unexplained(value: Any) -> Reason | None:
    """Of a derivative whose reason could not be looked for; ``None`` where it needs none."""
    if Condition.of(value) in (Condition.REGULAR, Condition.ZERO):
        return None
    return Reason(Cause.UNKNOWN, "the reason is not known: the record of the run could not be read")


def telling(reasons: Iterable[Reason | None]) -> Reason | None:
    """The first that is known, or else one that says that it is not."""
    given = [reason for reason in reasons if reason is not None]
    known = [reason for reason in given if reason.cause is not Cause.UNKNOWN]
    return next(iter([*known, *given]), None)


def _refused(message: str) -> Reason:
    """What TensorFlow says of an operation that failed, less the node that it stands in."""
    if PY_FUNCTION in message:
        return ONLY_ONCE
    said = re.sub(r"^(\{\{.*?\}\}\s*)+", "", message).partition("\n")[0]
    return Reason(Cause.UNKNOWN, said.partition(" [Op:")[0])


def _by_identity(values: Mapping[int, Any]) -> Callable[[Any], Any]:
    return lambda owner: values.get(id(owner))
