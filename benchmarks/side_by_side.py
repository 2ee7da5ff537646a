"""Contestants timed side by side: interleaved in one run, medians and ratios, the environment said."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True)
class Race:
    """What is timed.

    Attributes
    ----------
    name
        Of the task.
    contestants
        By name, each a function that does the task once; the first is what the others are compared with.
    rounds
        How often each runs, in turn with the others.
    warm_up
        Rounds before that, which do not count.
    """

    name: str
    contestants: Mapping[str, Callable[[], object]]
    rounds: int
    warm_up: int = 3


@dataclass(frozen=True)
class Outcome:
    """The seconds of each contestant's rounds."""

    race: Race
    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """In seconds."""
        return statistics.median(self.seconds[name])

    def difference(self, name: str) -> float:
        """The median of what a contestant takes more than the first in the same round, in seconds."""
        first = self.seconds[next(iter(self.seconds))]
        return statistics.median(a - b for a, b in zip(self.seconds[name], first, strict=True))

    def ratio(self, name: str) -> float:
        """The median of a contestant's time over the first one's in the same round."""
        first = self.seconds[next(iter(self.seconds))]
        return statistics.median(a / b for a, b in zip(self.seconds[name], first, strict=True))


def run(race: Race) -> Outcome:
    """Let the contestants run in turns, each round in another order."""
    names = list(race.contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(race.warm_up + race.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect(0)
            started = time.perf_counter()
            race.contestants[name]()
            if number >= race.warm_up:
                seconds[name].append(time.perf_counter() - started)
    return Outcome(race, seconds)


def environment(*packages: str) -> str:
    """Versions and the machine, in one line."""
    told = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    return f"{', '.join(told)}; {os.cpu_count()} cores, {platform.machine()}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Medians, the difference from the first contestant, and the ratio to it."""
    rows = [("task", "contestant", "median", "more than first", "ratio")]
    for outcome in outcomes:
        for index, name in enumerate(outcome.seconds):
            rows.append(
                (
                    "" if index else outcome.race.name,
                    name,
                    _milliseconds(outcome.median(name)),
                    _milliseconds(outcome.difference(name)) if index else "",
                    f"{outcome.ratio(name):.3f}" if index else "",
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.3f} ms"
