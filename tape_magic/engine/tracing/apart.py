"""Whether what a graph assigns decides its loss."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.internals.graphs import written_inputs
from tape_magic.engine.tracing.traced import Traced


def is_apart(traced: Traced) -> bool:
    """Return whether nothing that a graph assigns flows into its loss.

    The averages of a normalisation do not while it trains, the seed of a dropout does. A variable that
    another function is given counts as read there.
    """
    graph = traced.concrete.graph
    into = _leading_to(graph, graph.outputs[0])
    return all(graph.inputs[index].ref() not in into for index in written_inputs(graph))


def _leading_to(graph: Any, tensor: Any) -> set[Any]:
    """Return references to the tensors of a graph that flow into one of its tensors, that one included."""
    found, queue = set[Any](), [tensor]
    while queue:
        one = queue.pop()
        if one.ref() not in found:
            found.add(one.ref())
            queue += [before for before in one.op.inputs if before.graph is graph]
    return found
