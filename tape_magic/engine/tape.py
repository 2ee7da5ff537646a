"""Derivatives of outputs: nested gradient tapes around one run of a program."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tape_magic.engine import sources as src
from tape_magic.engine.program import FunctionProgram, Namespace, Program, as_sources
from tape_magic.engine.request import Request
from tape_magic.engine.selection import Selection, replaced_variables
from tape_magic.errors import SourceError, TargetError, closest
from tape_magic.notation import LAST_EXPRESSION, Target, place, read_targets, split
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.reasons import Cause, Reason


@dataclass(frozen=True)
class Differentiated:
    """A report, the value of the program's last expression, and the names to bind."""

    report: GradReport
    value: Any
    bindings: Mapping[str, Any]


def grad(
    fn: Callable[..., Any],
    wrt: Any = None,
    targets: str | Sequence[str] = "",
    *,
    order: int = 1,
    zero: bool = False,
) -> GradReport:
    """Differentiate what a function returns.

    Parameters
    ----------
    fn
        Called once. It takes the sources, by name or in their order, or no arguments at all when
        it closes over them. It returns a tensor, or a dict of named ones.
    wrt
        The sources: one, a list, or a dict that names them. A source is a variable, a float or
        complex tensor, a float, an array, a layer, model or ``tf.Module``, or a list, tuple or
        dict of these. Without it: the trainable variables that the function reads.
    targets
        As on the line of ``%%grad``: ``"dy/dx, d2y/dx2"`` or ``["y"]``; empty for the value that
        is returned, which goes by the name ``_``, or for each of the named ones.
    order
        Of the derivative by each source, for targets that name no source.
    zero
        Zeros instead of ``None`` where a target does not depend on a source.

    Returns
    -------
    GradReport
        Each value has the shape and dtype of its last source. What is not scalar is summed before
        it is differentiated, as ``tf.GradientTape.gradient`` does; the report's labels say so.

    Raises
    ------
    TapeMagicError
        For a source that has no derivative, and a target that is not returned.

    Examples
    --------
    >>> report = grad(lambda x: {"y": x**3}, {"x": 2.0}, "dy/dx, d2y/dx2")   # doctest: +SKIP
    >>> float(report["dy/dx"]), float(report["d2y/dx2"])                     # doctest: +SKIP
    (12.0, 12.0)
    """
    given = {} if wrt is None else as_sources(wrt)
    words = split(targets) if isinstance(targets, str) else list(targets)
    program = FunctionProgram(fn, given)
    request = Request(words, tuple(given) or None, order, zero=zero)
    return differentiate(program, dict(given), request).report


def differentiate(program: Program, namespace: Namespace, request: Request) -> Differentiated:
    """Run a program once under tapes and differentiate its outputs.

    Lifted objects are back in `namespace` when it returns, and when it raises.
    """
    names = program.names
    targets = read_targets(request.words, {*namespace, *names.assigns}.__contains__)
    for target in targets:
        base = place(target.name)[0]
        if base not in names.assigns and not names.opaque and base != LAST_EXPRESSION:
            raise TargetError(f"the cell never assigns {base}{closest(base, names.assigns)}")
    run = _Run(program, namespace, targets, request.wrt, request.order)
    try:
        run.descend(len(run.tapes))
        return run.differentiated(request.zero)
    finally:
        run.close()


class Tapes:
    """The tapes around a program, one an order, as the program sees them: under the name ``tape``.

    Each method does on all of them what it does on a ``tf.GradientTape``.
    """

    def __init__(self, tapes: Sequence[Any]) -> None:
        self._tapes = tapes
        self._sources: list[Any] = []

    def watch(self, tensor: Any) -> None:
        """Record what is computed from a tensor, or from a structure of them."""
        for tape in self._tapes:
            tape.watch(tensor)

    def watch_source(self, tensor: Any) -> None:
        """Watch a tensor or variable, also after a reset."""
        self._sources.append(tensor)
        self.watch(tensor)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Within this, nothing is recorded."""
        with ExitStack() as stack:
            for tape in self._tapes:
                stack.enter_context(tape.stop_recording())
            yield

    def reset(self) -> None:
        """Forget what was recorded; the sources stay watched."""
        for tape in self._tapes:
            tape.reset()
        for tensor in self._sources:
            self.watch(tensor)

    def watched_variables(self) -> tuple[Any, ...]:
        """The variables watched so far."""
        return tuple(self._tapes[0].watched_variables())


Prefix = tuple[str, tuple[src.Leaf, ...]]
"""An output and the leaves it was differentiated by so far."""


class _Run:
    """One run of a program under its tapes, and the derivatives found so far."""

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        targets: Sequence[Target],
        wrt: Sequence[str] | None,
        order: int,
    ) -> None:
        import tensorflow as tf

        self.program, self.namespace = program, namespace
        self.targets, self.wrt, self.order = tuple(targets), wrt, order
        named = dict.fromkeys([*(name for target in targets for name in target.wrt), *(wrt or ())])
        chooses = wrt is None and not (targets and all(target.wrt for target in targets))
        self.selection = Selection(program, namespace, named, chooses=chooses)
        orders = max((target.order or order for target in targets), default=order)
        # A tape that is asked once frees what it recorded as it goes.
        persistent = orders > 1 or len({target.name for target in targets}) != 1
        accessed = self.selection.needs_access
        self.tapes = [
            tf.GradientTape(persistent=persistent, watch_accessed_variables=accessed) for _ in range(orders)
        ]
        self.tape = Tapes(self.tapes)
        self.value: Any = None
        self.notes: list[str] = []
        self.forward_seconds = self.backward_seconds = 0.0
        self._asked: list[Target] = []
        self._found: dict[Prefix, Any] = {}
        self._sums: dict[Prefix, int] = {}
        self._why: dict[Prefix, Reason] = {}

    def descend(self, order: int) -> None:
        """Run the program within `order` tapes; each records the derivatives that the one within gives."""
        if order == 0:
            self._forward()
            return
        with self.tapes[order - 1]:
            self.descend(order - 1)
        started = time.perf_counter()
        self._differentiate(order)
        self.backward_seconds += time.perf_counter() - started

    def _forward(self) -> None:
        started = time.perf_counter()
        entry = dict(self.namespace)
        self.selection.lift()
        for source in self.selection.sources:
            self._watch(source.leaves)
        with self.selection.awaiting(self.tape.watch_source):
            self.value = self.program.run(self.namespace, self.selection.hooks(self._watch), self.tape)
        self.notes += replaced_variables(entry, self.program, self.namespace, self.selection.lifting)
        self.selection.settle(self.tape.watched_variables())
        self._asked = self._settled_targets()
        self.forward_seconds = time.perf_counter() - started

    def _watch(self, leaves: Sequence[src.Leaf]) -> None:
        for leaf in leaves:
            self.tape.watch_source(leaf.value)

    def _settled_targets(self) -> list[Target]:
        """Each target with its sources, now that the run has shown which there are."""
        by = tuple(self.wrt) if self.wrt is not None else self.selection.defaults
        targets = self.targets or tuple(Target(name) for name in self._outputs())
        if not by and not all(target.wrt for target in targets):
            raise SourceError(
                "there is nothing to differentiate by: no variable, float tensor, float or array was read; "
                "name a source with --wrt x."
            )
        return [
            Target(target.name, wrt)
            for target in targets
            for wrt in ([target.wrt] if target.wrt else [(name,) * self.order for name in by])
        ]

    def _outputs(self) -> list[str]:
        """What is differentiated when the line names nothing."""
        if self.value is not None:
            return [LAST_EXPRESSION]
        if self.program.names.opaque and self.wrt is not None:  # a function that returned a dict
            given = {name: self.selection[name].value for name in self.wrt}
            return [name for name, value in self.namespace.items() if value is not given.get(name)]
        raise TargetError(
            "there is no output to differentiate: name one, for example %%grad y, "
            "or end the cell with an expression."
        )

    def _combinations(self, target: Target) -> list[tuple[src.Leaf, ...]]:
        """The leaves that a target is differentiated by, an entry an order.

        By one structure, each leaf by itself; by different sources, each leaf by each.
        """
        leaves = [self.selection[name].leaves for name in target.wrt]
        if len(set(target.wrt)) == 1:
            return [(leaf,) * target.order for leaf in leaves[0]]
        return list(itertools.product(*leaves))

    def _differentiate(self, order: int) -> None:
        """All derivatives of one order, with one call of the tape for each thing differentiated."""
        wanted: dict[Prefix, dict[src.Leaf, None]] = {}
        for target in self._asked:
            if target.order >= order:
                for leaves in self._combinations(target):
                    wanted.setdefault((target.name, leaves[: order - 1]), {})[leaves[order - 1]] = None
        for (name, leaves), by in wanted.items():
            value = self._found[name, leaves] if leaves else self._output(name)
            gradients = self._gradients(self.tapes[order - 1], (name, leaves), value, list(by))
            for leaf, gradient in zip(by, gradients, strict=True):
                self._found[name, (*leaves, leaf)] = gradient

    def _output(self, name: str) -> Any:
        base = place(name)[0]
        if base == LAST_EXPRESSION and base not in self.program.names.assigns:
            if self.value is None:
                raise TargetError("the cell does not end with an expression, so there is no _.")
            return self.value
        if base not in self.namespace:
            raise TargetError(f"{base} is never assigned{closest(base, self.namespace)}")
        return src.look_up(name, self.namespace)

    def _gradients(self, tape: Any, prefix: Prefix, value: Any, by: list[src.Leaf]) -> list[Any]:
        """What the tape gives, ``None`` where it gives nothing, with the reason where it is plain."""
        import tensorflow as tf

        self._sums[prefix] = 1
        nothing = [None] * len(by)
        if value is None and prefix[1]:  # the derivative before this one
            return nothing
        outputs = [_summed(item) for item in tf.nest.flatten(value)]
        reasons = [_no_derivative(item, prefix[0]) for item in outputs]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is not None:
            self._why[prefix] = reason
            return nothing
        self._sums[prefix] = sum(_size(item) for item in tf.nest.flatten(value))
        try:
            return list(tape.gradient(outputs, [leaf.value for leaf in by]))
        except LookupError as error:
            self._why[prefix] = Reason(Cause.UNREGISTERED, str(error).partition(" (")[0])
        except tf.errors.OpError as error:
            self._why[prefix] = Reason(Cause.UNKNOWN, str(error.message).partition("\n")[0])
        return nothing

    def differentiated(self, zero: bool) -> Differentiated:
        """Everything found, in the order asked."""
        rows: list[Derivative] = []
        structures: dict[tuple[str, tuple[str, ...]], Any] = {}
        for target in self._asked:
            combinations = self._combinations(target)
            found = [self._row(target.name, leaves, zero) for leaves in combinations]
            rows += found
            values = [row.value for row in found]
            if len(set(target.wrt)) == 1:
                held = {id(leaves[0].owner): v for leaves, v in zip(combinations, values, strict=True)}
                structure = src.regrouped(self.selection[target.wrt[0]].value, _by_identity(held))
            else:
                structure = values[0] if len(values) == 1 else values
            structures[target.name, target.wrt] = structure
        seconds = self.forward_seconds, self.backward_seconds
        report = GradReport(tuple(rows), structures, *seconds, tuple(self.notes))
        bindings = {t.binding: structures[t.name, t.wrt] for t in self.targets if t.wrt}
        return Differentiated(report, self.value, bindings)

    def _row(self, name: str, leaves: tuple[src.Leaf, ...], zero: bool) -> Derivative:
        import tensorflow as tf

        prefixes = [(name, leaves[:level]) for level in range(len(leaves))]
        value, last = self._found[name, leaves], leaves[-1]
        why = next((self._why[prefix] for prefix in prefixes if prefix in self._why), None)
        connected = value is not None
        return Derivative(
            target=name,
            wrt=tuple(leaf.name for leaf in leaves),
            value=tf.zeros(last.shape, last.value.dtype) if zero and not connected and not why else value,
            shape=last.shape,
            dtype=last.dtype,
            sums=tuple(self._sums[prefix] for prefix in prefixes),
            connected=connected,
            reason=why,
            of_model=last.of_model,
        )

    def close(self) -> None:
        """The user's objects are back in the namespace, and what the tapes recorded is let go."""
        self.selection.lifting.give_back()
        self.tapes.clear()


def _by_identity(values: Mapping[int, Any]) -> Callable[[Any], Any]:
    return lambda owner: values.get(id(owner))


def _summed(value: Any) -> Any:
    """The tensor whose elements have the sum of a tensor, variable or composite tensor."""
    import tensorflow as tf

    if src.is_variable(value):
        return src.watched(value)
    if isinstance(value, tf.IndexedSlices | tf.SparseTensor):
        return value.values
    return value.flat_values if isinstance(value, tf.RaggedTensor) else value


def _size(value: Any) -> int:
    """How many elements are summed."""
    import tensorflow as tf

    whole = isinstance(value, tf.IndexedSlices)  # the gradient of a lookup: mostly rows of zeros
    return math.prod(value.shape if whole else _summed(value).shape)


def _no_derivative(value: Any, name: str) -> Reason | None:
    """Why an output has no derivative at all, where its type says so."""
    if not src.is_tensor(value) and not src.is_variable(value):
        left = f"{name} is a {type(value).__name__}, not a tensor: it left TensorFlow"
        return Reason(Cause.LEFT, left)
    if src.is_inexact(value):
        return None
    return Reason(Cause.INTEGER, f"{name} is {value.dtype.name}, which has no derivative")
