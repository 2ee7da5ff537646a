"""What moves the variables of a run, behind one protocol: a Keras optimizer, or a method of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tape_magic.engine.minimization.composite import Composite, Part
from tape_magic.engine.minimization.optimizer_names import LBFGS
from tape_magic.engine.minimization.quasi_newton.lbfgs import Lbfgs
from tape_magic.engine.minimization.stop_rules import CODES, GO
from tape_magic.engine.values.leaves import Leaf
from tape_magic.results.minimum import StopReason

Evaluate = Callable[[], tuple[Any, Sequence[Any]]]
"""Returns the loss and its gradients at the variables as they are."""

METHODS = {LBFGS: Lbfgs}
"""The methods of this package by name: they find their own step lengths, and say when they have ended."""


class Stepper(Protocol):
    """Moves variables, and keeps its state in variables of its own.

    Attributes
    ----------
    ended
        Whether its own rule ends the run: an int32 variable, 0 to go on, 1 where it has converged, 2 where it
        finds no lower point; ``None`` without such a rule. One that has it remembers the last evaluation.
    """

    ended: Any

    @property
    def variables(self) -> Sequence[Any]:
        """All state."""

    @property
    def first(self) -> Sequence[Any]:
        """The state whose first values begin a run anew."""

    def move(
        self,
        loss: Any,
        gradients: Sequence[Any],
        evaluate: Evaluate,
        lower: Sequence[Any],
        upper: Sequence[Any],
        place: Any = None,
        wanted: Any = True,
    ) -> None:
        """Take a step from where the variables are, within bounds.

        `evaluate` is called at trial points. `place` has the epoch of the batch, its place in it, and its
        rows; ``None`` without data. Where a step is not `wanted`, a method with a rule of its own changes
        nothing; other ones step in any case.
        """


class KerasStepper:
    """A Keras optimizer, or several side by side, built for some leaves, as a :class:`Stepper`."""

    ended = None

    def __init__(self, optimizer: Any, leaves: Sequence[Leaf]) -> None:
        single = not isinstance(optimizer, Composite)
        self._optimizers: Composite = Composite([Part(optimizer)]) if single else optimizer
        self._leaves = leaves

    @property
    def variables(self) -> Sequence[Any]:
        """All state."""
        return self._optimizers.variables

    @property
    def first(self) -> Sequence[Any]:
        """The state whose first values begin a run anew."""
        return self._optimizers.first

    def move(
        self,
        loss: Any,
        gradients: Sequence[Any],
        evaluate: Evaluate,
        lower: Sequence[Any],
        upper: Sequence[Any],
        place: Any = None,
        wanted: Any = True,
    ) -> None:
        """Apply the gradients, and project the leaves to their bounds."""
        import tensorflow as tf

        self._optimizers.apply(loss, gradients, self._leaves, place)
        for leaf, low, high in zip(self._leaves, lower, upper, strict=False):
            if low is not None or high is not None:
                value = leaf.value.read_value()
                value = value if low is None else tf.maximum(value, tf.cast(low, value.dtype))
                leaf.value.assign(value if high is None else tf.minimum(value, tf.cast(high, value.dtype)))


def stepper_of(optimizer: Any, leaves: Sequence[Leaf]) -> Stepper:
    """Return an optimizer, built for these leaves, as what moves them."""
    return optimizer if method_name(optimizer) else KerasStepper(optimizer, leaves)


def method_name(optimizer: Any) -> str:
    """Return the name of a method of this package; empty for all else."""
    return next((name for name, kind in METHODS.items() if isinstance(optimizer, kind)), "")


def own_verdict(stepper: Stepper, verdict: Any) -> Any:
    """Return the verdict of the rules, or if they go on that of the stepper's own rule."""
    import tensorflow as tf

    if stepper.ended is None:
        return verdict
    codes = [GO, CODES[StopReason.METHOD_CONVERGED], CODES[StopReason.METHOD_FAILED]]
    return tf.where(tf.equal(verdict, GO), tf.gather(codes, stepper.ended), verdict)
