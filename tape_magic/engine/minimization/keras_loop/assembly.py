"""The optimizer of a run, and what its loops do beside the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.composite import Composite
from tape_magic.engine.minimization.keras_loop.continuation import Continuation
from tape_magic.engine.minimization.keras_loop.default_optimizer import decide
from tape_magic.engine.minimization.keras_loop.protocol import LoopOptions
from tape_magic.engine.minimization.optimizer_groups import assign
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.steppers import method_name
from tape_magic.engine.minimization.stop_rules import Rules
from tape_magic.engine.values.leaves import Leaf


def build_optimizer(
    problem: Problem, connected: Sequence[Leaf], continuation: Continuation, *, same: bool
) -> Any:
    """Return the optimizer of a run, built for the leaves that have a gradient.

    `same` says whether the loss is the same each time at the same point, for a run that names no optimizer.
    """
    optimizer = continuation.optimizer
    if optimizer is None:
        optimizer = optimizers.resolve(decide(connected, same=same))
    if isinstance(optimizer, Composite):
        assign(optimizer, problem.leaves, problem.selection, problem.namespace)
        fresh = optimizer.build(connected, optimizers.built_for)
    else:
        optimizer, fresh = optimizers.built_for(optimizer, [leaf.owner for leaf in connected])
        fresh = fresh and optimizers.is_optimizer(problem.settings.optimizer)
    if fresh:
        note = "the optimizer belongs to other variables; a fresh one with its settings was used"
        if note not in problem.notes:
            problem.notes.append(note)
    return optimizer


def build_loop_options(
    problem: Problem, connected: Sequence[Leaf], optimizer: Any, *, repeatable: bool, by_epoch: bool
) -> LoopOptions:
    """Return what the loops do beside the steps.

    Parameters
    ----------
    problem, connected, optimizer
        What is minimised, the leaves that have a gradient, and the optimizer.
    repeatable
        Whether running steps again from the same variables gives the same, and does nothing else.
    by_epoch
        Whether the best is kept by the means of epochs.
    """
    lower, upper = zip(*(problem.limits.get(id(leaf.value), (None, None)) for leaf in connected), strict=True)
    return LoopOptions(
        Rules.of(problem.settings, searches=bool(method_name(optimizer))),
        problem.settings.keeps_best_step,
        by_epoch,
        lower,
        upper,
        careful=not repeatable,
    )
