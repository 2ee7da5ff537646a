"""The loop over batches.

``tf.data`` cannot run inside of XLA, so that XLA compiles the step, and a graph loops around it. A batch
cannot be taken twice, so the values from before each step are carried along; a graph does so without copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.compiled_loop import ROWS, CompiledLoop
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Position
from tape_magic.engine.minimization.stop_rules import GO, LOSS_LOST
from tape_magic.engine.values.tensors import read_all


class DataLoop(CompiledLoop):
    """Chunks of steps over batches, the step compiled by XLA or run as a graph.

    Parameters
    ----------
    batches
        Of the run; another run sets the attribute of that name before it begins.
    arguments, named
        As of :class:`CompiledLoop`.
    """

    def __init__(self, batches: DataCursor, *arguments: Any, **named: Any) -> None:
        self.batches = batches
        super().__init__(*arguments, **named)

    def _function(self) -> Callable[..., Any]:
        import tensorflow as tf

        step: Callable[..., Any] = self._one
        if self._jit:
            step = tf.function(self._one, autograph=False, jit_compile=True)
        self._compiled_step = step
        function = tf.function(self._over_batches, autograph=False)
        spec = tf.type_spec_from_value(self.batches.iterator)
        self._chunk: Any = function.get_concrete_function(spec, *self._specs())
        return lambda *arguments: self._chunk(self.batches.catch_up(), *arguments)

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """What there is to compile, and the arguments of a call of no steps; XLA compiles at the first."""
        begin = Position(0, self._memory, self._nothing())
        own = DataCursor(self.batches.feed, count=1)
        return self._chunk, [own.catch_up(), *self._arguments(begin, 1 if self._jit else 0, 1)]

    def release(self) -> None:
        """Let go of the data, too."""
        super().release()
        vars(self).pop("batches", None)  # gone already, where the run was another engine's

    def compile(self) -> None:
        """Have it compiled. XLA does that at the first step, which is taken back."""
        values = read_all(self._moved)
        batches, self.batches = self.batches, DataCursor(self.batches.feed, count=1)
        try:
            self._called(self.begin(), 1 if self._jit else 0, 1)
        finally:
            self.batches, self._copies = batches, []
            if self._jit:
                self._assign(values)

    def advance(self, position: Position, end: int, stretch: int) -> Chunk:
        """One chunk; the data may end within it."""
        import tensorflow as tf

        try:
            return super().advance(position, end, 1)
        except tf.errors.OpError as error:
            if self.batches.feed.failure is not None or "IteratorGetNext" in str(error):
                raise self.batches.failure(error) from None
            raise

    def _called(self, position: Position, end: int, stretch: int) -> Chunk:
        chunk = super()._called(position, end, stretch)
        *self._copies, more, last, before = self._copies
        self.batches.over = not more
        if last.has_value():
            self.batches.before = before.get_value()[2] if before.has_value() else self.batches.last
            self.batches.last = last.get_value()[2]
        return chunk

    def stopped(self, chunk: Chunk, step: int) -> Chunk:
        """Back to the batch of that step, too."""
        if step < chunk.last or chunk.verdict == LOSS_LOST:
            self.batches.last = self.batches.before or self.batches.last
        return super().stopped(chunk, step)

    def _last_batch(self) -> Sequence[Any]:
        return self.batches.any()

    def _one(self, at: Any, carried: Sequence[Any], batch: Sequence[Any]) -> Any:
        return self._applied(at, carried, batch)

    def _over_batches(
        self, iterator: Any, start: Any, end: Any, stretch: Any, carried: list[Any], copies: list[Any]
    ) -> Any:
        """Step by step; the copies are followed by whether there are more batches, and the last two."""
        import tensorflow as tf

        size = 1 + self._evaluation.tracked
        nothing = tf.experimental.Optional.empty(self.batches.feed.element_spec)

        def step(
            at: Any, verdict: Any, more: Any, loss: Any, carried: Any, copies: Any, values: Any, lasts: Any
        ) -> Any:
            batch = iterator.get_next_as_optional()

            def taken() -> Any:
                before = [variable.read_value() for variable in self._moved]
                verdict, loss, recorded, after = self._compiled_step(at, carried, batch.get_value()[2])
                written = values.write(tf.cast(at - start, tf.int32), recorded)
                return (
                    at + 1,
                    verdict,
                    True,
                    loss,
                    after,
                    [before, copies[0]],
                    written,
                    [batch, lasts[0]],
                )

            return tf.cond(
                batch.has_value(),
                taken,
                lambda: (at, verdict, False, loss, carried, copies, values, lasts),
            )

        at, verdict, more, loss, carried, copies, values, lasts = tf.while_loop(
            lambda at, verdict, more, *_: (verdict == GO) & more & (at < end),
            step,
            (
                start,
                tf.constant(GO),
                tf.constant(True),
                tf.zeros([], self._dtype),
                carried,
                [copies, copies],
                tf.TensorArray(self._dtype, ROWS, element_shape=[size]),
                [nothing, nothing],
            ),
        )
        return at, verdict, loss, at - start, carried, [values.stack()], [*copies, more, *lasts]
