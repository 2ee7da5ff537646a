"""Where a run stands, and what whoever watches it wants of it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.notation import LAST_EXPRESSION

_Array = np.ndarray[Any, Any]


class Wish(enum.Enum):
    """What is to become of a run, asked between two chunks of steps."""

    GO_ON = "go on"
    PAUSE = "pause"
    STOP = "stop"


def _no_history() -> tuple[_Array, _Array]:
    return np.zeros(0, np.int64), np.zeros(0)


def _nothing() -> Mapping[str, _Array]:
    return {}


@dataclass(frozen=True)
class Step:
    """Where a run stands between two chunks.

    Attributes
    ----------
    step, steps
        Steps applied before the loss was evaluated last, and how many are asked for; 0 where the data
        say that only at their end.
    loss, best_loss
        After those, and the lowest so far.
    seconds
        Since the run began, without pauses.
    engine
        ``xla``, ``graph`` or ``eager``.
    epoch, epochs
        Of data: the one that the step is in, counted from 1, and how many; 0 where that is not known.
    loss_name
        The name of the loss in the cell; ``_`` for the last expression.
    first_step
        The step that the run began at: 0, unless it went on from an earlier one.
    tracked
        The last value of each scalar that is tracked.
    compiling
        The engine that is being compiled for, if one is; before the first step, the losses are NaN then.
    more_variables
        How many variables there are besides those whose values can be read.
    """

    step: int
    steps: int
    loss: float
    best_loss: float
    seconds: float
    engine: str
    epoch: int = 0
    epochs: int = 0
    loss_name: str = LAST_EXPRESSION
    first_step: int = 0
    tracked: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    compiling: str = ""
    more_variables: int = field(default=0, compare=False, repr=False)
    read_history: Callable[[], tuple[_Array, _Array]] = field(default=_no_history, compare=False, repr=False)
    read_variables: Callable[[], Mapping[str, _Array]] = field(default=_nothing, compare=False, repr=False)

    # Read when they are asked for, so that whoever collects steps does not collect all of that, too.

    @cached_property
    def history(self) -> tuple[_Array, _Array]:
        """Steps, int64, and the loss after each, float64, as far as it is when this is first asked for.

        Past 10,000 steps they are thinned; the lowest and the highest losses stay.
        """
        return self.read_history()

    @cached_property
    def variables(self) -> Mapping[str, _Array]:
        """The values of the first small variables, by name, as they are when this is first asked for."""
        return self.read_variables()
