"""One step of a minimisation in terms of TensorFlow: evaluate, look at the rules, apply the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.minimization.keras_loop.protocol import LoopOptions, Position
from tape_magic.engine.minimization.optimizers import scaled_for
from tape_magic.engine.minimization.stop_rules import LOSS_LOST
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import tf_variable


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
        A Keras optimizer, built for these leaves.
    options
        What a step does besides.

    Attributes
    ----------
    kept
        The variables that the optimizer moves, and those that the program assigns itself.
    moved
        All variables that a step may change, the optimizer's slots included.
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
    ) -> None:
        import tensorflow as tf

        self.traced, self.evaluation = traced, evaluation
        self.leaves, self.optimizer, self.options = leaves, optimizer, options
        own = {id(leaf.value) for leaf in leaves}
        written = [variable for variable in traced.written if id(variable) not in own]
        self.kept: Sequence[Any] = [*(leaf.value for leaf in leaves), *written]
        self.moved: Sequence[Any] = [*self.kept, *self.slots]
        self.dtype = evaluation.dtype if evaluation.dtype.size >= 4 else tf.float32
        self._memory = options.rules.memory(evaluation.dtype)

    @property
    def slots(self) -> list[Any]:
        """The optimizer's own variables."""
        return [tf_variable(variable) for variable in self.optimizer.variables]

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
        return Position(step, self._memory, (tf.constant(float("inf"), self.evaluation.dtype), *values))

    # -- in TensorFlow -------------------------------------------------------------------------------

    def step(self, at: Any, carried: Sequence[Any], batch: Sequence[Any] = ()) -> Any:
        """Evaluate, look at the rules, and apply the optimizer.

        Parameters
        ----------
        at
            int64 scalar, the steps applied so far.
        carried
            The rules' memory and the best so far, as in :class:`Position`.
        batch
            One structure of tensors for each name that a batch is bound to.

        Returns
        -------
        verdict, loss, recorded, carried
            What the rules say, int32; the loss; the loss with the tracked scalars, (1 + tracked,), both of
            :attr:`dtype`; and what the next step takes.
        """
        import tensorflow as tf

        (loss, *tracked), gradients, _ = self.evaluation.call(*batch)
        split = len(self._memory)
        verdict, memory = self.options.rules.check(at, loss, gradients, carried[:split])
        best = self._better(loss, verdict, carried[split:])
        self.apply(gradients)
        recorded = [tf.cast(number, self.dtype) for number in (loss, *tracked)]
        return verdict, recorded[0], tf.stack(recorded), [*memory, *best]

    def apply(self, gradients: Sequence[Any]) -> None:
        """Apply the optimizer to the leaves, and project these to their bounds."""
        apply_optimizer(self.optimizer, self.leaves, gradients, self.options)

    def _better(self, loss: Any, verdict: Any, best: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        if not best:
            return []
        better = (loss < best[0]) & (verdict != LOSS_LOST)
        chosen: list[Any] = tf.cond(
            better,
            lambda: [loss, *(tf.identity(variable.read_value()) for variable in self.kept)],
            lambda: [tf.identity(value) for value in best],
        )
        return chosen


def apply_optimizer(
    optimizer: Any, leaves: Sequence[Leaf], gradients: Sequence[Any], options: LoopOptions
) -> None:
    """Apply an optimizer's step to leaves, and project these to their bounds."""
    import tensorflow as tf

    optimizer.apply(scaled_for(optimizer, gradients), [leaf.owner for leaf in leaves])
    for leaf, low, high in zip(leaves, options.lower, options.upper, strict=False):
        if low is not None or high is not None:
            value = leaf.value.read_value()
            value = value if low is None else tf.maximum(value, tf.cast(low, value.dtype))
            leaf.value.assign(value if high is None else tf.minimum(value, tf.cast(high, value.dtype)))
