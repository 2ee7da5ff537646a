"""The protocol of the displays of a run, their pace and their figures, and the display that shows nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from IPython.display import display

from tape_magic.display.content import numbers
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step, Wish

QUIET_SECONDS = 0.5
"""A run shorter than this shows only its report, since a bar that flashes up informs nobody."""

UPDATE_SECONDS = 0.1
"""The least time between two updates."""

SHARE = 80
"""The pause after an update as a multiple of the update's own time, at least."""

DIGITS = 5
"""The significant digits of a loss that changes all the time."""

RATE_SECONDS = 3.0
"""The last seconds over which the steps per second are measured."""

_ENGINES = {"xla": "XLA"}
_COMPILING = {"xla": "compiling with XLA", "graph": "compiling the graph"}


class Progress(Protocol):
    """A display of a run, with the calls that a run makes."""

    def update(self, step: Step) -> None:
        """Show a step, if it is due."""

    def wish(self) -> Wish:
        """Return whether the user wants the run to go on, to pause or to stop."""

    def finish(self, result: MinimizeResult, *, at_once: bool = False) -> None:
        """Show the report of a run that is over; `at_once` where the user waits for the end of the cell."""

    def close(self) -> None:
        """Close everything that is open, also after an error."""


class NoProgress:
    """Shows nothing but the report at the end, and has nothing to click: an interrupt stops the run."""

    def update(self, step: Step) -> None:
        """Show nothing."""

    def wish(self) -> Wish:
        """Return the wish to go on."""
        return Wish.GO_ON

    def finish(self, result: MinimizeResult, *, at_once: bool = False) -> None:
        """Close what is open, and show the report."""
        self.close()
        display(result)

    def close(self) -> None:
        """Do nothing, since nothing is open."""


class Pace:
    """Decides when an update is due, and measures the steps per second."""

    def __init__(self) -> None:
        self._last = self._sampled = self._took = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def due(self, step: Step) -> bool:
        """Return whether to show this step."""
        now = time.monotonic()
        if now - self._sampled >= UPDATE_SECONDS:
            self._sampled = now
            self._seen.append((step.seconds, step.step))
            while len(self._seen) > 2 and self._seen[1][0] < step.seconds - RATE_SECONDS:
                self._seen.popleft()
        if step.seconds < QUIET_SECONDS or now - self._last < max(UPDATE_SECONDS, SHARE * self._took):
            return False
        self._last = now
        return True

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the update within the block, so that slow updates are made less often."""
        began = time.monotonic()
        yield
        self._took = time.monotonic() - began

    @property
    def rate(self) -> float:
        """The recent steps per second, 0 while they are not known."""
        if len(self._seen) < 2:
            return 0.0
        (began, first), (seconds, last) = self._seen[0], self._seen[-1]
        return (last - first) / (seconds - began) if seconds > began and last > first else 0.0


def has_no_loss_yet(step: Step) -> bool:
    """Return whether there is no loss yet, since the loop is still being compiled."""
    return bool(step.compiling) and math.isnan(step.loss)


def validated(step: Step) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Return the steps and the losses of the validations; ``None`` where there are none yet."""
    return step.validation if step.validation is not None and len(step.validation[0]) else None


def validation_loss(step: Step) -> str:
    """Return the loss of the last validation as text; empty before the first."""
    found = validated(step)
    return "" if found is None else numbers.number(float(found[1][-1]), DIGITS)


def lowest_loss(step: Step) -> list[str]:
    """Return the lowest loss as text, or nothing where it reads like the last loss.

    With a validation, it is the lowest loss there.
    """
    if (found := validated(step)) is not None:
        lowest = numbers.number(float(np.fmin.reduce(found[1])), DIGITS)
        return [f"best {lowest}"] if lowest != validation_loss(step) else []
    lowest = numbers.number(step.best_loss, DIGITS)
    return [f"best {lowest}"] if lowest != numbers.number(step.loss, DIGITS) else []


def figures(step: Step, rate: float = 0.0) -> list[str]:
    """Return the state of a run as texts: epoch, step, speed, time left, engine."""
    speed = rate or ((step.step - step.first_step) / step.seconds if step.seconds else 0.0)
    parts = []
    if step.epochs > 1:
        parts.append(f"epoch {numbers.count(step.epoch)} of {numbers.count(step.epochs)}")
    limit = f" of {numbers.count(step.steps)}" if step.steps else ""
    parts.append(f"{'batch' if step.epochs else 'step'} {numbers.count(step.step)}{limit}")
    if speed > 0:
        parts.append(f"{numbers.rate(speed)} steps/s")
        left = (step.steps - step.step) / speed
        # No time left during a compilation: the compiled loop will be faster, with XLA by orders of
        # magnitude.
        parts += [f"{numbers.duration(left)} left"] if step.steps > step.step and not step.compiling else []
    parts += ["validating"] if step.validating else []
    parts += [_ENGINES.get(step.engine, step.engine)] if step.engine != step.compiling else []
    return [*parts, *([_COMPILING[step.compiling]] if step.compiling else [])]


def summary(step: Step, rate: float = 0.0) -> str:
    """Return the state of a run in one line."""
    known = not has_no_loss_yet(step)
    found = [f"validation {value}"] if (value := validation_loss(step)) else []
    loss = [f"loss {numbers.number(step.loss, DIGITS)}", *found, *lowest_loss(step)] if known else []
    return " · ".join([*loss, *figures(step, rate)])
