"""Times contestants side by side, in turns within one process, and prints medians and ratios."""

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
    """A task, and the contestants that are timed on it.

    Attributes
    ----------
    name
        The name of the task.
    contestants
        Name → a function that does the task once. The others are compared with the first.
    rounds
        The number of times that each runs, in turn with the others.
    warm_up
        The number of rounds before those, which do not count.
    """

    name: str
    contestants: Mapping[str, Callable[[], object]]
    rounds: int
    warm_up: int = 3


@dataclass(frozen=True)
class RaceTimes:
    """The times of a race.

    Attributes
    ----------
    race
        The race.
    seconds
        Contestant → the seconds of each of its rounds.
    busy
        Contestant → the seconds of all processors in each of its rounds, of this process alone.
    """

    race: Race
    seconds: Mapping[str, Sequence[float]]
    busy: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Return the median time of a contestant, in seconds."""
        return statistics.median(self.seconds[name])

    def difference(self, name: str) -> float:
        """Return the median difference from the first contestant in the same round, in seconds."""
        first = self.seconds[next(iter(self.seconds))]
        return statistics.median(a - b for a, b in zip(self.seconds[name], first, strict=True))

    def ratio(self, name: str) -> float:
        """Return the median ratio to the first contestant in the same round."""
        first = self.seconds[next(iter(self.seconds))]
        return statistics.median(a / b for a, b in zip(self.seconds[name], first, strict=True))


def run(race: Race) -> RaceTimes:
    """Run the contestants in turns, each round in another order."""
    names = list(race.contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    busy: dict[str, list[float]] = {name: [] for name in names}
    for number in range(race.warm_up + race.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect(0)
            started, worked = time.perf_counter(), time.process_time()
            race.contestants[name]()
            if number >= race.warm_up:
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - worked)
    return RaceTimes(race, seconds, busy)


def environment(*packages: str) -> str:
    """Return the versions and the machine in one line."""
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    return f"{', '.join(versions)}; {os.cpu_count()} cores, {platform.machine()}"


def table(races: Sequence[RaceTimes]) -> str:
    """Return a table of medians, of differences from the first contestant, and of ratios to it."""
    rows = [("task", "contestant", "median", "more than first", "ratio")]
    for times in races:
        for index, name in enumerate(times.seconds):
            rows.append(
                (
                    "" if index else times.race.name,
                    name,
                    _milliseconds(times.median(name)),
                    _milliseconds(times.difference(name)) if index else "",
                    f"{times.ratio(name):.3f}" if index else "",
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
