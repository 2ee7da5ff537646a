"""Tensors whose values no gradient needs, and which can be computed again from what the record keeps.

A tape lets go of such a tensor as soon as the next operation has read it, and its memory is reused at once,
while it is still in the processor's caches. A record that kept these tensors would take two or three times
the memory of the tape, and a network would be slower by some hundredths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tape_magic.engine.internals.operations import execute_unrecorded


class Droppable(NamedTuple):
    """Whether an operation's gradient needs no values of its first input, and none of its only output."""

    input: bool
    output: bool


_INPUT, _OUTPUT = Droppable(True, False), Droppable(False, True)

DROPPABLE = {
    **dict.fromkeys(
        (
            "Add",
            "AddV2",
            "BatchMatMulV2",
            "BatchMatMulV3",
            "Conv2D",
            "Conv3D",
            "DepthwiseConv2dNative",
            "MatMul",
            "Mul",
            "Reshape",
            "Sub",
            "Transpose",
        ),
        _OUTPUT,
    ),
    **dict.fromkeys(
        ("Elu", "Exp", "LogSoftmax", "Relu", "Relu6", "Selu", "Sigmoid", "Softmax", "Sqrt", "Tanh"), _INPUT
    ),
    "BiasAdd": Droppable(True, True),
}
"""Operations that give the same output for the same inputs, however often they run.

The tapes decide by such a table, too, ``pywrap_gradient_exclusions.cc`` in TensorFlow 2.21."""


def recompute(op_type: str, attrs: tuple[Any, ...], inputs: Sequence[Any]) -> Any:
    """Return the output of an operation of :data:`DROPPABLE`; ``None`` where it cannot be computed again."""
    import tensorflow as tf

    if any(tensor is None for tensor in inputs):
        return None
    try:
        return execute_unrecorded(op_type, attrs, inputs)
    except (ImportError, AttributeError, tf.errors.OpError, TypeError, ValueError):
        return None
