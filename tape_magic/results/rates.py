"""The report of a range test of learning rates."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.errors import in_one_line
from tape_magic.results import views

_Array = np.ndarray[Any, Any]


class RangeEnd(enum.Enum):
    """Why a range test ended; the value is the sentence in reports."""

    BLEW_UP = "the loss blew up"
    RANGE = "the largest rate was reached"
    STOPPED = "stopped"


@dataclass(frozen=True, eq=False, repr=False)
class RateReport(views.Shown):
    """The result of ``--lr find``: losses while the learning rate grew from step to step.

    Attributes
    ----------
    rates, losses
        The rate of each step, and the loss before it, float64.
    smoothed
        The losses, over data each the mean of its neighbours, float64.
    suggestion
        The rate to take; ``None`` where the loss fell at no rate.
    lowest
        The rate at which the smoothed loss was lowest, or had all but a thousandth of the way down behind it;
        ``None`` likewise.
    ended
        Why the test ended.
    loss_name
        The name of the loss in the cell; ``_`` for the last expression.
    optimizer
        The optimizer as text, without its rate: ``Adam``.
    by_name
        Whether the optimizer was given by its name, so that its rate is ``--lr``.
    of_data
        Whether each step took a batch of data.
    seconds
        The time of the test, compilation included.
    engine
        ``xla``, ``graph`` or ``eager``.
    notes
        Further sentences for the user.

    Examples
    --------
    >>> import tape_magic                                                              # doctest: +SKIP
    >>> report = tape_magic.minimize(loss, model, "adam", lr="find", data=(x, y))      # doctest: +SKIP
    >>> report.suggestion, report.line                                                 # doctest: +SKIP
    (0.003, '--lr 0.003')
    """

    rates: _Array
    losses: _Array
    smoothed: _Array
    suggestion: float | None
    lowest: float | None
    ended: RangeEnd
    loss_name: str
    optimizer: str
    by_name: bool
    of_data: bool
    seconds: float
    engine: str
    notes: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        found = "none suggested" if self.suggestion is None else f"{self.suggestion:g} suggested"
        return f"<RateReport: {found}, {len(self.rates)} rates tried>"

    @property
    def line(self) -> str:
        """What to write to run with the suggested rate; empty where there is none."""
        if self.suggestion is None:
            return ""
        return f"--lr {self.suggestion:g}" if self.by_name else f"learning_rate={self.suggestion:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain Python values."""
        return {
            "suggestion": self.suggestion,
            "lowest": self.lowest,
            "ended": self.ended.name.lower(),
            "rates": self.rates.tolist(),
            "losses": self.losses.tolist(),
            "smoothed": self.smoothed.tolist(),
            "optimizer": self.optimizer,
            "seconds": self.seconds,
            "engine": self.engine,
            "notes": list(self.notes),
        }

    def to_frame(self) -> Any:
        """Return a ``pandas.DataFrame`` of losses and smoothed losses by rate; needs pandas."""
        try:
            import pandas
        except ImportError:
            raise in_one_line(ImportError("to_frame() needs pandas: pip install pandas")) from None
        columns = {"loss": self.losses, "smoothed": self.smoothed}
        return pandas.DataFrame(columns, pandas.Index(self.rates, name="rate"))
