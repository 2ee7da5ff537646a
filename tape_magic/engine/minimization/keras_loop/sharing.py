"""The batches of a run shared out to several devices."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tape_magic.engine.distribution.first_look import look_at
from tape_magic.engine.distribution.shared_evaluation import SharedEvaluation
from tape_magic.engine.distribution.strategies import devices_of, nothing_to_share
from tape_magic.engine.distribution.together import is_collective
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.chunks import ChunkPlanner
from tape_magic.engine.minimization.keras_loop.compiled_program import CompiledProgram
from tape_magic.engine.minimization.keras_loop.protocol import Loop
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.rows import row_parts

LONGER = 4
"""How many times as long the chunks of several workers are, since these have to agree before each."""


class Sharing:
    """Which devices share the batches of a run, if several do.

    Parameters
    ----------
    problem
        What is minimised; a strategy with one device is noted there.
    cursor
        The data.

    Attributes
    ----------
    devices
        The names of the devices of this process; empty where one evaluates the batches.
    workers
        The workers that share them besides; ``None`` where there are none.

    Raises :class:`ArgumentError` for what is no strategy, or none that can be used.
    """

    def __init__(self, problem: Problem, cursor: DataCursor | None) -> None:
        self._problem, self._cursor, strategy = problem, cursor, problem.settings.strategy
        self._together = problem.together
        self.workers = None if self._together is None else self._together.workers
        self.devices: Sequence[str] = () if self.workers is None else self.workers.devices
        if self.workers is None and strategy is not None:
            self.devices = devices_of(strategy)
        if len(self.devices) == 1 and self.workers is None:
            problem.notes.append(nothing_to_share(self.devices[0]))
            self.devices = ()

    @property
    def count(self) -> int:
        """How many devices evaluate a batch, those of all workers together."""
        return max(1, len(self.devices)) * (1 if self.workers is None else self.workers.count)

    @property
    def spec(self) -> Any:
        """The spec of the elements of the data; ``None`` without data."""
        return None if self._cursor is None else self._cursor.feed.element_spec

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The specs of a batch by its names, with an open number of rows where pieces are evaluated."""
        import tensorflow as tf

        if self._cursor is None:
            return {}

        def opened(spec: Any) -> Any:
            if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank:
                return spec
            return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)

        specs = self._cursor.named(self._cursor.feed.element_spec[1])
        return tf.nest.map_structure(opened, specs) if self.devices else specs

    def evaluated(self, traced: Traced) -> tuple[Evaluation, SharedEvaluation | None]:
        """Return the evaluation of a step, and what evaluates it in pieces, if something does."""
        if not self.devices:
            return traced.evaluated(), None
        shared = SharedEvaluation(traced, self.devices, row_parts(self.spec[1]), self.workers)
        return shared.evaluation(), shared

    def look(self, made: CompiledProgram | None) -> None:
        """Look at the first batch of a run, and note how its numbers follow from those of its pieces."""
        if not self.devices or made is None or self._cursor is None:
            return
        graph, batch = made.graph, self._cursor.ahead()
        if graph.shared is not None and batch.has_value():
            names = self._problem.loss_name or "the loss", *self._problem.settings.track
            parts = batch.get_value()[1]
            if self._together is not None:
                self._together.require_same(parts, self._problem.settings.label)
            batch = self._cursor.named(parts)
            self._problem.notes += look_at(graph.shared, graph.traced, batch, names)
            if self._together is not None:  # worker 0 has looked from its own start
                self._together.assign_first([graph.shared.sums, graph.shared.cut])

    # -- with other workers --------------------------------------------------------------------------

    def begin(self, moved: Sequence[Any], *, fresh: bool) -> None:
        """Have all workers begin as worker 0 does; `fresh` for a run that goes on from no other."""
        if self._together is not None:
            self._together.assign_first(moved)
            self._problem.start_values = [] if fresh else self._problem.start_values
            self._problem.begin(within_bounds=False)

    @contextmanager
    def chunk(self, loop: Loop, step: int, chunks: ChunkPlanner) -> Iterator[None]:
        """Have the block be one chunk of steps of all workers, which plan it by the time that worker 0 took.

        Where another worker is lost or TensorFlow fails, the variables are as at `step`, if their values of
        that step are kept. Raises :class:`ClusterError` for a worker that is lost.
        """
        import tensorflow as tf

        together = self._together
        if together is None:
            yield
            return
        chunks.seconds = together.seconds_of_first / LONGER
        together.step, together.computing, began = step, True, time.perf_counter()
        try:
            yield
        except tf.errors.OpError as error:
            # TensorFlow ended somewhere in the chunk: all workers go back to its beginning.
            values = loop.way_back.values_at(step)
            assign_all(zip(loop.moved, values, strict=True) if values else ())
            if not is_collective(error):
                raise  # and the other workers hear of it at once, for they compute
            together.computing = not values
            raise together.lost(error) from None
        together.computing, together.seconds = False, time.perf_counter() - began

    @property
    def is_whole(self) -> bool:
        """Whether the variables are as at the end of a step although other workers are lost."""
        return self._together is not None and not self._together.computing

    def end(self) -> None:
        """Note that all that the workers compute together is done."""
        if self._together is not None:
            self._together.over = True
