"""Which loop runs the steps, and when another one takes over."""

from __future__ import annotations

import time
from functools import partial

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import StopRequested
from tape_magic.engine.minimization.engine_choice import (
    Ladder,
    counted_change,
    refusal_of,
    refuse_slow_operations,
    still_compiling,
    xla_comes_too_late,
)
from tape_magic.engine.minimization.keras_loop.chunks import ChunkPlanner
from tape_magic.engine.minimization.keras_loop.compiled_program import EngineTimes
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Loop
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.program.program import Untraceable
from tape_magic.engine.tracing.failures import EngineRefused
from tape_magic.results.minimum import EARLY

SLOWER, ENOUGH = 1.1, 3
"""XLA is given up if its steps take more than this many times as long, in the median of so many chunks."""


class Engines:
    """Chooses the loop that runs the steps.

    Where nothing is demanded, a run begins as a graph, which is ready soonest. Where the steps that are left
    would take longer than XLA takes to compile, XLA compiles beside them, and takes over. If XLA then turns
    out to be slower, the graph goes on. Each step of a trial counts: a loop begins where another one stood.

    With a seed or a checkpoint, XLA takes over at a step that the program alone tells, and not the clock.

    Parameters
    ----------
    builder
        Makes the loops.
    demanded
        One of :data:`~tape_magic.engine.minimization.settings.ENGINES`.

    Attributes
    ----------
    engine
        The engine that runs.
    reason
        Why it is not a faster one; empty if it is the first choice.
    loop
        The loop that runs, once started.
    waiter
        Waits for compilers.
    compile_seconds
        How long the run had to wait for tracing and compiling.
    xla_begun
        Whether XLA compiles beside the steps.
    """

    loop: Loop

    def __init__(self, builder: LoopBuilder, demanded: str) -> None:
        self._builder, self._demanded = builder, demanded
        self._times = builder.times
        self._ladder = Ladder(demanded, shared=bool(builder.sharing.devices))
        # What earlier runs took is not the same in all workers.
        times = builder.times if builder.sharing.workers is None else EngineTimes(over_data=True)
        self._chunks = ChunkPlanner(times)
        self._may_switch, self._change = demanded == "auto" and not builder.sharing.devices, 0
        self.engine = self.reason = ""
        self.waiter = CompileWaiter()
        self.compile_seconds = 0.0
        self.xla_begun = False
        self._doubted = 0.0

    @property
    def compiling(self) -> str:
        """The engine that compiles beside the steps; empty if none does."""
        return "xla" if self.xla_begun else ""

    # -- the first loop ------------------------------------------------------------------------------

    def start(self, step: int = 0) -> Position:
        """Make the first loop, and begin a run at a step.

        A loop whose compiler is stopped can evaluate, but takes no step.
        """
        started = time.perf_counter()
        try:
            attempts = {
                engine: partial(self._take, engine) for engine in _order(self._builder, self._demanded)
            }
            self.engine = self._ladder.climb(attempts, self._builder.run_alone)
            self.reason = self._reason_for(self.engine)
            if self._counts:
                self._change, self.reason = _counted(self._builder)
                self._may_switch = self.reason == EARLY
        except StopRequested:
            assert self._builder.at_rest is not None
            self.loop, self.reason = self._builder.at_rest, still_compiling(self.engine)
        finally:
            self.compile_seconds += time.perf_counter() - started
        self._builder.sharing.look(self._builder.made)
        return self.loop.begin(step)

    def _take(self, engine: str) -> None:
        """Make the loop of an engine the one that runs. Raises what :meth:`LoopBuilder.compiled` raises."""
        before, self.engine = self.engine, engine
        if engine == "eager":
            with self.waiter.running():
                self.loop = self._builder.eager(self._ladder.reason)
            return
        try:
            self.loop = self._builder.compiled(engine, self.waiter)
        except (EngineRefused, Untraceable):
            self.engine = before
            raise

    def _reason_for(self, engine: str) -> str:
        if engine == "xla" or self._demanded != "auto":
            return ""
        slower = "XLA was slower in an earlier run" if self._times.xla_is_slower else ""
        return self._ladder.reason or slower

    # -- chunks --------------------------------------------------------------------------------------

    def advance(self, position: Position, limit: int) -> Chunk:
        """Run a chunk of steps, no further than `limit`; see :meth:`Loop.advance`."""
        import tensorflow as tf

        if self._counts:
            limit = self._changed(position.step, limit)
        started, waited = time.perf_counter(), self.waiter.seconds
        try:
            with self._builder.sharing.chunk(self.loop, position.step, self._chunks):
                end = self._chunks.plan(self.engine, position.step, limit, careful=self._builder.careful)
                chunk = self.loop.advance(position, end, self._chunks.stretch, self.waiter)
        except tf.errors.OpError:
            if self.engine != "eager":
                # A graph's error speaks of nodes; the program by itself says it with the user's line.
                self._builder.run_alone()
            raise
        compiling = self.waiter.seconds - waited
        self.compile_seconds += compiling
        steps, seconds = chunk.last + 1 - position.step, time.perf_counter() - started - compiling
        self._chunks.note(steps, seconds)
        if steps:
            self._times.note(self.engine, seconds, steps, alone=not self.xla_begun)
        return chunk

    # -- another loop --------------------------------------------------------------------------------

    def reconsider(self, position: Position, limit: int) -> None:
        """Change the engine where that pays, between two chunks.

        Raises :class:`StopRequested` where Python has to work for that, and the user ends the run.
        """
        if not self._may_switch or not self._chunks.steps or self.engine == "eager":
            return
        left = (limit - position.step) * self._chunks.pace
        if self._builder.same:
            due = self._change // 2 <= position.step < self._change < limit
            if due and self._counts and not self.xla_begun:
                self._begin_beside()
        elif self._doubted:
            self._end_doubt(position.step)
        elif self.engine == "xla":
            self._compare(position.step)
        elif not self._times.xla_is_slower:
            if self.xla_begun:
                self._end_xla(position.step, left)
            else:
                self._begin_xla(left)

    def _begin_xla(self, seconds_left: float) -> None:
        """Begin to compile with XLA beside the graph's steps, if it is worth that."""
        self._times.note_layout(self.compile_seconds)
        self.reason = refusal_of(self._builder.refuse_xla)
        if self.reason:
            self._may_switch = False
            return
        self.reason = EARLY
        # Over data, the first steps may take ten times as long as the later ones.
        timed = self._times.timed("graph") >= ENOUGH if self._times.over_data else self._chunks.long_enough
        if not timed or not self._times.xla_pays(seconds_left):
            return
        self._begin_beside()

    def _begin_beside(self) -> None:
        """Begin to compile with XLA beside the steps; where it refuses, there is nothing to change to."""
        started = time.perf_counter()
        refusal = refusal_of(partial(self._builder.begin, "xla", self.waiter))
        self.compile_seconds += time.perf_counter() - started
        self.reason, self._may_switch = refusal or self.reason, not refusal
        self.xla_begun = not refusal

    def _end_xla(self, step: int, seconds_left: float) -> None:
        """Go on with XLA once it has compiled, unless little is left."""
        if not self._builder.has("xla"):
            return
        self.xla_begun = False
        if xla_comes_too_late(seconds_left):
            self._may_switch = False
            return
        self._take_xla(step)
        self._may_switch = not self.reason

    def _take_xla(self, step: int) -> None:
        """Go on with XLA, and wait for it where it still compiles."""
        started = time.perf_counter()
        try:
            self.reason = self._switch("xla", step)
        finally:
            self.compile_seconds += time.perf_counter() - started

    @property
    def _counts(self) -> bool:
        """Whether XLA may still take over, at a step that is counted."""
        return self._may_switch and self._builder.same and self.engine == "graph"

    def _changed(self, step: int, limit: int) -> int:
        """Have XLA take over if that is due at a step; return where the next chunk has to end."""
        if step < self._change:
            return min(limit, self._change)
        self._take_xla(step)
        self.xla_begun = self._may_switch = False
        return limit

    def _compare(self, step: int) -> None:
        """Go back to the graph if XLA is slower, once both are timed.

        The graph may have been timed in another run, when the machine had more or less to do. So it is timed
        again before XLA is given up.
        """
        graph = self._times.pace("graph")
        if not graph or not self._chunks.conclusive or self._times.timed("xla") < ENOUGH:
            return
        pace = self._times.pace("xla")
        if pace <= SLOWER * graph:
            self._may_switch = False
        elif not self._switch("graph", step):
            self._doubted = pace
            self._times.forget_pace("graph")

    def _end_doubt(self, step: int) -> None:
        """Give XLA up, or go back to it, once the graph is timed again."""
        if not self._chunks.conclusive or self._times.timed("graph") < ENOUGH:
            return
        slower, self._doubted, self._may_switch = self._doubted / self._times.pace("graph"), 0.0, False
        if slower > SLOWER:
            self._times.leave_xla()
            self.reason = f"XLA took {slower:.1f} times as long a step"
        else:
            self._switch("xla", step)

    def _switch(self, engine: str, step: int) -> str:
        """Make another engine's loop run from a step on; return why it cannot, or nothing."""
        before = self.loop

        def take() -> None:
            loop = self._builder.compiled(engine, self.waiter)
            loop.take_over(before, step)
            self.loop, self.engine = loop, engine

        refusal = refusal_of(take)
        if not refusal:
            self._chunks.restart()
        return refusal


def _order(builder: LoopBuilder, demanded: str) -> tuple[str, ...]:
    """Return the engines to try at the start, in that order."""
    if builder.sharing.devices:
        return ("graph",)
    if demanded != "auto":
        return (demanded,)
    times = builder.times
    if times.xla_is_slower:
        return "graph", "xla", "eager"
    # XLA compiled in an earlier run, or it would have paid in the runs before.
    # Over data that would be little, and it compiles beside the steps.
    paid = builder.reused and not times.over_data and times.xla_pays()
    first = (builder.has("xla") or paid) and not builder.same
    return ("xla", "graph", "eager") if first else ("graph", "xla", "eager")


def _counted(builder: LoopBuilder) -> tuple[int, str]:
    """Return the step at which XLA takes over where no clock may choose, and why it does not run yet."""
    assert builder.made is not None
    graph = builder.made.graph
    step = counted_change(graph.traced.size, graph.evaluation.elements, over_data=builder.times.over_data)
    variables = [leaf.value for leaf in graph.leaves]
    slow = partial(refuse_slow_operations, graph.traced, variables)
    return step, refusal_of(builder.refuse_xla) or refusal_of(slow) or EARLY
