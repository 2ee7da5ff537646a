"""What the loops of a minimisation have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.keras_loop.way_back import Position, WayBack
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.stop_rules import Rules
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.leaves import Leaf

CHUNK_SECONDS = 0.05
"""About how long a chunk lasts: Stop, Ctrl-C and the display are served between chunks."""


@dataclass(frozen=True)
class Chunk:
    """The outcome of some steps.

    Attributes
    ----------
    position
        Where the run stands after the steps.
    verdict
        :data:`~tape_magic.engine.minimization.stop_rules.GO`, or why the loop stopped by itself.
    series
        The recorded loss, then the recorded tracked scalars.
    loss
        The loss that was evaluated last.
    last
        The step that this loss belongs to.
    places
        For each step that is recorded, the epoch of its batch, the index in it, and the rows, (steps, 3);
        ``None`` without data.
    """

    position: Position
    verdict: int
    series: tuple[Recorded, ...]
    loss: float
    last: int
    places: Any = None


@dataclass(frozen=True)
class Final:
    """The last evaluation.

    Attributes
    ----------
    loss, tracked
        Scalar tensors.
    gradients
        One tensor for each leaf that has a gradient.
    rest
        What :meth:`~tape_magic.engine.tracing.traced.Traced.outputs` takes; empty without a graph.
    """

    loss: Any
    tracked: Sequence[Any]
    gradients: Sequence[Any]
    rest: Sequence[Any]

    @property
    def numbers(self) -> list[float]:
        """The loss and the tracked scalars as Python's numbers."""
        return [float(number) for number in (self.loss, *self.tracked)]


@dataclass(frozen=True)
class LoopOptions:
    """The options of a loop, beside the evaluation and the optimizer's step.

    Attributes
    ----------
    rules
        When to stop.
    keeps_best
        Whether the variables at the lowest loss are kept.
    by_epoch
        Whether this goes by the means of epochs.
    lower, upper
        For each leaf with a gradient, the bounds that a step is projected to; ``None`` for no bound.
    careful
        Whether to carry the values from before each step along, since steps cannot be repeated.
    """

    rules: Rules
    keeps_best: bool = False
    by_epoch: bool = False
    lower: tuple[Any, ...] = ()
    upper: tuple[Any, ...] = ()
    careful: bool = False


class Loop(Protocol):
    """Runs the steps of a minimisation, in chunks of whole steps.

    Attributes
    ----------
    way_back
        The values that the loop can put back.
    """

    way_back: WayBack

    @property
    def connected(self) -> Sequence[bool]:
        """For each leaf, whether the loss has a gradient by it."""

    @property
    def leaves(self) -> Sequence[Leaf]:
        """The leaves that have a gradient."""

    @property
    def options(self) -> LoopOptions:
        """What a step does besides."""

    @property
    def kept(self) -> Sequence[Any]:
        """The variables that the optimizer moves, and those that the program assigns itself."""

    @property
    def moved(self) -> Sequence[Any]:
        """All variables that a step may change, the optimizer's slots included."""

    def begin(self, step: int = 0) -> Position:
        """Begin a run at a step, from the variables as they are."""

    def prepare(self) -> None:
        """Make ready for the first step, from the variables as they are."""

    def advance(self, position: Position, end: int, stretch: int, waiter: CompileWaiter) -> Chunk:
        """Apply steps until `end`, or until a rule holds.

        Only the extremes of each `stretch` steps are recorded. Raises
        :class:`~tape_magic.engine.minimization.control.StopRequested` where the user ends the run while the
        loop waits for a compiler.
        """

    def return_to(self, step: int, chunk: Chunk) -> Chunk:
        """Go back to where `step` steps were applied, after a chunk in which a rule held.

        Return the chunk that leads there.
        """

    def return_to_lowest(self, loss: float) -> Position | None:
        """Go back to where the loss was lowest, as near as the marks lead, after :meth:`return_to`.

        Return where that is; ``None``, and nothing moves, where no lower loss than `loss` is known.
        """

    def reset(self) -> None:
        """Forget the last evaluation, since someone else has assigned variables."""

    def record(self) -> LossRecord:
        """Return the operations of one evaluation; only before the first chunk."""

    def evaluate(self, batch: Sequence[Any] | None = None) -> Final:
        """Evaluate at the variables as they are, and put back what the program assigns itself.

        `batch` has a part for each name; ``None`` for the last one, or without data. A program that runs in
        Python leaves its names at this evaluation.
        """

    def recorded(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of such an evaluation; see :func:`record_of`."""

    def final(self, *, counts: bool = True) -> Final:
        """Evaluate at the variables as they are; unless it `counts`, the program itself assigns nothing."""

    def finish(self, final: Final, problem: Problem) -> Any:
        """Leave the program's names at the last evaluation; return the value of its last expression."""
