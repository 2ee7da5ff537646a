"""The loop over batches of data.

``tf.data`` cannot run inside XLA. So XLA compiles the step alone, and a graph loops around it.

A step does what a loop by hand does: it takes the batch that came while the step before it ran, evaluates,
applies the optimizer, and records. Rules are looked at in a step only where there are some beside the one
that all stays finite; that one is looked at once a chunk, where what is not finite stays in the variables.
To go back, the loop puts back what it noted before the chunk, and repeats the steps with the batches that it
kept: the same steps, compiled once, so that they lead to the same bits.

Steps with random numbers that TensorFlow's own generator draws cannot be repeated. They carry the values from
before each step along, and so do those of very large models, since that takes less memory than the marks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.batch_graph import ANY_ROWS, BatchGraph
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop, deadline
from tape_magic.engine.minimization.keras_loop.kept_batches import MOST_BYTES, bytes_of_batch
from tape_magic.engine.minimization.keras_loop.lean_loop import lean_loop_applies
from tape_magic.engine.minimization.keras_loop.previous_values import PreviousValues
from tape_magic.engine.minimization.keras_loop.protocol import Chunk
from tape_magic.engine.minimization.keras_loop.recorded_values import ROWS, series_of
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.keras_loop.way_back import MOST, Position, WayBack
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.stop_rules import GO, GRADIENT_LOST, LOSS_LOST, Rules
from tape_magic.engine.values.tensors import read_all

SMALL = 1 << 22
"""The bytes of variables up to which they are noted before each chunk; of larger ones, a mark is rarer."""


class DataLoop(CompiledLoop):
    """Runs chunks of steps over batches, the step compiled by XLA or run as a graph.

    Parameters
    ----------
    graph, jit
        See :class:`CompiledLoop`.
    cursor
        The data of the run. Before another run begins, it sets the attribute of that name.
    """

    def __init__(self, graph: StepGraph, cursor: DataCursor, *, jit: bool) -> None:
        super().__init__(graph, jit=jit)
        self.cursor = cursor
        self._lean = is_lean(graph)
        if repeats_steps(self._graph):
            self._previous = PreviousValues(())

    @property
    def _data(self) -> DataCursor:
        assert self.cursor is not None
        return self.cursor

    @property
    def _carries_copies(self) -> bool:
        return not repeats_steps(self._graph) and super()._carries_copies

    # -- compiling -----------------------------------------------------------------------------------

    def _function(self) -> Callable[..., Any]:
        import tensorflow as tf

        spec = self._data.feed.element_spec
        copied = self.moved if self._carries_copies else ()
        graph = BatchGraph(self._graph, spec, self._previous.copies, copied, jit=self._jit, lean=self._lean)
        specs = [tf.type_spec_from_value(self._data.iterator), tf.OptionalSpec(spec), *self._specs()]
        chunk = tf.function(graph.over_batches, autograph=False)
        signature = [tf.TensorSpec([], kind) for kind in (tf.variant, tf.int64, tf.bool)] + self._specs()[:2]
        self._again: Any = tf.function(graph.over_kept, autograph=False, input_signature=signature)
        call: Callable[..., Any] = chunk.get_concrete_function(*specs)
        return call

    def _specs(self) -> list[Any]:
        import tensorflow as tf

        span, carried, copies = super()._specs()
        return [[*span, tf.TensorSpec([], tf.int64)], carried, copies]

    def _arguments(self, position: Position, end: int, stretch: int, until: float) -> list[Any]:
        import tensorflow as tf

        span, carried, copies = super()._arguments(position, end, stretch, until)
        full = self._data.feed.batch or ANY_ROWS
        return [[*span, tf.constant(full, tf.int64)], carried, copies]

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """Return the function to compile, and the arguments of a call of no steps, or of one for XLA."""
        begin, own = self._graph.position(0), self._data.stand_in()
        arguments = self._arguments(begin, 1 if self._jit else 0, 1, math.inf)
        return self._call, [own.iterator, own.ahead(), *arguments]

    def compile(self) -> None:
        """Compile by a call; XLA compiles at the first step, which is taken back."""
        values = read_all(self.moved)
        cursor, self.cursor = self.cursor, self._data.stand_in()
        try:
            self._from_data(self.begin(), 1 if self._jit else 0, math.inf)
        finally:
            self.cursor, self.way_back = cursor, WayBack()
            if self._jit:
                self._assign(values)

    # -- the run, from Python ------------------------------------------------------------------------

    def advance(self, position: Position, end: int, stretch: int, waiter: CompileWaiter) -> Chunk:
        """Run one chunk and record each step; the data may end within it.

        After :meth:`return_to`, the steps first take the batches that they took before.
        """
        import tensorflow as tf

        way = self.way_back
        try:
            end = min(end, position.step + self._capacity(1))
            if not self.options.keeps_best:
                way.stretches.begin(position, self.moved, (one.read_value() for one in self.moved))
            if repeats_steps(self._graph) and self._is_due(position.step):
                # Reading costs next to nothing: a variable that is read copies itself when it is assigned.
                way.mark(position, read_all(self.moved))
            chunk = self._called(position, end, 1, waiter, deadline(self._graph.evaluation))
        except tf.errors.OpError as error:
            if self._data.feed.failure is not None or "IteratorGetNext" in str(error):
                raise self._data.failure(error) from None
            raise
        way.stretches.add(chunk.series[0].values)
        return chunk

    def _is_due(self, step: int) -> bool:
        return self._graph.bytes <= SMALL or self.way_back.due(step, most=self.way_back.batches.most)

    def _capacity(self, stretch: int) -> int:
        if not repeats_steps(self._graph):
            return ROWS
        batches = self.way_back.batches
        if not batches.most:
            ahead = self._data.ahead()
            size = bytes_of_batch(ahead.get_value()) if ahead.has_value() else 1
            batches.most = min(ROWS, max(1, MOST_BYTES // size))
        return batches.most

    def _called(
        self, position: Position, end: int, stretch: int, waiter: CompileWaiter, until: float = math.inf
    ) -> Chunk:
        if self.way_back.doubtful:
            return self._looked_at(position)
        if self.way_back.batches.of(position.step) is not None:
            chunk, _ = self._from_kept(position, end)
            self._note_taken(chunk.last)
            return chunk
        chunk, finite = self._from_data(position, end, until)
        return chunk if finite or not self._lean else self._exact(position, chunk)

    def _from_data(self, position: Position, end: int, until: float) -> tuple[Chunk, bool]:
        """Run steps over the next batches; return also whether all was finite at the end."""
        data, step = self._data, position.step
        with self._graph.evaluation.one_call():
            found = self._call(data.catch_up(), data.ahead(), *self._arguments(position, end, 1, until))
        chunk, finite = self._chunk_of(position, found[:6])
        self.way_back.copies, kept, last, before, ahead = found[6:]
        if chunk.last >= step:
            data.note(last, before if before.has_value() else data.last_taken, ahead)
        data.over = chunk.verdict == GO and chunk.position.step < end and not ahead.has_value()
        if repeats_steps(self._graph):
            self.way_back.batches.add(step, chunk.last + 1, kept)
        return chunk, finite

    def _chunk_of(self, position: Position, found: Sequence[Any]) -> tuple[Chunk, bool]:
        """Return what a call brought as a chunk, and whether all was finite at its end."""
        reached, verdict, carried, values, places, finite = found
        step, split = int(reached), len(position.memory)
        after = Position(step, tuple(carried[:split]), tuple(carried[split:]))
        rows = step - position.step
        recorded = values.numpy()[:rows]
        series = series_of(position.step, rows, [recorded])
        loss = float(recorded[-1, 0]) if rows else math.nan
        all_finite = bool(finite) and bool(np.isfinite(recorded[:, 0]).all())
        return Chunk(after, int(verdict), series, loss, step - 1, places.numpy()[:rows]), all_finite

    # -- going back ----------------------------------------------------------------------------------

    def return_to(self, step: int, chunk: Chunk) -> Chunk:
        """Go back to where `step` steps were applied, and to the batch of that step.

        Where steps are repeated, that is so whatever the verdict was, and the run may go on from there:
        :meth:`advance` takes the batches again that it took from there on, and then those that follow. `step`
        may be any of the chunk, or the last one of the chunk before.
        """
        if not repeats_steps(self._graph):
            if step < chunk.last or chunk.verdict == LOSS_LOST:
                self._data.step_back()
            return super().return_to(step, chunk)
        position, _ = self._repeated_until(step)
        self.way_back.forget_after(step)
        self._note_taken(step)
        return replace(chunk, position=position)

    def _note_taken(self, step: int) -> None:
        """Note the batch of a step as the last one, where it is kept."""
        kept, data = self.way_back.batches.of(step), self._data
        data.over = False
        if kept is not None:
            data.note(kept.batch_of(step, data.feed.element_spec), None, data.ahead())

    def _repeated_until(self, step: int, *, finite: bool = False) -> tuple[Position, bool]:
        """Put the variables back to the last mark, and repeat the steps from there until `step`.

        If they are to be `finite`, stop after a step that makes them something else. Return where that is,
        and whether they are finite there.
        """
        position, values = self.way_back.before(step)
        self._assign(values)
        goes_on = True
        while goes_on and position.step < step:
            loop, until = self.way_back.taker(position.step)
            chunk, is_finite = (loop or self)._from_kept(position, min(step, until or step), finite=finite)
            position, goes_on = chunk.position, is_finite or not finite
        return position, goes_on

    def _from_kept(self, position: Position, end: int, *, finite: bool = False) -> tuple[Chunk, bool]:
        """Run steps over kept batches, at most to the end of the chunk that took them."""
        import tensorflow as tf

        kept = self.way_back.batches.of(position.step)
        assert kept is not None
        span, carried, _ = self._arguments(position, min(end, kept.end), 1, math.inf)
        start = tf.constant(kept.start, tf.int64)
        again = self._again.get_concrete_function()  # TensorFlow warns of calls that trace again and again
        with self._graph.evaluation.one_call():
            return self._chunk_of(position, again(kept.batches, start, tf.constant(finite), span, carried))

    def _exact(self, position: Position, chunk: Chunk) -> Chunk:
        """Return a chunk up to the step at which something was not finite.

        Without a rule in the steps, all that is known is that something was not finite at the end.
        """
        losses = chunk.series[0].values
        lost = np.flatnonzero(~np.isfinite(losses))
        end = position.step + (int(lost[0]) if len(lost) else len(losses))
        reached, finite = self._repeated_until(end, finite=True)
        verdict, step = LOSS_LOST, end
        if not finite:
            verdict, step = GRADIENT_LOST, reached.step - 1
            here, _ = self._repeated_until(step)
            self._note_taken(step)
            if self._looked_for(step) == GO:
                # The optimizer made what is not finite out of a finite gradient: each step is looked at now.
                self.way_back.doubtful = True
                return replace(_until(chunk, step), position=self._from_kept(here, step + 1)[0].position)
        self._note_taken(step)
        return replace(_until(chunk, step), verdict=verdict)

    def _looked_at(self, position: Position) -> Chunk:
        """Run one step, after a look at its loss and its gradients."""
        step = position.step
        verdict = self._looked_for(step)
        if self.way_back.batches.of(step) is None:
            chunk, _ = self._from_data(position, step + 1, math.inf)
        else:
            chunk, _ = self._from_kept(position, step + 1)
            self._note_taken(step)
        return replace(chunk, verdict=verdict)

    def _looked_for(self, step: int) -> int:
        """Return what is to be said of the loss and the gradients at the variables as they are."""
        batch = self._batch_of(step)
        if batch is None:
            return GO
        final = self.evaluate(batch)
        return int(Rules().check(step, final.loss, final.gradients, ())[0])

    def _batch_of(self, step: int) -> Sequence[Any] | None:
        """Return the batch that a step takes; ``None`` where the data are over."""
        kept, data = self.way_back.batches.of(step), self._data
        batch = data.ahead() if kept is None else kept.batch_of(step, data.feed.element_spec)
        return batch.get_value()[1] if batch.has_value() else None

    def _last_batch(self) -> Sequence[Any]:
        return self._data.any()


def repeats_steps(graph: StepGraph) -> bool:
    """Return whether steps are repeated to go back."""
    return bool(graph.traced.repeatable and graph.bytes <= MOST)


def is_lean(graph: StepGraph) -> bool:
    """Return whether steps over data look at no rule; see :func:`lean_loop_applies`."""
    options = replace(graph.options, careful=False)
    return repeats_steps(graph) and lean_loop_applies(
        options, graph.leaves, graph.optimizer, graph.traced.written
    )


def _until(chunk: Chunk, step: int) -> Chunk:
    """Return a chunk up to a step, which was its last one then."""
    count = step + 1 - (chunk.last + 1 - len(chunk.places))
    series = tuple(Recorded(one.steps[:count], one.values[:count]) for one in chunk.series)
    position = replace(chunk.position, step=step + 1)
    return replace(
        chunk,
        position=position,
        series=series,
        loss=float(series[0].values[-1]),
        last=step,
        places=chunk.places[:count],
    )
