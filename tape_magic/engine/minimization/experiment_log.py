"""The log of a run for TensorBoard, MLflow or trackio, written while the run goes on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.log_writers import LogWriter, Scalars, told, writer_of
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.series import Series
from tape_magic.engine.minimization.settings import LOGGED_EVERY
from tape_magic.engine.values.leaves import Leaf
from tape_magic.results.epochs import Epochs

MOST = 50
"""The most steps of one series that are written between two looks at a run, about 50 ms apart."""


@contextlib.contextmanager
def experiment_log(log: RunLog, problem: Problem) -> Iterator[ExperimentLog]:
    """Open the log that the settings ask for, and close it at the end of the block.

    Raises :class:`LineError` where it cannot be written.
    """
    settings = problem.settings
    writer = None if settings.log is None else writer_of(settings.log, resume=settings.resume)
    experiment = ExperimentLog(log, [problem.loss_name or "loss", *settings.track], writer)
    try:
        yield experiment
    finally:
        experiment.close()


class ExperimentLog:
    """Writes what a run records: every 50 steps, at its end, and at the end of each epoch.

    A log that can no longer be written ends there, and the run goes on.

    Parameters
    ----------
    log
        What the run records.
    names
        The name of the loss, and of each tracked scalar.
    writer
        Where it is written; ``None`` for nowhere.
    """

    def __init__(self, log: RunLog, names: Sequence[str], writer: LogWriter | None) -> None:
        self._log, self._names, self._writer = log, names, writer
        self._due = [log.first_step] * len(self._names)
        self._rate_due = self._norms_due = self._epochs = log.first_step
        self._last = self._told = -1
        self._trouble = ""

    def follow(
        self,
        step: int,
        optimizer: Any = None,
        leaves: Sequence[Leaf] = (),
        norms: Mapping[int, Any] = MappingProxyType({}),
    ) -> None:
        """Write what is new.

        Parameters
        ----------
        step
            The steps applied.
        optimizer
            The optimizer after these; anything but a Keras optimizer has no rate.
        leaves
            The leaves that have a gradient.
        norms
            One norm for each leaf, by the steps at which they were noted, in their order.
        """
        if self._writer is None:
            return
        self._follow_series()
        self._follow_epochs(self._log.epochs)
        for at, each in norms.items():
            if at >= self._norms_due:
                self._norms_due = at + 1
                named = zip(leaves, each, strict=True)
                self._write({f"gradient_norm/{leaf.name}": float(one) for leaf, one in named}, at)
        rates = optimizers.current_rates(optimizer) if step >= self._rate_due else {}
        if rates:
            self._rate_due = step + LOGGED_EVERY
            self._write({f"learning_rate/{place}".rstrip("/"): rate for place, rate in rates.items()}, step)

    def _follow_series(self) -> None:
        found: dict[int, dict[str, float]] = {}
        for place, (name, one) in enumerate(zip(self._names, self._log.series, strict=True)):
            steps, values = self._picked(place, one)
            for step, value in zip(steps, values, strict=True):
                found.setdefault(step, {})[name] = value
        for step in sorted(found):
            self._write(found[step], step)
            self._told = step

    def _picked(self, place: int, series: Series) -> tuple[list[int], list[float]]:
        """Return steps and values of a series that are due."""
        begin = int(np.searchsorted(series.steps, self._due[place]))
        steps, values = series.steps[begin:], series.values[begin:]
        if not len(steps):
            return [], []
        # The first recorded step at or after each multiple: of later steps, not all are recorded.
        first = np.flatnonzero(np.diff(steps // LOGGED_EVERY, prepend=(self._due[place] - 1) // LOGGED_EVERY))
        first = first[:: max(1, -(-len(first) // MOST))]
        self._due[place] = int(steps[-1]) + 1
        return steps[first].tolist(), values[first].tolist()

    def _follow_epochs(self, epochs: Epochs | None) -> None:
        if epochs is None or not epochs.whole or not len(epochs):
            return
        found = () if epochs.val_loss is None else (epochs.val_loss, *epochs.val_tracked.values())
        for place in np.flatnonzero(epochs.steps > self._epochs):
            named = zip(self._names, (epochs.loss, *epochs.tracked.values()), strict=True)
            step = int(epochs.steps[place])
            self._write({f"epoch_{name}": float(values[place]) for name, values in named}, step)
            validated = zip(self._names, found, strict=bool(found))
            scalars = {f"epoch_{name}": float(values[place]) for name, values in validated}
            self._write(scalars, step, validation=True)
        self._epochs = max(self._epochs, int(epochs.steps[-1]))

    def end(self) -> list[str]:
        """Write the last step, and one that was not finite; return what the report says of the log."""
        if self._writer is None:
            return []
        log = self._log
        step = int(log.series[0].steps[-1])
        if step > self._told:
            named = zip(self._names, log.series, strict=True)
            self._write({name: float(one.values[-1]) for name, one in named if len(one)}, step)
        self._follow_epochs(log.epochs)
        if (lost := log.divergence) is not None and not math.isfinite(lost.loss):
            self._write({self._names[0]: lost.loss}, lost.step)
        note = self._writer.note
        self.close()
        return [self._trouble or note]

    def close(self) -> None:
        """Write what waits to be written; only the first call does anything."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except Exception as error:
                self._lost(error)

    def _write(self, scalars: Scalars, step: int, *, validation: bool = False) -> None:
        if self._trouble or self._writer is None or not scalars:
            return
        try:
            self._writer.write(scalars, step, validation=validation)
        except Exception as error:  # whatever the library or the disk says
            self._lost(error)
        else:
            self._last = max(self._last, step)

    def _lost(self, error: Exception) -> None:
        where = f" at step {self._last:,}" if self._last >= 0 else ""
        self._trouble = self._trouble or f"the log ends{where}: {told(error)}"
