"""Which engine runs a program: the fastest that can, and XLA where compiling pays."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tape_magic.engine.diagnosis.graph_operations import RANDOM
from tape_magic.engine.program.program import Untraceable
from tape_magic.engine.tracing.failures import EngineRefused
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.tracing.unrolled import unrolled_loop
from tape_magic.engine.values.copies import bytes_of
from tape_magic.errors import CompileError

XLA_SHARE = 2.0
"""Seconds that XLA takes for a loop, per second of tracing and laying out the graph (10 to 500 variables)."""

XLA_LEAST = 0.3
"""Least seconds that XLA takes for a loop."""

WORTH = 1.5
"""XLA compiles beside a graph once the graph's steps take this many times as long as compiling.

The steps are slower while XLA compiles beside them.
"""

WORTH_OVER_DATA, MANY_CORES = 4.0, 4
"""The same over data with fewer cores than so many.

There XLA gains a third of a step at the most where ``tf.data`` picks the rows, and nothing in many, while a
thread that compiles takes from steps, and from ``tf.data``, what the cores do not have: of two cores about
0.4 of the time that it takes, and of a run that is four times as long a tenth.
"""

XLA_MOST = 2_000
"""The most operations of a step, with its derivatives, that XLA compiles unless it is demanded.

Seconds and memory that compiling the loop of a run took on two CPU cores that did other work besides
(TensorFlow 2.21). Scalars that depend on each other: 0.3 s and 0.05 GB for 250 operations, 2.8 s and 0.17 GB
for 1,200, 16 s and 0.55 GB for 2,400, more than two minutes for 3,600. Vectors of 100 elements: 4 s and
0.12 GB for 1,100, 5 s and 0.17 GB for 2,200. Matrices: 3 s and 0.13 GB for 1,200. Nothing can end XLA once it
compiles.
"""

CALL_SECONDS, OPERATION_SECONDS, ELEMENT_SECONDS = 1e-5, 1e-6, 3e-10
"""About what a graph's step takes in itself, for each operation, and for each element of its tensors.

Of five programs on two CPU cores (TensorFlow 2.21; a square, Rosenbrock's function, a logistic regression, a
perceptron with 128 and with 1,024 rows), the sum is 0.2 to 1.9 times what a step takes. It is least where
products of matrices take the time, in which XLA gains least.
"""

COMPILED_SECONDS = 2.5e-3
"""About what XLA takes to compile an operation of a step."""

_SLOW_IN_XLA = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative"})
"""Operations that XLA runs slower on a CPU, with their gradients.

A step of a small network took 2.5 times as long as in the graph, and nine times on a busy machine (TensorFlow
2.21, two cores).
"""

XLA_MOST_BYTES = 1 << 25
"""The most bytes of the variables on a CPU with which XLA runs a step unless it is demanded.

What a step changes, the optimizer's slots included, stands in the memory of XLA a second time, and a third
time while it is compiled: 350 MB more for 20 million weights and Adam, 20 steps of which were no faster
(TensorFlow 2.21).
"""


def still_compiling(engine: str) -> str:
    """Return what is to be said of an engine that a run was not willing to wait for."""
    return f"still compiling{'; --engine graph begins sooner' if engine == 'xla' else ''}"


def xla_pays(seconds: float, laid_out: float, *, over_data: bool = False) -> bool:
    """Return whether `seconds` of work as a graph are worth compiling with XLA.

    Parameters
    ----------
    seconds
        Time that the graph's steps have taken and will take.
    laid_out
        Seconds that laying out the graph took.
    over_data
        Whether each step takes a batch.
    """
    worth = WORTH_OVER_DATA if over_data and (os.cpu_count() or 1) < MANY_CORES else WORTH
    return seconds >= worth * max(XLA_LEAST, XLA_SHARE * laid_out)


def counted_change(operations: int, elements: int | None, *, over_data: bool) -> int:
    """Return the step at which XLA takes over in a run that has to give the same bits as another one.

    No clock may choose there, nor the length of the run, which may be cut and go on. By that step, the graph
    has done as much as makes compiling pay, as far as the operations of the program tell; so a shorter run
    does not pay for it.

    Parameters
    ----------
    operations, elements
        The operations of a step; the elements of its tensors, ``None`` where they are not known.
    over_data
        Whether each step takes a batch.

    >>> counted_change(8, 16, over_data=False), counted_change(26, 1_911_351, over_data=False)
    (24994, 739)
    """
    step = CALL_SECONDS + OPERATION_SECONDS * operations + ELEMENT_SECONDS * (elements or 0)
    worth = WORTH_OVER_DATA if over_data else WORTH
    return math.ceil(worth * max(XLA_LEAST, COMPILED_SECONDS * operations) / step)


def refuse_slow_operations(traced: Traced, variables: Iterable[Any]) -> None:
    """Raise :class:`EngineRefused` where XLA is known to be slower, with the variables on the CPU."""
    on_gpu = any("GPU" in variable.device for variable in variables)
    if not on_gpu and any(node.op in _SLOW_IN_XLA for node in traced.operations()):
        raise EngineRefused("XLA runs convolutions slower on a CPU")


def xla_comes_too_late(seconds: float) -> bool:
    """Return whether so few `seconds` of work are left that XLA's loop is not worth changing to."""
    return seconds < XLA_LEAST


def refuse_large_graph(traced: Traced, operations: int) -> None:
    """Raise :class:`EngineRefused` where XLA would have to compile more operations than :data:`XLA_MOST`."""
    if operations <= XLA_MOST:
        return
    loop = unrolled_loop(traced.concrete.graph, traced.lines.filenames)
    why = f"{operations:,} operations would take XLA too long"
    raise EngineRefused(f"{why}; {loop.sentence}" if loop is not None else why)


def refuse_unseeded(traced: Traced) -> None:
    """Raise :class:`EngineRefused` where XLA draws random numbers from a generator that no seed reaches."""
    unseeded = next((node.op for node in traced.operations() if node.op in RANDOM), "")
    if unseeded:
        raise EngineRefused(f"XLA cannot seed the random numbers of {unseeded}")


def refuse_large_model(variables: Iterable[Any]) -> None:
    """Raise :class:`EngineRefused` where the variables on the CPU take more than :data:`XLA_MOST_BYTES`."""
    size = sum(bytes_of(variable) for variable in variables if "GPU" not in variable.device)
    if size > XLA_MOST_BYTES:
        raise EngineRefused(f"XLA would hold the {size / 1e6:,.0f} MB of the variables once more")


class Ladder:
    """Tries engines in order and keeps the reason why a faster one was passed over.

    Parameters
    ----------
    demanded
        One of :data:`~tape_magic.engine.minimization.settings.ENGINES`.
    shared
        Whether a strategy shares batches out, which demands a graph.

    Attributes
    ----------
    reason
        Why the last engine that failed cannot run the program; empty where none failed.

    Examples
    --------
    >>> def refused() -> None:
    ...     raise EngineRefused("XLA has no kernel for PyFunc")
    >>> ladder = Ladder("auto")
    >>> ladder.climb({"xla": refused, "graph": lambda: None}, run_alone=lambda: None), ladder.reason
    ('graph', 'XLA has no kernel for PyFunc')
    """

    def __init__(self, demanded: str, *, shared: bool = False) -> None:
        self._demanded, self._shared = demanded, shared
        self.reason = ""

    def climb(self, attempts: Mapping[str, Callable[[], None]], run_alone: Callable[[], object]) -> str:
        """Call the attempts in order and return the first engine whose attempt succeeds.

        Parameters
        ----------
        attempts
            What starts each engine. It raises :class:`Untraceable` where no graph can be made, and
            :class:`EngineRefused` where this engine cannot run the graph. Errors of ``eager``, which is
            the last, are the program's own.
        run_alone
            Runs the program by itself before a demanded engine is refused, so that an error of the
            program's own comes first.

        Raises :class:`CompileError` where no attempt succeeds.
        """
        traceable = True
        for engine, attempt in attempts.items():
            if engine == "eager":
                attempt()
                return engine
            if not traceable:
                continue
            try:
                refusal = refusal_of(attempt)
            except Untraceable as error:
                refusal, traceable = str(error), False
            if not refusal:
                return engine
            self.reason = refusal
        run_alone()
        if self._shared:
            raise CompileError(f"--strategy needs a compiled cell: {self.reason}")
        raise CompileError(f"--engine {self._demanded} cannot run this: {self.reason}")


def refusal_of(attempt: Callable[[], None]) -> str:
    """Return why an attempt raises :class:`EngineRefused`; empty if it succeeds."""
    try:
        attempt()
    except EngineRefused as error:
        return str(error)
    return ""
