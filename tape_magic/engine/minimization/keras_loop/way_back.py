"""Where a run stands between two steps, and how it goes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization.keras_loop.kept_batches import KeptBatches
from tape_magic.engine.values.copies import LARGE, bytes_of, kept_copy
from tape_magic.engine.values.tensors import read_all

MOST = 1 << 26
"""The most bytes of variables of which a run holds the values at its lowest loss."""


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


Mark = tuple[Position, list[Any]]
"""Where a run stood, and what its variables held there."""


def _doubled(before: float, now: float) -> bool:
    return now > before + abs(before)


class Stretches:
    """Where the best stretch of a run began, whose steps cannot be repeated.

    What a single step has for a loss is then that of a batch, or of random numbers, and tells little: it is
    the means of stretches that are compared, and a loss has risen only where it has doubled.
    """

    LENGTH = 50
    """The least steps of a stretch."""

    def __init__(self) -> None:
        self._begun: Mark | None = None
        self._best: Mark | None = None
        self._lowest = math.inf
        self._losses = self._tail = np.zeros(0)

    def begin(self, position: Position, variables: Sequence[Any], values: Iterable[Any]) -> None:
        """Begin a stretch at a position with these values of the variables, if the last is long enough.

        Of variables that take much memory, nothing is kept.
        """
        if self._begun is not None and position.step - self._begun[0].step < self.LENGTH:
            return
        if sum(map(bytes_of, variables)) > MOST:
            return
        if len(self._losses) and self._losses.mean() < self._lowest:
            self._best, self._lowest = self._begun, float(self._losses.mean())
        self._begun, self._losses = (position, [kept_copy(value) for value in values]), np.zeros(0)

    def add(self, losses: np.ndarray[Any, Any]) -> None:
        """Add the losses of further steps; those that are not finite do not count."""
        if self._begun is None:
            return
        finite = losses[np.isfinite(losses)]
        self._losses = np.concatenate([self._losses, finite])
        self._tail = np.concatenate([self._tail, finite])[-self.LENGTH :]

    def best(self) -> Mark | None:
        """Return where to go back to; ``None`` where the last losses are not twice as high as before."""
        tail, half = self._tail, len(self._tail) // 2
        if half and self._best is not None and _doubled(self._lowest, tail.mean()):
            return self._best
        rises = half > 0 and _doubled(tail[:half].max(), tail[half:].mean())
        return (self._begun if len(self._losses) else self._best) if rises else None


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
    batches
        Over data, the batches since the first mark, where the loop repeats steps.
    stretches
        For steps that cannot be repeated, the marks at which stretches of them began.
    doubtful
        Whether each step is to be looked at, in a loop that looks at chunks.
    lowest, lowest_step
        The lowest loss that :meth:`hold` was told of, and its step; an infinity and 0 before the first.
    """

    EVERY = 50
    """The steps from one mark to the next, where each has a copy of large variables."""

    def __init__(self, depth: int = 2) -> None:
        self._depth = depth
        self._marks: list[Mark] = []
        self._held: Mark | None = None
        self._taken: list[tuple[int, Any]] = []
        self.copies: list[Any] = []
        self.batches = KeptBatches()
        self.stretches = Stretches()
        self.doubtful = False
        self.lowest, self.lowest_step = math.inf, 0

    def mark(self, position: Position, values: list[Any]) -> None:
        """Remember the variables at a position."""
        self._marks = [*self._marks, (position, values)][-self._depth :]
        self.batches.forget_before(self._marks[0][0].step)

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

    def due(self, step: int, *, most: int = EVERY) -> bool:
        """Return whether the last mark is :attr:`EVERY` or `most` steps ago, or there is none."""
        return not self._marks or step - self._marks[-1][0].step >= min(self.EVERY, most)

    def forget_after(self, step: int) -> None:
        """Forget the marks after a step, for a run that goes on from there."""
        self._marks = [mark for mark in self._marks if mark[0].step <= step]

    def hold(self, step: int, loss: float, variables: Sequence[Any]) -> None:
        """Hold on to the last mark before a step of these variables, if its loss is the lowest so far.

        Of variables that take much memory, no more is held than the last marks.
        """
        if loss < self.lowest and sum(map(bytes_of, variables)) <= MOST:
            marks = [mark for mark in self._marks if mark[0].step <= step]
            if marks:
                self.lowest, self.lowest_step, self._held = loss, step, marks[-1]

    def taken_until(self, step: int, loop: Any) -> None:
        """Note that a loop took the steps before a step, which another one goes on from."""
        self._taken.append((step, loop))

    def taker(self, step: int) -> tuple[Any, int | None]:
        """Return the loop that took a step, and where it ended; twice ``None`` for the one that runs.

        Another engine would lead to other bits.
        """
        return next(((loop, end) for end, loop in self._taken if step < end), (None, None))

    @property
    def last(self) -> list[Any]:
        """The variables at the last mark; empty before the first."""
        return self._marks[-1][1] if self._marks else []

    def values_at(self, step: int) -> list[Any]:
        """Return the variables at a mark at a step; empty where there is none."""
        return next((values for position, values in self._marks if position.step == step), [])

    def before(self, step: int) -> Mark:
        """Return the last mark at or before a step."""
        import tensorflow as tf

        marks = self._marks if self._held is None else [self._held, *self._marks]
        (*_, (position, values)) = (mark for mark in marks if mark[0].step <= step)
        return replace(position, best=tuple(map(tf.convert_to_tensor, position.best))), values
