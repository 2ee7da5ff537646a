"""Which loop runs, and when to change it."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import StopRequested
from tape_magic.engine.minimization.engine_choice import (
    EARLY,
    Ladder,
    refusal_of,
    xla_comes_too_late,
    xla_pays,
)
from tape_magic.engine.minimization.keras_loop.compilation import LoopBuilder
from tape_magic.engine.minimization.keras_loop.compiled_loop import CHUNK_SECONDS, CompiledLoop
from tape_magic.engine.minimization.keras_loop.compiled_program import CompiledProgram
from tape_magic.engine.minimization.keras_loop.eager_loop import EagerLoop
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Final, Loop, Position
from tape_magic.engine.minimization.unconnected import Record
from tape_magic.engine.program.program import Untraceable
from tape_magic.engine.tracing.failures import EngineRefused

STRETCHES = 512
"""So many stretches are aimed at in a chunk."""


class Engines:
    """The ways to run the loop of one program.

    By itself, it begins with a graph, which is ready soonest. Where the steps that are left would take longer
    than XLA takes to compile, XLA does so beside them, and takes over. If it then turns out to be slower, the
    graph goes on.
    Each step of a trial counts: a loop begins where another one stood.

    Parameters
    ----------
    compilation
        What is minimised, and the loops of it that there are.
    asked
        One of :data:`~tape_magic.engine.minimization.settings.ENGINES`.
    same
        Whether another run has to give the same bits, so that no engine may be chosen by the clock.

    Attributes
    ----------
    engine
        The one that runs.
    reason
        Why it is not a faster one; empty if it is the first choice.
    loop
        Its loop, once started.
    waiting
        How the run waits for what compiles.
    xla_begun
        Whether XLA compiles beside the steps.
    """

    loop: Loop

    def __init__(self, compilation: LoopBuilder, asked: str, *, same: bool) -> None:
        self._compilation, self._asked, self._same = compilation, asked, same
        self._ladder = Ladder(asked)
        self.engine = ""
        self.reason = ""
        self.waiting = CompileWaiter()
        self.compile_seconds = 0.0
        self._may_switch = asked == "auto" and not same
        self._known = {} if compilation.made is None else dict(compilation.made.paces)
        self._stretch = 1
        self._taken = self._chunks = 0
        self._seconds = 0.0
        self.xla_begun = False

    def start(self, step: int = 0) -> Position:
        """Build the first loop; one that was stopped at that can evaluate, but takes no step."""
        started = time.perf_counter()
        try:
            return self._started(step)
        except StopRequested:
            assert self._compilation.at_rest is not None
            self.loop, self.reason = self._compilation.at_rest, ""
            return self.loop.begin(step)
        finally:
            self.compile_seconds += time.perf_counter() - started

    def _started(self, step: int) -> Position:
        attempts = {engine: partial(self._take, engine) for engine in self._order()}
        self.engine = self._ladder.climb(attempts, self._compilation.run_program)
        self.reason = self._reason_of(self.engine)
        return self.loop.begin(step)

    def _take(self, engine: str) -> None:
        """Make the loop of an engine the one that runs. Raises as :meth:`LoopBuilder.compiled`."""
        if engine == "eager":
            self.engine, self.reason = engine, self._ladder.reason
            self.loop = self._compilation.eager()
            return
        before, self.engine = self.engine, engine
        try:
            self.loop = self._compilation.compiled(engine, self.waiting)
        except (EngineRefused, Untraceable):
            self.engine = before
            raise

    def _reason_of(self, engine: str) -> str:
        made = self._compilation.made
        if engine == "xla" or self._asked == "graph":
            return ""
        slower = made is not None and made.xla_is_slower
        return self._ladder.reason or ("XLA was slower in an earlier run" if slower else "")

    def _order(self) -> tuple[str, ...]:
        if self._asked != "auto":
            return (self._asked,)
        made = self._compilation.made
        if made is not None and made.xla_is_slower:
            return "graph", "xla", "eager"
        # What XLA compiled in an earlier run is there already; or it would have paid in the runs before.
        ready = self._compilation.has("xla") or (made is not None and self._pays(made, 0.0))
        first = self._same or ready
        return ("xla", "graph", "eager") if first else ("graph", "xla", "eager")

    def _pays(self, made: CompiledProgram, left: float) -> bool:
        """Whether XLA is worth compiling, for the seconds `left` as a graph and those of earlier runs."""
        return xla_pays(made.as_graph + left, made.laid_out)

    def advance(self, position: Position, end: int) -> Chunk:
        """A chunk of steps; see :meth:`Loop.advance`. Raises :class:`Stopped` where that has to compile."""
        import tensorflow as tf

        started, waited = time.perf_counter(), self.waiting.seconds
        if isinstance(self.loop, CompiledLoop):
            self.loop.waiting = self.waiting
        try:
            chunk = self.loop.advance(position, end, self._stretch)
        except tf.errors.OpError:
            if self.engine != "eager":
                # A graph's error speaks of nodes; the program by itself says it with the user's line.
                self._compilation.run_program()
            raise
        self._chunks += 1
        self._taken = chunk.last + 1 - position.step
        compiling = self.waiting.seconds - waited
        self._seconds = time.perf_counter() - started - compiling
        self.compile_seconds += compiling
        made = self._compilation.made
        if made is not None and self._taken:
            made.as_graph += self._seconds if self.engine == "graph" else 0.0
            if not self.xla_begun:  # a step takes longer while XLA compiles beside it
                made.note_pace(self.engine, self._seconds, self._taken)
        return chunk

    def plan(self, step: int, limit: int, exact: int) -> int:
        """Where the next chunk should end; of steps after `exact`, several are recorded as one stretch.

        A chunk grows at most sixty-fourfold, since the first ones are too short to be timed well. The first
        one is a sixteenth of what an earlier run promises, since steps may have become slower.
        """
        if self._taken:
            fitting, most = CHUNK_SECONDS * self._taken / max(self._seconds, 1e-9), 64.0 * self._taken
        else:
            known = self._known.get(self.engine, 0.0)
            fitting, most = (CHUNK_SECONDS / known / 16 if known else 1.0), math.inf
        count = max(1, int(min(fitting, most)))
        self._stretch = 1
        if self.engine == "xla" and step > exact and not self._compilation.careful:
            self._stretch = -(-count // STRETCHES)
        elif step <= exact:
            limit = min(limit, max(exact + 1, step + 1))
        return min(limit, step + count)

    def reconsider(self, position: Position, limit: int) -> None:
        """Change the engine where that pays. Raises :class:`Stopped` where Python has to work for that."""
        made = self._compilation.made
        if not self._may_switch or not self._taken or made is None:
            return
        pace = self._seconds / self._taken
        left = (limit - position.step) * pace
        if self.engine == "graph" and not made.xla_is_slower:
            if self.xla_begun:
                self._end_xla(position, left)
            else:
                self._begin_xla(made, left)
        elif self.engine == "xla" and self._tells(made):
            self._may_switch = False
            slower = pace / made.paces["graph"]
            if slower > 1.1:
                made.xla_is_slower = True
                self._switch("graph", position)
                self.reason = f"XLA took {slower:.1f} times as long a step"

    def _tells(self, made: CompiledProgram) -> bool:
        """Whether the last chunk tells how fast XLA is; the first call of a loop takes longer than others."""
        return self._chunks > 1 and "graph" in made.paces and self._seconds > CHUNK_SECONDS / 2

    def _begin_xla(self, made: CompiledProgram, left: float) -> None:
        """Have XLA compile beside the graph's steps, if it is worth that."""
        made.laid_out = made.laid_out or self.compile_seconds
        self.reason = EARLY
        if self._seconds < CHUNK_SECONDS / 4 or not self._pays(made, left):
            return
        started = time.perf_counter()
        refusal = refusal_of(partial(self._compilation.begin, "xla", self.waiting))
        self.compile_seconds += time.perf_counter() - started
        self.reason, self._may_switch = refusal or self.reason, not refusal
        self.xla_begun = not refusal

    def _end_xla(self, position: Position, left: float) -> None:
        """Go on with XLA once it has compiled, unless little is left."""
        if not self._compilation.has("xla"):
            return
        self.xla_begun = False
        if xla_comes_too_late(left):
            self._may_switch = False
            return
        started = time.perf_counter()
        self.reason = self._switch("xla", position)
        self._may_switch = not self.reason
        self.compile_seconds += time.perf_counter() - started

    def _switch(self, engine: str, position: Position) -> str:
        before = self.loop
        refusal = refusal_of(partial(self._take, engine))
        if refusal:
            return refusal
        if isinstance(self.loop, CompiledLoop) and isinstance(before, CompiledLoop):
            self.loop.take_over(before)
        self._taken, self._seconds, self._chunks = 0, 0.0, 0
        return ""

    def record(self) -> Record:
        """The operations of one evaluation, for what has to be explained."""
        if self.engine == "eager":
            assert isinstance(self.loop, EagerLoop)
            return self.loop.record()
        return self._compilation.record()

    def reset(self) -> None:
        """The variables have been changed since the start."""
        if isinstance(self.loop, EagerLoop):
            self.loop.reset()

    def forget(self) -> None:
        """Let go of what :meth:`record` needs."""
        if isinstance(self.loop, EagerLoop):
            self.loop.forget()

    def final(self) -> Final:
        """Evaluate at the variables as they are."""
        return self.loop.final()

    def finish(self, final: Final) -> Any:
        """Leave the program's names at the final values; the value of its last expression."""
        if isinstance(self.loop, EagerLoop):
            return self.loop.value
        return self._compilation.finish(final)
