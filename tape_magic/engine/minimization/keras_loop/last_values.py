"""The values that a run leaves in the end, where these are not those of its last step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.keras_loop.protocol import Final, Loop
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all


def leave_averages(problem: Problem, loop: Loop, optimizer: Any, before: Sequence[Any], loss: float) -> Final:
    """Leave the averages of an optimizer that keeps them, if it has any, and evaluate there.

    Parameters
    ----------
    problem, loop, optimizer
        What was minimised, by which loop and optimizer.
    before, loss
        What the loop has kept at the last step, before the evaluation there, and the loss.
    """
    loop.reset()
    assign_all(zip(loop.kept, before, strict=True))  # what the program counts itself, it counts once
    if optimizers.leave_averages(optimizer, [leaf.owner for leaf in problem.leaves]):
        problem.notes.append(
            f"the variables hold their averages (use_ema), as after fit; "
            f"at the last step the {problem.loss_name or 'loss'} was {loss:.4g}"
        )
    return loop.final()


def better_values(problem: Problem, log: RunLog, loop: Loop, position: Position, loss: float) -> list[Any]:
    """Return the best values that were kept; nothing where none are better than those at the end.

    Parameters
    ----------
    problem, log, loop, position
        Those of a run that keeps the best, at its end.
    loss
        The loss there.
    """
    lowest, *values = position.best
    if loop.options.by_epoch and log.means is not None:
        *values, _, _ = values
        loss = log.means.mean_at(position.step)
        if float(lowest) == loss == math.inf:
            problem.notes.append("--keep best goes by whole epochs, and none was finished")
    return values if float(lowest) < loss else []


def put_back(problem: Problem, loop: Loop, values: Sequence[Any]) -> Final:
    """Put the values of another step back into what the loop keeps, and evaluate there."""
    problem.notes = [note for note in problem.notes if "(use_ema)" not in note]
    loop.reset()
    assign_all(zip(loop.kept, values, strict=True))
    return loop.final()
