"""The Jacobian of the residuals of a traced program by forward mode, for few parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tape_magic.engine.minimization.scipy_solver.vector import Flat
from tape_magic.engine.tracing.pushforward import NoRuleError, Pushforward
from tape_magic.engine.tracing.traced import Traced

MOST_OPERATIONS = 100_000
"""The most operations that are laid out: those of the program, once for each parameter."""


def jacobian_by_columns(traced: Traced, flat: Flat) -> Any:
    """Return the Jacobian (residuals, size) at the variables' values, within a graph that is being traced.

    ``None`` where reverse mode is no dearer, as for fewer residuals than parameters, and where an operation
    has no rule for forward mode.
    """
    import tensorflow as tf

    graph, inputs = traced.concrete.graph, traced.concrete.captured_inputs
    residuals = graph.outputs[0]
    count = residuals.shape.num_elements()
    if count is None or count <= flat.size or traced.written or flat.size * traced.size > MOST_OPERATIONS:
        return None
    variables = {id(variable.handle): variable for variable in graph.variables}
    directions = list(_directions(flat))
    along: list[list[Any]] = [[None] * len(inputs) for _ in directions]
    try:
        (value,), tangents = Pushforward(directions, variables).call(graph, inputs, along, [residuals])
    except NoRuleError:
        return None
    moved = [tf.zeros_like(value) if one is None else one for (one,) in tangents]
    columns = [tf.cast(tf.reshape(one, [count]), tf.float64) for one in moved]
    return tf.ensure_shape(tf.stack(columns, axis=1), [count, flat.size])


def _directions(flat: Flat) -> Iterator[dict[int, Any]]:
    """Yield for each element of the vector the tangent of the variable that it is an element of."""
    import tensorflow as tf

    for leaf in flat.leaves:
        for index in range(math.prod(leaf.shape)):
            one = np.zeros(math.prod(leaf.shape))
            one[index] = 1.0
            yield {id(leaf.value): tf.constant(one.reshape(leaf.shape), leaf.value.dtype)}
