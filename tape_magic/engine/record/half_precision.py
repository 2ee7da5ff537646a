"""Whether a run computed in less than float32, by its record."""

from __future__ import annotations

import weakref

from tape_magic.engine.record.recorder import Recorder


def computes_in_half(recorder: Recorder) -> bool:
    """Return whether operations of a run computed in float16 or bfloat16."""
    import tensorflow as tf

    half = (tf.float16, tf.bfloat16)
    graphs = (entry.graph for entry in recorder.entries if entry.graph is not None)
    operations = (operation for graph in graphs for operation in graph.get_operations())
    held = (one() if type(one) is weakref.ref else one for one in recorder.tensors.values())
    made = (tensor for operation in operations for tensor in operation.outputs)
    return any(tensor.dtype in half for tensor in (*held, *made) if tensor is not None)
