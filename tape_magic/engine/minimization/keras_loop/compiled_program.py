"""`CompiledProgram` (today `Compiled`): what the next run can use again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tape_magic.engine.minimization.compiling import BackgroundCompile
from tape_magic.engine.minimization.keras_loop.compiled_loop import CHUNK_SECONDS, CompiledLoop
from tape_magic.engine.minimization.keras_loop.protocol import LoopOptions
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.leaves import Leaf


@dataclass(eq=False)
class CompiledProgram:
    """A traced program with its loops.

    Attributes
    ----------
    traced, evaluation
        The program as a graph, and with its gradients.
    leaves
        What it is minimised over.
    optimizer
        Built for those that have a gradient.
    plan
        What the loops do besides.
    loops
        By engine, and the steps that a :class:`LeanLoop` lays out one after the other; 0 for other loops.
    lifted
        The variables that stand for floats and arrays, in the order in which they were made.
    fresh
        What the optimizer's own variables held when it was built; empty for an optimizer of the user's, which
        keeps its state from run to run.
    laid_out
        Seconds that it took to lay out the first loop.
    as_graph
        Seconds that all runs so far spent in steps as a graph.
    paces
        By engine, the seconds of a step.
    xla_is_slower
        Whether that has been found out.
    refused
        By engine, why it cannot run the program.
    begun
        Loops that are still being compiled.
    """

    traced: Traced
    evaluation: Evaluation
    leaves: list[Leaf]
    optimizer: Any
    plan: LoopOptions
    loops: dict[tuple[str, int], CompiledLoop] = field(default_factory=dict)
    lifted: list[Any] = field(default_factory=list)
    fresh: list[Any] = field(default_factory=list)
    laid_out: float = 0.0
    as_graph: float = 0.0
    paces: dict[str, float] = field(default_factory=dict)
    xla_is_slower: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    begun: dict[tuple[str, int], tuple[CompiledLoop, BackgroundCompile]] = field(default_factory=dict)

    def note_pace(self, engine: str, seconds: float, steps: int) -> None:
        """What a chunk took; a short one mostly tells what calling it takes."""
        pace = seconds / steps
        if seconds > CHUNK_SECONDS / 4 or pace < self.paces.get(engine, math.inf):
            self.paces[engine] = pace
