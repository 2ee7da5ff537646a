"""Loops laid out and compiled as they are wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.minimization.compiling import CompileWaiter, compile_in_background
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.compiled_program import CompiledProgram
from tape_magic.engine.minimization.keras_loop.data_loop import DataLoop
from tape_magic.engine.minimization.keras_loop.eager_loop import EagerLoop
from tape_magic.engine.minimization.keras_loop.lean_loop import LeanLoop, lean_loop_applies, unroll_factor
from tape_magic.engine.minimization.keras_loop.protocol import Final, LoopOptions
from tape_magic.engine.minimization.problem import Settle
from tape_magic.engine.minimization.unconnected import Record, record_of
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.tracing.failures import EngineRefused, compile_failures, trace_failures
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import read_all, tf_variable

QUICK_SECONDS = 0.2
"""A graph that is laid out in less is compiled in about as much, and in twice that in a thread of its own."""


@dataclass
class LoopBuilder:
    """The compiled parts of one run, made as they are wanted.

    Parameters
    ----------
    program, namespace, loss_name, tracked
        What is minimised, and what is recorded besides.
    settle
        The variables that were read → what is minimised over.
    optimizer, plan
        What has a gradient → the optimizer for it, and what the loops do besides.
    goes_on
        Whether an optimizer is the user's own object, which keeps its state from run to run.
    steps
        How many there are to be.
    same
        Whether another run has to give the same bits, wherever its chunks end.
    fresh
        What the variables of an optimizer that has been used held at first.
    batches
        What each step takes the next of.
    made
        What an earlier run left.
    """

    program: Program
    namespace: Namespace
    loss_name: str | None
    tracked: Sequence[str]
    settle: Settle
    optimizer: Callable[[Sequence[Leaf]], Any]
    plan: Callable[[Sequence[Leaf]], LoopOptions]
    goes_on: Callable[[Any], bool]
    steps: int
    same: bool
    fresh: Sequence[Any] = ()
    batches: DataCursor | None = None
    made: CompiledProgram | None = None
    for_xla: bool = True

    def __post_init__(self) -> None:
        self._traced: Traced | None = None if self.made is None else self.made.traced
        # The loop that was to be compiled last: it can evaluate, whatever becomes of that.
        self.at_rest: CompiledLoop | None = None

    def _trace(self) -> None:
        """Trace the program, unless an earlier run did."""
        if self._traced is None:
            self._traced = Traced(
                self.program,
                self.namespace,
                self.loss_name,
                tracked=self.tracked,
                inputs=self._inputs,
                settle=self.settle,
                for_xla=self.for_xla,
            )
        self.settle(self._traced.variables)

    def has(self, engine: str) -> bool:
        """Whether the loop of an engine has been compiled."""
        if self.made is None:
            return False
        key = engine, self._block(engine, self.made)
        begun = self.made.begun.get(key)
        return key in self.made.loops or (begun is not None and begun[1].done)

    def compiled(self, engine: str, waiting: CompileWaiter) -> CompiledLoop:
        """Return the loop of an engine, compiled; wait for it where needed.

        Raises :class:`~tape_magic.engine.program.program.Untraceable` where the program cannot become a
        graph, :class:`~tape_magic.engine.tracing.failures.EngineRefused` where TensorFlow cannot compile the
        loop, and :class:`~tape_magic.engine.minimization.control.StopRequested`.
        """
        with trace_failures(self.program):
            self._trace()
        with self._refusals_remembered(engine):
            made, key = self._begin(engine, waiting)
            if key in made.begun:
                waiting.wait(made.begun[key][1], engine)
            return self.ready(engine)

    @contextmanager
    def _refusals_remembered(self, engine: str) -> Iterator[None]:
        """Raise an earlier refusal of an engine at once; keep a new one for the next runs."""
        if engine == "xla" and self.same and (op := self.random_op()):
            raise EngineRefused(f"XLA cannot seed the random numbers of {op}")
        if self.made is not None and engine in self.made.refused:
            raise EngineRefused(self.made.refused[engine])
        try:
            with compile_failures(engine, self.line_of):
                yield
        except EngineRefused as error:
            if self.made is not None:
                self.made.refused[engine] = str(error)
            raise

    def begin(self, engine: str, waiting: CompileWaiter) -> None:
        """Have the loop of an engine compiled while the run goes on; raises as :meth:`compiled`."""
        with self._refusals_remembered(engine):
            self._begin(engine, waiting)

    def ready(self, engine: str) -> CompiledLoop:
        """A loop that :meth:`has` says to be there. Raises what TensorFlow refused it with."""
        made = self._made()
        key = engine, self._block(engine, made)
        if key in made.begun:
            loop, begun = made.begun.pop(key)
            begun.check()
            made.loops[key] = loop
        return self._of_this_run(made.loops[key])

    def _begin(self, engine: str, waiting: CompileWaiter) -> tuple[CompiledProgram, tuple[str, int]]:
        made = self._made()
        key = engine, self._block(engine, made)
        if key in made.loops:
            return made, key
        if key in made.begun:
            self.at_rest = self._of_this_run(made.begun[key][0])
            return made, key
        loop = self.at_rest = self._loop(made, *key)
        started = time.perf_counter()
        waiting.lay_out(loop.lay_out, engine)
        quick = engine == "graph" and time.perf_counter() - started < QUICK_SECONDS
        begun = None if quick else compile_in_background(*loop.rehearsal())
        if begun is None:
            loop.compile()
            made.loops[key] = loop
        else:
            made.begun[key] = loop, begun
        return made, key

    def _of_this_run(self, loop: CompiledLoop) -> CompiledLoop:
        if isinstance(loop, DataLoop) and self.batches is not None:
            loop.batches = self.batches
        return loop

    def _loop(self, made: CompiledProgram, engine: str, block: int) -> CompiledLoop:
        connected = connected_of(made.leaves, made.evaluation.connected)
        parts = made.evaluation, connected, made.optimizer, made.traced.written, made.plan
        if self.batches is not None:
            return DataLoop(self.batches, *parts, jit=engine == "xla")
        return LeanLoop(block, *parts) if block else CompiledLoop(*parts, jit=engine == "xla")

    def _block(self, engine: str, made: CompiledProgram) -> int:
        """Of a lean loop; 0 where each step has to be looked at."""
        if engine != "xla" or self.same or self.batches is not None:
            return 0
        leaves = connected_of(made.leaves, made.evaluation.connected)
        if not lean_loop_applies(made.plan, leaves, made.optimizer, made.traced.written):
            return 0
        # One that lays out more steps than pay for so few is as good once it is there.
        there = (block for other, block in {*made.loops, *made.begun} if other == engine)
        return max(unroll_factor(made.evaluation.elements, self.steps), *there, 1)

    @property
    def _inputs(self) -> Mapping[str, Any]:
        if self.batches is None:
            return {}
        return dict(zip(self.batches.feed.names, self.batches.feed.element_spec[2], strict=True))

    def _made(self) -> CompiledProgram:
        if self.made is None:
            assert self._traced is not None
            leaves = list(self.settle(()))
            evaluation = self._traced.evaluated()
            connected = connected_of(leaves, evaluation.connected)
            optimizer = self.optimizer(connected)
            made = CompiledProgram(self._traced, evaluation, leaves, optimizer, self.plan(connected))
            made.fresh = list(self.fresh)
            if not made.fresh and not self.goes_on(optimizer):
                made.fresh = read_all(map(tf_variable, optimizer.variables))
            self.made = made
        return self.made

    @property
    def built_optimizer(self) -> Any:
        """The optimizer of the compiled loops, once there is one."""
        return None if self.made is None else self.made.optimizer

    def begin_optimizer(self) -> None:
        """Let the optimizer of an earlier run begin anew, unless it is one of the user's, which goes on."""
        made = self.made
        if made is None:
            return
        slots = [tf_variable(variable) for variable in made.optimizer.variables]
        for variable, value in zip(slots, made.fresh, strict=False):
            variable.assign(value)

    def eager(self) -> EagerLoop:
        """A loop that runs the program at each step."""
        return EagerLoop(
            self.program,
            self.namespace,
            self.loss_name,
            self.tracked,
            self.settle,
            self.optimizer,
            self.plan,
            self.batches,
        )

    def run_program(self) -> None:
        """Run it by itself, for its own error; the names stay as they are."""
        names = dict(self.namespace)
        if self.batches is not None:
            names.update(zip(self.batches.feed.names, self.batches.any(), strict=True))
        self.program.run(names, {})

    def record(self) -> Record:
        """The operations of the graph."""
        assert self._traced is not None
        return record_of(self._traced.concrete)

    def finish(self, final: Final) -> Any:
        """Leave the names at the values of the last evaluation; the value of the last expression."""
        assert self._traced is not None
        value, assigned = self._traced.outputs(final.rest)
        self.program.finish(self.namespace, assigned)
        return value

    @property
    def repeatable(self) -> bool:
        """Whether running steps again gives the same, and does nothing else."""
        return self.batches is None and self._traced is not None and self._traced.repeatable

    @property
    def careful(self) -> bool:
        """Whether the loops carry copies along, since steps cannot be repeated."""
        return self.made is not None and self.made.plan.careful

    def random_op(self) -> str:
        """An operation whose random numbers XLA draws from a generator that no seed reaches."""
        operations = [] if self._traced is None else self._traced.operations()
        return next((node.op for node in operations if node.op in _STATEFUL_RANDOM), "")

    def line_of(self, message: str) -> int | None:
        """The line of the program that made the first of its operations that an error names."""
        return None if self._traced is None else self._traced.line_of(message)


def connected_of(leaves: Sequence[Leaf], connected: Sequence[bool]) -> list[Leaf]:
    """The leaves that have a gradient."""
    return [leaf for leaf, has in zip(leaves, connected, strict=True) if has]


_STATEFUL_RANDOM = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "TruncatedNormal",
    }
)
