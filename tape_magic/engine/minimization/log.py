"""What a run records: the values of each step in bounded memory, why the run ended, and its report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.data_not_finite import TakenBatch, cause_in_data
from tape_magic.engine.minimization.norms import layers_of, norms_of
from tape_magic.engine.minimization.problem import Problem, array_of
from tape_magic.engine.minimization.running_means import RunningMeans
from tape_magic.engine.minimization.series import Series
from tape_magic.engine.minimization.validation_log import ValidationLog
from tape_magic.engine.tracing.traced import Require
from tape_magic.results.epochs import Epochs
from tape_magic.results.minimum import Divergence, StopReason
from tape_magic.results.steps import Step

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recorded:
    """Values of one series at some steps, in their order."""

    steps: _Array
    values: _Array


@dataclass(frozen=True)
class Minimized:
    """The report, and the value of the program's last expression at the end.

    After a range test, the report is a :class:`~tape_magic.results.rates.RateReport`, and there is no value.
    """

    result: Any
    value: Any


UNLIMITED = 2**62
"""The limit of steps where only the end of the data, or the time, ends a run."""

SMALL, SHOWN = 12, 8
"""A display shows variables of at most this many elements, and at most this many of them."""


class RunLog:
    """Records one run, from its first step to its report.

    Parameters
    ----------
    problem
        What is minimised; the clock starts now.

    Attributes
    ----------
    series
        The loss, then each tracked scalar.
    limit
        The most steps; :data:`UNLIMITED` where there is no such number.
    first_step
        The step that the run goes on from; 0 for a run that begins anew.
    steps_per_epoch
        Batches in an epoch; ``None`` without data, or where the number is not known.
    means
        The means of a run over data; ``None`` without data.
    validation
        What was found on other data at the ends of epochs; ``None`` without a validation.
    reason, divergence
        Why the run ended, and what stopped being finite.
    put_back
        The step whose variables were put back at the end for its low loss, and the loss; else ``None``.
    choice
        Why the optimizer was taken, where none was named; else empty.
    averaged
        The loss at the averages of the variables, if these were left at the end; else ``None``.
    """

    def __init__(self, problem: Problem) -> None:
        limit = problem.settings.step_limit
        self._problem = problem
        self._track = problem.settings.track
        self.series = [Series() for _ in range(1 + len(self._track))]
        self.limit = UNLIMITED if limit is None else limit
        self.first_step = 0
        self.steps_per_epoch: int | None = None
        self.means: RunningMeans | None = None
        self.validation: ValidationLog | None = None
        self.reason = StopReason.STEPS
        self.divergence: Divergence | None = None
        self.put_back: tuple[int, float] | None = None
        self.averaged: float | None = None
        self.choice = ""
        self._started = time.perf_counter()
        self._control: RunControl | None = None

    def over_data(self, steps_per_epoch: int | None) -> None:
        """Record a run over data, with as many batches in an epoch, if that is known."""
        self.steps_per_epoch = steps_per_epoch
        self.means = RunningMeans(self._track, steps_per_epoch)

    def data_over(self) -> None:
        """Note that there are no more data: the last epoch is finished."""
        if self.reason is StopReason.STEPS:
            self.reason = StopReason.EPOCHS
        if self.means is not None:
            self.means.over = True

    def end_epoch(self) -> None:
        """Note that an epoch is over, whose end the number of its batches may not tell."""
        if self.means is not None:
            self.means.over = True

    def begin_epoch(self) -> None:
        """Note that another epoch begins after one of unknown length."""
        if self.means is not None:
            self.means.over = False

    def follow(self, control: RunControl) -> None:
        """Leave the pauses that the user asks for out of the clock."""
        self._control = control

    @property
    def seconds(self) -> float:
        """Seconds since the run began, without pauses."""
        paused = 0.0 if self._control is None else self._control.paused
        return time.perf_counter() - self._started - paused

    # -- the series ------------------------------------------------------------------------------------

    def record(self, recorded: Sequence[Recorded], places: _Array | None = None) -> None:
        """Add the values of some steps, one item a series; they replace the same and later steps.

        `places` has those of their batches, as :meth:`RunningMeans.extend` takes them.
        """
        if self.means is not None and places is not None:
            values = np.stack([part.values for part in recorded], axis=1)
            self.means.extend(recorded[0].steps, places, values)
        for series, part in zip(self.series, recorded, strict=True):
            if len(part.steps):
                series.drop_from(int(part.steps[0]))
                series.extend(part.steps, part.values)

    def note(self, step: int, numbers: Sequence[float]) -> None:
        """Add one number a series at a step."""
        for series, number in zip(self.series, numbers, strict=True):
            series.extend(np.array([step]), np.array([number]))

    def drop_from(self, step: int) -> None:
        """Forget a step and all after it."""
        for series in self.series:
            series.drop_from(step)
        if self.means is not None:
            self.means.drop_from(step)
        if self.validation is not None:
            self.validation.drop_from(step)

    def arrays_before(self, step: int) -> list[_Array]:
        """Return steps and values before a step in turn, for each series, as :meth:`restore` takes them."""
        counts = [int(np.searchsorted(series.steps, step)) for series in self.series]
        pairs = zip(self.series, counts, strict=True)
        return [array[:count] for series, count in pairs for array in (series.steps, series.values)]

    @property
    def lowest(self) -> tuple[int, float]:
        """The step of the lowest loss, or the end of the best epoch, and the loss.

        With a validation, it is the one with the lowest loss there.
        """
        if self.validation is not None and (step := self.validation.best_step) is not None:
            return step, self._loss_at(step)
        if self.means is not None and (means := self.means.shown()[0]) is not None:
            return int(means.steps[means.best]), float(means.loss[means.best])
        steps, losses = self.series[0].thinned()
        # The start may be the one value that is not finite: then it is the best there is.
        finite = np.where(np.isfinite(losses), losses, np.inf) if len(losses) > 1 else losses
        place = int(np.argmin(finite))
        return int(steps[place]), float(finite[place])

    def _loss_at(self, step: int) -> float:
        """Return the mean of the epoch that ends at a step, or the loss there where an epoch is one step."""
        means = None if self.means is None else self.means.shown()[0]
        of_epoch = [] if means is None else means.loss[means.steps == step]
        steps, losses = self.series[0].thinned()
        place = min(int(np.searchsorted(steps, step)), len(losses) - 1)
        return float(of_epoch[0] if len(of_epoch) else losses[place])

    @property
    def epochs(self) -> Epochs | None:
        """The means of epochs, with their validations; ``None`` without data."""
        epochs = None if self.means is None else self.means.read()[0]
        return epochs if self.validation is None else self.validation.joined(epochs)

    def restore(
        self,
        tracked: Sequence[str],
        arrays: Sequence[_Array],
        means: Sequence[_Array],
        validation: Sequence[_Array] = (),
    ) -> None:
        """Begin with what an earlier run recorded; a scalar that only this run tracks begins now."""
        if self.validation is not None:
            self.validation.restore(tracked, validation)
        names = ("", *self._track)
        earlier = dict(zip(("", *tracked), zip(arrays[::2], arrays[1::2], strict=True), strict=True))
        self.series = [Series(*earlier.get(name, ())) for name in names]
        if self.means is not None:
            places = {name: place for place, name in enumerate(earlier)}
            self.means.restore(means, [places.get(name) for name in names])

    # -- where the run stands ----------------------------------------------------------------------------

    def step(self, step: int, loss: float, best: float, engine: str, compiling: str = "") -> Step:
        """Return a step as a display takes it; `compiling` is the engine that compiles at the time."""
        epoch = 0, 0
        if length := self.steps_per_epoch:
            epoch = min(step, self.limit - 1) // length + 1, -(-self.limit // length)
        open_end = self.limit == UNLIMITED or self._problem.settings.unbounded
        steps = 0 if open_end else self.limit
        return Step(step, steps, loss, best, self.seconds, engine, *epoch, compiling=compiling)

    def last_step(self, engine: str, compiling: str) -> Step:
        """Return the last recorded step, for a display while the run waits for a compiler."""
        losses = self.series[0]
        step, loss, best = self.first_step, math.nan, math.nan
        if len(losses):
            step, loss, best = int(losses.steps[-1]), losses.values[-1], losses.values.min()
        return self.shown(self.step(step, loss, best, engine, compiling))

    def shown(self, step: Step) -> Step:
        """Return a step with the history, the tracked scalars, and a way to read the variables.

        Over data, its numbers are means.
        """
        loss, *tracked = self.series
        leaves = self._problem.leaves
        # A few numbers of a model's last bias say nothing; the norms of its layers do.
        own = [leaf for leaf in leaves if not leaf.of_model]
        small = [leaf for leaf in own if math.prod(leaf.shape) <= SMALL][:SHOWN]
        layers = layers_of(leaves, SHOWN)
        shown = len(small) + sum(map(len, layers.values()))
        pairs = zip(self._track, tracked, strict=True)
        last = {name: float(one.values[-1]) for name, one in pairs if len(one)}
        means, drawn = (None, None) if self.means is None else self.means.shown()
        if means is not None:
            step = replace(step, loss=float(means.loss[-1]), best_loss=float(means.loss[means.best]))
            last = {name: float(values[-1]) for name, values in means.tracked.items()}
        found = self.validation
        return replace(
            step,
            validation=None if found is None else found.losses,
            validated={} if found is None else found.last,
            loss_name=self._problem.shown_name,
            first_step=self.first_step,
            tracked=last,
            means=drawn,
            more_variables=len(leaves) - shown,
            read_history=lambda: (loss.steps, loss.values),
            read_variables=lambda: {leaf.name: array_of(leaf.value) for leaf in small},
            read_layers=lambda: norms_of(layers),
        )

    def explain_divergence(
        self, require: Require, batch: TakenBatch | None = None, ready: Callable[[], Any] | None = None
    ) -> None:
        """Find out whether data made a value that is not finite; see :func:`cause_in_data`."""
        lost = self.divergence
        if lost is not None:
            cause = cause_in_data(self._problem, require, lost.what, batch, ready)
            self.divergence = replace(lost, cause=cause)
