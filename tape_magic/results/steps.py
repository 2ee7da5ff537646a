"""The state of a run between two chunks of steps, and the wish of its user."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.notation import LAST_EXPRESSION
from tape_magic.results.epochs import Epochs

_Array = np.ndarray[Any, Any]


class Wish(enum.Enum):
    """The user's wish for the run, which the engine asks for between two chunks of steps."""

    GO_ON = "go on"
    PAUSE = "pause"
    STOP = "stop"


def _no_history() -> tuple[_Array, _Array]:
    return np.zeros(0, np.int64), np.zeros(0)


def _nothing() -> Mapping[str, _Array]:
    return {}


@dataclass(frozen=True)
class Step:
    """The state of a run between two chunks of steps.

    Attributes
    ----------
    step, steps
        The number of steps before the last evaluation of the loss, and the limit; the limit is 0 where
        it is known at the end of the data only.
    loss, best_loss
        The loss after these steps, and the lowest loss so far. Over data, they are means, as those of
        :class:`~tape_magic.results.epochs.Epochs`.
    seconds
        The time since the run began, without pauses.
    engine
        ``xla``, ``graph`` or ``eager``.
    epoch, epochs
        The epoch of the step, counted from 1, and the number of epochs; 0 where it is not known.
    loss_name
        The name of the loss in the cell; ``_`` for the last expression.
    first_step
        The step that the run began at: 0, unless it went on from an earlier one.
    tracked
        The last value of each scalar that is tracked.
    compiling
        The engine that is being compiled; empty where there is none. Before the first step, the losses
        are NaN meanwhile.
    means
        The means that a picture's line goes through; ``None`` without data, and where an epoch is one batch.
    validation
        The steps and the losses of the validations so far; ``None`` without a validation.
    validated
        What was tracked in the last validation, by its name.
    validating
        Whether the run is within a validation.
    more_variables
        The number of variables besides those that `variables` and `layers` tell of.
    read_history, read_variables, read_layers
        Functions behind `history`, `variables` and `layers`.
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
    means: Epochs | None = field(default=None, compare=False, repr=False)
    validation: tuple[_Array, _Array] | None = field(default=None, compare=False, repr=False)
    validated: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    validating: bool = False
    more_variables: int = field(default=0, compare=False, repr=False)
    read_history: Callable[[], tuple[_Array, _Array]] = field(default=_no_history, compare=False, repr=False)
    read_variables: Callable[[], Mapping[str, _Array]] = field(default=_nothing, compare=False, repr=False)
    read_layers: Callable[[], Mapping[str, float]] = field(default=dict, compare=False, repr=False)

    # Read at the first access, so that a list of steps does not hold a copy of the history for each of them.

    @cached_property
    def history(self) -> tuple[_Array, _Array]:
        """The numbers of steps, int64, and the loss after each, float64, at the first access.

        Past 10,000 steps some are left out; the lowest and the highest losses stay.
        """
        return self.read_history()

    @cached_property
    def variables(self) -> Mapping[str, _Array]:
        """The values of the first small variables that are no model's, by name, at the first access."""
        return self.read_variables()

    @cached_property
    def layers(self) -> Mapping[str, float]:
        """The norms of the weights of a model's first layers, by their paths, at the first access."""
        return self.read_layers()
