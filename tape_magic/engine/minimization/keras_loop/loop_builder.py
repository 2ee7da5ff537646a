"""Lays out and compiles the loops of one run, each when it is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tape_magic.engine.minimization.compiling import CompileWaiter, compile_in_background
from tape_magic.engine.minimization.composite import Composite
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.eager_program import EagerProgram
from tape_magic.engine.minimization.engine_choice import (
    refuse_large_graph,
    refuse_large_model,
    refuse_unseeded,
)
from tape_magic.engine.minimization.keras_loop.array_loop import ArrayLoop, array_loop_applies
from tape_magic.engine.minimization.keras_loop.assembly import build_loop_options, build_optimizer
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.compiled_program import (
    CompiledProgram,
    EngineTimes,
    keeps_state,
)
from tape_magic.engine.minimization.keras_loop.continuation import Continuation
from tape_magic.engine.minimization.keras_loop.data_loop import DataLoop
from tape_magic.engine.minimization.keras_loop.default_optimizer import undecided
from tape_magic.engine.minimization.keras_loop.eager_loop import EagerLoop
from tape_magic.engine.minimization.keras_loop.first_evaluation import first_evaluation
from tape_magic.engine.minimization.keras_loop.lean_loop import LeanLoop, lean_loop_applies, unroll_factor
from tape_magic.engine.minimization.keras_loop.sharing import Sharing
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.mirrored import follow
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.record.loss_record import record_of
from tape_magic.engine.tracing.failures import EngineRefused, compile_failures, trace_failures
from tape_magic.engine.tracing.loss import require_loss
from tape_magic.engine.tracing.stepping import lines_of_steps
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.copies import kept_copy
from tape_magic.engine.values.tensors import read_all

QUICK_SECONDS = 0.2
"""A graph that is laid out in less is compiled at once.

Compiling takes about as long as laying out; in a thread of its own it takes twice that.
"""


class LoopBuilder:
    """Lays out and compiles the loops of one run, each when it is wanted.

    Parameters
    ----------
    problem
        What is minimised.
    continuation
        What earlier runs left.
    cursor
        The data; ``None`` without data.
    limit
        The most steps of the run.

    Attributes
    ----------
    made
        What is compiled; ``None`` before anything is.
    reused
        Whether an earlier run compiled it.
    times
        What is known of the engines.
    optimizer
        The optimizer, once it is built.
    same_loss
        Whether the loss is the same each time at the same point, once an optimizer is chosen; for a program
        that runs in Python and an optimizer that was named, whether it may be.
    sharing
        Which devices share the batches.
    at_rest
        The loop that was to be compiled last: it can evaluate, whether it is compiled or not.
    """

    def __init__(
        self, problem: Problem, continuation: Continuation, cursor: DataCursor | None, limit: int
    ) -> None:
        self._problem, self._continuation = problem, continuation
        self._cursor, self._limit = cursor, limit
        self.sharing = Sharing(problem, cursor)
        keeps = problem.settings.keeps_best_step
        self._by_epoch = keeps and cursor is not None and cursor.feed.steps_per_epoch != 1
        self.made = continuation.fitting(self.sharing.spec, by_epoch=self._by_epoch)
        self.reused = self.made is not None
        self.times = EngineTimes(over_data=cursor is not None) if self.made is None else self.made.times
        self.optimizer: Any = None if self.made is None else self.made.graph.optimizer
        self._traced: Traced | None = None if self.made is None else self.made.graph.traced
        self.at_rest: CompiledLoop | None = None
        self.same_loss = self._traced is not None and self._traced.repeatable and not self._traced.written
        self._noted = False

    @property
    def same(self) -> bool:
        """Whether another run has to give the same bits, wherever its chunks end."""
        return self._problem.settings.seed is not None or self._continuation.same

    @property
    def careful(self) -> bool:
        """Whether the loops carry copies along, since steps cannot be repeated."""
        return self.made is not None and self.made.graph.options.careful

    @property
    def first_slots(self) -> Sequence[Any]:
        """The first values of the optimizer's own variables; empty for an optimizer of the user's."""
        return self._continuation.fresh if self.made is None else self.made.fresh

    # -- compiled loops ------------------------------------------------------------------------------

    def has(self, engine: str) -> bool:
        """Return whether the loop of an engine has been compiled."""
        if self.made is None:
            return False
        key = engine, self._layout(engine, self.made)
        return key in self.made.loops or (key in self.made.begun and self.made.begun[key][1].done)

    def compiled(self, engine: str, waiter: CompileWaiter) -> CompiledLoop:
        """Return the loop of an engine, compiled; wait for it where needed.

        Raises :class:`~tape_magic.engine.program.program.Untraceable` where the program cannot become a
        graph, :class:`~tape_magic.engine.tracing.failures.EngineRefused` where TensorFlow cannot compile the
        loop, and :class:`~tape_magic.engine.minimization.control.StopRequested`; for an interrupt while the
        program is traced, ``KeyboardInterrupt``.
        """
        with trace_failures(self._problem.program):
            self._trace(waiter)
        with self._refusals_kept(engine):
            made, key = self._begin(engine, waiter)
            if key in made.begun:
                loop, begun = made.begun[key]
                waiter.wait(begun, engine)
                del made.begun[key]
                begun.check()
                made.loops[key] = loop
            return self._of_this_run(made.loops[key])

    def begin(self, engine: str, waiter: CompileWaiter) -> None:
        """Begin to compile the loop of an engine while the run goes on; raises as :meth:`compiled`."""
        with self._refusals_kept(engine):
            self._begin(engine, waiter, beside=True)

    @contextmanager
    def _refusals_kept(self, engine: str) -> Iterator[None]:
        """Raise an earlier refusal of an engine at once; keep a new one for the next runs."""
        if engine == "xla":
            self.refuse_xla()
        if refusal := self.times.refusal(engine):
            raise EngineRefused(refusal)
        assert self._traced is not None
        try:
            with compile_failures(engine, self._traced.line_of):
                yield
        except EngineRefused as error:
            self.times.refuse(engine, str(error))
            raise

    def refuse_xla(self) -> None:
        """Raise :class:`EngineRefused` where XLA cannot seed, or nobody demands it of a program too large."""
        if self._traced is None:
            return
        if self.same:
            refuse_unseeded(self._traced)
        if self._problem.settings.engine == "auto":
            refuse_large_graph(self._traced, self._traced.size)
            refuse_large_model(leaf.value for leaf in self._problem.leaves)

    def _trace(self, waiter: CompileWaiter) -> None:
        """Trace the program, unless an earlier run did, and settle what is minimised over."""
        problem = self._problem
        if self._traced is None:
            with waiter.tracing():
                self._traced = Traced(
                    problem.program,
                    problem.namespace,
                    problem.loss_name,
                    tracked=problem.settings.track,
                    inputs=self.sharing.inputs,
                    settle=problem.settle,
                    for_xla=problem.settings.engine != "graph",
                )
        problem.settle(self._traced.variables)
        if not self._noted:
            self._noted = True
            for variable in self._traced.written:
                follow(variable, problem.at_close)
            problem.note_steps(lines_of_steps(self._traced))
        problem.begin(within_bounds=self._continuation.saved is None)

    def _begin(
        self, engine: str, waiter: CompileWaiter, *, beside: bool = False
    ) -> tuple[CompiledProgram, tuple[str, tuple[int, ...]]]:
        """Begin to compile a loop, unless it is there; return its program and its key there.

        If steps run `beside`, they go before it.
        """
        made = self._program(waiter)
        key = engine, self._layout(engine, made)
        if key in made.loops:
            return made, key
        if key in made.begun:
            self.at_rest = self._of_this_run(made.begun[key][0])
            return made, key
        loop = self.at_rest = self._of_this_run(self._loop(made.graph, *key))
        started = time.perf_counter()
        waiter.lay_out(loop.lay_out, engine)
        quick = engine == "graph" and time.perf_counter() - started < QUICK_SECONDS
        # The graph of workers may be called by all of them at once only, and with their own variables.
        quick = quick or self.sharing.workers is not None
        begun = None if quick else compile_in_background(*loop.rehearsal(), gives_way=beside)
        if begun is None:
            loop.compile()
            made.loops[key] = loop
        else:
            made.begun[key] = loop, begun
        return made, key

    def _loop(self, graph: StepGraph, engine: str, layout: tuple[int, ...]) -> CompiledLoop:
        jit = engine == "xla"
        if self._cursor is None:
            return LeanLoop(graph, *layout) if layout else CompiledLoop(graph, jit=jit)
        return ArrayLoop(graph, self._cursor) if layout else DataLoop(graph, self._cursor, jit=jit)

    def _of_this_run(self, loop: CompiledLoop) -> CompiledLoop:
        loop.cursor = self._cursor
        return loop

    def _layout(self, engine: str, made: CompiledProgram) -> tuple[int, ...]:
        """Return what a loop is laid out for: see :attr:`CompiledProgram.loops`."""
        graph, arrays = made.graph, None if self._cursor is None else self._cursor.feed.arrays
        if arrays is not None and engine == "xla" and array_loop_applies(graph, arrays):
            return arrays.rows, arrays.batch
        lean = lean_loop_applies(graph.options, graph.leaves, graph.optimizer, graph.traced.written)
        if engine != "xla" or self.same or self._cursor is not None or not lean:
            return ()
        # A loop that is compiled already is reused even if it lays out more steps than pay for this run.
        there = (layout[0] for other, layout in {*made.loops, *made.begun} if other == engine and layout)
        return (max(unroll_factor(graph.evaluation.elements, graph.traced.size, self._limit), *there, 1),)

    def _program(self, waiter: CompileWaiter) -> CompiledProgram:
        if self.made is None:
            traced = self._traced
            assert traced is not None
            with waiter.tracing():
                evaluation, shared = self.sharing.evaluated(traced)
            pairs = zip(self._problem.leaves, evaluation.connected, strict=True)
            leaves = [leaf for leaf, has in pairs if has]
            if not leaves:
                self._problem.refuse_unconnected("", partial(record_of, traced.concrete))
            self.same_loss = traced.repeatable and not traced.written
            self.optimizer = build_optimizer(self._problem, leaves, self._continuation, same=self.same_loss)
            repeatable = self._cursor is None and traced.repeatable
            options = build_loop_options(
                self._problem, leaves, self.optimizer, repeatable=repeatable, by_epoch=self._by_epoch
            )
            graph = StepGraph(traced, evaluation, leaves, self.optimizer, options, shared)
            fresh = self._continuation.fresh
            several = isinstance(self.optimizer, Composite)  # its own state is not the user's
            if not fresh and (several or not keeps_state(self._problem.settings, self.optimizer)):
                fresh = [kept_copy(value) for value in read_all(graph.fresh_slots)]
            self.made = CompiledProgram(graph, self.times, fresh, spec=self.sharing.spec)
        return self.made

    # -- besides -------------------------------------------------------------------------------------

    def eager(self, reason: str) -> EagerLoop:
        """Return a loop that runs the program at each step; `reason` is why no faster engine can."""
        problem, cursor = self._problem, self._cursor
        program = EagerProgram(problem, require_loss)
        if cursor is not None:
            program.bind(cursor.named(cursor.take()))
        first = first_evaluation(problem, program, within_bounds=self._continuation.saved is None)
        if not first.leaves:
            problem.refuse_unconnected(reason, lambda: first.record)
        self.same_loss = not first.written and (
            not undecided(problem.settings) or program.gives_again(first.evaluated.loss)
        )
        self.optimizer = build_optimizer(problem, first.leaves, self._continuation, same=self.same_loss)
        options = build_loop_options(
            problem, first.leaves, self.optimizer, repeatable=False, by_epoch=self._by_epoch
        )
        return EagerLoop(program, first, self.optimizer, options, problem.settings.track, cursor)

    def run_alone(self) -> None:
        """Run the program by itself, for an error of its own; the names stay as they are."""
        self._problem.run_alone(None if self._cursor is None else self._cursor.named(self._cursor.any()))

    def reset_optimizer(self) -> None:
        """Put the optimizer of an earlier run back to its start, unless it is one of the user's."""
        if self.made is not None:
            for variable, value in zip(self.made.graph.slots, self.made.fresh, strict=False):
                variable.assign(value)
