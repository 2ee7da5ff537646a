"""The loop of a minimisation at its leanest: steps that look at nothing but the loss, for XLA.

Each rule that is looked at in a step is one more piece of code beside it, which a step of a microsecond
feels. Where the only rule is that everything stays finite, it is enough to look at the end of a chunk: what
is not finite stays so in the variables and in what the optimizer remembers of them. If something is not,
the chunk is taken back and repeated by the loop that looks at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.compiling import CompileWaiter, compile_in_background
from tape_magic.engine.minimization.keras_loop.compiled_loop import ROWS, CompiledLoop
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, LoopOptions, Position, Recorded
from tape_magic.engine.minimization.stop_rules import GO, Rules
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import tf_variable

FOREVER = frozenset({"SGD", "Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Adagrad", "Adadelta", "Lion"})
"""Keras's optimizers that carry what is not finite on in a variable or a slot, whatever follows."""

_FORGETFUL = ("clipnorm", "clipvalue", "global_clipnorm", "use_ema", "gradient_accumulation_steps")
"""Settings with which they may not."""

BLOCKS = ((500, 8), (10_000, 4))
"""Elements of all tensors in a step, up to which so many steps are laid out one after the other."""

MANY = 100_000
"""Steps in a run that may make up for compiling a step several times."""


def lean_loop_applies(
    plan: LoopOptions, leaves: Sequence[Leaf], optimizer: Any, written: Sequence[Any] = ()
) -> bool:
    """Whether it is enough to look at the end of a chunk.

    Parameters
    ----------
    plan
        What the loop does besides.
    leaves
        What has a gradient.
    optimizer
        A Keras optimizer, built for the leaves.
    written
        The variables that the program assigns itself, which may make them finite again.
    """
    import keras

    kind = type(optimizer)
    known = kind.__name__ in FOREVER and kind is getattr(keras.optimizers, kind.__name__)
    asks = plan.rules != Rules(patience=plan.rules.patience)
    bounded = any(limit is not None for limit in plan.lower + plan.upper)
    own = {id(variable) for variable in written}
    return (
        known
        and not (asks or bounded or plan.careful or plan.keeps_best)
        and not any(getattr(optimizer, setting, None) for setting in _FORGETFUL)
        and not any(getattr(leaf.owner, "constraint", None) or id(leaf.value) in own for leaf in leaves)
    )


def unroll_factor(elements: int | None, steps: int) -> int:
    """How many steps to lay out one after the other, for the elements of a step and the steps of a run."""
    if elements is None or steps < MANY:
        return 1
    return next((block for limit, block in BLOCKS if elements <= limit), 1)


class LeanLoop(CompiledLoop):
    """Whole chunks of steps inside XLA, looked at when they are through; where :func:`fits` says so.

    Parameters
    ----------
    block
        See :func:`block_of`.
    arguments
        As of :class:`CompiledLoop`.
    """

    def __init__(self, block: int, *arguments: Any) -> None:
        self._block = block
        self._size = 1 + arguments[0].tracked
        self._doubtful = False
        super().__init__(*arguments, jit=True)

    def lay_out(self) -> None:
        """Lay the chunk out for the compiler."""
        import tensorflow as tf

        count = tf.TensorSpec([], tf.int32)
        function = tf.function(self._rows, autograph=False, jit_compile=True)
        self._lean: Any = function.get_concrete_function(count, count)

    def rehearsal(self) -> tuple[Any, Sequence[Any]]:
        """What there is to compile, and the arguments of a call of no steps."""
        import tensorflow as tf

        return self._lean, [tf.constant(0), tf.constant(self._block)]

    def _look_at_each(self) -> None:
        """Have the loop compiled that looks at each step. Raises what :class:`Waiting` does."""
        waiting = self.waiting or CompileWaiter()
        waiting.lay_out(super().lay_out, "xla")
        begun = compile_in_background(*super().rehearsal())
        if begun is not None:
            waiting.wait(begun, "xla")
            begun.check()

    def begin(self, step: int = 0) -> Position:
        """A new run from the variables as they are."""
        self._doubtful = False
        return super().begin(step)

    def _capacity(self, stretch: int) -> int:
        return ROWS * max(stretch, self._block)

    def _called(self, position: Position, end: int, stretch: int) -> Chunk:
        if not self._doubtful:
            chunk = self._leanly(position, end, stretch)
            if chunk is not None:
                return chunk
            self._doubtful = True
            self._assign(self._marks[-1][1])
        if self._call is None:
            self._look_at_each()
        return super()._called(position, min(end, position.step + ROWS * stretch), stretch)

    def _leanly(self, position: Position, end: int, stretch: int) -> Chunk | None:
        """A chunk; nothing where it does not tell that all of it was finite."""
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
        """Rows of so many steps each, and the steps that are left over, which have a row each."""
        import tensorflow as tf

        whole = count - count % self._block
        numbers = (3 + self._block) * self._size
        rows = tf.TensorArray(self._dtype, ROWS + self._block, element_shape=[numbers])
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
        # What the program assigns besides may be anything.
        watched = [leaf.value for leaf in self._leaves] + [tf_variable(v) for v in self._optimizer.variables]
        floats = [variable for variable in watched if variable.dtype.is_floating]
        finite = [tf.reduce_all(tf.math.is_finite(variable.read_value())) for variable in floats]
        return tf.reduce_all(tf.stack(finite)), number, rows.stack(), places.stack()

    def _empty_row(self, at: Any, end: Any) -> Any:
        """Before its first step; see :class:`Rows` for the parts."""
        import tensorflow as tf

        infinite = tf.fill([self._size], tf.constant(float("inf"), self._dtype))
        losses = tf.zeros([self._block * self._size], self._dtype)
        here = tf.fill([self._size], at)
        # As two vectors, since XLA makes each tensor that a step changes a piece of code of its own.
        return (
            tf.concat([tf.zeros_like(infinite), infinite, -infinite, losses], 0),
            tf.concat([tf.stack([at, end]), here, here], 0),
        )

    def _steps_of(self, block: int, row: Any, place: Any) -> Any:
        """So many steps, and the row with what they recorded."""
        import tensorflow as tf

        size = self._size
        lost, low, high = row[:size], row[size : 2 * size], row[2 * size : 3 * size]
        at, end, low_at, high_at = place[0], place[1], place[2 : 2 + size], place[2 + size :]
        recorded = []
        for number in range(block):
            (loss, *tracked), gradients, _ = self._evaluation.call()
            self._apply(gradients)
            values = tf.stack([tf.cast(value, self._dtype) for value in (loss, *tracked)])
            # 0 as long as all are finite, and NaN from then on.
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
    """What the rows of a chunk recorded.

    Parameters
    ----------
    values
        (rows, (3 + block)·size): of each series 0, or NaN where not all was finite; the least; the greatest;
        and all of the last steps.
    places
        (rows, 2 + 2·size): the step after the row, twice, and where the least and the greatest were,
        counted from where the chunk began.
    size
        How many series there are.
    block
        How many last steps there are in a row; one row of a step that was left over has it in all of them.
    """

    def __init__(
        self, values: np.ndarray[Any, Any], places: np.ndarray[Any, Any], size: int, block: int
    ) -> None:
        self._values, self._places, self._size, self._block = values, places, size, block

    @property
    def finite(self) -> bool:
        """Whether each loss was, and what is tracked."""
        return bool(np.isfinite(self._values[:, : self._size]).all())

    @property
    def last(self) -> float:
        """The loss of the last step."""
        return float(self._values[-1, -self._size])

    def series(self, number: int, start: int, *, every: int) -> Recorded:
        """One series from the step `start` on: of `every` so many steps, or the extremes of each row."""
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
