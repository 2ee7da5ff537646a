"""The leanest loop of a minimisation, for XLA: no rule is looked at in a step.

A rule in the step costs a good part of a step that takes a microsecond. Where the only rule is that
everything stays finite, a look at the end of each chunk is enough: inf and NaN stay in the variables, and in
what the optimizer remembers of them. If the end of a chunk is not finite, the chunk is taken back, and the
loop that looks at each step repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter, compile_in_background
from tape_magic.engine.minimization.composite import parts_of
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, LoopOptions
from tape_magic.engine.minimization.keras_loop.recorded_values import ROWS
from tape_magic.engine.minimization.keras_loop.step_graph import StepGraph
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import Recorded
from tape_magic.engine.minimization.stop_rules import GO, Rules
from tape_magic.engine.values.leaves import Leaf

FOREVER = frozenset({"SGD", "Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Adagrad", "Adadelta", "Lion"})
"""Keras's optimizers that keep inf and NaN in a variable or a slot, whatever gradients follow."""

_FORGETFUL = ("clipnorm", "clipvalue", "global_clipnorm", "use_ema", "gradient_accumulation_steps")
"""Settings with which these optimizers may lose inf and NaN again."""

BLOCKS = ((500, 8), (10_000, 4))
"""Pairs: the most elements of all tensors in a step, and how many such steps are laid out in a row."""

MANY = 100_000
"""Least steps of a run for which compiling a step several times may pay."""


def lean_loop_applies(
    options: LoopOptions, leaves: Sequence[Leaf], optimizer: Any, written: Sequence[Any] = ()
) -> bool:
    """Return whether it is enough to look at the end of a chunk.

    Parameters
    ----------
    options
        What the loop does beside the step.
    leaves
        The leaves that have a gradient.
    optimizer
        A Keras optimizer, or several, built for the leaves.
    written
        The variables that the program assigns itself; it may make a leaf among them finite again.
    """
    import keras

    parts = parts_of(optimizer)
    known = all(
        kind.__name__ in FOREVER and kind is getattr(keras.optimizers, kind.__name__)
        for kind in map(type, parts)
    )
    asks = options.rules != Rules(patience=options.rules.patience)
    bounded = any(limit is not None for limit in options.lower + options.upper)
    own = {id(variable) for variable in written}
    return (
        known
        and not (asks or bounded or options.careful or options.keeps_best)
        and not any(getattr(part, setting, None) for part in parts for setting in _FORGETFUL)
        and not any(getattr(leaf.owner, "constraint", None) or id(leaf.value) in own for leaf in leaves)
    )


FEW = 200
"""The most operations of a step that is laid out several times; XLA's time grows faster than their number."""


def unroll_factor(elements: int | None, operations: int, steps: int) -> int:
    """Return how many steps to lay out in a row, for the size of a step and the steps of a run."""
    if elements is None or operations > FEW or steps < MANY:
        return 1
    return next((block for limit, block in BLOCKS if elements <= limit), 1)


class LeanLoop(CompiledLoop):
    """Runs chunks inside XLA and looks at each when it is through, where :func:`lean_loop_applies`.

    Parameters
    ----------
    graph
        What each step does.
    block
        How many steps are laid out in a row; see :func:`unroll_factor`.
    """

    def __init__(self, graph: StepGraph, block: int) -> None:
        super().__init__(graph, jit=True)
        self._block, self._size = block, graph.recorded
        self._doubtful = False

    def lay_out(self) -> None:
        """Lay the chunk out for the compiler."""
        import tensorflow as tf

        count = tf.TensorSpec([], tf.int32)
        function = tf.function(self._rows, autograph=False, jit_compile=True)
        self._lean: Any = function.get_concrete_function(count, count)

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """Return the function to compile, and the arguments of a call of no steps."""
        import tensorflow as tf

        return self._lean, [tf.constant(0), tf.constant(self._block)]

    def _compile_checked_loop(self, waiter: CompileWaiter) -> None:
        """Compile the loop that looks at each step. Raises what :class:`CompileWaiter` does."""
        waiter.lay_out(super().lay_out, "xla")
        begun = compile_in_background(*super().rehearsal())
        if begun is not None:
            waiter.wait(begun, "xla")
            begun.check()

    def begin(self, step: int = 0) -> Position:
        """Begin a run at a step, from the variables as they are."""
        self._doubtful = False
        return super().begin(step)

    def _capacity(self, stretch: int) -> int:
        return ROWS * max(stretch, self._block)

    def _called(
        self, position: Position, end: int, stretch: int, waiter: CompileWaiter, until: float = math.inf
    ) -> Chunk:
        if not self._doubtful:
            chunk = self._leanly(position, end, stretch)
            if chunk is not None:
                return chunk
            self._doubtful = True
            position, values = self.way_back.before(position.step)
            self._assign(values)
        if self._call is None:
            self._compile_checked_loop(waiter)
        return super()._called(position, min(end, position.step + ROWS * stretch), stretch, waiter, until)

    def _leanly(self, position: Position, end: int, stretch: int) -> Chunk | None:
        """Run a chunk; return ``None`` where it is not certain that all of it was finite."""
        import tensorflow as tf

        steps, block = end - position.step, self._block
        width = -(-stretch // block) * block
        finite, number, rows, places = self._lean(tf.constant(steps), tf.constant(width))
        count = int(number)
        recorded = Rows(rows.numpy()[:count], places.numpy()[:count], self._size, block)
        if steps and not (bool(finite) and recorded.finite):
            return None
        series = tuple(
            recorded.series(number, position.step, every=steps if stretch == 1 else 0)
            for number in range(self._size)
        )
        after = Position(end, position.memory, position.best)
        return Chunk(after, GO, series, recorded.last if steps else 0.0, end - 1)

    # -- in TensorFlow -------------------------------------------------------------------------------

    def _rows(self, count: Any, width: Any) -> Any:
        """Run rows of `width` steps each; each of the steps that are left over has a row of its own."""
        import tensorflow as tf

        whole = count - count % self._block
        numbers = (3 + self._block) * self._size
        rows = tf.TensorArray(self._graph.dtype, ROWS + self._block, element_shape=[numbers])
        places = tf.TensorArray(tf.int32, ROWS + self._block, element_shape=[2 + 2 * self._size])

        def rows_to(end: Any, block: int, width: Any, state: Any) -> Any:
            def row(at: Any, number: Any, rows: Any, places: Any) -> Any:
                values, place = tf.while_loop(
                    lambda _, place: place[0] < place[1],
                    lambda values, place: self._steps_of(block, values, place),
                    self._empty_row(at, tf.minimum(at + width, end)),
                )
                return place[0], number + 1, rows.write(number, values), places.write(number, place)

            return tf.while_loop(lambda at, *_: at < end, row, state)

        state = rows_to(whole, self._block, width, (tf.constant(0), tf.constant(0), rows, places))
        if self._block > 1:
            state = rows_to(count, 1, tf.constant(1), state)
        _, number, rows, places = state
        return self._graph.all_finite(), number, rows.stack(), places.stack()

    def _empty_row(self, at: Any, end: Any) -> Any:
        """Return a row before its first step; see :class:`Rows` for its parts."""
        import tensorflow as tf

        infinite = tf.fill([self._size], tf.constant(float("inf"), self._graph.dtype))
        losses = tf.zeros([self._block * self._size], self._graph.dtype)
        here = tf.fill([self._size], at)
        # Two vectors: XLA makes a kernel of its own for each tensor that a step changes.
        return (
            tf.concat([tf.zeros_like(infinite), infinite, -infinite, losses], 0),
            tf.concat([tf.stack([at, end]), here, here], 0),
        )

    def _steps_of(self, block: int, row: Any, place: Any) -> Any:
        """Run `block` steps and return the row with what they recorded."""
        import tensorflow as tf

        size = self._size
        lost, low, high = row[:size], row[size : 2 * size], row[2 * size : 3 * size]
        at, end, low_at, high_at = place[0], place[1], place[2 : 2 + size], place[2 + size :]
        recorded = []
        for number in range(block):
            (loss, *tracked), gradients, _ = self._graph.evaluation.call()
            self._graph.apply(loss, gradients)
            values = tf.stack([tf.cast(value, self._graph.dtype) for value in (loss, *tracked)])
            # 0 as long as all values are finite, and NaN from then on.
            lost += 0.0 * values
            less, more = values < low, values > high
            low, low_at = tf.where(less, values, low), tf.where(less, at + number, low_at)
            high, high_at = tf.where(more, values, high), tf.where(more, at + number, high_at)
            recorded.append(values)
        recorded += recorded[-1:] * (self._block - block)
        return (
            tf.concat([lost, low, high, *recorded], 0),
            tf.concat([tf.stack([at + block, end]), low_at, high_at], 0),
        )


class Rows:
    """The rows of a chunk, with what they recorded.

    Parameters
    ----------
    values
        (rows, (3 + block)·size), for each series: 0, or NaN where not all was finite; the least value; the
        greatest; and the values of the last steps.
    places
        (rows, 2 + 2·size): the step after the row, twice, and the steps of the least and the greatest value,
        counted from where the chunk began.
    size
        How many series there are.
    block
        How many last steps there are in a row; the row of a left-over step has that step in all of them.
    """

    def __init__(
        self, values: np.ndarray[Any, Any], places: np.ndarray[Any, Any], size: int, block: int
    ) -> None:
        self._values, self._places, self._size, self._block = values, places, size, block

    @property
    def finite(self) -> bool:
        """Whether each recorded value is finite."""
        return bool(np.isfinite(self._values[:, : self._size]).all())

    @property
    def last(self) -> float:
        """The loss of the last step."""
        return float(self._values[-1, -self._size])

    def series(self, number: int, start: int, *, every: int) -> Recorded:
        """Return one series from the step `start` on: `every` so many steps, or the extremes of each row."""
        size, block = self._size, self._block
        if every:
            whole = every // block
            values = self._values[:, 3 * size + number :: size]
            values = np.concatenate([values[:whole].reshape(-1), values[whole:, 0]])
            return Recorded(start + np.arange(every), values)
        columns = np.array([number, size + number])
        steps, first = np.unique(self._places[:, 2 + columns], return_index=True)
        extremes = self._values[:, size + columns].reshape(-1)
        return Recorded(start + steps.astype(np.int64), extremes[first])
