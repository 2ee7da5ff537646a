"""Which engine runs a program: the fastest that can, and XLA where compiling pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tape_magic.engine.program.program import Untraceable
from tape_magic.engine.tracing.failures import EngineRefused
from tape_magic.errors import CompileError

XLA_SHARE = 2.0
"""Seconds that XLA takes for a loop, per second of tracing and laying out the graph (10 to 500 variables)."""

XLA_LEAST = 0.3
"""Least seconds that XLA takes for a loop."""

WORTH = 1.5
"""XLA compiles beside a graph once the graph's steps take this many times as long as compiling.

The steps are slower while XLA compiles beside them.
"""

EARLY = "over before XLA would have been ready"
"""Why a run that began as a graph ended as one."""


def xla_pays(seconds: float, laid_out: float) -> bool:
    """Return whether `seconds` of work as a graph are worth compiling with XLA.

    Parameters
    ----------
    seconds
        Time that the graph's steps have taken and will take.
    laid_out
        Seconds that laying out the graph took.
    """
    return seconds >= WORTH * max(XLA_LEAST, XLA_SHARE * laid_out)


def xla_comes_too_late(seconds: float) -> bool:
    """Return whether so few `seconds` of work are left that XLA's loop is not worth changing to."""
    return seconds < XLA_LEAST


class Ladder:
    """Tries engines in order and keeps the reason why a faster one was passed over.

    Parameters
    ----------
    demanded
        One of :data:`~tape_magic.engine.minimization.settings.ENGINES`.

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

    def __init__(self, demanded: str) -> None:
        self._demanded = demanded
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
        raise CompileError(f"--engine {self._demanded} cannot run this: {self.reason}")


def refusal_of(attempt: Callable[[], None]) -> str:
    """Return why an attempt raises :class:`EngineRefused`; empty if it succeeds."""
    try:
        attempt()
    except EngineRefused as error:
        return str(error)
    return ""
