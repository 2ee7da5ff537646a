"""The functions that SciPy calls, on the fastest engine that runs a program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import StopRequested
from tape_magic.engine.minimization.eager_program import DERIVATIVE_FREE, EagerProgram
from tape_magic.engine.minimization.engine_choice import EARLY, Ladder
from tape_magic.engine.minimization.problem import Settle
from tape_magic.engine.minimization.scipy_methods import Method, refuse_size
from tape_magic.engine.minimization.scipy_solver.derivatives import Derivatives
from tape_magic.engine.minimization.scipy_solver.functions import (
    ANEW,
    SECOND,
    SEEDED,
    Choice,
    CompiledFunctions,
    Functions,
)
from tape_magic.engine.minimization.scipy_solver.vector import Flat, Vector
from tape_magic.engine.minimization.unconnected import Record, record_of
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.tracing.failures import (
    EngineRefused,
    compile_failures,
    missing_gradients,
    trace_failures,
)
from tape_magic.engine.tracing.loss import require_loss, require_residuals
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.sizes import LIMIT
from tape_magic.engine.values.tensors import read_all


class Evaluations:
    """A program's loss and derivatives as functions of one float64 vector, a compiled call for each.

    Parameters
    ----------
    program, namespace, loss_name
        What is minimised.
    method
        Which says what is asked of it.
    settle
        The variables that were read → what is minimised over.
    asked
        One of :data:`~tape_magic.engine.minimization.settings.ENGINES`.
    same
        Whether two runs must compute the same, so that the engine may not depend on how long things take.
    tracked
        Further scalars that the program assigns.
    made
        What an earlier run left.

    Attributes
    ----------
    connected
        For each thing minimised over, whether the loss has a gradient by it.
    flat
        Those that have one, as a vector; all of them for a method that takes no gradient.
    made
        What the next run can use again; ``None`` while nothing is compiled.
    """

    flat: Flat

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        method: Method,
        settle: Settle,
        *,
        asked: str,
        same: bool = False,
        tracked: Sequence[str] = (),
        made: CompiledFunctions | None = None,
    ) -> None:
        self._program, self._namespace, self._loss_name = program, namespace, loss_name
        self._method, self._settle, self._asked = method, settle, asked
        self._tracked, self.made = tuple(tracked), made
        self._require = require_residuals if method.residuals else require_loss
        self._traced: Traced | None = None
        self._eager: EagerProgram | None = None
        self._same = same
        self._choice: Choice | None = None
        self._eagerly: Derivatives | None = None
        self._at: Vector | None = None
        self.connected: Sequence[bool] = ()
        self._ladder = Ladder(asked)

    @property
    def engine(self) -> str:
        """The one that runs."""
        return "eager" if self._choice is None else self._choice.functions.engine

    @property
    def reason(self) -> str:
        """Why it is not a faster one; empty if it is the first choice."""
        return self._ladder.reason if self._choice is None else self._choice.reason

    @property
    def compiling(self) -> str:
        """The engine that compiles beside it; empty if none does."""
        return "" if self._choice is None else self._choice.compiling

    @property
    def compile_seconds(self) -> float:
        """What Python's part of compiling beside took, in all runs so far."""
        return 0.0 if self._choice is None else self._choice.compile_seconds

    def record(self) -> Record | None:
        """The operations of the program's graph, if it has one."""
        return None if self._traced is None else record_of(self._traced.concrete)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of :class:`Derivatives` the method needs."""
        if self._method.residuals:
            return "residuals", "jacobian"
        second = {"hessp": ("product",), "hess": ("hessian",)}.get(self._method.second, ())
        return ("gradient", *second) if self._method.gradient else ("loss",)

    def start(self, ready: Callable[[], Vector], waiting: CompileWaiter) -> None:
        """Compile for the fastest engine that runs the program, and call each function once.

        `ready` is called when it is known what is minimised over, and returns the vector to start from. A
        run that is stopped while it waits can evaluate as a graph.
        """
        if self.made is not None:
            self._take_up(self.made)
            ready()
            return
        order = ("graph", "xla", "eager") if self._asked == "auto" else (self._asked,)
        attempts = {engine: partial(self._take, engine, ready, waiting) for engine in order}
        try:
            self._ladder.climb(attempts, self.run_program)
        except StopRequested:
            assert self._traced is not None
            functions = Functions(self._traced, self.flat, self.kinds, "graph", CompileWaiter())
            self._choice = Choice(functions, None, "")

    def run_program(self) -> None:
        """Run the program by itself, for its own error; the names stay as they are."""
        self._program.run(dict(self._namespace), {})

    def _take(self, engine: str, ready: Callable[[], Vector], waiting: CompileWaiter) -> None:
        """Make an engine the one that runs, and call each function once.

        Raises :class:`Untraceable` and :class:`~tape_magic.engine.tracing.failures.EngineRefused`.
        """
        if engine == "eager":
            self._start_eagerly()
            self._try(ready(), waiting)
            return
        if self._traced is None:
            self._traced = self._trace()
        start = ready()
        with compile_failures(engine, self._traced.line_of):
            self._begin(engine, waiting)
            self._try(start, waiting)
        self._keep_for_next()

    def reconsider(self, waiting: CompileWaiter) -> None:
        """Between two calls: change the engine where that pays.

        Raises :class:`Stopped` where Python has to work for that.
        """
        if self._choice is None or self._at is None:
            return
        assert self._traced is not None
        try:
            with compile_failures("xla", self._traced.line_of):
                self._choice.reconsider(self._at, waiting)
        except EngineRefused as error:
            self._choice.stay(str(error))

    def call(self, kind: str, *vectors: Vector) -> Any:
        """One evaluation at the first of the vectors → NumPy arrays of float64."""
        import tensorflow as tf

        try:
            with self._uncounted(kind):
                if self._choice is not None:
                    found = self._choice.functions(kind, *vectors)
                else:
                    found = getattr(self._eagerly, kind)(*(tf.constant(one, tf.float64) for one in vectors))
        except tf.errors.OpError:
            if self.engine != "eager":
                # A graph's error speaks of nodes; the program by itself says it with the user's line.
                self.run_program()
            raise
        self._at = vectors[0].copy()
        if isinstance(found, tuple | list):
            return tuple(np.array(one) for one in found)
        return np.array(found)

    def gradients_at(self, x: Vector) -> Vector | None:
        """The gradient, for a method that takes none itself; ``None`` where there is none."""
        import tensorflow as tf

        self.flat.assign(x)
        try:
            if self._traced is None:
                assert self._eager is not None
                return np.array(Derivatives(self._eager.compute, self.flat).gradient(tf.constant(x))[1])
            evaluation = self._traced.evaluation(self.flat.leaves)
        except LookupError:
            return None
        if not any(evaluation.connected):
            return None
        with self._uncounted("gradients"):
            gradients = iter(evaluation.call()[1])
        return np.array(
            self.flat.joined(
                [
                    next(gradients) if has else tf.zeros(leaf.value.shape, leaf.value.dtype)
                    for leaf, has in zip(self.flat.leaves, evaluation.connected, strict=True)
                ]
            )
        )

    def norms(self, gradient: Vector) -> Mapping[int, float]:
        """Of the parts of a gradient, by the identity of the variable that each is by."""
        return {id(leaf.value): float(np.linalg.norm(part)) for leaf, part in self.flat.split(gradient)}

    def tracked_at(self, x: Vector) -> list[float]:
        """What is tracked, at a vector."""
        if not self._tracked:
            return []
        self.flat.assign(x)
        if self._eager is not None:
            self._run_at(x)
            return [float(number) for number in self._eager.scalars(self._tracked)]
        assert self._traced is not None
        with self._uncounted("tracked"):
            return [float(number) for number in self._traced.values()[1]]

    def finish(self, x: Vector) -> Any:
        """Leave the variables and the program's names at a vector; the value of its last expression."""
        self.flat.assign(x)
        if self._eager is not None:
            self._run_at(x)
            return self._eager.value
        assert self._traced is not None
        with self._uncounted("outputs"):
            computed = self._traced.values()[2]
        value, assigned = self._traced.outputs(computed)
        self._program.finish(self._namespace, assigned)
        return value

    def _run_at(self, x: Vector) -> None:
        assert self._eager is not None
        if self._at is None or not np.array_equal(self._at, x):
            self._eager.compute()
            self._at = x.copy()

    # -- engines -----------------------------------------------------------------------------------

    def _trace(self) -> Traced:
        """Trace the program. Raises :class:`Untraceable` where it cannot become a graph."""
        with trace_failures(self._program):
            traced = Traced(
                self._program,
                self._namespace,
                self._loss_name,
                tracked=self._tracked,
                for_xla=self._asked != "graph",
                require=self._require,
            )
            leaves = self._settle(traced.variables)
            self._keep(leaves, self._connected(traced, leaves))
        return traced

    def _connected(self, traced: Traced, leaves: Sequence[Leaf]) -> Sequence[bool]:
        if not self._method.gradient:
            return [True] * len(leaves)
        with missing_gradients(DERIVATIVE_FREE):
            return traced.evaluation(leaves).connected

    def _keep(self, leaves: Sequence[Leaf], connected: Sequence[bool]) -> None:
        self.connected = connected
        self.flat = Flat([leaf for leaf, has in zip(leaves, connected, strict=True) if has])

    def _begin(self, engine: str, waiting: CompileWaiter) -> None:
        assert self._traced is not None
        lay_out = partial(Functions, self._traced, self.flat, self.kinds)
        functions = lay_out(engine, waiting)
        if self._asked != "auto" or engine == "xla":
            self._choice = Choice(functions, None, self._ladder.reason)
        elif self._same or self._second:
            self._choice = Choice(functions, None, ANEW if self._second else SEEDED)
        else:
            self._choice = Choice(functions, partial(lay_out, "xla"), EARLY)

    @property
    def _second(self) -> bool:
        return not SECOND.isdisjoint(self.kinds)

    def _take_up(self, made: CompiledFunctions) -> None:
        self._traced, self._choice = made.traced, made.choice
        self._settle(made.traced.variables)
        self.flat, self.connected = made.flat, made.connected

    def _keep_for_next(self) -> None:
        assert self._traced is not None
        assert self._choice is not None
        self.made = CompiledFunctions(self._asked, self._traced, self.flat, self.connected, self._choice)

    def _start_eagerly(self) -> None:
        self._traced = self._choice = None
        self._eager = EagerProgram(self._program, self._namespace, self._loss_name, self._require)
        self._keep(*self._eager.start(self._settle, gradient=self._method.gradient))
        self._eagerly = Derivatives(self._eager.compute, self.flat)

    def _try(self, start: Vector, waiting: CompileWaiter) -> None:
        """Each function once, so that what cannot run shows before the run begins."""
        size = self.flat.size
        refuse_size(self._method, size, 0, LIMIT)
        for kind in self.kinds:
            vectors = [start, *([np.zeros(size)] if kind == "product" else [])]
            if self._choice is not None and self.engine == "xla":  # a graph is compiled in no time
                begun = self._choice.functions.begin(kind, start)
                if begun is not None:
                    waiting.wait(begun, self.engine)
                    begun.check()
            found = self.call(kind, *vectors)
            if kind == "residuals":
                refuse_size(self._method, size, len(found), LIMIT)

    @contextlib.contextmanager
    def _uncounted(self, kind: str) -> Iterator[None]:
        """What the program assigns to variables itself counts once for each loss, not for derivatives."""
        counts = kind in ("loss", "gradient", "residuals")
        kept = [] if counts or self._traced is None else self._traced.written
        before = read_all(kept)
        yield
        for variable, value in zip(kept, before, strict=True):
            variable.assign(value)
