"""`Run`: one run of a program under its tapes, from the sources to the report."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tape_magic.engine.derivatives.forward_mode import Directions, forward_mode_errors
from tape_magic.engine.derivatives.notes import not_finite_notes
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.tapes import Tapes
from tape_magic.engine.diagnosis.diagnosis import Diagnosis
from tape_magic.engine.diagnosis.evidence import RunEvidence
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.selection import Selection, Source, replaced_variables
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.refusals import emptiness, is_untrained
from tape_magic.errors import SourceError, TargetError, closest
from tape_magic.notation import LAST_EXPRESSION, Kind, Target
from tape_magic.results.curvature import Hessian
from tape_magic.results.examples import ExampleNorms
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.syntax import place

Structures = dict[tuple[str, tuple[str, ...]], Any]
"""The derivatives by output and sources, in the structures of the sources."""


@dataclass(frozen=True)
class RunResult:
    """The report of a run, and what its caller needs besides.

    Attributes
    ----------
    report
        The derivatives, their reasons, and the seconds that they took.
    value
        Value of the program's last expression; ``None`` without one.
    bindings
        Values to bind in the notebook, by name.
    leaves
        The variables and tensors that were differentiated by, by name.
    tangents
        For a product, the part of the vectors that belongs to each leaf, by the leaf's name.
    """

    report: GradReport
    value: Any
    bindings: Mapping[str, Any]
    leaves: Mapping[str, Leaf] = field(default_factory=dict)
    tangents: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Seconds:
    """How long the program ran, and how long its derivatives took."""

    forward: float = 0.0
    backward: float = 0.0


class Run(ABC):
    """One run of a program, whose outputs are differentiated; each kind of derivative is a subclass.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on.
    targets
        Outputs and derivatives as the line names them; empty where it names none.
    request
        Which derivatives are wanted.
    orders
        Number of tapes around the program, each of which records the derivatives that the next inner one
        gives.
    persistent
        Whether a tape is asked more than once; a tape that is not frees its record while it differentiates.
    directions
        The vectors of a product; ``None`` for any other kind.

    Raises :class:`TapeMagicError` for a request that can be refused before the program runs.
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
        wrt = request.wrt if request.wrt is not None else request.moved or None
        named = dict.fromkeys([*(name for target in targets for name in target.wrt), *(wrt or ())])
        named |= dict.fromkeys(request.moved)
        chooses = wrt is None and not (targets and all(target.wrt for target in targets))
        self.selection = Selection(program, namespace, named, chooses=chooses, never=request.batch_names)
        if orders == 1 and request.kind is Kind.GRADIENT:
            # Only gradients are taken source by source where TensorFlow refuses all sources at once. In any
            # other kind, one watched variable behind an operation without a gradient would cost them all.
            self.selection.access_all()
        accessed = self.selection.needs_access
        tapes = [
            tf.GradientTape(persistent=persistent, watch_accessed_variables=accessed) for _ in range(orders)
        ]
        self.tapes = Tapes(tapes, Recorder(), directions)
        self.directions = directions
        self.value: Any = None
        self.notes: list[str] = []
        self.seconds = Seconds()

    def result(self, look: Callable[[Run], None] | None = None) -> RunResult:
        """Run the program, differentiate its outputs, and put the user's objects back into the namespace.

        `look` is called with the run before its record is let go of.
        """
        try:
            self._lift()
            with nullcontext() if self.directions is None else self.directions.closing():
                self._run_within(len(self.tapes.gradient_tapes))
            result = self._result()
            if look is not None:
                look(self)
            return result
        finally:
            self.selection.lifting.give_back()
            self.tapes.close()

    # -- the run -----------------------------------------------------------------------------------

    def _lift(self) -> None:
        """Put tensors in the places of floats and arrays that are sources."""
        self._entry = dict(self.namespace)
        self.selection.lift()
        if self.directions is not None:
            # Before the tapes begin, so that they do not record the operations of forward mode.
            self.directions.move(source for source in self.selection.sources if not source.assigned)

    def _run_within(self, order: int) -> None:
        """Run the program within `order` tapes, each of which records the next inner one's derivatives."""
        if order == 0:
            self._forward()
            return
        with self.tapes.gradient_tapes[order - 1]:
            self._run_within(order - 1)
        started = time.perf_counter()
        # The diagnosis of a second derivative needs the record of the first.
        again = order < len(self.tapes.gradient_tapes) or self.directions is not None
        with self.tapes.recorder.listening() if again else nullcontext():
            self.differentiate(order)
        self.seconds.backward += time.perf_counter() - started

    def _forward(self) -> None:
        """Run the program, with its sources watched, and find its outputs."""
        started = time.perf_counter()
        for source in self.selection.sources:
            self._watch(source)
        with self.selection.awaiting(self.tapes.watch_source), self.tapes.recorder.listening():
            self.value = self._run_program()
        lifting = self.selection.lifting
        self.notes += replaced_variables(self._entry, self.program, self.namespace, lifting)
        self.selection.settle(self.tapes.watched_variables())
        if self.directions is not None:
            self.directions.check()
        self.settle()
        self.seconds.forward = time.perf_counter() - started

    def _run_program(self) -> Any:
        with nullcontext() if self.directions is None else forward_mode_errors(self.program):
            return self.program.run(self.namespace, self.selection.hooks(self._watch_assigned), self.tapes)

    def _watch(self, source: Source) -> None:
        self.tapes.watch_source(*(leaf.value for leaf in source.leaves))

    def _watch_assigned(self, source: Source) -> None:
        """Watch a source that the program has just assigned."""
        self._watch(source)
        if self.directions is not None:
            self.directions.move_assigned(source)

    # -- what each kind of derivative implements ---------------------------------------------------

    @abstractmethod
    def settle(self) -> None:
        """List the derivatives to take, now that the run has shown which outputs and sources there are."""

    @abstractmethod
    def differentiate(self, order: int) -> None:
        """Take all derivatives of one order; the tape of that order has ended."""

    @abstractmethod
    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return the rows of the report in the order asked, and their values in the sources' structures."""

    def hessians(self) -> tuple[Hessian, ...]:
        """Return the Hessians, where they were asked for."""
        return ()

    def examples(self) -> tuple[ExampleNorms, ...]:
        """Return the norms of the examples' gradients, where they were asked for."""
        return ()

    # -- outputs and sources -----------------------------------------------------------------------

    def outputs(self) -> tuple[Target, ...]:
        """Return the targets, or the outputs to differentiate where the line names none.

        Raises :class:`TargetError` where there is no output.
        """
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

    def default_sources(self, outputs: Iterable[Target]) -> tuple[str, ...]:
        """Return the sources of outputs that name none.

        Raises :class:`SourceError` where an output needs a source and there is none.
        """
        wrt = self.request.wrt
        found = tuple(wrt) if wrt is not None else self.selection.defaults
        if not found and not all(target.wrt for target in outputs):
            for name in self.program.names.reads:
                if is_untrained(value := self.namespace.get(name)):
                    raise SourceError(f"there is nothing to differentiate by: {emptiness(value, name)}")
            raise SourceError(
                "there is nothing to differentiate by: no variable, float tensor, float or array was read; "
                "name a source with --wrt x."
            )
        return found

    def output(self, name: str) -> Any:
        """Return what the program left at a place, or the value of its last expression.

        Raises :class:`TargetError` where the program left nothing there.
        """
        base = place(name)[0]
        if base == LAST_EXPRESSION and base not in self.program.names.assigns:
            if self.value is None:
                raise TargetError("the cell does not end with an expression, so there is no _.")
            return self.value
        if base not in self.namespace:
            raise TargetError(f"{base} is never assigned{closest(base, self.namespace)}")
        return look_up(name, self.namespace)

    @cached_property
    def evidence(self) -> RunEvidence:
        """The record of the run and the text that ran; to be read after the tapes have ended."""
        return RunEvidence(self.tapes.recorder, self.program.text(self.namespace))

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The diagnosis of the recorded run; to be read after the tapes have ended."""
        return Diagnosis(self.evidence)

    def note(self, *sentences: str) -> None:
        """Add sentences to the notes of the report, each once."""
        self.notes += [sentence for sentence in dict.fromkeys(sentences) if sentence not in self.notes]

    # -- the report --------------------------------------------------------------------------------

    def _result(self) -> RunResult:
        """Return the report, the values to bind, and the leaves by name."""
        rows, structures = self.rows()
        self.note(*not_finite_notes(rows, self.output, lambda: self.diagnosis))
        report = GradReport(
            tuple(rows),
            structures,
            self.seconds.forward,
            self.seconds.backward,
            tuple(self.notes),
            self.request.kind,
            self.hessians(),
            self.examples(),
        )
        bindings = {
            target.binding: structures[target.name, target.wrt] for target in self.targets if target.wrt
        }
        leaves = {leaf.name: leaf for source in self.selection.sources for leaf in source.leaves}
        tangents = {} if self.directions is None else self.directions.tangents(leaves.values())
        return RunResult(report, self.value, bindings, leaves, tangents)
