"""The optimizer of a run that names none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tape_magic.engine.minimization.optimizer_names import LBFGS
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER, Settings
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import is_keras_variable

MOST = 1_000_000
"""The most numbers for L-BFGS, which keeps twenty times as many."""


def undecided(settings: Settings) -> bool:
    """Return whether the optimizer depends on what is minimised over."""
    asked = settings.lr, settings.schedule, settings.clip, settings.data
    return settings.optimizer == DEFAULT_OPTIMIZER and all(one is None for one in asked)


def decide(leaves: Sequence[Leaf], *, same: bool) -> str:
    """Return the name of the optimizer to take: L-BFGS, or Adam where :func:`reason_for` has a reason.

    Parameters
    ----------
    leaves
        What is minimised over.
    same
        Whether the loss is the same each time at the same point.
    """
    of_model = any(leaf.of_model or is_keras_variable(leaf.owner) for leaf in leaves)
    return "adam" if of_model or not same or _numbers(leaves) > MOST else LBFGS


def reason_for(name: str, settings: Settings, leaves: Sequence[Leaf], *, same: bool) -> str:
    """Return the sentence of a report on the choice."""
    if name == LBFGS:
        count = _numbers(leaves)
        what = "one number is" if count == 1 else f"{count:,} numbers are"
        return f"L-BFGS, since {what} minimised over and the loss is the same each time"
    given = (flag for flag in ("lr", "schedule", "clip") if getattr(settings, flag) is not None)
    if flag := next(given, ""):
        why = f"--{flag} is given"
    elif settings.data is not None:
        why = "each step takes another batch"
    elif not same:
        why = "the loss is not the same each time"
    elif _numbers(leaves) > MOST:
        why = f"{_numbers(leaves):,} numbers are minimised over"
    else:
        model = next(leaf for leaf in leaves if leaf.of_model or is_keras_variable(leaf.owner))
        why = f"{model.name} belongs to a model"
    return f"Adam, since {why}"


def _numbers(leaves: Sequence[Leaf]) -> int:
    return sum(math.prod(leaf.shape) for leaf in leaves)
