"""What is compiled of one program, and what is known of its engines: the next run can use both again."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tape_magic.engine.minimization.compiling import BackgroundCompile
from tape_magic.engine.minimization.composite import Composite
from tape_magic.engine.minimization.data.pipelines import Pipelines
from tape_magic.engine.minimization.engine_choice import xla_pays
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.protocol import CHUNK_SECONDS
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.settings import Settings


class EngineTimes:
    """Times and refusals of the engines, from all runs of one program.

    Parameters
    ----------
    over_data
        Whether each step takes a batch.
    """

    LAST = 9
    """So many of the last chunks tell the pace of an engine, by their median."""

    def __init__(self, *, over_data: bool = False) -> None:
        self.over_data = over_data
        self._laid_out = 0.0
        self._as_graph = 0.0
        self._paces: dict[str, list[float]] = {}
        self._refused: dict[str, str] = {}
        self._xla_is_slower = False

    def note(self, engine: str, seconds: float, steps: int, *, alone: bool = True) -> None:
        """Note how many seconds some steps took; `alone` if nothing was compiled beside them.

        A short chunk mostly tells what a call costs, and counts only where it is faster than all before.
        """
        if engine == "graph":
            self._as_graph += seconds
        pace = seconds / steps
        if not alone:
            return
        if seconds > CHUNK_SECONDS / 4:
            self._paces[engine] = [*self._paces.get(engine, []), pace][-self.LAST :]
        elif pace < (self.pace(engine) or math.inf):
            self._paces[engine] = [pace]

    def pace(self, engine: str) -> float:
        """Return the seconds of a step; 0 where they are not known."""
        paces = self._paces.get(engine)
        return statistics.median(paces) if paces else 0.0

    def forget_pace(self, engine: str) -> None:
        """Forget how fast an engine was, to find it out anew."""
        self._paces.pop(engine, None)

    def timed(self, engine: str) -> int:
        """Return how many chunks tell the pace of an engine, at most :attr:`LAST`."""
        return len(self._paces.get(engine, ()))

    def note_layout(self, seconds: float) -> None:
        """Note how long tracing and laying out the first loop took; later loops do not count."""
        self._laid_out = self._laid_out or seconds

    def xla_pays(self, seconds_left: float = 0.0) -> bool:
        """Return whether XLA is worth compiling, for the graph's time in all runs and what is left of it."""
        return xla_pays(self._as_graph + seconds_left, self._laid_out, over_data=self.over_data)

    @property
    def xla_is_slower(self) -> bool:
        """Whether some run has found XLA slower than the graph."""
        return self._xla_is_slower

    def leave_xla(self) -> None:
        """Note that XLA is slower than the graph."""
        self._xla_is_slower = True

    def refuse(self, engine: str, why: str) -> None:
        """Note why an engine cannot run the program."""
        self._refused[engine] = why

    def refusal(self, engine: str) -> str:
        """Return why an engine cannot run the program; empty where nothing is known."""
        return self._refused.get(engine, "")


@dataclass(eq=False)
class CompiledProgram:
    """A traced program with its loops.

    Attributes
    ----------
    graph
        What each step does.
    times
        What is known of the engines.
    fresh
        What the optimizer's own variables held when it was built; empty for an optimizer of the user's, which
        keeps its state from run to run.
    loops
        The compiled loops, by engine and by what they are laid out for: the steps that a :class:`LeanLoop`
        has in a row, or the rows and the batches of an :class:`ArrayLoop`; nothing for other loops.
    begun
        The loops that are still being compiled.
    validations
        The passes over the data of a validation, by engine.
    lifted
        The variables that stand for floats and arrays, in the order in which they were made.
    pipelines
        What was traced for pipelines over the data.
    spec
        The spec of the elements of the data, places included; ``None`` without data.
    """

    graph: StepGraph
    times: EngineTimes
    fresh: Sequence[Any] = ()
    loops: dict[tuple[str, tuple[int, ...]], CompiledLoop] = field(default_factory=dict)
    begun: dict[tuple[str, tuple[int, ...]], tuple[CompiledLoop, BackgroundCompile]] = field(
        default_factory=dict
    )
    validations: dict[str, Any] = field(default_factory=dict)
    lifted: Sequence[Any] = ()
    pipelines: Pipelines = field(default_factory=Pipelines)
    spec: Any = None

    def takes(self, spec: Any, *, by_epoch: bool) -> bool:
        """Return whether the loops were laid out for data of the same `spec`, and keep the same values."""
        return bool(self.spec == spec) and self.graph.options.by_epoch == by_epoch

    def fits_next_run(self, problem: Problem) -> bool:
        """Return whether a later run of the same cell can use it again."""
        settings, traced = problem.settings, self.graph.traced
        if not traced.reusable:
            return False
        if settings.seed is not None and not traced.repeatable:
            return False  # what seeds the numbers of an operation is part of the trace
        # A float is another variable in each run, and the user's optimizer belongs to one.
        return not (problem.lifted.made and keeps_state(settings, self.graph.optimizer))

    def release(self, lifted: Sequence[Any]) -> None:
        """Let go of the values and the data of a run that is over, but for its lifted variables."""
        for loop in [*self.loops.values(), *(loop for loop, _ in self.begun.values())]:
            loop.release()
        self.lifted = lifted


def keeps_state(settings: Settings, optimizer: Any) -> bool:
    """Return whether an optimizer is the user's own object, which keeps its state from run to run."""
    if isinstance(optimizer, Composite):
        return optimizer.users
    return optimizer is settings.optimizer and not settings.made_here
