"""Chunks of steps over batches in terms of TensorFlow, with the next batch coming while a step runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.minimization.data.streams import placed
from tape_magic.engine.minimization.keras_loop.compiled_loop import in_time, twice
from tape_magic.engine.minimization.keras_loop.kept_batches import batch_at, no_batches, with_batch
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.stop_rules import GO

ANY_ROWS = -1
"""The rows of a full batch, where XLA is to take all batches."""


class BatchGraph:
    """Chunks of steps over batches, as graphs.

    Parameters
    ----------
    graph
        What each step does.
    spec
        The spec of the elements of the data: the place of a batch, and its parts.
    previous
        See :meth:`StepGraph.step`.
    copied
        The variables whose values before each of the last two steps are carried along.
    jit
        Whether XLA compiles the step. The last batch of an epoch of arrays, which may have fewer rows, is
        left to the graph, since XLA would compile the step anew for it.
    lean
        Whether no rule is looked at in a step.
    """

    def __init__(
        self,
        graph: StepGraph,
        spec: Any,
        previous: Sequence[Any],
        copied: Sequence[Any],
        *,
        jit: bool,
        lean: bool,
    ) -> None:
        self._graph, self._spec, self._previous, self._copied = graph, spec, previous, copied
        self._lean, self._jit = lean, jit
        self._step = self._compiled() if jit else self._plain

    def _plain(self, at: Any, carried: Any, parts: Any, place: Any) -> Any:
        """Run a step; return the verdict, what is recorded, and what is carried."""
        import tensorflow as tf

        if self._lean:
            return tf.constant(GO), self._graph.bare_step(parts, place), carried
        verdict, _, recorded, carried = self._graph.step(at, carried, parts, place, self._previous)
        return verdict, recorded, carried

    def _compiled(self) -> Callable[..., Any]:
        import tensorflow as tf

        step: Callable[..., Any] = tf.function(self._plain, autograph=False, jit_compile=True)
        return step

    def over_batches(
        self, iterator: Any, ahead: Any, span: list[Any], carried: list[Any], copies: list[Any]
    ) -> Any:
        """Run step by step over the batch `ahead` and those that follow.

        Return the step, the verdict, what is carried, the recorded values and places of all steps, whether
        all is finite, copies, the batches, and three of them: the last two, and the next one.
        """
        import tensorflow as tf

        start, end, _, until, full = span
        nothing = tf.experimental.Optional.empty(self._spec)

        def goes_on(at: Any, verdict: Any, ahead: Any, *_: Any) -> Any:
            return (verdict == GO) & (at < end) & ahead.has_value() & in_time(at, start, until)

        def step(
            at: Any, _: Any, batch: Any, lasts: Any, carried: Any, copies: Any, written: Any, kept: Any
        ) -> Any:
            # The next batch comes while the step runs.
            ahead = iterator.get_next_as_optional()
            before = [variable.read_value() for variable in self._copied]
            if not (self._copied or self._previous):
                kept = with_batch(kept, batch)
            verdict, carried, written = self._stepped(at, start, full, batch, carried, written)
            copies = [before, copies[0]] if self._copied else copies
            return at + 1, verdict, ahead, [batch, lasts[0]], carried, copies, written, kept

        state = start, tf.constant(GO), ahead, [nothing, nothing], carried, twice(copies)
        at, verdict, ahead, lasts, carried, copies, written, kept = tf.while_loop(
            goes_on, step, (*state, self._rows_of(start, end), no_batches())
        )
        found = (at, verdict, carried, *(array.stack() for array in written), self._all_finite())
        return *found, copies, kept, *lasts, ahead

    def over_kept(self, kept: Any, first: Any, finite: Any, span: list[Any], carried: list[Any]) -> Any:
        """Run step by step over kept batches, `first` being the step of the first of them.

        If the variables are to be `finite`, stop after a step that makes them something else. Return what
        :meth:`over_batches` returns, up to whether all is finite.
        """
        import tensorflow as tf

        start, end, _, _, full = span

        def step(at: Any, _: Any, __: Any, carried: Any, written: Any) -> Any:
            batch = batch_at(kept, tf.cast(at - first, tf.int32), self._spec)
            verdict, carried, written = self._stepped(at, start, full, batch, carried, written)
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

    def _stepped(self, at: Any, start: Any, full: Any, batch: Any, carried: Any, written: list[Any]) -> Any:
        """Run a step over a batch, an optional; return the verdict, what is carried, and the arrays."""
        import tensorflow as tf

        place, parts = placed(batch.get_value())
        if self._jit and self._varies:
            verdict, recorded, carried = tf.cond(
                tf.equal(place[2], full) | tf.equal(full, ANY_ROWS),
                lambda: self._step(at, carried, parts, place),
                lambda: self._plain(at, carried, parts, place),
            )
        else:
            verdict, recorded, carried = self._step(at, carried, parts, place)
        row = tf.cast(at - start, tf.int32)
        return verdict, carried, [written[0].write(row, recorded), written[1].write(row, place)]

    @property
    def _varies(self) -> bool:
        """Whether batches may have different numbers of rows."""
        import tensorflow as tf

        parts = tf.nest.flatten(self._spec[1])
        return any(part.shape.rank is None or None in part.shape[:1] for part in parts)

    def _all_finite(self) -> Any:
        """Return whether the variables are finite; true where the steps look at that."""
        import tensorflow as tf

        return self._graph.all_finite() if self._lean else tf.constant(True)
