"""Single evaluations of a traced program, which all compiled loops share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.minimization.keras_loop.protocol import Final
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord, record_of
from tape_magic.engine.values.tensors import read_all


class GraphEvaluations:
    """Evaluates a program at the variables as they are, without XLA, which would have to compile that first.

    Parameters
    ----------
    graph
        What each step does.

    For the attributes, see :class:`~tape_magic.engine.minimization.keras_loop.protocol.Loop`.
    """

    def __init__(self, graph: StepGraph) -> None:
        self._graph = graph
        self.connected: Sequence[bool] = graph.evaluation.connected
        self.kept, self.moved = graph.kept, graph.moved
        self.leaves, self.options = graph.leaves, graph.options

    def record(self) -> LossRecord:
        """Return the operations of the graph."""
        return record_of(self._graph.traced.concrete)

    def evaluate(self, batch: Sequence[Any] | None = None) -> Final:
        """Evaluate at the variables as they are, without XLA, and put back what the program assigns."""
        written = self._graph.traced.written
        before = read_all(written)
        given = self._last_batch() if batch is None else batch
        front, gradients, rest = self._evaluated(given)
        assign_all(zip(written, before, strict=True))
        return Final(front[0], front[1:], gradients, rest)

    def recorded(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of the graph, which run when somebody looks into the record."""
        return record_of(self._graph.traced.concrete, self._last_batch() if batch is None else batch)

    def final(self, *, counts: bool = True) -> Final:
        """Evaluate at the variables as they are, without XLA, which would have to compile that first."""
        before = read_all(self.kept)
        front, gradients, rest = self._evaluated(self._last_batch())
        if not counts or not math.isfinite(float(front[0])):
            assign_all(zip(self.kept, before, strict=True))  # no statistics of what is not finite
        return Final(front[0], front[1:], gradients, rest)

    def finish(self, final: Final, problem: Problem) -> Any:
        """Leave the program's names at the last evaluation; return the value of its last expression."""
        if self._graph.shared is not None and self._graph.shared.overflowed:
            problem.notes.append(
                "the last batch does not fit one device: the names have what its first part gave"
            )
        return problem.leave_outputs(self._graph.traced, final.rest)

    def _evaluated(self, batch: Sequence[Any]) -> list[list[Any]]:
        """Evaluate on one device, or in the pieces of the steps where the batch does not fit it."""
        import tensorflow as tf

        shared = self._graph.shared
        try:
            return self._graph.whole.call(*batch)
        except tf.errors.ResourceExhaustedError:
            if shared is None or not shared.alone:
                raise
            shared.overflowed = True
            return self._graph.evaluation.call(*batch)

    def _last_batch(self) -> Sequence[Any]:
        """Return the batch that the program is evaluated on at the end."""
        return ()
