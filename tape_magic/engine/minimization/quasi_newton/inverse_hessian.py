"""The estimate of the inverse Hessian that L-BFGS keeps, in its compact form."""

from __future__ import annotations

from typing import Any

import numpy as np

MEMORY = 10
"""How many pairs of a step and a change of the gradient are kept."""

_RING = MEMORY + 1


class InverseHessian:
    r"""An estimate H of the inverse Hessian from the last pairs of a step s and a change y of the gradient.

    By (3.1) of Byrd, Nocedal and Schnabel, "Representations of quasi-Newton matrices and their use in limited
    memory methods", Mathematical Programming 63 (1994), with γ = s·y / y·y of the newest pair::

        H = γ I + [S  γY] [ R⁻ᵀ (D + γ YᵀY) R⁻¹   −R⁻ᵀ ] [ Sᵀ  ]
                          [ −R⁻¹                     0  ] [ γYᵀ ]

    where S and Y have a column for each pair, the oldest first, D is the diagonal of SᵀY, and R its upper
    triangle. A product with H reads the pairs twice, and all else is of the size of the memory, in float64.

    Parameters
    ----------
    size
        The number of elements of a vector.
    dtype
        The dtype of vectors.

    Attributes
    ----------
    pairs
        The variable of all pairs, (2·(memory + 1), size): the steps, then the changes, each in a ring with a
        place to spare, so that a pair can be written before it is known whether it is kept.
    """

    def __init__(self, size: int, dtype: Any) -> None:
        import tensorflow as tf

        def variable(value: Any) -> Any:
            return tf.Variable(value, trainable=False)

        # How many pairs there were; whether the newest is not yet in R⁻¹, YᵀY and D, the oldest pair first.
        self._count, self._pending = variable(np.zeros([], np.int32)), variable(np.zeros([], np.bool_))
        self._inverse, self._diagonal = variable(np.eye(MEMORY)), variable(np.ones(MEMORY))
        self._products = variable(np.zeros((MEMORY, MEMORY)))
        self.pairs = variable(tf.zeros([2 * _RING, size], dtype))
        self._dtype = dtype

    @property
    def first(self) -> list[Any]:
        """The variables whose first values forget all pairs."""
        return [self._count, self._pending]

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

        place = self._count % _RING
        self.pairs.scatter_nd_update([[place], [_RING + place]], tf.stack([step, change]))
        self._count.assign_add(tf.cast(useful, tf.int32))
        self._pending.assign(useful)

    def times(self, vector: Any) -> Any:
        """Return the product of the estimate with a vector; the vector itself where there is no pair."""
        import tensorflow as tf

        count, pairs = self._count.read_value(), self.pairs.read_value()
        newest = (count - 1) % _RING
        change = tf.gather(pairs, _RING + newest)
        products = tf.cast(tf.matmul(pairs, tf.stack([change, vector], 1)), tf.float64)
        # The place to spare is the next one, and comes first.
        turned = tf.roll(tf.reshape(products, [2, _RING, 2]), -1 - newest, 1)[:, 1:]
        filled = tf.range(MEMORY) >= MEMORY - count
        (new_by_step, by_step), (new_by_change, by_change) = (
            tf.unstack(tf.where(filled[:, None], one, 0.0), axis=1) for one in tf.unstack(turned)
        )
        inverse, own, diagonal = self._with_newest(new_by_step, new_by_change)
        scale = tf.where(count > 0, new_by_step[-1] / new_by_change[-1], 1.0)
        inner = tf.linalg.matvec(inverse, by_step)
        middle = diagonal * inner + scale * (tf.linalg.matvec(own, inner) - by_change)
        weights = tf.stack([tf.linalg.matvec(inverse, middle, transpose_a=True), -scale * inner])
        placed = tf.pad(tf.where(filled, weights, 0.0), [[0, 0], [1, 0]])
        flat = tf.cast(tf.reshape(tf.roll(placed, 1 + newest, 1), [1, -1]), self._dtype)
        return tf.cast(scale, self._dtype) * vector + tf.reshape(tf.matmul(flat, pairs), [-1])

    def _with_newest(self, by_step: Any, by_change: Any) -> tuple[Any, Any, Any]:
        """Return R⁻¹, YᵀY and D with the newest pair, and keep them.

        `by_step` and `by_change` are the products of all steps and changes with the newest change.
        """
        import tensorflow as tf

        pending, curvature = self._pending.read_value(), by_step[-1:]
        older = self._inverse.read_value()[1:, 1:]
        column = tf.linalg.matvec(older, by_step[:-1]) / -curvature
        inverse = tf.concat(
            [tf.pad(older, [[0, 1], [0, 0]]), tf.concat([column, 1.0 / curvature], 0)[:, None]], 1
        )
        upper = tf.concat([self._products[1:, 1:], by_change[:-1, None]], 1)
        own = tf.concat([upper, by_change[None]], 0)
        diagonal = tf.concat([self._diagonal[1:], curvature], 0)
        kept = []
        for variable, new in (
            (self._inverse, inverse),
            (self._products, own),
            (self._diagonal, diagonal),
        ):
            value = tf.where(pending, new, variable)
            variable.assign(value)
            kept.append(value)
        self._pending.assign(False)
        return kept[0], kept[1], kept[2]
