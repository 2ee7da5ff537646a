"""The compiled functions that SciPy calls, the change to XLA, and what the next run uses again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine.internals.graphs import operation_count
from tape_magic.engine.minimization.compiling import BackgroundCompile, CompileWaiter, compile_in_background
from tape_magic.engine.minimization.engine_choice import xla_pays
from tape_magic.engine.minimization.scipy_solver.columns import jacobian_by_columns
from tape_magic.engine.minimization.scipy_solver.derivatives import Derivatives
from tape_magic.engine.minimization.scipy_solver.vector import Flat, Vector
from tape_magic.engine.tracing.traced import Traced

ANEW = "XLA would compile second derivatives anew at each call"
"""The reason for a graph: the backward part of a call takes some values over as constants."""

SEEDED = "with a seed, the engine does not change within a run"

SECOND = frozenset({"product", "hessian"})

_TELLING = 0.1
"""Seconds of calls after which the time of one call is known."""


class Functions:
    """One compiled function for each kind of evaluation, on one engine.

    Parameters
    ----------
    traced, flat
        The program, and what it is differentiated by.
    kinds
        Names of methods of :class:`Derivatives`.
    engine
        ``xla`` or ``graph``.
    waiting
        Told, and asked, while Python lays them out. Raises ``StopRequested``.

    Attributes
    ----------
    laid_out
        Seconds that laying them out took.
    seconds, calls
        Seconds and number of the calls so far, without the first call of each kind.
    """

    def __init__(
        self, traced: Traced, flat: Flat, kinds: Sequence[str], engine: str, waiting: CompileWaiter
    ) -> None:
        import tensorflow as tf

        started = time.perf_counter()
        derivatives = Derivatives(
            lambda: traced.values()[0],
            flat,
            traced.backward,
            vectorize=not traced.branches,
            columns=partial(jacobian_by_columns, traced, flat),
        )
        vector = tf.TensorSpec([flat.size], tf.float64)
        self.engine, self.kinds = engine, tuple(kinds)
        self._by_kind: dict[str, Any] = {}
        for kind in kinds:
            compiled = tf.function(getattr(derivatives, kind), autograph=False, jit_compile=engine == "xla")
            vectors = (vector, vector) if kind == "product" else (vector,)
            lay_out = partial(compiled.get_concrete_function, *vectors)
            self._by_kind[kind] = waiting.lay_out(lay_out, engine)
        self.laid_out = time.perf_counter() - started
        self.seconds, self.calls = 0.0, 0
        self._called: set[str] = set()

    def __call__(self, kind: str, *vectors: Vector) -> Any:
        """Evaluate one kind, and return tensors."""
        import tensorflow as tf

        started = time.perf_counter()
        found = self._by_kind[kind](*(tf.constant(vector, tf.float64) for vector in vectors))
        if kind in self._called:
            self.seconds += time.perf_counter() - started
            self.calls += 1
        self._called.add(kind)
        return found

    @property
    def pace(self) -> float:
        """Seconds of a call."""
        return self.seconds / max(self.calls, 1)

    @property
    def size(self) -> int:
        """The number of operations of the largest of them."""
        return max(operation_count(function.graph) for function in self._by_kind.values())

    def begin(self, kind: str, x: Vector) -> BackgroundCompile | None:
        """Begin to compile one kind in a thread of its own; see ``compile_in_background``."""
        import tensorflow as tf

        vectors = [x, np.zeros_like(x)] if kind == "product" else [x]
        return compile_in_background(
            self._by_kind[kind], [tf.constant(vector, tf.float64) for vector in vectors]
        )


class Choice:
    """Chooses the functions that SciPy calls: a graph's, which are ready soonest, and XLA's where they pay.

    XLA compiles its functions one after the other, each in a thread of its own, while the graph goes on.

    Parameters
    ----------
    first
        The functions to begin with.
    lay_out
        Makes the functions for XLA; ``None`` where the first ones stay.

    Attributes
    ----------
    functions
        The functions that are called now.
    reason
        Why these are not XLA's.
    compile_seconds
        Seconds of Python's part of compiling with XLA.
    """

    def __init__(
        self, first: Functions, lay_out: Callable[[CompileWaiter], Functions] | None, reason: str
    ) -> None:
        self.functions, self.reason = first, reason
        self._lay_out = lay_out
        self._graph = first
        self._beside: Functions | None = None
        self._left: list[str] = []
        self._begun: BackgroundCompile | None = None
        self.compile_seconds = 0.0

    @property
    def compiling(self) -> str:
        """The engine that compiles beside the calls; empty if none does."""
        return "xla" if self._beside is not None else ""

    def reconsider(self, x: Vector, waiting: CompileWaiter) -> None:
        """Begin to compile with XLA, or go on with what XLA has compiled, between two calls.

        `x` is a vector that the functions can be called with.

        Raises what TensorFlow refuses it with, and ``StopRequested`` where Python has
        to work for it.
        """
        if self._lay_out is None:
            return
        if self.functions is not self._graph:
            self._compare()
        elif self._beside is not None:
            self._go_on(self._beside, x)
        elif xla_pays(self._graph.seconds, self._graph.laid_out):
            started = time.perf_counter()
            try:
                self._beside = self._lay_out(waiting)
            finally:
                self.compile_seconds += time.perf_counter() - started
            self._left = list(self._beside.kinds)

    def stay(self, reason: str) -> None:
        """Go on with the graph for good."""
        self.functions, self.reason = self._graph, reason
        self._lay_out = self._beside = None

    def _go_on(self, beside: Functions, x: Vector) -> None:
        """Begin to compile the next function, or take all of them over once they are compiled."""
        while self._begun is None or self._begun.done:
            if self._begun is not None:
                self._begun.check()
            if not self._left:
                self.functions, self.reason, self._beside = beside, "", None
                return
            self._begun = beside.begin(self._left.pop(0), x)
            if self._begun is None:
                self.stay("XLA cannot compile it beside the graph")
                return

    def _compare(self) -> None:
        """Go back to the graph if XLA takes longer, once XLA's first calls are over."""
        if self.functions.seconds < _TELLING or self.functions.calls < 3:
            return
        slower = self.functions.pace / max(self._graph.pace, 1e-9)
        if slower > 1.1:
            self.stay(f"XLA took {slower:.1f} times as long")
        else:
            self._lay_out = None


@dataclass(eq=False)
class CompiledFunctions:
    """The compiled functions of a program, which its next run can use again.

    Attributes
    ----------
    demanded
        The engine that was demanded.
    traced, flat, connected
        The program as a graph; the leaves with a gradient as a vector; and whether each leaf has a gradient.
    choice
        The compiled functions.
    lifted
        The variables that stand for floats and arrays, in the order in which they were made.
    """

    demanded: str
    traced: Traced
    flat: Flat
    connected: Sequence[bool]
    choice: Choice
    lifted: list[Any] = field(default_factory=list)
