"""What is minimised, over what, within which bounds, and from where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import numpy as np

from tape_magic.engine.distribution.together import Together
from tape_magic.engine.internals.operations import key_of_variable
from tape_magic.engine.minimization import refusals, unconnected
from tape_magic.engine.minimization.bounds import Limits, limits_of, limits_of_constraints, project
from tape_magic.engine.minimization.fingerprint import fingerprint_of_run
from tape_magic.engine.minimization.mirrored import first_copy
from tape_magic.engine.minimization.scipy_methods import find
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.program.lifting import constant, in_original_type, liftable
from tape_magic.engine.program.program import Namespace, Program, Text, names_as_now
from tape_magic.engine.program.selection import Selection
from tape_magic.engine.program.training import TrainingName
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.stepping import steps_in_run
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import is_tensor
from tape_magic.errors import SourceError, TargetError
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.syntax import place

FindRecord = Callable[[], LossRecord | None]
"""Returns the operations of one evaluation of the loss, or ``None`` where they are not known."""


class LiftedVariables:
    """The variables that stand for floats, arrays and tensors during a run.

    Attributes
    ----------
    made
        The variables of this run, in the order in which they were asked for.
    """

    def __init__(self) -> None:
        self.made: list[Any] = []
        self._earlier: list[Any] = []

    def reuse(self, earlier: Sequence[Any]) -> None:
        """Take the variables of an earlier run, in their order, where dtype and shape fit."""
        self._earlier = list(earlier)

    def make(self, value: Any, dtype: str) -> Any:
        """Return a variable with this value, of `dtype` where the value has none of its own."""
        import tensorflow as tf

        tensor = value if is_tensor(value) else constant(value, dtype)
        variable = self._earlier.pop(0) if self._earlier else None
        if variable is None or variable.dtype != tensor.dtype or variable.shape != tensor.shape:
            variable = tf.Variable(tensor)
        variable.assign(tensor)
        self.made.append(variable)
        return variable

    def without(self, variables: Iterable[Any]) -> list[Any]:
        """Return those of some variables that are the user's own."""
        return [one for one in variables if not any(one is lifted for lifted in self.made)]


class Problem:
    """One minimisation: a program, the variables to minimise over, their bounds, and their start values.

    Parameters
    ----------
    program, namespace, loss_name
        The program, the names that it runs on, and the name of its loss; ``None`` for its last expression.
    over
        The names of what to minimise over; ``None`` for the trainable variables that the program reads.
    settings
        How to minimise.
    kept
        Whether a later run may use again what this one compiles.
    together
        The run of all workers that this one is a part of; ``None`` for a run of this process alone. An
        attribute, too.

    Attributes
    ----------
    key
        What a later run must have in common with this one to use its loops; ``None`` where nothing tells.
    trail_key
        What a later run must have in common with this one to go on from it; ``None`` where nothing tells.
    lifted
        The variables that stand for floats, arrays and tensors.
    training
        The name by which the program knows whether it is trained or validated.
    notes
        Sentences for the report.
    leaves
        What is minimised over, each variable once; empty until :meth:`settle`.
    start_values
        The values of the leaves before the first step; empty until :meth:`begin`.
    limits
        The lower and upper bounds, by the id of the variable.
    at_close
        What is to be given back at the end.

    Raises :class:`TapeMagicError` for what can be refused before anything runs.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        over: Sequence[str] | None,
        settings: Settings,
        *,
        kept: bool = False,
        together: Together | None = None,
    ) -> None:
        self.program, self.namespace, self.settings = program, namespace, settings
        self.loss_name, self.together = loss_name, together
        self._check_names(over)
        text = program.source if kept else None
        self.key = fingerprint_of_run(program, namespace, loss_name, over, settings) if kept else None
        self.trail_key = None if text is None else (text, loss_name, tuple(over or ()))
        self.lifted = LiftedVariables()
        self.selection = Selection(
            program,
            namespace,
            over or (),
            chooses=over is None,
            else_by_name=False,
            make=self.lifted.make,
            liftable=liftable,
            given=settings.sources,
        )
        self.training = TrainingName(
            program, namespace, settings.training, validates=settings.val is not None
        )
        self.notes = list(settings.remarks)
        self.leaves: list[Leaf] = []
        self.start_values: list[np.ndarray[Any, Any]] = []
        self.limits: dict[int, Limits] = {}
        self.at_close = ExitStack()
        self.at_close.callback(names_as_now(namespace, settings.names))
        self.at_close.callback(self.selection.lifting.give_back, program.names.assigns, in_original_type)
        self.at_close.callback(self.training.release)

    def _check_names(self, over: Sequence[str] | None) -> None:
        names = self.program.names
        for name in [*([self.loss_name] if self.loss_name else []), *self.settings.track]:
            base = place(name)[0]
            if base not in names.assigns and not names.opaque:
                raise refusals.never_assigned(base, names.assigns, self.namespace)
        for name in over or ():
            if name in self.settings.sources:
                continue
            base = place(name)[0]
            if base in names.assigns:
                raise SourceError(
                    f"line {names.assigns[base]} assigns {base}, which is minimised over: "
                    f"move that line to a cell above."
                )

    @property
    def _read(self) -> dict[str, Any]:
        return {name: self.namespace[name] for name in self.program.names.reads if name in self.namespace}

    @property
    def text(self) -> Text:
        """The user's code."""
        return self.program.text(self.namespace)

    @property
    def shown_name(self) -> str:
        """The name of the loss, as a report shows it."""
        return self.loss_name or LAST_EXPRESSION

    @property
    def owner(self) -> Any:
        """The first leaf's variable that is the user's own; ``None`` if each is lifted."""
        own = self.lifted.without(leaf.value for leaf in self.leaves)
        return own[0] if own else None

    def open(self) -> None:
        """Put variables where floats, arrays and tensors stand, until :meth:`close`."""
        self.training.bind(True)
        self.selection.lift()

    def close(self) -> None:
        """Give floats, arrays and tensors back with the values that they reached; free a batch's names."""
        self.at_close.close()

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Have the program know that the block is no training: ``TRAINING`` is false."""
        try:
            self.training.bind(False)
            yield
        finally:
            self.training.bind(True)

    def seed(self, step: int = 0) -> None:
        """Seed all random numbers; a run that goes on from a step draws others than at its start."""
        if self.settings.seed is not None:
            import keras

            keras.utils.set_random_seed((self.settings.seed + 1_000_003 * step) % 2**32)

    def run_alone(self, names: Mapping[str, Any] | None = None) -> None:
        """Run the program by itself, for an error of its own; the namespace stays as it is.

        `names` are bound besides, such as those of a batch.
        """
        self.program.run({**self.namespace, **(names or {})}, {})

    # -- what is minimised over ----------------------------------------------------------------------

    def settle(self, read: Iterable[Any]) -> list[Leaf]:
        """Choose what is minimised over, now that the variables that were `read` are known.

        No value is looked at: a variable that a trace itself has made has its value only after the trace.
        Once leaves are chosen, they stay.

        Raises :class:`SourceError` where there is nothing to minimise over, and for complex variables;
        :class:`LineError` for bounds that do not fit.
        """
        if self.leaves:
            return self.leaves
        self.selection.settle(read)
        by_id = {id(leaf.value): leaf for source in self.selection.sources for leaf in source.leaves}
        for leaf in by_id.values():
            if leaf.value.dtype.is_complex:
                raise SourceError(
                    f"{leaf.name} is {leaf.dtype}, and optimizers step along real numbers: "
                    "minimise over its real and imaginary parts."
                )
        if not by_id:
            raise refusals.nothing_over(self._read)
        self.limits = limits_of(self.settings.bounds, self.selection, self.namespace)
        method = find(self.settings.optimizer)
        if method is not None:
            self.limits, notes = limits_of_constraints(list(by_id.values()), self.limits, method)
            self.notes += notes
        self.leaves = [first_copy(leaf, self.at_close) for leaf in by_id.values()]
        return self.leaves

    def begin(self, *, within_bounds: bool = True) -> None:
        """Remember the values of the leaves, moved into their bounds; a second call does nothing.

        Without `within_bounds`, nothing is moved, as for a run that goes on from another one.
        """
        if self.start_values:
            return
        for name in project(self.leaves, self.limits) if within_bounds else ():
            self.notes.append(f"{name} began outside its bounds, and was moved to the nearest one")
        self.start_values = [array_of(leaf.value) for leaf in self.leaves]

    # -- what the loss does not depend on --------------------------------------------------------------

    def leave_outputs(self, traced: Traced, computed: Sequence[Any]) -> Any:
        """Leave what a traced program computed in its names; return the value of its last expression."""
        value, assigned = traced.outputs(computed)
        self.notes += traced.left_out()
        self.program.finish(self.namespace, assigned)
        return value

    def note_unconnected(self, connected: Sequence[bool], record: FindRecord) -> None:
        """Note what the loss does not depend on, and why.

        `connected` says for each leaf whether it has a gradient; `record` is called where one has none.
        """
        lost = [leaf for leaf, has in zip(self.leaves, connected, strict=True) if not has]
        if lost:
            self.notes += self._unconnected(lost, record)

    def note_steps(self, steps: Iterable[tuple[Any, int | None]]) -> None:
        """Note the leaves that the program steps itself; `steps` are variables, each with the line."""
        names = {id(leaf.value): leaf.name for leaf in self.leaves}
        moved = [(names[id(variable)], line) for variable, line in steps if id(variable) in names]
        if moved:
            listed = unconnected.Unconnected(tuple(name for name, _ in moved), "").listed
            line = next((f"line {line}" for _, line in moved if line), "the cell")
            note = f"{line} steps {listed} itself, and so does the optimizer: two steps in one"
            if note not in self.notes:
                self.notes.append(note)

    def note_recorded_steps(self, recorder: Recorder) -> None:
        """Note the leaves that the program stepped itself in a recorded run."""
        variables = {key_of_variable(leaf.value): leaf.value for leaf in self.leaves}
        filename = self.text.filename
        found = {
            id(variable): (variable, next((line for name, line in entry.frames if name == filename), None))
            for variable, entry in steps_in_run(recorder.entries, variables)
        }
        self.note_steps(found.values())

    def refuse_unconnected(self, reason: str, record: FindRecord) -> NoReturn:
        """Raise :class:`TargetError`, since the loss depends on none of the leaves.

        `reason` is why the program does not run on a faster engine; empty if it does.
        """
        why = f" ({reason})" if reason else ""
        sentences = "; ".join(self._unconnected(self.leaves, record))
        raise TargetError(f"{sentences}; so there is nothing to minimise{why}.")

    def _unconnected(self, lost: Sequence[Leaf], record: FindRecord) -> list[str]:
        loss = self.loss_name or "the loss"
        evaluated = record()
        if evaluated is None:
            found = [unconnected.Unconnected(tuple(leaf.name for leaf in lost), "")]
        else:
            found = unconnected.explained(evaluated, self.text, self.loss_name, lost)
        return [f"{loss} does not depend on {one.listed}{one.reason and f': {one.reason}'}" for one in found]


def array_of(value: Any) -> np.ndarray[Any, Any]:
    """Return a copy of what a tensor or variable holds."""
    return np.asarray(value.numpy())
