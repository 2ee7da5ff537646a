"""One step of a minimisation in terms of TensorFlow: evaluate, look at the rules, apply the optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tape_magic.engine.distribution.shared_evaluation import SharedEvaluation
from tape_magic.engine.minimization.keras_loop.best_values import best_after, no_best
from tape_magic.engine.minimization.keras_loop.protocol import LoopOptions
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.steppers import own_verdict, stepper_of
from tape_magic.engine.minimization.stop_rules import GO
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.copies import bytes_of
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import read_all


class StepGraph:
    """A step over a traced program, which every compiled loop repeats.

    Parameters
    ----------
    traced
        The program as a graph.
    evaluation
        The loss and its gradients.
    leaves
        The leaves that have a gradient.
    optimizer
        Built for these leaves.
    options
        What a step does besides.
    shared
        What evaluates in pieces on several devices, if something does.

    Attributes
    ----------
    whole
        The loss and its gradients on one device, whatever evaluates the steps.
    kept
        The variables that the optimizer moves, and those that the program assigns itself.
    moved
        All variables that a step may change, the optimizer's slots included.
    bytes
        The memory that these take.
    dtype
        The dtype of what is recorded: the loss's, but at least float32.
    """

    def __init__(
        self,
        traced: Traced,
        evaluation: Evaluation,
        leaves: Sequence[Leaf],
        optimizer: Any,
        options: LoopOptions,
        shared: SharedEvaluation | None = None,
    ) -> None:
        import tensorflow as tf

        self.traced, self.evaluation = traced, evaluation
        self.leaves, self.optimizer, self.options = leaves, optimizer, options
        self.shared, self.whole = shared, evaluation if shared is None else shared.whole
        self._stepper = stepper_of(optimizer, leaves)
        own = {id(leaf.value) for leaf in leaves}
        written = [variable for variable in traced.written if id(variable) not in own]
        self.kept: Sequence[Any] = [*(leaf.value for leaf in leaves), *written]
        self.moved: Sequence[Any] = [*self.kept, *self.slots]
        self.bytes = sum(map(bytes_of, self.moved))
        self.dtype = evaluation.dtype if evaluation.dtype.size >= 4 else tf.float32
        self._memory = options.rules.memory(evaluation.dtype, len(leaves))
        # What the last step has found at the point that it moved to need not be computed again.
        more = evaluation.tracked or traced.written or traced.inputs
        self._remembers = self._stepper.ended is not None and not more

    @property
    def slots(self) -> Sequence[Any]:
        """The optimizer's own variables."""
        return self._stepper.variables

    @property
    def fresh_slots(self) -> Sequence[Any]:
        """Those of the optimizer's variables whose first values begin a run anew."""
        return self._stepper.first

    @property
    def stays(self) -> bool:
        """Whether a step that a rule ends changes nothing; other ones have stepped once too often."""
        return self._stepper.ended is not None and not self.traced.written

    @property
    def recorded(self) -> int:
        """The number of scalars that a step records: the loss, and what is tracked."""
        return 1 + self.evaluation.tracked

    def position(self, step: int) -> Position:
        """Return the position of a run that begins at a step."""
        import tensorflow as tf

        if not self.options.keeps_best:
            return Position(step, self._memory)
        # These values stand for the best before there is any.
        values = [tf.zeros(variable.shape, variable.dtype) for variable in self.kept]
        return Position(
            step, self._memory, no_best(values, self.evaluation.dtype, by_epoch=self.options.by_epoch)
        )

    def is_finite(self) -> bool:
        """Return whether the loss is finite at the variables as they are; only for a program without data."""
        before = read_all(self.traced.written)
        front, _, _ = self.evaluation.call()
        assign_all(zip(self.traced.written, before, strict=True))
        return math.isfinite(float(front[0]))

    def prepare(self) -> None:
        """Evaluate once before the first step, for an optimizer that remembers the last evaluation."""
        if self._remembers:
            (loss, *_), gradients, _ = self.evaluation.call()
            self.optimizer.remember(loss, gradients)

    # -- in TensorFlow -------------------------------------------------------------------------------

    def step(
        self,
        at: Any,
        carried: Sequence[Any],
        batch: Sequence[Any] = (),
        place: Any = None,
        previous: Sequence[Any] = (),
    ) -> Any:
        """Evaluate, look at the rules, and apply the optimizer.

        Parameters
        ----------
        at
            int64 scalar, the steps applied so far.
        carried
            The rules' memory and the best so far, as in :class:`Position`.
        batch
            One structure of tensors for each name that a batch is bound to.
        place
            The epoch of the batch, its place in it, and its rows.
        previous
            Variables that take what :attr:`moved` held before the step. With them, the optimizer is applied
            only if no rule ends the run; else the variables stay as they were.

        Returns
        -------
        verdict, loss, recorded, carried
            What the rules say, int32; the loss; the loss with the tracked scalars, (1 + tracked,), both of
            :attr:`dtype`; and what the next step takes.
        """
        import tensorflow as tf

        written = self.traced.written if previous else ()
        before = {id(variable): tf.identity(variable.read_value()) for variable in written}
        (loss, *tracked), gradients = self._evaluated(batch)
        split = len(self._memory)
        verdict, memory = self.options.rules.check(at, loss, gradients, carried[:split])
        verdict = own_verdict(self._stepper, verdict)
        best = best_after(carried[split:], self.kept, loss, verdict, place)
        if previous:
            self._apply_or_stay(verdict, loss, gradients, batch, place, previous, before)
        else:
            self.apply(loss, gradients, batch, place, tf.equal(verdict, GO))
        recorded = [tf.cast(number, self.dtype) for number in (loss, *tracked)]
        return verdict, recorded[0], tf.stack(recorded), [*memory, *best]

    def bare_step(self, batch: Sequence[Any], place: Any) -> Any:
        """Evaluate and apply the optimizer, with no look at a rule; return what :meth:`step` records."""
        import tensorflow as tf

        (loss, *tracked), gradients = self._evaluated(batch)
        self.apply(loss, gradients, batch, place)
        return tf.stack([tf.cast(number, self.dtype) for number in (loss, *tracked)])

    def all_finite(self) -> Any:
        """Return whether all that the optimizer changes is finite."""
        import tensorflow as tf

        # A variable that the program assigns itself may hold anything.
        watched = [*(leaf.value for leaf in self.leaves), *self.slots]
        floats = [variable for variable in watched if variable.dtype.is_floating]
        finite = [tf.reduce_all(tf.math.is_finite(variable.read_value())) for variable in floats]
        return tf.reduce_all(tf.stack(finite))

    def _evaluated(self, batch: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return the loss with the tracked scalars, and the gradients."""
        if self._remembers:
            loss, gradients = self.optimizer.remembered(self.evaluation.dtype)
            return [loss], gradients
        front, gradients, _ = self.evaluation.call(*batch)
        return front, gradients

    def apply(
        self,
        loss: Any,
        gradients: Sequence[Any],
        batch: Sequence[Any] = (),
        place: Any = None,
        wanted: Any = True,
    ) -> None:
        """Apply the optimizer to the leaves, and project these to their bounds; see :meth:`Stepper.move`."""

        def evaluate() -> tuple[Any, Sequence[Any]]:
            written = read_all(self.traced.written)
            (there, *_), found, _ = self.evaluation.call(*batch)
            for variable, value in zip(self.traced.written, written, strict=True):
                variable.assign(value)
            return there, found

        self._stepper.move(loss, gradients, evaluate, self.options.lower, self.options.upper, place, wanted)

    def _apply_or_stay(
        self,
        verdict: Any,
        loss: Any,
        gradients: Sequence[Any],
        batch: Sequence[Any],
        place: Any,
        previous: Sequence[Any],
        before: Mapping[int, Any],
    ) -> None:
        """Apply the optimizer if the verdict is to go on, after `previous` took what the variables held.

        `before` has what the program assigned itself, from before that, by the ids of the variables.
        """
        import tensorflow as tf

        def applied() -> Any:
            for copy, variable in zip(previous, self.moved, strict=True):
                held = before.get(id(variable))
                copy.assign(variable.read_value() if held is None else held)
            self.apply(loss, gradients, batch, place)
            return tf.constant(0)

        def stayed() -> Any:
            for variable in self.traced.written:
                variable.assign(before[id(variable)])
            return tf.constant(0)

        tf.cond(tf.equal(verdict, GO), applied, stayed)
