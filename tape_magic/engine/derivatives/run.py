"""One run of a program under its tapes, from its sources to the report."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tape_magic.engine.derivatives.forward_mode import Directions
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.tapes import Tapes
from tape_magic.engine.diagnosis.diagnosis import Diagnosis
from tape_magic.engine.diagnosis.evidence import RunEvidence
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.selection import Selection, Source, replaced_variables
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.places import look_up
from tape_magic.errors import SourceError, TargetError, closest
from tape_magic.notation import LAST_EXPRESSION, Kind, Target, place
from tape_magic.results.curvature import Hessian
from tape_magic.results.gradients import Derivative, GradReport

Structures = dict[tuple[str, tuple[str, ...]], Any]
"""The values by target and sources, shaped as the sources were."""


@dataclass(frozen=True)
class Differentiated:
    """A report, and what goes with it.

    Attributes
    ----------
    value
        Of the program's last expression.
    bindings
        The names to bind.
    leaves
        What was differentiated by, by name.
    tangents
        Of a product, the vectors by the names of leaves.
    """

    report: GradReport
    value: Any
    bindings: Mapping[str, Any]
    leaves: Mapping[str, Leaf] = field(default_factory=dict)
    tangents: Mapping[str, Any] = field(default_factory=dict)


class Run(ABC):
    """One run of a program; each kind of derivative is a subclass.

    Parameters
    ----------
    program, namespace
        What runs, and on what.
    targets
        As the line names them.
    request
        What is asked of them.
    orders
        How many tapes are around the program, each recording the derivatives that the one within gives.
    persistent
        Whether a tape is asked more than once; else it frees what it recorded as it goes.
    directions
        The vectors of a product.

    Raises :class:`TapeMagicError` for what can be refused before the program runs.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        targets: Sequence[Target],
        request: Request,
        *,
        orders: int,
        persistent: bool,
        directions: Directions | None = None,
    ) -> None:
        import tensorflow as tf

        self.program, self.namespace = program, namespace
        self.targets, self.request = tuple(targets), request
        wrt = request.wrt if request.wrt is not None else tuple(request.vectors) or None
        named = dict.fromkeys([*(name for target in targets for name in target.wrt), *(wrt or ())])
        named |= dict.fromkeys(request.vectors)
        chooses = wrt is None and not (targets and all(target.wrt for target in targets))
        self.selection = Selection(program, namespace, named, chooses=chooses)
        if orders == 1 and request.kind is Kind.GRADIENT:
            # Elsewhere an operation without a gradient, on the way of a variable, would spoil the others.
            self.selection.access_all()
        accessed = self.selection.needs_access
        self.tapes = [
            tf.GradientTape(persistent=persistent, watch_accessed_variables=accessed) for _ in range(orders)
        ]
        self.directions = directions
        self.recorder = Recorder()
        self.tape = Tapes(self.tapes, self.recorder, directions)
        self.value: Any = None
        self.notes: list[str] = []
        self.forward_seconds = self.backward_seconds = 0.0

    def differentiated(self) -> Differentiated:
        """Run the program and differentiate it. The user's objects are back in the namespace afterwards."""
        try:
            self._lift()
            with nullcontext() if self.directions is None else self.directions.ending():
                self.descend(len(self.tapes))
            return self._reported()
        finally:
            self._close()

    # -- the run -----------------------------------------------------------------------------------

    def _lift(self) -> None:
        self._entry = dict(self.namespace)
        self.selection.lift()
        if self.directions is not None:
            # Before the tapes begin, so that these do not record what forward mode computes.
            self.directions.move(source for source in self.selection.sources if not source.assigned)

    def descend(self, order: int) -> None:
        """Run the program within `order` tapes; each records the derivatives that the one within gives."""
        if order == 0:
            self._forward()
            return
        with self.tapes[order - 1]:
            self.descend(order - 1)
        self._timed(order)

    def _timed(self, order: int) -> None:
        started = time.perf_counter()
        # What is differentiated again may have to be explained, too.
        again = order < len(self.tapes) or self.directions is not None
        with self.recorder.listening() if again else nullcontext():
            self.differentiate(order)
        self.backward_seconds += time.perf_counter() - started

    def _forward(self) -> None:
        started = time.perf_counter()
        for source in self.selection.sources:
            self._watch(source)
        with self.selection.awaiting(self.tape.watch_source), self.recorder.listening():
            self.value = self.run_program()
        lifting = self.selection.lifting
        self.notes += replaced_variables(self._entry, self.program, self.namespace, lifting)
        self.selection.settle(self.tape.watched_variables())
        self.settle()
        self.forward_seconds = time.perf_counter() - started

    def run_program(self) -> Any:
        """The program itself, once."""
        return self.program.run(self.namespace, self.selection.hooks(self._assigned), self.tape)

    def _watch(self, source: Source) -> None:
        self.tape.watch_source(*(leaf.value for leaf in source.leaves))

    def _assigned(self, source: Source) -> None:
        self._watch(source)
        if self.directions is not None:
            self.directions.move_assigned(source)

    # -- what each kind says -----------------------------------------------------------------------

    @abstractmethod
    def settle(self) -> None:
        """Find out what is asked, now that the run has shown which outputs and sources there are."""

    @abstractmethod
    def differentiate(self, order: int) -> None:
        """Take all derivatives of one order, once the tape of that order has ended."""

    @abstractmethod
    def rows(self) -> tuple[list[Derivative], Structures]:
        """The records in the order asked, and their values by the sources' structures."""

    def hessians(self) -> tuple[Hessian, ...]:
        """The Hessians, where they were asked for."""
        return ()

    # -- outputs and sources -----------------------------------------------------------------------

    def outputs(self) -> tuple[Target, ...]:
        """The targets, or what is differentiated when the line names nothing."""
        if self.targets:
            return self.targets
        if self.value is not None:
            return (Target(LAST_EXPRESSION),)
        wrt = self.request.wrt
        if self.program.names.opaque and wrt is not None:  # a function that returned a dict
            given = {name: self.selection[name].value for name in wrt}
            return tuple(
                Target(name) for name, value in self.namespace.items() if value is not given.get(name)
            )
        raise TargetError(
            "there is no output to differentiate: name one, for example %%grad y, "
            "or end the cell with an expression."
        )

    def by(self, outputs: Iterable[Target]) -> tuple[str, ...]:
        """The sources of the outputs that name none."""
        wrt = self.request.wrt
        found = tuple(wrt) if wrt is not None else self.selection.defaults
        if not found and not all(target.wrt for target in outputs):
            raise SourceError(
                "there is nothing to differentiate by: no variable, float tensor, float or array was read; "
                "name a source with --wrt x."
            )
        return found

    def output(self, name: str) -> Any:
        """What the program left at a place, or the value of its last expression."""
        base = place(name)[0]
        if base == LAST_EXPRESSION and base not in self.program.names.assigns:
            if self.value is None:
                raise TargetError("the cell does not end with an expression, so there is no _.")
            return self.value
        if base not in self.namespace:
            raise TargetError(f"{base} is never assigned{closest(base, self.namespace)}")
        return look_up(name, self.namespace)

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """What explains derivatives, once the tapes have ended."""
        return Diagnosis(RunEvidence(self.recorder, self.program.text(self.namespace)))

    def note(self, *sentences: str) -> None:
        """Say something in the report, once."""
        self.notes += [sentence for sentence in dict.fromkeys(sentences) if sentence not in self.notes]

    # -- the report --------------------------------------------------------------------------------

    def _reported(self) -> Differentiated:
        rows, structures = self.rows()
        report = GradReport(
            tuple(rows),
            structures,
            self.forward_seconds,
            self.backward_seconds,
            tuple(self.notes),
            self.request.kind,
            self.hessians(),
        )
        bindings = {
            target.binding: structures[target.name, target.wrt] for target in self.targets if target.wrt
        }
        leaves = {leaf.name: leaf for source in self.selection.sources for leaf in source.leaves}
        tangents = {} if self.directions is None else self.directions.tangents(leaves.values())
        return Differentiated(report, self.value, bindings, leaves, tangents)

    def _close(self) -> None:
        """The user's objects are back in the namespace, and what the tapes recorded is let go."""
        self.selection.lifting.give_back()
        self.tapes.clear()
        self.recorder.close()
