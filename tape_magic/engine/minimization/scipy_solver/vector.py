"""Variables of any shapes as the one float64 vector that SciPy's methods move."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.bounds import Limits
from tape_magic.engine.values.leaves import Leaf

Array = np.ndarray[Any, Any]
Vector = np.ndarray[Any, np.dtype[np.float64]]


class Flat:
    """The leaves of a run, one after the other in a vector.

    Parameters
    ----------
    leaves
        Leaves of real dtypes. Each keeps its own; the vector is float64.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self.leaves = tuple(leaves)
        self.sizes = [math.prod(leaf.shape) for leaf in self.leaves]
        self.size = sum(self.sizes)

    @property
    def variables(self) -> list[Any]:
        """The variables of the leaves, which a tape watches."""
        return [leaf.value for leaf in self.leaves]

    def read(self) -> Vector:
        """Return the variables' values now."""
        return np.concatenate([np.zeros(0), *(_float64(leaf.value.numpy()) for leaf in self.leaves)])

    def parts(self, vector: Any) -> list[Any]:
        """Return a tensor for each leaf, of its shape and dtype, from a vector tensor (size,)."""
        import tensorflow as tf

        pieces = tf.split(vector, self.sizes)
        return [
            tf.cast(tf.reshape(piece, leaf.value.shape), leaf.value.dtype)
            for leaf, piece in zip(self.leaves, pieces, strict=True)
        ]

    def assign(self, vector: Any) -> None:
        """Give the variables the values of a vector tensor or array (size,)."""
        for leaf, part in zip(self.leaves, self.parts(vector), strict=True):
            leaf.value.assign(part)

    def joined(self, tensors: Sequence[Any]) -> Any:
        """Return a float64 tensor (size,) from a tensor for each leaf."""
        import tensorflow as tf

        shaped = [
            tf.ensure_shape(tf.convert_to_tensor(tensor), leaf.value.shape)
            for leaf, tensor in zip(self.leaves, tensors, strict=True)
        ]
        return tf.concat([tf.cast(tf.reshape(tensor, [-1]), tf.float64) for tensor in shaped], axis=0)

    def spread(self, limits: Mapping[int, Limits]) -> tuple[Vector, Vector]:
        """Return the lower and upper bounds, each (size,), ±∞ for none, from bounds by a variable's id."""
        ends = [(leaf, limits.get(id(leaf.value), (None, None))) for leaf in self.leaves]
        low = [_bound(least, -np.inf, leaf) for leaf, (least, _) in ends]
        high = [_bound(most, np.inf, leaf) for leaf, (_, most) in ends]
        return np.concatenate([np.zeros(0), *low]), np.concatenate([np.zeros(0), *high])

    def split(self, vector: Array) -> Iterator[tuple[Leaf, Array]]:
        """Return each leaf with its part of an array (size,), flat."""
        return zip(self.leaves, np.split(vector, np.cumsum(self.sizes)[:-1]), strict=True)


def _bound(limit: Any, without: float, leaf: Leaf) -> Vector:
    value = without if limit is None else np.asarray(limit, np.float64)
    return np.array(np.broadcast_to(value, leaf.shape)).ravel()


def _float64(value: Any) -> Vector:
    return np.asarray(value).astype(np.float64).ravel()
