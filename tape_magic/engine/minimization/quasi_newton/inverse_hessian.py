"""The estimate of the inverse Hessian that L-BFGS keeps, in its compact form."""

from __future__ import annotations

from typing import Any

import numpy as np

MEMORY = 10
"""How many pairs of a step and a change of the gradient are kept."""

_PLACES = MEMORY + 1
"""A pair is written before it is known whether it is kept, to the place to spare."""

_IS_NEWEST = np.eye(_PLACES + 1, _PLACES, dtype=np.bool_)[:, :, None]
"""By the place of the newest pair, whether that is so of each place; the last row is for no pair at all."""

_IS_OLDER = np.stack(
    [np.outer(row, row) for row in ~(_IS_NEWEST | np.roll(_IS_NEWEST, 1, 1))[:_PLACES, :, 0]]
    + [np.zeros((_PLACES, _PLACES), np.bool_)]
)
"""By the place of the newest pair, whether row and column are of older pairs that are still kept."""


class InverseHessian:
    r"""An estimate H of the inverse Hessian from the last pairs of a step s and a change y of the gradient.

    By (3.1) of Byrd, Nocedal and Schnabel, "Representations of quasi-Newton matrices and their use in limited
    memory methods", Mathematical Programming 63 (1994), with γ = s·y / y·y of the newest pair::

        H = γ I + [S  γY] [ R⁻ᵀ (D + γ YᵀY) R⁻¹   −R⁻ᵀ ] [ Sᵀ  ]
                          [ −R⁻¹                     0  ] [ γYᵀ ]

    where S and Y have a column for each pair, D is the diagonal of SᵀY, and R is SᵀY without the products of
    a step with an older change: its upper triangle, if the oldest pair comes first. Here the columns stand at
    the places of the pairs in a ring, so that nothing moves when a pair is added. A product with H reads the
    pairs twice, and all else is of the size of the memory, in float64.

    Parameters
    ----------
    size
        The number of elements of a vector.
    dtype
        The dtype of vectors.

    Attributes
    ----------
    pairs
        The variable of all pairs, (memory + 1, 2, size): at each place of the ring a step, and a change.
    """

    def __init__(self, size: int, dtype: Any) -> None:
        import tensorflow as tf

        def variable(value: Any) -> Any:
            return tf.Variable(value, trainable=False)

        self._count = variable(np.zeros([], np.int32))
        self._inverse, self._products = (variable(np.zeros((_PLACES, _PLACES))) for _ in range(2))
        self._diagonal = variable(np.zeros((_PLACES, 1)))
        self.pairs = variable(tf.zeros([_PLACES, 2, size], dtype))
        self._dtype = dtype

    @property
    def first(self) -> list[Any]:
        """The variable whose first value forgets all pairs."""
        return [self._count]

    @property
    def rest(self) -> list[Any]:
        """The other variables, which are read only where there are pairs."""
        return [self._inverse, self._products, self._diagonal, self.pairs]

    @property
    def known(self) -> Any:
        """Whether there is a pair."""
        return self._count > 0

    def forget(self, holds: Any = True) -> None:
        """Forget all pairs where a condition holds."""
        import tensorflow as tf

        self._count.assign(tf.where(holds, 0, self._count))

    def add(self, step: Any, change: Any, useful: Any) -> None:
        """Keep a pair if it is useful, instead of the oldest; its curvature step·change has to be above 0."""
        import tensorflow as tf

        pair = tf.where(useful, tf.stack([step, change]), 0.0)
        # One row, which XLA updates in place; more than one would be a scatter.
        self.pairs.scatter_nd_update([[self._count % _PLACES]], pair[None])
        self._count.assign_add(tf.cast(useful, tf.int32))

    def times(self, vector: Any) -> Any:
        """Return the product of the estimate with a vector; the vector itself where there is no pair."""
        import tensorflow as tf

        count, rows = self._count.read_value(), tf.reshape(self.pairs.read_value(), [2 * _PLACES, -1])
        newest, known = (count - 1) % _PLACES, count > 0
        change = tf.gather(rows, 2 * newest + 1)
        products = tf.matmul(rows, tf.stack([change, vector]), transpose_b=True)
        table = tf.reshape(tf.cast(products, tf.float64), [_PLACES, 4])
        new_by_step, by_step, new_by_change, by_change = tf.split(table, 4, 1)
        curvature, _, square, _ = tf.unstack(tf.gather(table, newest))
        place = tf.where(known, newest, _PLACES)
        inverse, own, diagonal = self._with_newest(place, new_by_step, new_by_change, curvature)
        scale = tf.where(known, curvature / square, 1.0)
        inner = tf.matmul(inverse, by_step)
        middle = diagonal * inner + scale * (tf.matmul(own, inner) - by_change)
        weights = tf.concat([tf.matmul(inverse, middle, transpose_a=True), -scale * inner], 1)
        flat = tf.cast(tf.reshape(weights, [1, -1]), self._dtype)
        return tf.cast(scale, self._dtype) * vector + tf.reshape(tf.matmul(flat, rows), [-1])

    def _with_newest(self, place: Any, by_step: Any, by_change: Any, curvature: Any) -> tuple[Any, Any, Any]:
        """Return R⁻¹, YᵀY and D with the newest pair, and keep them; doing so again changes nothing.

        `by_step` and `by_change` are the products of all steps and changes with the newest change.
        """
        import tensorflow as tf

        is_newest = tf.gather(_IS_NEWEST, place)
        row, unit = tf.reshape(is_newest, [1, -1]), tf.cast(is_newest, tf.float64)
        older = tf.where(tf.gather(_IS_OLDER, place), self._inverse, 0.0)
        column = tf.math.divide_no_nan(unit - tf.matmul(older, by_step), curvature)
        inverse = tf.where(row, column, older)
        own = tf.where(row, by_change, tf.where(is_newest, tf.reshape(by_change, [1, -1]), self._products))
        diagonal = tf.where(is_newest, by_step, self._diagonal)
        for variable, value in (
            (self._inverse, inverse),
            (self._products, own),
            (self._diagonal, diagonal),
        ):
            variable.assign(value)
        return inverse, own, diagonal
