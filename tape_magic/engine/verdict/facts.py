"""What is known of a run at its end, and what can still be asked of its loss."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tape_magic.engine.program.program import Text
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.verdict.recorded_loss import RecordedLoss
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


@dataclass(frozen=True, eq=False)
class Domain:
    """Where a run could move its leaves, and how closely it was to do so.

    Attributes
    ----------
    start
        The values that it began with.
    lower, upper
        The bounds of each leaf; ``None`` for none.
    plain
        Whether the loss alone moves the leaves, and the program changes no variables itself: no weight
        decay, no constraint, no statistics, no random numbers of Keras's.
    tolerance
        What the rule for losses that settle takes for no change, as a share of the loss or of 1; 0 without.
    """

    start: Sequence[Array]
    lower: Sequence[Any]
    upper: Sequence[Any]
    plain: bool
    tolerance: float


class Probe(Protocol):
    """Asks a loss once more, after its run. What it moves, it puts back when it is closed.

    Batches are those that the program takes; ``None`` is the last one of the run, or none without data.
    """

    def values(self) -> list[Array]:
        """Return the values of the leaves as they are."""

    def domain(self) -> Domain:
        """Return where the run could move the leaves."""

    def evaluate(self, batch: Sequence[Any] | None = None) -> LossAt:
        """Return loss and gradients at the variables as they are."""

    def place(self, values: Sequence[Array]) -> None:
        """Move the leaves to other values."""

    def step(self, batch: Sequence[Any] | None = None, *, rate: float | None = None) -> LossAt:
        """Take a step of the optimizer from here, by `rate` in place of its own; return the loss before it.

        Only for a Keras optimizer, and a `rate` only where :attr:`RunFacts.rate` is one.
        """

    def back(self) -> None:
        """Put everything back to where the run ended."""

    def batches(self, count: int) -> Iterator[Sequence[Any]]:
        """Yield the first batches of the data, at most `count`; nothing without data."""

    def fail(self) -> Sequence[Any] | None:
        """Move to the point at which a run diverged, and return its batch; ``None`` without data."""

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
    steps, losses
        The history; see :class:`~tape_magic.results.minimum.MinimizeResult`.
    first_step
        The step that the run began at.
    reason, divergence
        Why the run ended.
    rate
        The learning rate at the end; ``None`` where there is none.
    stability
        A step along a direction of curvature λ is stable below ``stability / λ``: 2 for gradient descent;
        ``None`` where there is no such number.
    by_name
        Whether the optimizer was given by its name, so that its rate is ``--lr``.
    of_data
        Whether each step takes a batch of data.
    step_seconds
        How long a step took that runs in Python; 0 for a compiled one.
    probe
        Asks the loss; ``None`` where that is not safe: the program cannot be run again.
    clock
        The time that is left.
    """

    text: Text
    loss_name: str | None
    leaves: Sequence[Leaf]
    steps: Array
    losses: Array
    first_step: int
    reason: StopReason
    divergence: Divergence | None
    rate: float | None
    stability: float | None
    by_name: bool
    of_data: bool
    step_seconds: float
    probe: Probe | None
    clock: Clock = field(default_factory=lambda: Clock(0.0))

    @property
    def name(self) -> str:
        """The name of the loss in sentences."""
        return self.loss_name or "the loss"

    @cached_property
    def recorded(self) -> RecordedLoss | None:
        """An evaluation where a run that went well has ended; ``None`` where it cannot be had in the time."""
        if self.probe is None or self.divergence is not None or self.step_seconds > self.clock.left:
            return None
        return RecordedLoss(self.probe.record(), self.text)
