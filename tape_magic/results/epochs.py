"""The means of a run over data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.errors import in_one_line

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Epochs:
    """The means of a run over data: of its epochs, or of equal stretches of a run that has finished none.

    The loss of one batch is high or low by luck, and the mean over all of them is not. A batch counts by its
    rows, as in ``fit``; an epoch that was not finished has no mean.

    Attributes
    ----------
    epoch
        The epoch of each mean, counted from 1, int64.
    steps
        The number of steps at its end, int64.
    loss
        The mean loss, float64.
    tracked
        The means of each tracked scalar by its name.
    whole
        Whether each mean is that of a whole epoch, and not of a stretch.
    val_loss
        The loss over all of the validation data at the end of each epoch, float64; NaN where an epoch was not
        validated; ``None`` for a run without a validation.
    val_tracked
        The same for each tracked scalar, by its name.

    Examples
    --------
    >>> epoch, steps, loss = np.array([[1, 2], [4, 8], [0.9, 0.4]])
    >>> epochs = Epochs(epoch, steps, loss, {"error": np.array([3, 1])})
    >>> epochs
    <Epochs: 2, loss from 0.9 to 0.4>
    >>> float(epochs.tracked["error"][-1]), epochs.middles.tolist()
    (1.0, [1.5, 5.5])
    """

    epoch: _Array
    steps: _Array
    loss: _Array
    tracked: Mapping[str, _Array]
    whole: bool = True
    val_loss: _Array | None = None
    val_tracked: Mapping[str, _Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        what = "Epochs" if self.whole else "Epochs, none finished: equal stretches"
        losses = f", loss from {self.loss[0]:.7g} to {self.loss[-1]:.7g}" if len(self) else ""
        return f"<{what}: {len(self)}{losses}>"

    @property
    def best(self) -> int:
        """The place of the lowest mean."""
        return int(np.argmin(np.where(np.isnan(self.loss), np.inf, self.loss)))

    @property
    def best_val(self) -> int | None:
        """The place of the lowest validation loss; ``None`` where there is none."""
        if self.val_loss is None or np.isnan(self.val_loss).all():
            return None
        return int(np.nanargmin(self.val_loss))

    @property
    def validated(self) -> tuple[_Array, _Array] | None:
        """The steps and the losses of the validations; ``None`` where there are none."""
        if self.val_loss is None or np.isnan(self.val_loss).all():
            return None
        there = ~np.isnan(self.val_loss)
        return self.steps[there], self.val_loss[there]

    @property
    def lengths(self) -> _Array:
        """The number of steps of each mean."""
        return np.diff(self.steps, prepend=0)

    @property
    def middles(self) -> _Array:
        """The step in the middle of each mean, where it belongs in a picture; float64."""
        return self.steps - (self.lengths + 1) / 2

    @property
    def of_single_steps(self) -> bool:
        """Whether each mean is that of one step, so that it says no more than the history."""
        return bool((self.lengths == 1).all())

    def to_dict(self) -> dict[str, Any]:
        """Return the means as plain Python values."""
        found = {
            "epoch": self.epoch.tolist(),
            "steps": self.steps.tolist(),
            "loss": self.loss.tolist(),
            "tracked": {name: values.tolist() for name, values in self.tracked.items()},
            "whole": self.whole,
        }
        if self.val_loss is not None:
            found["val_loss"] = self.val_loss.tolist()
            found["val_tracked"] = {name: values.tolist() for name, values in self.val_tracked.items()}
        return found

    def to_frame(self) -> Any:
        """Return a ``pandas.DataFrame`` with a row for each mean; needs pandas.

        With a validation, it has the columns ``val_loss``, ``val_acc`` and so on, as Keras's history does.
        """
        try:
            import pandas
        except ImportError:
            raise in_one_line(ImportError("to_frame() needs pandas: pip install pandas")) from None
        columns = {"steps": self.steps, "loss": self.loss, **self.tracked}
        if self.val_loss is not None:
            columns |= {"val_loss": self.val_loss}
            columns |= {f"val_{name}": values for name, values in self.val_tracked.items()}
        return pandas.DataFrame(columns, pandas.Index(self.epoch, name="epoch"))


def shown_means(means: Epochs | None) -> Epochs | None:
    """Return means that tell more than single steps do: there are some, and not each of one step."""
    return None if means is None or means.of_single_steps else means
