"""Where a minimisation stands between two steps, and what its loops have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tape_magic.engine.minimization.stop_rules import Rules


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
        these are not kept.
    """

    step: int
    memory: tuple[Any, ...]
    best: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """Values of one series at some steps, in their order."""

    steps: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Chunk:
    """What some steps did.

    Attributes
    ----------
    position
        After them.
    verdict
        :data:`~tape_magic.engine.minimization.stop_rules.GO`, or why the loop stopped by itself.
    series
        What was recorded: the loss, then what is tracked.
    loss
        The one evaluated last, and `last` the step that it belongs to.
    """

    position: Position
    verdict: int
    series: tuple[Recorded, ...]
    loss: float
    last: int


@dataclass(frozen=True)
class Final:
    """The last evaluation: the loss, what is tracked, the gradients, and the rest of what is computed."""

    loss: Any
    tracked: Sequence[Any]
    gradients: Sequence[Any]
    rest: Sequence[Any]


class Loop(Protocol):
    """What the engines have in common."""

    @property
    def connected(self) -> Sequence[bool]:
        """For each thing minimised over, whether the loss has a gradient by it."""

    @property
    def kept(self) -> Sequence[Any]:
        """The variables whose values at the lowest loss are kept."""

    @property
    def moved(self) -> Sequence[Any]:
        """All variables that a step may change."""

    def begin(self, step: int = 0) -> Position:
        """A new run from the variables as they are."""

    def advance(self, position: Position, end: int, stretch: int) -> Chunk:
        """Apply steps until `end`, or until a rule holds; of each `stretch` steps, record the extremes."""

    def stopped(self, chunk: Chunk, step: int) -> Chunk:
        """After a chunk in which a rule held: back to where `step` steps were applied; what led there."""

    def final(self) -> Final:
        """Evaluate at the variables as they are."""


@dataclass(frozen=True)
class LoopOptions:
    """What a compiled loop does beside the evaluation; part of what decides whether one can be used again.

    Attributes
    ----------
    rules
        When to stop.
    keeps_best
        Whether the variables at the lowest loss are kept.
    lower, upper
        For each leaf with a gradient, the bounds that a step is projected to; ``None`` for no bound.
    careful
        Whether to carry the values from before each step along, since steps cannot be repeated.
    """

    rules: Rules
    keeps_best: bool = False
    lower: tuple[Any, ...] = ()
    upper: tuple[Any, ...] = ()
    careful: bool = False
