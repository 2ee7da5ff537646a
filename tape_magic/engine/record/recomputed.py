"""Tensors that no gradient needs the values of, and that can be computed again from what is kept.

A tape lets go of them as soon as the next operation has read them, and their memory is used again at once,
while it is still in the processor's caches. A record that kept them would take two or three times the memory
of the tape, and a network would be slower by some hundredths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tape_magic.engine.internals.operations import run_again


class Passing(NamedTuple):
    """Whether an operation's gradient needs no values of its first input, and of its one output."""

    input: bool
    output: bool


_INPUT, _OUTPUT = Passing(True, False), Passing(False, True)

PASSING = {
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
    "BiasAdd": Passing(True, True),
}
"""As TensorFlow's tapes have it too; each computes the same again, whenever and however often it runs."""


def computed_again(op_type: str, attrs: tuple[Any, ...], inputs: Sequence[Any]) -> Any:
    """The output of one of those operations; nothing where it cannot be had, as without one of its inputs."""
    import tensorflow as tf

    if any(tensor is None for tensor in inputs):
        return None
    try:
        return run_again(op_type, attrs, inputs)
    except (ImportError, AttributeError, tf.errors.OpError, TypeError, ValueError):
        return None
