"""The estimate of the inverse Hessian that L-BFGS keeps, in its compact form."""

from __future__ import annotations

from typing import Any

import numpy as np

MEMORY = 10
"""How many pairs of a step and a change of the gradient are kept."""


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
    state
        The small variables. With what they hold at first, the estimate is forgotten.
    pairs
        The variable of all pairs, (2·memory, size): the steps, then the changes, each in a ring.
    """

    def __init__(self, size: int, dtype: Any) -> None:
        import tensorflow as tf

        def variable(value: Any) -> Any:
            return tf.Variable(value, trainable=False)

        self._first = [
            np.eye(MEMORY),
            np.zeros((MEMORY, MEMORY)),
            np.ones(MEMORY),
            np.zeros([], np.int64),
            np.zeros([], np.bool_),
        ]
        # R⁻¹, YᵀY and D, the oldest pair first; how many pairs there were; whether the newest is not yet
        # in the three.
        self.state = [variable(value) for value in self._first]
        self._inverse, self._products, self._diagonal, self._count, self._pending = self.state
        self.pairs = variable(tf.zeros([2 * MEMORY, size], dtype))
        self._dtype = dtype

    @property
    def known(self) -> Any:
        """How many pairs the estimate rests on, at most :data:`MEMORY`; int64 scalar."""
        import tensorflow as tf

        return tf.minimum(self._count, MEMORY)

    def forget(self) -> None:
        """Forget all pairs."""
        for variable, value in zip(self.state, self._first, strict=True):
            variable.assign(value)

    def add(self, step: Any, change: Any) -> None:
        """Keep a pair, in the place of the oldest; its curvature step·change has to be above 0."""
        import tensorflow as tf

        place = tf.cast(self._count % MEMORY, tf.int32)
        self.pairs.scatter_nd_update([[place], [MEMORY + place]], tf.stack([step, change]))
        self._count.assign_add(1)
        self._pending.assign(True)

    def times(self, vector: Any) -> Any:
        """Return the product of the estimate with a vector; the vector itself where no pair is known."""
        import tensorflow as tf

        newest = tf.cast((self._count - 1) % MEMORY, tf.int32)
        ring = (newest + 1 + tf.range(MEMORY)) % MEMORY  # the places of the pairs, the oldest first
        pairs = self.pairs.read_value()
        change = tf.gather(pairs, MEMORY + newest)
        products = tf.cast(tf.matmul(pairs, tf.stack([change, vector], 1)), tf.float64)
        filled = tf.range(MEMORY, dtype=tf.int64) >= MEMORY - self.known
        by_step, by_change = (
            tf.where(filled[:, None], tf.gather(products, start + ring), 0.0) for start in (0, MEMORY)
        )
        inverse, own, diagonal = self._with_newest(by_step[:, 0], by_change[:, 0])
        scale = tf.where(self._count > 0, by_step[-1, 0] / by_change[-1, 0], 1.0)
        scale = tf.where(self._count > 0, scale, 1.0)
        inner = tf.linalg.matvec(inverse, by_step[:, 1])
        middle = diagonal * inner + scale * (tf.linalg.matvec(own, inner) - by_change[:, 1])
        weights = [tf.linalg.matvec(inverse, middle, transpose_a=True), -scale * inner]
        # From the order of time back to the places in the ring.
        back = (tf.range(MEMORY) - newest - 1) % MEMORY
        placed = tf.concat([tf.gather(tf.where(filled, one, 0.0), back) for one in weights], 0)
        combined = tf.linalg.matvec(pairs, tf.cast(placed, self._dtype), transpose_a=True)
        return tf.cast(scale, self._dtype) * vector + combined

    def _with_newest(self, by_step: Any, by_change: Any) -> tuple[Any, Any, Any]:
        """Return R⁻¹, YᵀY and D with the newest pair, and keep them.

        `by_step` and `by_change` are the products of all steps and changes with the newest change.
        """
        import tensorflow as tf

        pending = self._pending.read_value()
        curvature = by_step[-1]
        older = self._inverse[1:, 1:]
        column = -tf.linalg.matvec(older, by_step[:-1]) / curvature
        upper = tf.concat([older, column[:, None]], 1)
        lower = tf.concat([tf.zeros([MEMORY - 1], tf.float64), [1.0 / curvature]], 0)
        inverse = tf.concat([upper, lower[None]], 0)
        own = tf.concat([self._products[1:, 1:], by_change[:-1, None]], 1)
        own = tf.concat([own, by_change[None]], 0)
        diagonal = tf.concat([self._diagonal[1:], [curvature]], 0)
        new = (inverse, own, diagonal)
        old = (self._inverse, self._products, self._diagonal)
        kept = [tf.where(pending, one, other) for one, other in zip(new, old, strict=True)]
        for variable, value in zip(old, kept, strict=True):
            variable.assign(value)
        self._pending.assign(False)
        return kept[0], kept[1], kept[2]
