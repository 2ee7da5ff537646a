"""Loss, gradient, Hessian and Jacobian as functions of one vector, in terms of TensorFlow.

The same code runs eagerly over the program itself, or inside a graph over a trace of the program.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

from tape_magic.engine.internals.vectorized import one_after_another, vectorized
from tape_magic.engine.minimization.scipy_solver.vector import Flat


class Derivatives:
    """A program's loss or residuals with their derivatives, at a vector `x` (size,) of float64.

    Parameters
    ----------
    compute
        Computes the loss, or the residuals, at the variables' values now.
    flat
        The variables as one vector.
    backward
        A context to differentiate in.
    vectorize
        Whether the rows of a matrix may be computed all at once; otherwise one after the other.
    columns
        Computes the Jacobian of residuals by forward mode, or ``None`` where it cannot; see
        :func:`~tape_magic.engine.minimization.scipy_solver.columns.jacobian_by_columns`.
    """

    def __init__(
        self,
        compute: Callable[[], Any],
        flat: Flat,
        backward: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        *,
        vectorize: bool = False,
        columns: Callable[[], Any] | None = None,
    ) -> None:
        self._compute, self._flat, self._backward = compute, flat, backward
        self._vectorize, self._columns = vectorize, columns

    def loss(self, x: Any) -> Any:
        """Return the loss, a float64 scalar."""
        self._flat.assign(x)
        return _float64(self._compute())

    def gradient(self, x: Any) -> tuple[Any, Any]:
        """Return the loss and its gradient (size,)."""
        import tensorflow as tf

        self._flat.assign(x)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            self._watch(tape)
            loss = self._compute()
        return _float64(loss), self._by_variables(tape, loss)

    def product(self, x: Any, vector: Any) -> Any:
        """Return the Hessian times a vector (size,), by reverse mode over reverse mode."""
        import tensorflow as tf

        self._flat.assign(x)
        with tf.GradientTape(watch_accessed_variables=False) as outer:
            self._watch(outer)
            along = tf.tensordot(self._inner_gradient(), vector, 1)
        return self._by_variables(outer, along)

    def hessian(self, x: Any) -> Any:
        """Return the Hessian (size, size)."""
        import tensorflow as tf

        self._flat.assign(x)
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as outer:
            self._watch(outer)
            gradient = self._inner_gradient()
        return self._rows(outer, gradient)

    def residuals(self, x: Any) -> Any:
        """Return the residuals, flat, float64."""
        import tensorflow as tf

        self._flat.assign(x)
        return tf.reshape(_float64(self._compute()), [-1])

    def jacobian(self, x: Any) -> Any:
        """Return the Jacobian (residuals, size), computed by rows or by columns, whichever are fewer."""
        import tensorflow as tf

        self._flat.assign(x)
        if self._columns is not None and (found := self._columns()) is not None:
            return found
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as outer:
            with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
                self._watch(tape)
                residuals = tf.reshape(_float64(self._compute()), [-1])
            count = residuals.shape[0]
            if count is None or count <= self._flat.size:
                return self._rows(tape, residuals)
            # The gradient J^T v is linear in the vector v that is sent back through the residuals. So the
            # Jacobian of the gradient by v is J^T, and takes one pass for each column of J.
            sent = tf.zeros([count], tf.float64)
            outer.watch(sent)
            gradient = self._by_variables(tape, residuals, output_gradients=sent)
        columns = self._jacobian(outer, gradient, sent)
        return tf.transpose(tf.ensure_shape(columns, [self._flat.size, count]))

    def _inner_gradient(self) -> Any:
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as inner:
            self._watch(inner)
            loss = self._compute()
        return self._by_variables(inner, loss)

    def _watch(self, tape: Any) -> None:
        for variable in self._flat.variables:
            tape.watch(variable)

    def _by_variables(self, tape: Any, target: Any, **more: Any) -> Any:
        """Return the gradient as one vector (size,)."""
        with self._backward():
            found = tape.gradient(target, self._flat.variables, unconnected_gradients=_ZERO, **more)
        return self._flat.joined(found)

    def _rows(self, tape: Any, target: Any) -> Any:
        """Return the Jacobian of a vector by the variables (rows, size)."""
        import tensorflow as tf

        found = self._jacobian(tape, target, self._flat.variables)
        return tf.concat(
            [
                tf.reshape(tf.cast(part, tf.float64), [-1, math.prod(leaf.shape)])
                for part, leaf in zip(found, self._flat.leaves, strict=True)
            ],
            axis=1,
        )

    def _jacobian(self, tape: Any, target: Any, sources: Any) -> Any:
        def at_once() -> Any:
            return tape.jacobian(target, sources, unconnected_gradients=_ZERO)

        def one_by_one() -> Any:
            return _row_by_row(tape, target, sources)

        with self._backward():
            return vectorized(at_once, one_by_one).value if self._vectorize else one_by_one()


def _row_by_row(tape: Any, target: Any, sources: Any) -> Any:
    """Return the Jacobian of a vector, one row after the other.

    ``GradientTape.jacobian`` has such a loop, but takes the sources to be of the target's dtype.
    """
    import tensorflow as tf

    count = tf.shape(target)[0] if target.shape[0] is None else target.shape[0]

    def row(index: Any) -> Any:
        one = tf.one_hot(index, count, dtype=target.dtype)
        found = tape.gradient(target, sources, output_gradients=one, unconnected_gradients=_ZERO)
        return tf.nest.map_structure(tf.convert_to_tensor, found)  # dense

    kinds = tf.nest.map_structure(lambda source: tf.TensorSpec(source.shape, source.dtype), sources)
    return one_after_another(row, tf.range(count), kinds)


_ZERO = "zero"
"""TensorFlow's name for the gradient by a variable that the target does not depend on."""


def _float64(value: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(value), tf.float64)
