"""The Jacobian of the residuals of a traced program by forward mode, for few parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.internals.vectorized import one_after_another
from tape_magic.engine.minimization.scipy_solver.vector import Flat
from tape_magic.engine.tracing.pushforward import NoRuleError, Pushforward, passes_gradients
from tape_magic.engine.tracing.traced import Traced
from tape_magic.engine.values.leaves import Leaf

MOST_OPERATIONS = 100_000
"""The most operations that are laid out: those of the program, once for each parameter."""

FEW_OPERATIONS = 2_000
"""The most operations that are laid out for each parameter by itself.

Above that, one parameter is laid out, in a loop over the parameters: laying out takes longer than evaluating
the program once more for each.
"""


def jacobian_by_columns(traced: Traced, flat: Flat) -> Any:
    """Return the Jacobian (residuals, size) at the variables' values, within a graph that is being traced.

    ``None`` where reverse mode is no dearer, as for fewer residuals than parameters, and where an operation
    has no rule for forward mode.
    """
    import tensorflow as tf

    graph, inputs = traced.concrete.graph, traced.concrete.captured_inputs
    residuals = graph.outputs[0]
    count = residuals.shape.num_elements()
    if count is None or count <= flat.size or traced.written or traced.size > MOST_OPERATIONS:
        return None
    variables = {id(variable.handle): variable for variable in graph.variables}

    def along(directions: Sequence[Mapping[int, Any]]) -> list[Any]:
        nothing: list[list[Any]] = [[None] * len(inputs) for _ in directions]
        (value,), tangents = Pushforward(directions, variables).call(graph, inputs, nothing, [residuals])
        moved = [tf.zeros_like(value) if one is None else one for (one,) in tangents]
        return [tf.cast(tf.reshape(one, [count]), tf.float64) for one in moved]

    def column(direction: Any) -> Any:
        parts = zip(flat.leaves, flat.parts(direction), strict=True)
        return along([{id(leaf.value): part for leaf, part in parts}])[0]

    try:
        if flat.size * traced.size <= FEW_OPERATIONS:
            columns = tf.stack(along(list(_directions(flat))))
        else:
            columns = one_after_another(column, tf.eye(flat.size, dtype=tf.float64))
    except NoRuleError:
        return None
    return tf.ensure_shape(tf.transpose(columns), [count, flat.size])


def surely_connected(traced: Traced, leaves: Sequence[Leaf]) -> bool:
    """Return whether the loss, or the residuals, certainly have a gradient by each of some leaves.

    That shows without a backward pass, which takes as long to lay out as all else, where the graph calls no
    other graph and each operation on the way is one that passes a gradient on.
    """
    graph, inputs = traced.concrete.graph, traced.concrete.captured_inputs
    variables = {id(variable.handle): variable for variable in graph.variables}
    return passes_gradients(graph, graph.outputs[0]) and all(
        0 in Pushforward([{id(leaf.value): None}], variables).moving(graph, inputs, 0, ()) for leaf in leaves
    )


def _directions(flat: Flat) -> Iterator[dict[int, Any]]:
    """Yield for each element of the vector the tangent of the variable that it is an element of."""
    import tensorflow as tf

    for leaf in flat.leaves:
        for index in range(math.prod(leaf.shape)):
            one = np.zeros(math.prod(leaf.shape))
            one[index] = 1.0
            yield {id(leaf.value): tf.constant(one.reshape(leaf.shape), leaf.value.dtype)}
