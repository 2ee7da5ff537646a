"""What is known of a run at its end, and what can still be asked of its loss."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tape_magic.engine.program.program import Text
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.leaves import Leaf
from tape_magic.results.minimum import Divergence, StopReason

Array = np.ndarray[Any, Any]

SHARE, LEAST = 0.05, 0.1
"""The most time of all evidence together: this share of the run's, or so many seconds, whichever is more."""


@dataclass(frozen=True, eq=False)
class LossAt:
    """The loss at a point, with its gradients.

    Attributes
    ----------
    loss
        The loss.
    gradients
        A dense gradient for each leaf of the facts, in its dtype.
    """

    loss: float
    gradients: Sequence[Array]


class Probe(Protocol):
    """Asks a loss once more, after its run. What it moves, it puts back when it is closed.

    Batches are those that the program takes; ``None`` is the last one of the run, or none without data.
    """

    def values(self) -> list[Array]:
        """Return the values of the leaves as they are."""

    def place(self, values: Sequence[Array]) -> None:
        """Assign values to the leaves."""

    def evaluate(self, batch: Sequence[Any] | None = None) -> LossAt:
        """Return loss and gradients at the variables as they are."""

    def step(self) -> None:
        """Apply one more step of the run's optimizer, on the last batch."""

    def fail(self) -> Sequence[Any] | None:
        """Move to the point at which a run diverged, and return its batch; ``None`` without data."""

    def batches(self, count: int) -> list[Sequence[Any]]:
        """Return up to `count` batches of the run's data; none without data."""

    def record(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of an evaluation; look into them before the variables change."""


class Clock:
    """The time that is left for the evidence of a run of so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + max(LEAST, SHARE * seconds)

    @property
    def left(self) -> float:
        """Seconds that are left; negative once the time is over."""
        return self._end - time.perf_counter()


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What is known of a run at its end.

    Attributes
    ----------
    text
        The user's code.
    loss_name
        The name of the loss on the line; ``None`` for the last expression.
    leaves
        What was minimised over and has a gradient.
    lower, upper
        For each leaf its bounds, numbers or arrays; ``None`` for no bound.
    starts
        The value of each leaf before the first step.
    steps, losses
        The history; see :class:`~tape_magic.results.minimum.MinimizeResult`.
    first_step, step_limit
        The step that the run began at, and the limit of steps; ``None`` without one.
    reason, divergence
        Why the run ended.
    optimizer
        The name of the optimizer's class, such as ``SGD``, or of the method.
    rate, momentum
        The learning rate at the end, ``None`` where there is none; and the momentum, 0 without.
    of_data
        Whether each step takes a batch of data.
    batch_rows, steps_per_epoch
        The rows of a batch and the steps of an epoch; ``None`` without data, or where they are not known.
    repeatable
        Whether the loss is the same each time at the same variables, as far as is known.
    tolerance
        Whether a tolerance ended the run that the user did not ask for.
    probe
        Asks the loss; ``None`` where that is not safe: the program cannot be run again.
    clock
        The time that is left.
    """

    text: Text
    loss_name: str | None
    leaves: Sequence[Leaf]
    lower: Sequence[Any]
    upper: Sequence[Any]
    starts: Sequence[Array]
    steps: Array
    losses: Array
    first_step: int
    step_limit: int | None
    reason: StopReason
    divergence: Divergence | None
    optimizer: str
    rate: float | None
    momentum: float
    of_data: bool
    batch_rows: int | None
    steps_per_epoch: int | None
    repeatable: bool
    probe: Probe | None
    clock: Clock = field(default_factory=lambda: Clock(0.0))

    @property
    def name(self) -> str:
        """The name of the loss in sentences."""
        return self.loss_name or "the loss"

    @property
    def size(self) -> int:
        """How many numbers were minimised over."""
        return sum(math.prod(leaf.shape) for leaf in self.leaves)
