"""Whether what is computed at one point, such as a row of a batch, depends on other points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tape_magic.engine.values.precision import epsilon

_WEIGHTS = np.array([sign * 2.0**power for sign in (1, -1) for power in range(-3, 5)])
"""Factors of points, by which nothing is rounded."""

_ROUNDING = 256
"""Machine epsilons by which the derivatives of independent points may differ from what they must be."""


def weights_of_components(count: int) -> list[float]:
    """Return a weight for each component of what is computed at a point, the first of which is 1.

    Their sum does not cancel where the sum of the components is constant, as that of a softmax is.
    """
    random = np.random.default_rng(1)
    return [1.0, *random.choice([-2.0, -1.0, 0.5, 2.0, 4.0], max(count - 1, 0)).tolist()][:count]


def mixes_points(
    tape: Any, output: Any, source: Any, points: tuple[int, ...], whole: Any = None, largest: float = 0.0
) -> bool:
    """Return whether an output at one point depends on a source at others.

    Where it does not, its Jacobian J has one block for each point, and Jᵀ(w·c) = w·Jᵀc for a weight w of each
    point and a weight c of each component.

    Parameters
    ----------
    tape
        A persistent tape that recorded `output`, and has ended.
    output, source
        What depends on what.
    points
        The leading axes of both, which count points.
    whole
        Jᵀc for :func:`weights_of_components`; computed where it is not given.
    largest
        The magnitude of the terms that `whole` sums, where it is greater than that of the sum.
    """
    import tensorflow as tf

    number = math.prod(points)
    real = output.dtype.is_floating and source.dtype.is_floating
    if number < 2 or not real or not tf.executing_eagerly():
        return False
    random = np.random.default_rng(0)
    drawn = [random.permutation(_WEIGHTS) for _ in range(-(-number // len(_WEIGHTS)))]
    weights = np.concatenate(drawn)[:number].reshape(points)
    tail = tuple(output.shape)[len(points) :]
    components = np.asarray(weights_of_components(math.prod(tail))).reshape(tail)
    if whole is None:
        seed = tf.constant(np.broadcast_to(components, output.shape), output.dtype)
        whole = tape.gradient(output, source, output_gradients=seed)
    seed = tf.constant(np.multiply.outer(weights, components), output.dtype)
    found = tape.gradient(output, source, output_gradients=seed)
    if found is None or whole is None:
        return False
    product, gradient = (np.asarray(tf.convert_to_tensor(one), np.float64) for one in (found, whole))
    finite = np.isfinite(product) & np.isfinite(gradient)
    size = np.abs(gradient[finite]).max(initial=largest)
    eps = max(epsilon(output.dtype.name), epsilon(source.dtype.name))
    expected = weights.reshape(*points, *[1] * (gradient.ndim - len(points))) * gradient
    return bool((np.abs(product - expected)[finite] > _ROUNDING * eps * size).any())
