"""Simulates steps of training over links, event by event: who computes, who sends, and who waits for whom.

A device has a port out and a port in, each of which carries one message at a time, at the link's bandwidth
and after its latency. What follows from the order of events alone is not put in: that a ring takes
2(N−1) rounds of latency, that copies out of one device queue up, that the slowest device holds all others.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Link:
    """What carries messages between two devices.

    Attributes
    ----------
    name
        What it is called.
    bandwidth
        Bytes a second in each direction.
    latency
        Seconds that each message takes besides.
    """

    name: str
    bandwidth: float
    latency: float

    def seconds(self, size: float) -> float:
        """Return how long a message of so many bytes takes."""
        return self.latency + size / self.bandwidth


class Design(Enum):
    """Where the variables are, and who applies the gradients."""

    ONE_SET = "one set"
    """One set of plain variables on the first device, which adds up and applies; the others read it."""
    MIRRORED = "mirrored"
    """A copy on each device, and each applies the same gradients to its own."""


class Simulation:
    """Tasks that occupy ports and devices for some time, each once those before it have ended."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._uses: list[tuple[Hashable, ...]] = []
        self._open: list[int] = []
        self._followers: list[list[int]] = []

    def task(self, seconds: float, uses: Iterable[Hashable] = (), after: Iterable[int] = ()) -> int:
        """Add a task that uses resources for some seconds, after other tasks; return its number."""
        number, before = len(self._seconds), set(after)
        self._seconds.append(seconds)
        self._uses.append(tuple(uses))
        self._open.append(len(before))
        self._followers.append([])
        for one in before:
            self._followers[one].append(number)
        return number

    def run(self) -> list[float]:
        """Return when each task ends, in seconds from the start of all; who came first is served first."""
        ends = [0.0] * len(self._seconds)
        remaining = list(self._open)
        taken: set[Hashable] = set()
        waiting: dict[Hashable, list[int]] = {}
        events: list[tuple[float, int]] = []

        def begin(number: int, now: float) -> None:
            for resource in self._uses[number]:
                if resource in taken:
                    waiting.setdefault(resource, []).append(number)
                    return
            taken.update(self._uses[number])
            heapq.heappush(events, (now + self._seconds[number], number))

        for number, count in enumerate(remaining):
            if count == 0:
                begin(number, 0.0)
        while events:
            now, number = heapq.heappop(events)
            ends[number] = now
            taken.difference_update(self._uses[number])
            for resource in self._uses[number]:
                queue = waiting.pop(resource, ())
                for one in queue:
                    begin(one, now)
            for follower in self._followers[number]:
                remaining[follower] -= 1
                if remaining[follower] == 0:
                    begin(follower, now)
        return ends


def sent(
    simulation: Simulation, link: Link, size: float, source: int, target: int, after: Iterable[int]
) -> int:
    """Add a message of so many bytes from one device to another; return its number."""
    return simulation.task(link.seconds(size), [("out", source), ("in", target)], after)


def ring_all_reduce(simulation: Simulation, link: Link, size: float, ready: Sequence[int]) -> list[int]:
    """Add a ring all-reduce of so many bytes; return the task after which each device has the sum.

    Each of N devices passes on a piece of 1/N in each of 2(N−1) rounds: first the sums grow, then they go
    around. `ready` has, for each device, the task after which it has its own part.
    """
    count = len(ready)
    done: list[list[int]] = [[task] for task in ready]
    for _ in range(2 * (count - 1)):
        messages = [
            sent(simulation, link, size / count, device, (device + 1) % count, done[device])
            for device in range(count)
        ]
        # A device passes on what it has received, by its port that has sent the piece before.
        done = [[messages[device - 1], messages[device]] for device in range(count)]
    return [simulation.task(0.0, after=tasks) for tasks in done]


def step_ends(
    design: Design,
    link: Link,
    size: float,
    computing: Sequence[Sequence[float]],
    applying: float = 0.0,
    *,
    ring: bool = True,
) -> list[float]:
    """Return when each step ends on all devices, in seconds from the start of the first.

    Parameters
    ----------
    design, link, size
        Where the variables are; the links between devices; the bytes of the parameters.
    computing
        For each step, the seconds that each device takes for the gradient of its rows.
    applying
        The seconds of the optimizer.
    ring
        Whether each message of the ring is simulated. Otherwise the ring begins when all are ready, and
        takes what its formula says: with hundreds of devices that is 10,000 times less work.
    """
    simulation = Simulation()
    begin = [simulation.task(0.0)] * len(computing[0])
    ends = []
    for durations in computing:
        if design is Design.ONE_SET:
            copies = [sent(simulation, link, size, 0, other, [begin[0]]) for other in range(1, len(begin))]
            begin = [begin[0], *copies]
        ready = [
            simulation.task(seconds, [("computes", device)], [begin[device]])
            for device, seconds in enumerate(durations)
        ]
        if design is Design.ONE_SET:
            gradients = [
                sent(simulation, link, size, other, 0, [ready[other]]) for other in range(1, len(ready))
            ]
            reduced = [simulation.task(0.0, after=[ready[0], *gradients])] * len(ready)
        elif ring:
            reduced = ring_all_reduce(simulation, link, size, ready)
        else:
            reduced = [simulation.task(ring_seconds(link, size, len(ready)), after=ready)] * len(ready)
        if design is Design.ONE_SET:
            begin = [simulation.task(applying, [("computes", 0)], reduced)] * len(reduced)
        else:
            begin = [
                simulation.task(applying, [("computes", device)], [task])
                for device, task in enumerate(reduced)
            ]
        ends.append(begin)
    times = simulation.run()
    return [max(times[task] for task in tasks) for tasks in ends]


def mean_step(ends: Sequence[float]) -> float:
    """Return the mean seconds of a step."""
    return ends[-1] / len(ends)


def uneven(seconds: float, spread: float, devices: int, steps: int, seed: int = 0) -> list[list[float]]:
    """Return what each device takes at each step: `seconds`, and now and then longer.

    What comes on top is exponential with a mean of `spread` times the seconds, each draw by itself: a
    neighbour on the machine, a slow batch, a garbage collection.
    """
    generator = random.Random(seed)
    longer = [[generator.expovariate(1 / spread) for _ in range(devices)] for _ in range(steps)]
    return [[seconds * (1 + one) for one in step] for step in longer]


# -- closed formulas, which the simulation is tested against ---------------------------------------------


def ring_bytes(size: float, devices: int) -> float:
    """Return the bytes that each device of a ring all-reduce sends, and receives: 2P(N−1)/N."""
    return 2 * size * (devices - 1) / devices


def ring_seconds(link: Link, size: float, devices: int) -> float:
    """Return the seconds of a ring all-reduce: 2(N−1) rounds of a piece of P/N bytes."""
    return 2 * (devices - 1) * link.seconds(size / devices)


def copies_bytes(size: float, devices: int) -> float:
    """Return the bytes that the first device sends so that all others read its variables: (N−1)P.

    It receives as many: their gradients.
    """
    return (devices - 1) * size


def copies_seconds(link: Link, size: float, devices: int) -> float:
    """Return the seconds in which the first device sends its variables to all, and has their gradients.

    The copies leave one by one, and the gradients come back one by one, each as long after its copy as a
    device computes: of N − 1 of each, all but one of the one kind travel beside those of the other.
    """
    return devices * link.seconds(size) if devices > 1 else 0.0


def communication_seconds(design: Design, link: Link, size: float, devices: int) -> float:
    """Return the seconds of a step in which nothing is computed."""
    of_design = copies_seconds if design is Design.ONE_SET else ring_seconds
    return of_design(link, size, devices)


def harmonic(count: int) -> float:
    """Return 1 + 1/2 + … + 1/n: the mean of the largest of n exponential draws of mean 1."""
    return sum(1 / number for number in itertools.islice(itertools.count(1), count))
