"""A stream of steps as something to watch: what displays have in common, and the one that shows nothing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from IPython.display import display

from tape_magic.display.content import numbers
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step, Wish

QUIET_SECONDS = 0.5
"""A run shorter than this shows its report only: a bar that flashes up tells nothing."""

UPDATE_SECONDS = 0.1
"""The least time between two updates."""

SHARE = 80
"""An update is followed by at least so many times its own time without one."""

DIGITS = 5
"""Of losses that change all the time."""

RATE_SECONDS = 3.0
"""The steps per second are those of the last so many seconds."""

_ENGINES = {"xla": "XLA"}
_COMPILING = {"xla": "compiling with XLA", "graph": "compiling the graph"}


class Progress(Protocol):
    """What a run tells its watcher, and what it asks."""

    def update(self, step: Step) -> None:
        """The run has come to a step."""

    def wish(self) -> Wish:
        """Whether it is to go on."""

    def finish(self, result: MinimizeResult) -> None:
        """The run is over: show its report."""

    def close(self) -> None:
        """Whatever happened, leave nothing behind."""


class NoProgress:
    """The report at the end, and nothing before."""

    def update(self, step: Step) -> None:
        """Shows nothing."""

    def wish(self) -> Wish:
        """Nobody can say."""
        return Wish.GO_ON

    def finish(self, result: MinimizeResult) -> None:
        """The report."""
        display(result)

    def close(self) -> None:
        """Nothing is open."""


class Pace:
    """Lets an update through when the run has lasted long enough, and not too often; and its speed."""

    def __init__(self) -> None:
        self._last = self._sampled = self._took = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def due(self, step: Step) -> bool:
        """Whether to show this step."""
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
        """Around an update: one that takes long is not made as often."""
        began = time.monotonic()
        yield
        self._took = time.monotonic() - began

    @property
    def rate(self) -> float:
        """Steps per second of late; 0 where that is not known yet."""
        if len(self._seen) < 2:
            return 0.0
        (began, first), (seconds, last) = self._seen[0], self._seen[-1]
        return (last - first) / (seconds - began) if seconds > began and last > first else 0.0


def before_the_first(step: Step) -> bool:
    """Whether there is no loss yet, since the loop is still being compiled."""
    return bool(step.compiling) and math.isnan(step.loss)


def best(step: Step) -> list[str]:
    """The lowest loss, where it is another than the last one."""
    lowest = numbers.number(step.best_loss, DIGITS)
    return [f"best {lowest}"] if lowest != numbers.number(step.loss, DIGITS) else []


def figures(step: Step, rate: float = 0.0) -> list[str]:
    """Where a run stands: epoch, step, speed, time left, engine."""
    speed = rate or ((step.step - step.first_step) / step.seconds if step.seconds else 0.0)
    parts = []
    if step.epochs > 1:
        parts.append(f"epoch {numbers.count(step.epoch)} of {numbers.count(step.epochs)}")
    limit = f" of {numbers.count(step.steps)}" if step.steps else ""
    parts.append(f"{'batch' if step.epochs else 'step'} {numbers.count(step.step)}{limit}")
    if speed > 0:
        parts.append(f"{numbers.rate(speed)} steps/s")
        left = (step.steps - step.step) / speed
        # What is being compiled will be faster, by orders of magnitude where it is XLA.
        parts += [f"{numbers.duration(left)} left"] if step.steps > step.step and not step.compiling else []
    parts += [_ENGINES.get(step.engine, step.engine)] if step.engine != step.compiling else []
    return [*parts, *([_COMPILING[step.compiling]] if step.compiling else [])]


def summary(step: Step, rate: float = 0.0) -> str:
    """Where a run stands, in one line."""
    loss = [] if before_the_first(step) else [f"loss {numbers.number(step.loss, DIGITS)}", *best(step)]
    return " · ".join([*loss, *figures(step, rate)])
