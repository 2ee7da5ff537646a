"""What is known of a run at its end, and what can still be asked of its loss."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from tape_magic.engine.program.program import Text
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.precision import epsilon
from tape_magic.engine.verdict.recorded_loss import RecordedLoss
from tape_magic.results.epochs import Epochs
from tape_magic.results.minimum import Divergence, StopReason
from tape_magic.results.reasons import Where

Array = np.ndarray[Any, Any]
Item = TypeVar("Item")

SHARE, LEAST = 0.05, 0.1
"""The most time of all evidence together: this share of the run's, or so many seconds, whichever is more."""

WORTH, TINY = 0.05, 1e-4
"""The least part of a loss, or of what a run has gained, that is worth a word; a part that never is."""


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

    def evaluate(self, batch: Sequence[Any] | None = None) -> LossAt:
        """Return loss and gradients at the variables as they are."""

    def place(self, values: Sequence[Array]) -> None:
        """Move the leaves to other values."""

    def back(self) -> None:
        """Put everything back to where the run ended."""

    def batches(self, count: int) -> Iterator[Sequence[Any]]:
        """Yield batches of the data, at most `count`; nothing without data.

        They begin with the first, and go on where the last call of this method, or of :meth:`Walker.walk`,
        has ended.
        """

    def fail(self) -> Sequence[Any] | None:
        """Move to the point at which a run diverged, and return its batch; ``None`` without data."""

    def record(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of an evaluation; look into them before the variables change."""


class Walker(Probe, Protocol):
    """Takes further steps of a Keras optimizer, too; a method of SciPy's takes no single step."""

    def step(self, batch: Sequence[Any] | None = None, *, rate: float | None = None) -> LossAt:
        """Take a step of the optimizer from here, by `rate` in place of its own; return the loss before it.

        A `rate` may be given only where :attr:`RunFacts.rate` is one; it holds until
        :meth:`back`.
        """

    def walk(self, count: int, *, rate: float | None = None) -> Array:
        """Take steps from here as fast as the run did, and return the loss before each.

        They take :meth:`batches` of the data. There are fewer than `count` where a rule holds, or where the
        data are over. Otherwise as :meth:`step`.
        """


class Clock:
    """The time that is left for the evidence of a run of so many `seconds`.

    What other programs take of the processor does not count, up to three quarters of the time: on a busy
    machine, a run is as worth a look as on a quiet one. What this process waits for itself, such as a GPU, is
    not told from that.
    """

    WAITED = 4.0
    """At most so many times the time passes, with all that is waited for."""

    def __init__(self, seconds: float) -> None:
        self._most = max(LEAST, SHARE * seconds)
        self._began, self._worked = time.perf_counter(), time.process_time()

    @property
    def left(self) -> float:
        """Seconds that are left; negative once the time is over."""
        passed, worked = time.perf_counter() - self._began, time.process_time() - self._worked
        return self._most - max(min(passed, worked), passed / self.WAITED)


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What is known of a run at its end.

    Attributes
    ----------
    text
        The user's code.
    loss_name
        The name of the loss on the line; ``None`` for the last expression.
    leaves, start
        What was minimised over and has a gradient, and the values of these before the run.
    limits
        The lower and the upper bound of each leaf, an array or ``None``.
    tolerance
        What the rule for losses that settle takes for no change, as a share of the loss or of 1; 0 without.
    plain
        Whether the loss alone moves the leaves, and no variable that the program changes itself decides the
        loss: no weight decay, no constraint, no random numbers of Keras's.
    steps, losses
        The history; see :class:`~tape_magic.results.minimum.MinimizeResult`.
    first_step
        The step that the run began at.
    reason, divergence
        Why the run ended.
    rate
        The learning rate at the end; ``None`` where there is none, and where averages of the variables were
        left, from which no step was taken.
    stability
        A step along a direction of curvature λ is stable below ``stability / λ``: 2 for gradient descent;
        ``None`` where there is no such number.
    by_name
        Whether the optimizer was given by its name, so that its rate is ``--lr``.
    same_loss
        Whether the loss may be the same each time at the same point and batch: its graph draws no numbers,
        and nothing that it assigns flows into it. :attr:`repeats` is certain.
    comes_again
        Whether it may be so once the variables that the program changes are put back: besides, it may draw
        numbers by a seed in a variable, as Keras's dropout does.
    of_data
        Whether each step takes a batch of data.
    steps_per_epoch
        Batches in an epoch; ``None`` without data, or where the number is not known.
    batch
        Rows in a batch, where ``--batch`` can say so; else ``None``.
    epochs
        The means of epochs, with their validations; ``None`` without data.
    kept_best
        Whether the values at another step than the last, the best one, were put back.
    step_seconds
        How long a step took that runs in Python; 0 for a compiled one.
    probe
        Asks the loss; ``None`` where that is not safe: the program cannot be run again.
    walker
        The same, where it also takes steps; else ``None``.
    unsafe, unsafe_line
        What is not safe then, ``line 2 changes rows``, and the line.
    clock
        The time that is left.
    """

    text: Text
    loss_name: str | None
    leaves: Sequence[Leaf]
    start: Sequence[Array]
    limits: Sequence[tuple[Any, Any]]
    tolerance: float
    plain: bool
    steps: Array
    losses: Array
    first_step: int
    reason: StopReason
    divergence: Divergence | None
    rate: float | None
    stability: float | None
    by_name: bool
    same_loss: bool
    comes_again: bool
    of_data: bool
    steps_per_epoch: int | None
    batch: int | None
    step_seconds: float
    probe: Probe | None
    walker: Walker | None = None
    epochs: Epochs | None = None
    kept_best: bool = False
    unsafe: str = ""
    unsafe_line: Where | None = None
    clock: Clock = field(default_factory=lambda: Clock(0.0))

    @property
    def name(self) -> str:
        """The name of the loss in sentences."""
        return self.loss_name or "the loss"

    @property
    def rounding(self) -> float:
        """What counts as rounding of a loss, relative to it: ten times that of the coarsest dtype."""
        return 10 * max((epsilon(leaf.dtype) for leaf in self.leaves), default=0.0)

    @cached_property
    def repeats(self) -> bool:
        """Whether the loss is the same each time at the same point."""
        return self.same_loss and self.repeats_from_state

    @cached_property
    def repeats_from_state(self) -> bool:
        """Whether the loss is the same each time where all variables are the same."""
        if self.probe is None or self.divergence is not None or not self.comes_again:
            return False
        if 2 * self.step_seconds > self.clock.left:
            return False
        once, again = self.probe.evaluate().loss, self.probe.evaluate().loss
        return abs(once - again) <= self.rounding * abs(once)

    def within(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items as long as there is time to do something with the next."""
        for item in items:
            if self.clock.left <= self.step_seconds:
                return
            yield item

    def cure(self, rate: float) -> str:
        """Return how to ask for another rate."""
        return f"--lr {rate:g}" if self.by_name else f"learning_rate={rate:g}"

    def worth(self, before: float, after: float) -> bool:
        """Return whether a lower loss is worth a word: lower by a good part of itself, or of what was gained.

        A tiny part of what was gained is none, as where x² has come down from 1 to 10⁻⁹. A loss that can be
        negative has no size of its own.
        """
        finite = self.losses[np.isfinite(self.losses)]
        gained, size = max(float(finite[0]) - before, 0.0), abs(before)
        if finite.min() < 0:
            gained = size = float(finite.max() - finite.min()) or size
        least = WORTH * (gained if WORTH * size < gained < size else size)
        return before - after > max(least, TINY * gained, self.rounding * size)

    @cached_property
    def at_end(self) -> LossAt | None:
        """Loss and gradients where the variables are left; ``None`` where they cannot be had in the time."""
        if self.probe is None or self.step_seconds > self.clock.left:
            return None
        return self.probe.evaluate()

    @cached_property
    def recorded(self) -> RecordedLoss | None:
        """An evaluation where a run that went well has ended; ``None`` where it cannot be had in the time."""
        if self.probe is None or self.divergence is not None or self.step_seconds > self.clock.left:
            return None
        return RecordedLoss(self.probe.record(), self.text, lambda: self.clock.left)
