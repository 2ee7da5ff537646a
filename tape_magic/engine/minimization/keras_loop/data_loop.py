"""The loop over batches of data.

``tf.data`` cannot run inside XLA. So XLA compiles the step alone, and a graph loops around it.

A step does what a loop by hand does: it takes the batch that came while the step before it ran, evaluates,
applies the optimizer, and records. Rules are looked at in a step only where there are some beside the one that
all stays finite; that one is looked at once a chunk, where a value that is not finite stays in the variables.
To go back, the loop puts back what it noted before the chunk, and repeats the steps with the batches that it
kept: the same steps, compiled once, so that they lead to the same bits.

Steps with random numbers that TensorFlow's own generator draws cannot be repeated. They carry the values from
before each step along, and so do those of very large models, since that takes less memory than the marks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.compiled_loop import (
    CompiledLoop,
    deadline,
    in_time,
    twice,
)
from tape_magic.engine.minimization.keras_loop.kept_batches import (
    MOST_BYTES,
    batch_at,
    bytes_of_batch,
    no_batches,
    with_batch,
)
from tape_magic.engine.minimization.keras_loop.lean_loop import lean_loop_applies
from tape_magic.engine.minimization.keras_loop.previous_values import PreviousValues
from tape_magic.engine.minimization.keras_loop.protocol import Chunk
from tape_magic.engine.minimization.keras_loop.recorded_values import ROWS, series_of
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.keras_loop.way_back import MOST, Position, WayBack
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.stop_rules import GO, GRADIENT_LOST, LOSS_LOST, Rules
from tape_magic.engine.values.copies import bytes_of
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
        self._bytes = sum(map(bytes_of, self.moved))
        self._repeats = graph.traced.repeatable and self._bytes <= MOST
        self._lean = self._repeats and lean_loop_applies(
            replace(graph.options, careful=False), graph.leaves, graph.optimizer, graph.traced.written
        )
        if self._repeats:
            self._previous = PreviousValues(())
        self._by_hand = False
        self._most = 0

    @property
    def _data(self) -> DataCursor:
        assert self.cursor is not None
        return self.cursor

    @property
    def _carries_copies(self) -> bool:
        return not self._repeats and super()._carries_copies

    # -- compiling -----------------------------------------------------------------------------------

    def _function(self) -> Callable[..., Any]:
        import tensorflow as tf

        step: Callable[..., Any] = self._bare_step
        if not self._lean:
            step = functools.partial(self._graph.step, previous=self._previous.copies)
        if self._jit:
            step = tf.function(step, autograph=False, jit_compile=True)
        self._compiled_step = step
        element = self._data.feed.element_spec
        specs = [tf.type_spec_from_value(self._data.iterator), tf.OptionalSpec(element), *self._specs()]
        self._chunk: Any = tf.function(self._over_batches, autograph=False).get_concrete_function(*specs)
        self._again: Any = None
        return lambda *arguments: self._chunk(self._data.iterator, self._data.ahead(), *arguments)

    def _bare_step(self, at: Any, carried: Any, parts: Any, place: Any) -> Any:
        import tensorflow as tf

        recorded = self._graph.bare_step(parts)
        return tf.constant(GO), recorded[0], recorded, carried

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """Return the function to compile, and the arguments of a call.

        The call has no steps as a graph, and one with XLA, which compiles at the first step.
        """
        begin = self._graph.position(0)
        own = DataCursor(self._data.feed, count=1)
        arguments = self._arguments(begin, 1 if self._jit else 0, 1, math.inf)
        return self._chunk, [own.iterator, own.ahead(), *arguments]

    def compile(self) -> None:
        """Compile by a call; XLA compiles at the first step, which is taken back."""
        values = read_all(self.moved)
        cursor, self.cursor = self.cursor, DataCursor(self._data.feed, count=1)
        try:
            self._from_data(self.begin(), 1 if self._jit else 0, math.inf)
        finally:
            self.cursor, self.way_back = cursor, WayBack()
            if self._jit:
                self._assign(values)

    # -- the run, from Python ------------------------------------------------------------------------

    def begin(self, step: int = 0) -> Position:
        """Begin a run at a step, from the variables as they are."""
        self._by_hand = False
        self._most = 0
        return super().begin(step)

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
            if self._repeats and self._is_due(position.step):
                # Reading costs next to nothing: a variable copies itself when it is assigned while it is read.
                way.mark(position, read_all(self.moved))
            chunk = self._called(position, end, 1, waiter, deadline())
        except tf.errors.OpError as error:
            if self._data.feed.failure is not None or "IteratorGetNext" in str(error):
                raise self._data.failure(error) from None
            raise
        way.stretches.add(chunk.series[0].values)
        return chunk

    def _is_due(self, step: int) -> bool:
        """Return whether the variables are to be noted at a step."""
        return self._bytes <= SMALL or self.way_back.due(step, most=self._most)

    def _capacity(self, stretch: int) -> int:
        """Return the most steps of a chunk, whose batches are kept."""
        if not self._repeats:
            return ROWS
        if not self._most:
            ahead = self._data.ahead()
            size = bytes_of_batch(ahead.get_value()) if ahead.has_value() else 1
            self._most = min(ROWS, max(1, MOST_BYTES // size))
        return self._most

    def _called(
        self, position: Position, end: int, stretch: int, waiter: CompileWaiter, until: float = math.inf
    ) -> Chunk:
        if self._by_hand:
            return self._looked_at(position)
        if self.way_back.batches.of(position.step) is not None:
            return self._from_kept(position, end)[0]
        chunk, finite = self._from_data(position, end, until)
        return chunk if finite or not self._lean else self._exact(position, chunk)

    def _from_data(self, position: Position, end: int, until: float) -> tuple[Chunk, bool]:
        """Run steps over the next batches; return also whether all was finite at the end."""
        data, step = self._data, position.step
        found = self._call(*self._arguments(position, end, 1, until))
        chunk, finite = self._chunk_of(position, found[:6])
        self.way_back.copies, kept, last, before, ahead = found[6:]
        if chunk.last >= step:
            data.note(last, before if before.has_value() else data.last_taken, ahead)
        data.over = chunk.verdict == GO and chunk.position.step < end and not ahead.has_value()
        if self._repeats:
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
        if not self._repeats:
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
            data.note(batch_at(kept.batches, step - kept.start, data.feed.element_spec), None, data.ahead())

    def _repeated_until(self, step: int, *, finite: bool = False) -> tuple[Position, bool]:
        """Put the variables back to the last mark, and repeat the steps from there until `step`.

        If they are to be `finite`, stop after a step that makes them something else. Return where that is,
        and whether they are finite there.
        """
        position, values = self.way_back.before(step)
        self._assign(values)
        goes_on = True
        while goes_on and position.step < step:
            chunk, is_finite = self._from_kept(position, step, finite=finite)
            position, goes_on = chunk.position, is_finite or not finite
        return position, goes_on

    def _from_kept(self, position: Position, end: int, *, finite: bool = False) -> tuple[Chunk, bool]:
        """Run steps over kept batches, at most to the end of the chunk that took them."""
        import tensorflow as tf

        kept = self.way_back.batches.of(position.step)
        assert kept is not None
        if self._again is None:
            function = tf.function(self._over_kept, autograph=False)
            kinds = [tf.TensorSpec([], dtype) for dtype in (tf.variant, tf.int64, tf.bool)]
            self._again = function.get_concrete_function(*kinds, *self._specs()[:2])
        span, carried, _ = self._arguments(position, min(end, kept.end), 1, math.inf)
        start = tf.constant(kept.start, tf.int64)
        return self._chunk_of(position, self._again(kept.batches, start, tf.constant(finite), span, carried))

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
                self._by_hand = True
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
        kept, data = self.way_back.batches.of(step), self._data
        batch = data.ahead()
        if kept is not None:
            batch = batch_at(kept.batches, step - kept.start, data.feed.element_spec)
        if not batch.has_value():
            return GO
        final = self.evaluate(batch.get_value()[1])
        return int(Rules().check(step, final.loss, final.gradients, ())[0])

    def _last_batch(self) -> Sequence[Any]:
        return self._data.any()

    # -- the run, in TensorFlow --------------------------------------------------------------------

    def _over_batches(
        self, iterator: Any, ahead: Any, span: list[Any], carried: list[Any], copies: list[Any]
    ) -> Any:
        """Run step by step over the batch `ahead` and those that follow.

        Return the step, the verdict, what is carried, the recorded values and places of all steps, whether
        all is finite, copies, the batches, and three of them: the last two, and the next one.
        """
        import tensorflow as tf

        start, end, _, until = span
        nothing = tf.experimental.Optional.empty(self._data.feed.element_spec)

        def goes_on(at: Any, verdict: Any, ahead: Any, *_: Any) -> Any:
            return (verdict == GO) & (at < end) & ahead.has_value() & in_time(at, start, until)

        def step(
            at: Any, _: Any, batch: Any, lasts: Any, carried: Any, copies: Any, written: Any, kept: Any
        ) -> Any:
            # The next batch comes while the step runs.
            ahead = iterator.get_next_as_optional()
            before = [variable.read_value() for variable in self.moved] if self._carries_copies else []
            if self._repeats:
                kept = with_batch(kept, batch)
            verdict, carried, written = self._stepped(at, start, batch, carried, written)
            copies = [before, copies[0]] if self._carries_copies else copies
            return at + 1, verdict, ahead, [batch, lasts[0]], carried, copies, written, kept

        state = start, tf.constant(GO), ahead, [nothing, nothing], carried, twice(copies)
        at, verdict, ahead, lasts, carried, copies, written, kept = tf.while_loop(
            goes_on, step, (*state, self._rows_of(start, end), no_batches())
        )
        found = (at, verdict, carried, *(array.stack() for array in written), self._all_finite())
        return *found, copies, kept, *lasts, ahead

    def _over_kept(self, kept: Any, first: Any, finite: Any, span: list[Any], carried: list[Any]) -> Any:
        """Run step by step over kept batches, `first` being the step of the first of them.

        If the variables are to be `finite`, stop after a step that makes them something else. Return what
        :meth:`_over_batches` returns, up to whether all is finite.
        """
        import tensorflow as tf

        start, end, _, _ = span
        spec = self._data.feed.element_spec

        def step(at: Any, _: Any, __: Any, carried: Any, written: Any) -> Any:
            batch = batch_at(kept, tf.cast(at - first, tf.int32), spec)
            verdict, carried, written = self._stepped(at, start, batch, carried, written)
            return at + 1, verdict, ~finite | self._all_finite(), carried, written

        at, verdict, _, carried, written = tf.while_loop(
            lambda at, verdict, fine, *_: (verdict == GO) & (at < end) & fine,
            step,
            (start, tf.constant(GO), tf.constant(True), carried, self._rows_of(start, end)),
        )
        return at, verdict, carried, *(array.stack() for array in written), self._all_finite()

    def _rows_of(self, start: Any, end: Any) -> list[Any]:
        """Return arrays for what the steps of a chunk record, and for the places of their batches."""
        import tensorflow as tf

        count = tf.cast(end - start, tf.int32)
        return [
            tf.TensorArray(self._graph.dtype, count, element_shape=[self._graph.recorded]),
            tf.TensorArray(tf.int64, count, element_shape=[3]),
        ]

    def _stepped(self, at: Any, start: Any, batch: Any, carried: Any, written: list[Any]) -> Any:
        """Run a step over a batch, an optional; return the verdict, what is carried, and the arrays."""
        import tensorflow as tf

        place, parts = batch.get_value()
        verdict, _, recorded, carried = self._compiled_step(at, carried, parts, place)
        row = tf.cast(at - start, tf.int32)
        return verdict, carried, [written[0].write(row, recorded), written[1].write(row, place)]

    def _all_finite(self) -> Any:
        """Return whether the variables are finite; true where the steps look at that."""
        import tensorflow as tf

        if not self._lean:
            return tf.constant(True)
        # A variable that the program assigns itself may hold anything.
        watched = [*(leaf.value for leaf in self._graph.leaves), *self._graph.slots]
        floats = [variable.read_value() for variable in watched if variable.dtype.is_floating]
        return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(value)) for value in floats]))


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
