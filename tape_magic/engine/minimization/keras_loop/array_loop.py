"""The loop over batches of arrays, wholly inside XLA.

Which rows a step takes follows from its number. So no pipeline is needed: XLA picks the rows itself, and
nothing but their order comes from outside. That takes half of the time of a step whose batch ``tf.data``
picks, for a perceptron with batches of 128 rows (TensorFlow 2.21, two cores).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.streams import ArrayStream, row_order
from tape_magic.engine.minimization.keras_loop.data_loop import DataLoop, is_lean
from tape_magic.engine.minimization.keras_loop.protocol import Chunk
from tape_magic.engine.minimization.keras_loop.recorded_values import ROWS, series_of
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.keras_loop.way_back import Position, WayBack
from tape_magic.engine.minimization.stop_rules import GO
from tape_magic.engine.values.tensors import read_all

TOGETHER = 2_048
"""The order of the rows is drawn at once for as many epochs as have about so many steps."""

FEWEST = 8
"""The least batches of one size in an epoch; the last one, which may be smaller, is not for XLA."""


def array_loop_applies(graph: StepGraph, arrays: ArrayStream) -> bool:
    """Return whether XLA can pick rows of arrays, and no rule is looked at in a step."""
    on_cpu = not any("GPU" in variable.device for variable in graph.moved)
    return arrays.rows >= FEWEST * arrays.batch and on_cpu and is_lean(graph)


class ArrayGraph:
    """Chunks of steps over batches of arrays, as graphs.

    Parameters
    ----------
    graph
        What each step does.
    arrays
        Arrays with as many rows, in batches as large, as those of each run.

    Attributes
    ----------
    length
        Batches in an epoch.
    together
        The epochs whose orders are drawn together.
    order
        Takes a seed and an epoch, and returns the order of the rows, int32, in so many epochs from there on,
        one after the other.
    """

    def __init__(self, graph: StepGraph, arrays: ArrayStream) -> None:
        self._graph = graph
        self._rows, self._batch, self._shuffles = arrays.rows, arrays.batch, arrays.seed is not None
        self._whole, self.length = arrays.rows // arrays.batch, -(-arrays.rows // arrays.batch)
        self.together = -(-TOGETHER // self.length)
        self.order = self._order_function()

    def _order_function(self) -> Callable[..., Any]:
        import tensorflow as tf

        number = tf.TensorSpec([], tf.int64)
        function: Callable[..., Any] = tf.function(
            self._order, autograph=False, input_signature=[number, number]
        )
        return function

    def _order(self, seed: Any, first: Any) -> Any:
        import tensorflow as tf

        def of_epoch(epoch: Any) -> Any:
            order = row_order(self._rows, self._batch, seed if self._shuffles else None, epoch)
            return tf.cast(order, tf.int32)

        epochs = first + tf.range(self.together, dtype=tf.int64)
        return tf.reshape(tf.map_fn(of_epoch, epochs, fn_output_signature=tf.int32), [-1])

    def place(self, step: Any) -> tuple[Any, Any, Any]:
        """Return the epoch of a step's batch, its place there, and its rows; of an array of steps, arrays."""
        epoch, index = divmod(step, self.length)
        return epoch, index, np.minimum(self._batch, self._rows - index * self._batch)

    def begin(self, epoch: Any, index: Any) -> Any:
        """Return where the rows of a batch begin in the order."""
        return epoch % self.together * self._rows + index * self._batch

    def over_rows(self, columns: Any, order: Any, start: Any, end: Any) -> Any:
        """Run steps; return what each recorded, and whether all is finite after them.

        XLA runs the batches of one size, and the graph the last one of an epoch if it is smaller.
        """
        import tensorflow as tf

        whole = tf.function(self._over_whole, autograph=False, jit_compile=True)
        if self._whole == self.length:
            values = whole(columns, order, start, end - start)
            return values[: tf.cast(end - start, tf.int32)], self._graph.all_finite()
        recorded = tf.TensorArray(
            self._graph.dtype,
            0,
            dynamic_size=True,
            infer_shape=False,
            element_shape=[None, self._graph.recorded],
        )

        def stretch(at: Any, number: Any, recorded: Any) -> Any:
            steps = tf.minimum(end - at, self._whole - at % self.length)
            values = whole(columns, order, at, steps)[: tf.cast(steps, tf.int32)]
            return at + steps, number + 1, recorded.write(number, values)

        def rest(at: Any, number: Any, recorded: Any) -> Any:
            values = self._step_over(columns, order, at, self._rows % self._batch)
            return at + 1, number + 1, recorded.write(number, values[None])

        _, _, recorded = tf.while_loop(
            lambda at, *_: at < end,
            lambda *state: tf.cond(
                state[0] % self.length < self._whole, lambda: stretch(*state), lambda: rest(*state)
            ),
            (start, tf.constant(0), recorded),
        )
        return recorded.concat(), self._graph.all_finite()

    def _over_whole(self, columns: Any, order: Any, start: Any, count: Any) -> Any:
        """Run steps over batches of one size; return (ROWS, recorded), of which the rest is not used."""
        import tensorflow as tf

        values = tf.TensorArray(self._graph.dtype, ROWS, element_shape=[self._graph.recorded])

        def step(number: Any, values: Any) -> Any:
            at = start + tf.cast(number, tf.int64)
            return number + 1, values.write(number, self._step_over(columns, order, at, self._batch))

        most = tf.cast(count, tf.int32)
        return tf.while_loop(lambda number, _: number < most, step, (tf.constant(0), values))[1].stack()

    def _step_over(self, columns: Any, order: Any, at: Any, size: int) -> Any:
        """Run a step over a batch of `size` rows; return what it recorded."""
        import tensorflow as tf

        epoch, index = at // self.length, at % self.length
        first = tf.cast(self.begin(epoch, index), tf.int32)
        # XLA would compile a slice anew for each step at which a call begins.
        rows = tf.gather(order, first + tf.range(size))
        parts = tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)
        return self._graph.bare_step(parts, tf.stack([epoch, index, tf.constant(size, tf.int64)]))


class ArrayLoop(DataLoop):
    """Runs chunks of steps over batches of arrays inside XLA, where :func:`array_loop_applies`.

    It keeps no batches: a step that is repeated picks the same rows again, and gives the same bits.

    Parameters
    ----------
    graph, cursor
        See :class:`DataLoop`. Another run's arrays have to have as many rows, of the same kinds.
    """

    def __init__(self, graph: StepGraph, cursor: DataCursor) -> None:
        super().__init__(graph, cursor, jit=True)
        self._rows = ArrayGraph(graph, self._arrays)
        self._drawn: tuple[tuple[int, int], Any] | None = None

    @property
    def _arrays(self) -> ArrayStream:
        arrays = self._data.feed.arrays
        assert arrays is not None
        return arrays

    def release(self) -> None:
        """Let go of the values and the data of a run that is over."""
        super().release()
        self._drawn = None

    # -- compiling -----------------------------------------------------------------------------------

    def _function(self) -> Callable[..., Any]:
        import tensorflow as tf

        number, arrays = tf.TensorSpec([], tf.int64), self._arrays
        columns = tf.nest.map_structure(tf.type_spec_from_value, arrays.columns)
        order = tf.TensorSpec([self._rows.together * arrays.rows], tf.int32)
        function = tf.function(self._rows.over_rows, autograph=False)
        call: Callable[..., Any] = function.get_concrete_function(columns, order, number, number)
        return call

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """Return the function to compile, and the arguments of a call of one step."""
        return self._call, self._inputs(0, 1)

    def compile(self) -> None:
        """Compile by a call of one step, which is taken back."""
        values = read_all(self.moved)
        self._call(*self._inputs(0, 1))
        self._assign(values)
        self.way_back = WayBack()

    # -- the run, from Python ------------------------------------------------------------------------

    def _inputs(self, step: int, end: int) -> list[Any]:
        """Return what a call takes for the steps from `step` to before `end`, of epochs that are together."""
        import tensorflow as tf

        epoch = step // self._rows.length
        wanted = self._arrays.seed or 0, epoch - epoch % self._rows.together
        if self._drawn is None or self._drawn[0] != wanted:
            self._drawn = wanted, self._rows.order(*(tf.constant(number, tf.int64) for number in wanted))
        return [self._arrays.columns, self._drawn[1], *(tf.constant(one, tf.int64) for one in (step, end))]

    def _capacity(self, stretch: int) -> int:
        self.way_back.batches.most = ROWS  # which are not kept
        return ROWS

    def _called(
        self, position: Position, end: int, stretch: int, waiter: CompileWaiter, until: float = math.inf
    ) -> Chunk:
        if self.way_back.doubtful:
            return self._looked_at(position)
        chunk, finite = self._from_data(position, end, until)
        return chunk if finite else self._exact(position, chunk)

    def _from_data(self, position: Position, end: int, until: float) -> tuple[Chunk, bool]:
        """Run steps, at most to the end of the epochs that are together."""
        step, together = position.step, self._rows.together * self._rows.length
        end = min(end, (step // together + 1) * together)
        values, finite = self._call(*self._inputs(step, end))
        recorded, places = values.numpy(), np.stack(self._rows.place(np.arange(step, end)), 1)
        self._data.jump(end, self._picked(end - 1))
        after = Position(end, position.memory, position.best)
        series, loss = series_of(step, end - step, [recorded]), float(recorded[-1, 0])
        all_finite = bool(finite) and bool(np.isfinite(recorded[:, 0]).all())
        return Chunk(after, GO, series, loss, end - 1, places), all_finite

    def _from_kept(self, position: Position, end: int, *, finite: bool = False) -> tuple[Chunk, bool]:
        return self._from_data(position, position.step + 1 if finite else end, math.inf)

    def _note_taken(self, step: int) -> None:
        self._data.jump(step + 1, self._picked(step))

    def _batch_of(self, step: int) -> Sequence[Any] | None:
        return self._picked(step)[1] if step < (self._data.feed.total or 0) else None

    def _picked(self, step: int) -> tuple[Any, Sequence[Any]]:
        """Return the place of a step's batch, and its parts."""
        import tensorflow as tf

        columns, order, *_ = self._inputs(step, step)
        epoch, index, size = place = self._rows.place(step)
        first = self._rows.begin(epoch, index)
        with tf.device("CPU:0"):
            rows = order[first : first + size]
            parts = tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)
            return tf.constant(place, tf.int64), parts
