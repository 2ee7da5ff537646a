"""What the loops of a minimisation have in common, and where a run stands between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.stop_rules import Rules
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.values.copies import LARGE, bytes_of, kept_copy
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import read_all

CHUNK_SECONDS = 0.05
"""About how long a chunk lasts: Stop, Ctrl-C and the display are served between chunks."""


@dataclass(frozen=True)
class Position:
    """Where a run stands between two steps.

    Attributes
    ----------
    step
        Steps applied.
    memory
        What the rules remember of the steps before.
    best
        The lowest loss so far, an infinity before the first, and the variables there; empty where
        these are not kept. By epochs, it is the lowest mean, the variables at the end of its epoch, and the
        sum and the rows of the epoch that goes on.
    """

    step: int
    memory: tuple[Any, ...]
    best: tuple[Any, ...] = ()


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


class WayBack:
    """The values that a loop can put back, for a step that a rule takes back.

    Parameters
    ----------
    depth
        How many marks are kept; each holds a copy of all variables that a step changes.

    Attributes
    ----------
    copies
        For a careful loop, the variables before the last step and before the one before it.
    """

    EVERY = 50
    """The steps from one mark to the next, where each has a copy of large variables."""

    def __init__(self, depth: int = 2) -> None:
        self._depth = depth
        self._marks: list[tuple[Position, list[Any]]] = []
        self.copies: list[Any] = []

    def mark(self, position: Position, values: list[Any]) -> None:
        """Remember the variables at a position."""
        self._marks = [*self._marks, (position, values)][-self._depth :]

    def note(self, position: Position, variables: Sequence[Any], is_finite: Callable[[], bool]) -> None:
        """Remember the variables at a position, if the last mark is not enough to repeat steps from.

        `is_finite` tells whether the loss is finite there.
        """
        if sum(map(bytes_of, variables)) < LARGE:
            # Reading costs next to nothing: a variable copies itself when it is assigned while it is read.
            self.mark(position, read_all(variables))
        elif self.due(position.step) and (not self._marks or is_finite()):
            self.mark_alone(position, read_all(variables))

    def mark_alone(self, position: Position, values: Iterable[Any]) -> None:
        """Remember copies of the variables at a position, at which all is finite, and nothing before it."""
        self._marks = []
        best = tuple(kept_copy(value) for value in position.best)
        self.mark(replace(position, best=best), [kept_copy(value) for value in values])

    def due(self, step: int) -> bool:
        """Return whether the last mark is :attr:`EVERY` steps ago, or there is none."""
        return not self._marks or step - self._marks[-1][0].step >= self.EVERY

    @property
    def last(self) -> list[Any]:
        """The variables at the last mark; empty before the first."""
        return self._marks[-1][1] if self._marks else []

    def before(self, step: int) -> tuple[Position, list[Any]]:
        """Return the last mark at or before a step."""
        import tensorflow as tf

        (*_, (position, values)) = (mark for mark in self._marks if mark[0].step <= step)
        return replace(position, best=tuple(map(tf.convert_to_tensor, position.best))), values


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
