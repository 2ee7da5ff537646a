"""What a run over data has found at the ends of its epochs, on other data than it minimises over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.results.epochs import Epochs

_Array = np.ndarray[Any, Any]

_EPOCH, _STEP, _LOSS = range(3)
"""The columns of a validation before the tracked scalars: its epoch from 0, the step, the loss."""

_NAMED = 4
"""A note names at most so many epochs."""


class ValidationLog:
    """Keeps the validations of a run, and the values at the best of them.

    Which one is best follows the rule of Keras's ``EarlyStopping``: the first of those with the lowest loss;
    one that is NaN is never better.

    Parameters
    ----------
    names
        What is tracked beside the loss.

    Attributes
    ----------
    values
        The values of the variables at the best validation, where they are kept; else empty.
    seconds
        How long the validations have taken.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._rows: _Array = np.zeros((0, 3 + len(names)))
        self.values: list[Any] = []
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, epoch: int, step: int, numbers: Sequence[float]) -> bool:
        """Add the loss and what is tracked at the end of an epoch; return whether it is the best so far."""
        self._rows = np.concatenate([self._rows, [[epoch, step, *numbers]]])
        return self._best == len(self._rows) - 1

    def has(self, step: int) -> bool:
        """Return whether there was a validation at a step."""
        return bool((self._rows[:, _STEP] == step).any())

    def drop_from(self, step: int) -> None:
        """Forget what was found beyond a step."""
        self._rows = self._rows[self._rows[:, _STEP] <= step]

    @property
    def _best(self) -> int | None:
        losses = np.where(np.isnan(self._rows[:, _LOSS]), np.inf, self._rows[:, _LOSS])
        place = int(np.argmin(losses)) if len(losses) else 0
        return place if len(losses) and losses[place] < math.inf else None

    @property
    def best_step(self) -> int | None:
        """The step of the best validation; ``None`` before the first with a finite loss."""
        return None if self._best is None else int(self._rows[self._best, _STEP])

    @property
    def waited(self) -> int:
        """The number of validations since the best one."""
        return len(self._rows) - (0 if self._best is None else self._best + 1)

    @property
    def losses(self) -> tuple[_Array, _Array]:
        """The steps, int64, and the losses there."""
        return self._rows[:, _STEP].astype(np.int64), self._rows[:, _LOSS]

    @property
    def last(self) -> dict[str, float]:
        """What was tracked last, by its name."""
        return dict(zip(self._names, self._rows[-1, _LOSS + 1 :].tolist(), strict=True)) if len(self) else {}

    @property
    def arrays(self) -> list[_Array]:
        """All of it, as :meth:`restore` takes it."""
        return [self._rows, *(np.asarray(value) for value in self.values)]

    def restore(self, tracked: Sequence[str], arrays: Sequence[_Array]) -> None:
        """Go on from what an earlier run found, which tracked some scalars."""
        import tensorflow as tf

        if not arrays:
            return
        rows, *values = arrays
        unknown = np.full(len(rows), np.nan)
        places = {name: 3 + place for place, name in enumerate(tracked)}
        columns = [rows[:, places[name]] if name in places else unknown for name in self._names]
        self._rows = np.column_stack([rows[:, :3], *columns])
        self.values = [tf.convert_to_tensor(value) for value in values]

    def joined(self, epochs: Epochs | None) -> Epochs | None:
        """Return the means of epochs with what was found at their ends; NaN where nothing was."""
        if epochs is None or not epochs.whole:
            return epochs
        found = {int(row[_EPOCH]) + 1: row for row in self._rows}
        missing = np.full(self._rows.shape[1], np.nan)
        each = [found.get(int(epoch), missing) for epoch in epochs.epoch]
        rows = np.array(each).reshape(len(each), len(missing))  # of none, too
        tracked = {name: rows[:, _LOSS + 1 + place] for place, name in enumerate(self._names)}
        return replace(epochs, val_loss=rows[:, _LOSS], val_tracked=tracked)

    @property
    def note(self) -> str:
        """A sentence on losses that are not finite; empty where all are."""
        lost = self._rows[~np.isfinite(self._rows[:, _LOSS])]
        if not len(lost):
            return ""
        listed = ", ".join(f"{int(row[_EPOCH]) + 1:,} ({row[_LOSS]:g})" for row in lost[:_NAMED])
        more = f" and {len(lost) - _NAMED:,} more" if len(lost) > _NAMED else ""
        what = "epoch" if len(lost) == 1 else "epochs"
        return f"the validation loss is not finite in {what} {listed}{more}, which is never the best"
