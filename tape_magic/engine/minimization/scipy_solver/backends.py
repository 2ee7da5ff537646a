"""The two ways to evaluate a program at a vector: compiled functions of its graph, or the program itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.eager_program import EagerProgram
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.scipy_solver.derivatives import Derivatives
from tape_magic.engine.minimization.scipy_solver.functions import Choice
from tape_magic.engine.minimization.scipy_solver.vector import Flat, Vector
from tape_magic.engine.tracing.failures import EngineRefused, compile_failures
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.tensors import read_all

COUNTED = frozenset({"loss", "gradient", "residuals"})
"""The kinds of evaluation in which the program's own assignments to variables count."""


class Backend(Protocol):
    """Evaluates a program at vectors (size,) of float64."""

    @property
    def engine(self) -> str:
        """``xla``, ``graph`` or ``eager``."""

    @property
    def reason(self) -> str:
        """Why it is not a faster engine; empty if it is the first choice."""

    @property
    def compiling(self) -> str:
        """The engine that compiles beside it; empty if none does."""

    @property
    def compile_seconds(self) -> float:
        """Seconds of Python's part of compiling beside it, in all runs so far."""

    def call(self, kind: str, *vectors: Vector) -> Any:
        """Return tensors of a kind of :class:`Derivatives`, at the first of the vectors."""

    def gradient(self, x: Vector) -> Vector | None:
        """Return the gradient, for a method that takes none itself; ``None`` where there is none."""

    def tracked(self, x: Vector) -> list[float]:
        """Return the tracked scalars."""

    def finish(self, x: Vector) -> Any:
        """Leave the program's names at a vector; return the value of its last expression."""

    def reconsider(self, x: Vector, waiter: CompileWaiter) -> None:
        """Change the engine where that pays, between two calls."""


class GraphBackend:
    """Calls compiled functions of a traced program.

    Parameters
    ----------
    problem
        What is minimised.
    traced, flat
        The program as a graph, and the vector that it is evaluated at.
    choice
        The compiled functions.
    """

    def __init__(self, problem: Problem, traced: Traced, flat: Flat, choice: Choice) -> None:
        self._problem, self._traced, self._flat, self._choice = problem, traced, flat, choice

    @property
    def engine(self) -> str:
        """``xla`` or ``graph``."""
        return self._choice.functions.engine

    @property
    def reason(self) -> str:
        """Why it is not a faster engine; empty if it is the first choice."""
        return self._choice.reason

    @property
    def compiling(self) -> str:
        """The engine that compiles beside it; empty if none does."""
        return self._choice.compiling

    @property
    def compile_seconds(self) -> float:
        """Seconds of Python's part of compiling beside it, in all runs so far."""
        return self._choice.compile_seconds

    def call(self, kind: str, *vectors: Vector) -> Any:
        """Return tensors of a kind of :class:`Derivatives`, at the first of the vectors."""
        import tensorflow as tf

        try:
            with self._uncounted(kind):
                return self._choice.functions(kind, *vectors)
        except tf.errors.OpError:
            # A graph's error speaks of nodes; the program by itself says it with the user's line.
            self._problem.run_alone()
            raise

    def gradient(self, x: Vector) -> Vector | None:
        """Return the gradient, for a method that takes none itself; ``None`` where there is none."""
        import tensorflow as tf

        self._flat.assign(x)
        try:
            evaluation = self._traced.evaluation(self._flat.leaves)
        except LookupError:
            return None
        if not any(evaluation.connected):
            return None
        with self._uncounted("gradients"):
            gradients = iter(evaluation.call()[1])
        return np.array(
            self._flat.joined(
                [
                    next(gradients) if has else tf.zeros(leaf.value.shape, leaf.value.dtype)
                    for leaf, has in zip(self._flat.leaves, evaluation.connected, strict=True)
                ]
            )
        )

    def tracked(self, x: Vector) -> list[float]:
        """Return the tracked scalars."""
        self._flat.assign(x)
        with self._uncounted("tracked"):
            return [float(number) for number in self._traced.values()[1]]

    def finish(self, x: Vector) -> Any:
        """Leave the program's names at a vector; return the value of its last expression."""
        self._flat.assign(x)
        with self._uncounted("outputs"):
            computed = self._traced.values()[2]
        return self._problem.leave_outputs(self._traced, computed)

    def reconsider(self, x: Vector, waiter: CompileWaiter) -> None:
        """Change the engine where that pays, between two calls.

        Raises :class:`~tape_magic.engine.minimization.control.StopRequested` where Python has to work for
        that, and the user ends the run.
        """
        try:
            with compile_failures("xla", self._traced.line_of):
                self._choice.reconsider(x, waiter)
        except EngineRefused as error:
            self._choice.stay(str(error))

    @contextmanager
    def _uncounted(self, kind: str) -> Iterator[None]:
        """Put back what the program assigns to variables itself, unless the kind counts.

        Such an assignment counts once for each loss, and not for derivatives.
        """
        kept = [] if kind in COUNTED else self._traced.written
        before = read_all(kept)
        yield
        for variable, value in zip(kept, before, strict=True):
            variable.assign(value)


class EagerBackend:
    """Runs the program for each evaluation.

    Parameters
    ----------
    program, flat
        The program, and the vector that it is evaluated at.
    tracked
        The names of further scalars that it assigns.
    reason
        Why no faster engine can run it; empty if none was tried.
    """

    engine, compiling, compile_seconds = "eager", "", 0.0

    def __init__(self, program: EagerProgram, flat: Flat, tracked: Sequence[str], reason: str) -> None:
        self._program, self._flat, self._tracked = program, flat, tracked
        self._derivatives = Derivatives(program.compute, flat)
        self._at: Vector | None = None
        self.reason = reason

    def call(self, kind: str, *vectors: Vector) -> Any:
        """Return tensors of a kind of :class:`Derivatives`, at the first of the vectors."""
        import tensorflow as tf

        found = getattr(self._derivatives, kind)(*(tf.constant(one, tf.float64) for one in vectors))
        self._at = vectors[0].copy()
        return found

    def gradient(self, x: Vector) -> Vector | None:
        """Return the gradient, for a method that takes none itself; ``None`` where there is none."""
        import tensorflow as tf

        try:
            return np.array(self._derivatives.gradient(tf.constant(x))[1])
        except LookupError:
            return None

    def tracked(self, x: Vector) -> list[float]:
        """Return the tracked scalars."""
        self._run_at(x)
        return [float(number) for number in self._program.scalars(self._tracked)]

    def finish(self, x: Vector) -> Any:
        """Leave the program's names at a vector; return the value of its last expression."""
        self._run_at(x)
        return self._program.value

    def reconsider(self, x: Vector, waiter: CompileWaiter) -> None:
        """Do nothing: no other engine can run the program."""

    def _run_at(self, x: Vector) -> None:
        self._flat.assign(x)
        if self._at is None or not np.array_equal(self._at, x):
            self._program.compute()
            self._at = x.copy()
