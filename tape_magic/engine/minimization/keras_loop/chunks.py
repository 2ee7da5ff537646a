"""How many steps the next chunk has, by the time that the last one took."""

from __future__ import annotations

import math

from tape_magic.engine.minimization.keras_loop.compiled_program import EngineTimes
from tape_magic.engine.minimization.keras_loop.protocol import CHUNK_SECONDS
from tape_magic.engine.minimization.series import EXACT

STRETCHES = 512
"""A chunk aims at this many stretches of steps."""


class ChunkPlanner:
    """Plans the chunks of the loop that runs.

    Parameters
    ----------
    times
        What earlier runs took.

    Attributes
    ----------
    steps, seconds
        The length and the time of the last chunk; 0 before the first one of a loop.
    stretch
        How many steps the next chunk takes together, to record their extremes only.
    """

    def __init__(self, times: EngineTimes) -> None:
        self._times = times
        self._count = 0
        self.steps, self.seconds = 0, 0.0
        self.stretch = 1

    def plan(self, engine: str, step: int, limit: int, *, careful: bool = False) -> int:
        """Return the step that the next chunk should end at.

        A chunk grows at most sixty-fourfold, since the first ones are too short to be timed well. The first
        one is a sixteenth of what an earlier run promises, since steps may have become slower.

        Parameters
        ----------
        engine
            The engine that runs.
        step, limit
            Where the chunk begins, and where the run ends.
        careful
            Whether the loop records each step.
        """
        if self.steps:
            fitting, most = CHUNK_SECONDS * self.steps / max(self.seconds, 1e-9), 64.0 * self.steps
        else:
            known = self._times.pace(engine)
            fitting, most = (CHUNK_SECONDS / known / 16 if known else 1.0), math.inf
        count = max(1, int(min(fitting, most)))
        self.stretch = 1
        if engine == "xla" and step > EXACT and not careful:
            self.stretch = -(-count // STRETCHES)
        elif step <= EXACT:
            limit = min(limit, max(EXACT + 1, step + 1))
        return min(limit, step + count)

    def note(self, steps: int, seconds: float) -> None:
        """Note what the last chunk took."""
        self._count += 1
        self.steps, self.seconds = steps, seconds

    def restart(self) -> None:
        """Plan for another loop."""
        self._count, self.steps, self.seconds = 0, 0, 0.0

    @property
    def pace(self) -> float:
        """Seconds of a step in the last chunk."""
        return self.seconds / self.steps

    @property
    def long_enough(self) -> bool:
        """Whether the time of the last chunk tells more than what a call costs."""
        return self.seconds >= CHUNK_SECONDS / 4

    @property
    def conclusive(self) -> bool:
        """Whether the last chunk tells how fast the loop is; the first call of a loop takes longer."""
        return self._count > 1 and self.seconds > CHUNK_SECONDS / 2
