"""A copy of a ``tf.data`` pipeline, so that reading it leaves the order of the original as it is."""

from __future__ import annotations

from typing import Any

_SEEDED = frozenset({"ShuffleDatasetV3", "ShuffleAndRepeatDatasetV2", "RandomDatasetV2"})
"""The operations that take the seeds of each pass over the data from a generator (TensorFlow 2.21)."""


def fresh_copy(data: Any) -> Any:
    """Return a pipeline that gives what another one gives when it is first read; other data as they are.

    A pipeline that shuffles anew each time draws the seeds of each pass from a generator, so that the order
    of a pass depends on how often it was read before. The copy is made from the graph of the pipeline, with a
    generator of its own in place of the shared one. What cannot become such a graph is returned as it is.

    >>> numbers = tf.data.Dataset.range(4).shuffle(4, seed=1)                  # doctest: +SKIP
    >>> list(fresh_copy(numbers)) == list(numbers)                             # doctest: +SKIP
    True
    """
    import tensorflow as tf

    if not isinstance(data, tf.data.Dataset):
        return data
    try:
        variant = tf.data.experimental.to_variant(data)
        # 1: functions of the notebook's that it calls are kept by their number in this process.
        graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=1)
        definition = tf.compat.v1.GraphDef.FromString(graph.numpy())
        _give_generators(definition)
        made = tf.raw_ops.DatasetFromGraph(graph_def=definition.SerializeToString())
        return tf.data.experimental.from_variant(made, data.element_spec)
    except (tf.errors.OpError, TypeError, ValueError):
        return data


def _give_generators(definition: Any) -> None:
    """Replace the generators of seeds in a graph, each a constant handle, by new ones."""
    import tensorflow as tf

    handle = tf.resource.as_datatype_enum
    nodes = {node.name: node for node in definition.node}
    for node in definition.node:
        for name in node.input if node.op in _SEEDED else ():
            given = nodes[name.partition(":")[0]]
            if given.op == "Const" and given.attr["dtype"].type == handle:
                given.op = "DummySeedGenerator"
                for key in list(given.attr):
                    del given.attr[key]
