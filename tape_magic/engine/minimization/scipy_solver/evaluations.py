"""The functions that SciPy calls, on the fastest engine that runs a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import StopRequested
from tape_magic.engine.minimization.eager_program import DERIVATIVE_FREE, EagerProgram
from tape_magic.engine.minimization.engine_choice import (
    Ladder,
    refusal_of,
    refuse_large_graph,
    still_compiling,
)
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.scipy_methods import Method, refuse_size
from tape_magic.engine.minimization.scipy_solver.backends import Backend, EagerBackend, GraphBackend
from tape_magic.engine.minimization.scipy_solver.columns import surely_connected
from tape_magic.engine.minimization.scipy_solver.functions import (
    ANEW,
    SECOND,
    SEEDED,
    Choice,
    CompiledFunctions,
    Functions,
)
from tape_magic.engine.minimization.scipy_solver.vector import Flat, Vector
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord, record_of
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.failures import compile_failures, missing_gradients, trace_failures
from tape_magic.engine.tracing.loss import require_loss, require_residuals
from tape_magic.engine.tracing.stepping import lines_of_steps
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.sizes import LIMIT
from tape_magic.engine.values.tensors import read_all
from tape_magic.results.minimum import EARLY


class Evaluations:
    """A program's loss and derivatives as functions of one float64 vector, a call for each.

    Parameters
    ----------
    problem
        What is minimised.
    method
        The method of SciPy that calls them.
    made
        What an earlier run left; ``None`` for nothing.

    Attributes
    ----------
    connected
        For each leaf, whether the loss has a gradient by it.
    flat
        The leaves that have one, as a vector; all leaves for a method that takes no gradient.
    made
        What the next run can use again; ``None`` while nothing is compiled.
    program
        The program where it runs in Python; else ``None``.
    require
        Finds the loss, or the residuals, among what the program computes.
    stopped
        Whether the user has stopped the run before the functions could be called.
    """

    flat: Flat

    def __init__(self, problem: Problem, method: Method, made: CompiledFunctions | None = None) -> None:
        self._problem, self._method, self.made = problem, method, made
        self.require = require_residuals if method.residuals else require_loss
        self._ladder = Ladder(problem.settings.engine)
        self._traced: Traced | None = None
        self.program: EagerProgram | None = None
        self._backend: Backend | None = None
        self._at: Vector | None = None
        self.connected: Sequence[bool] = ()
        self.stopped = False

    @property
    def engine(self) -> str:
        """The engine that runs."""
        return "eager" if self._backend is None else self._backend.engine

    @property
    def reason(self) -> str:
        """Why it is not a faster one; empty if it is the first choice."""
        return self._ladder.reason if self._backend is None else self._backend.reason

    @property
    def compiling(self) -> str:
        """The engine that compiles beside it; empty if none does."""
        return "" if self._backend is None else self._backend.compiling

    @property
    def compile_seconds(self) -> float:
        """Seconds of Python's part of compiling beside it, in all runs so far."""
        return 0.0 if self._backend is None else self._backend.compile_seconds

    def record(self) -> LossRecord | None:
        """Return the operations of the program's graph, if it has one."""
        return None if self._traced is None else record_of(self._traced.concrete)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the :class:`Derivatives` that the method of SciPy needs."""
        if self._method.residuals:
            return "residuals", "jacobian"
        second = {"hessp": ("product",), "hess": ("hessian",)}.get(self._method.second, ())
        return ("gradient", *second) if self._method.gradient else ("loss",)

    # -- calls ---------------------------------------------------------------------------------------

    def call(self, kind: str, *vectors: Vector) -> Any:
        """Evaluate at the first of the vectors, and return NumPy arrays of float64."""
        found = self._running.call(kind, *vectors)
        self._at = vectors[0].copy()
        if isinstance(found, tuple | list):
            return tuple(np.array(one) for one in found)
        return np.array(found)

    def gradients_at(self, x: Vector) -> Vector | None:
        """Return the gradient, for a method that takes none itself; ``None`` where there is none."""
        return self._running.gradient(x)

    def norms(self, gradient: Vector) -> Mapping[int, float]:
        """Return the norms of the parts of a gradient, by the id of the variable that each is by."""
        return {id(leaf.value): float(np.linalg.norm(part)) for leaf, part in self.flat.split(gradient)}

    def tracked_at(self, x: Vector) -> list[float]:
        """Return the tracked scalars at a vector."""
        return self._running.tracked(x) if self._problem.settings.track else []

    def finish(self, x: Vector) -> Any:
        """Leave the variables and the program's names at a vector; return its last expression's value."""
        return self._running.finish(x)

    def reconsider(self, waiter: CompileWaiter) -> None:
        """Change the engine where that pays, between two calls.

        Raises :class:`StopRequested` where Python has to work for that, and the user ends the run.
        """
        if self._at is not None:
            self._running.reconsider(self._at, waiter)

    @property
    def traced(self) -> Traced:
        """The program as a graph, where it does not run in Python."""
        assert self._traced is not None
        return self._traced

    @property
    def _running(self) -> Backend:
        assert self._backend is not None
        return self._backend

    # -- engines -------------------------------------------------------------------------------------

    def start(self, ready: Callable[[], Vector], waiter: CompileWaiter) -> Vector:
        """Compile for the fastest engine that runs the program, and call each function once.

        A run that is stopped while it waits can be evaluated by :func:`at_rest`, and finished.

        Parameters
        ----------
        ready
            Returns the vector to start from, once it is known what is minimised over.
        waiter
            Waits for compilers.

        Returns
        -------
        Vector
            Where to start (size,).
        """
        if self.made is not None:
            self._take_up(self.made)
            return ready()
        demanded = self._problem.settings.engine
        order = ("graph", "xla", "eager") if demanded == "auto" else (demanded,)
        attempts = {engine: partial(self._take, engine, ready, waiter) for engine in order}
        try:
            self._ladder.climb(attempts, self._problem.run_alone)
        except StopRequested:
            # Nothing is laid out for SciPy any more: a report takes the loss and its gradient only.
            nothing = Functions(self.traced, self.flat, (), order[0], waiter)
            self._run_graph(Choice(nothing, None, still_compiling(order[0])))
            self.stopped = True
        return ready() if self._at is None else self._at  # each function was called at the start

    def _take(self, engine: str, ready: Callable[[], Vector], waiter: CompileWaiter) -> None:
        """Make an engine the one that runs, and call each function once.

        Raises :class:`~tape_magic.engine.program.program.Untraceable` and
        :class:`~tape_magic.engine.tracing.failures.EngineRefused`.
        """
        if engine == "eager":
            self._run_eagerly()
            self._try(ready(), waiter)
            return
        with trace_failures(self._problem.program):
            if self._traced is None:
                self._trace(waiter)
        traced, start = self.traced, ready()
        with compile_failures(engine, traced.line_of):
            choice = self._choice(engine, waiter)
            self._run_graph(choice)
            self._try(start, waiter, choice.functions)
        demanded = self._problem.settings.engine
        self.made = CompiledFunctions(demanded, traced, self.flat, self.connected, choice)

    def _trace(self, waiter: CompileWaiter) -> None:
        problem, method = self._problem, self._method
        with waiter.tracing():
            self._traced = traced = Traced(
                problem.program,
                problem.namespace,
                problem.loss_name,
                tracked=problem.settings.track,
                for_xla=problem.settings.engine != "graph",
                require=self.require,
            )
        leaves = problem.settle(traced.variables)
        connected: Sequence[bool] = [True] * len(leaves)
        if method.gradient and not surely_connected(traced, leaves):
            with missing_gradients(DERIVATIVE_FREE), waiter.tracing():
                connected = traced.evaluation(leaves).connected
        problem.note_steps(lines_of_steps(traced))
        problem.begin()
        self._connect(connected)

    def _connect(self, connected: Sequence[bool]) -> None:
        self.connected = connected
        self.flat = Flat([leaf for leaf, has in zip(self._problem.leaves, connected, strict=True) if has])

    def _functions(self, engine: str, waiter: CompileWaiter) -> Functions:
        return Functions(self.traced, self.flat, self.kinds, engine, waiter)

    def _choice(self, engine: str, waiter: CompileWaiter) -> Choice:
        """Return the functions to begin with, and with them whether XLA may take over."""
        functions, settings = self._functions(engine, waiter), self._problem.settings
        if settings.engine != "auto" or engine == "xla":
            return Choice(functions, None, self._ladder.reason)
        if not SECOND.isdisjoint(self.kinds):
            return Choice(functions, None, ANEW)
        if settings.seed is not None:
            return Choice(functions, None, SEEDED)
        if refusal := refusal_of(partial(refuse_large_graph, self.traced, functions.size)):
            return Choice(functions, None, refusal)
        # Without a reference to this run, since the next run of the cell uses the choice again.
        lay_out = partial(Functions, self.traced, self.flat, self.kinds, "xla")
        return Choice(functions, lay_out, EARLY)

    def _run_graph(self, choice: Choice) -> None:
        self._backend = GraphBackend(self._problem, self.traced, self.flat, choice)

    def _run_eagerly(self) -> None:
        self._traced = self._backend = None
        self.program = program = EagerProgram(self._problem, self.require)
        recorder = Recorder()
        with recorder.listening():
            connected = program.start(gradient=self._method.gradient)
        self._problem.note_recorded_steps(recorder)
        self._connect(connected)
        self._backend = EagerBackend(program, self.flat, self._problem.settings.track, self._ladder.reason)

    def _take_up(self, made: CompiledFunctions) -> None:
        """Go on with what an earlier run compiled."""
        self._traced, self.flat, self.connected = made.traced, made.flat, made.connected
        self._problem.settle(made.traced.variables)
        self._problem.note_steps(lines_of_steps(made.traced))
        self._problem.begin()
        self._run_graph(made.choice)

    def _try(self, start: Vector, waiter: CompileWaiter, functions: Functions | None = None) -> None:
        """Call each function once, so that what cannot run shows before the run begins."""
        size = self.flat.size
        refuse_size(self._method, size, 0, LIMIT)
        for kind in self.kinds:
            vectors = [start, *([np.zeros(size)] if kind == "product" else [])]
            if functions is not None and self.engine == "xla":  # a graph is compiled in no time
                begun = functions.begin(kind, start)
                if begun is not None:
                    waiter.wait(begun, "xla")
                    begun.check()
            found = self.call(kind, *vectors)
            if kind == "residuals":
                refuse_size(self._method, size, len(found), LIMIT)


@contextmanager
def _watching(flat: Flat) -> Iterator[Any]:
    """Record with a tape that watches the leaves and nothing else."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in flat.variables:
            tape.watch(variable)
        yield tape


def written_by(evaluations: Evaluations) -> Sequence[Any]:
    """Return the variables that the program's graph assigns itself."""
    return evaluations.traced.written if evaluations.program is None else ()


def recorded(evaluations: Evaluations) -> LossRecord:
    """Return the operations of an evaluation at the variables as they are."""
    if evaluations.program is None:
        return record_of(evaluations.traced.concrete, ())
    recorder = Recorder()
    with recorder.listening(), _watching(evaluations.flat):
        return LossRecord(recorder, evaluations.program.compute())


def at_rest(evaluations: Evaluations, x: Vector) -> tuple[float, Vector | None]:
    """Return the loss and its gradient at a vector, by the program or its graph alone.

    For least squares, the loss is half the sum of the squares. What a graph assigns itself is put back. The
    gradient is ``None`` where an operation has none.
    """
    import tensorflow as tf

    flat, program, written = evaluations.flat, evaluations.program, written_by(evaluations)
    flat.assign(x)
    before = read_all(written)
    with _watching(flat) as tape:
        loss = evaluations.traced.values()[0] if program is None else program.compute()
        if evaluations.require is require_residuals:
            loss = 0.5 * tf.reduce_sum(tf.square(tf.cast(loss, tf.float64)))
    assign_all(zip(written, before, strict=True))
    try:
        found = tape.gradient(loss, flat.variables, unconnected_gradients="zero")
    except LookupError:
        return float(loss), None
    return float(loss), np.array(flat.joined(found))
