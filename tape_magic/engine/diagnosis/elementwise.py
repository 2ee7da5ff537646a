"""Does each element of a target depend on the element of the source in the same place, and on no other?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.diagnosis.replay import BackwardReplay
from tape_magic.engine.internals.elementwise import ELEMENTWISE
from tape_magic.engine.record.entry import Entry

_MOST = 100
"""The most operations that are differentiated once more for the sake of a picture."""

_OTHERS = """
    Add AddN AddV2 Cast ClipByValue Erfinv ExpandDims Identity LeakyRelu Mul MulNoNan Neg ReadVariableOp
    Reshape Select SelectV2 Sign Squeeze Sub Xlog1py
"""
_IN_PLACE = ELEMENTWISE.union(_OTHERS.split())
"""Operations that leave each element in its place, where the output has as many elements as the input."""

_TOLERANCE = 1e-4


def is_list(shape: Any) -> bool:
    """Return whether a shape is that of several numbers in one row: (50,), (50, 1) or (1, 50)."""
    sizes = tuple(shape)
    return None not in sizes and math.prod(sizes) == max(sizes, default=1) > 1


def is_elementwise(
    evidence: RunEvidence, target: NamedTensors, source: NamedTensors, derivative: Any
) -> bool:
    """Return whether a gradient is the derivative of each element by its own element; False if not known.

    Most often the names of the operations tell. Else the Jacobian J is diagonal where Jᵀv = v·Jᵀ1 for a
    random v, and `derivative` is Jᵀ1. The elements of v are powers of two with either sign, by which no
    rounding differs. The product comes from the record, since a tape can be asked only once.
    """
    import tensorflow as tf

    ((value,), (place,)) = target.tensors, source.tensors
    if not (
        is_list(value.shape) and is_list(place.shape) and math.prod(value.shape) == math.prod(place.shape)
    ):
        return False
    if not (value.dtype.is_floating and place.dtype.is_floating):
        return False
    chosen = np.random.default_rng(0)
    direction = chosen.choice([-2.0, -1.0, 1.0, 2.0], math.prod(value.shape))
    try:
        evidence.keep_target(target)
        path = [evidence.flow.entries[index] for index in evidence.flow.between(source.keys, target.keys)]
        if _stays_in_place(evidence, path, source):
            return True
        if len(path) > _MOST:
            return False
        given = [tf.reshape(tf.constant(direction, value.dtype), value.shape)]
        replay = BackwardReplay(evidence.flow, evidence.recorder, source.keys, target.keys, given, anew=True)
        found = replay.gradient(source.keys[0])
    except Exception:  # a picture less, where the record does not tell
        return False
    if found is None:
        return False
    product, ones = (np.asarray(one, np.float64).reshape(-1) for one in (found, derivative))
    expected = direction * ones
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return bool(np.allclose(product, expected, _TOLERANCE, _TOLERANCE * scale, equal_nan=True))


def _stays_in_place(evidence: RunEvidence, path: Sequence[Entry], source: NamedTensors) -> bool:
    """Return whether the operations between a source and a target, by their names, keep elements in place."""
    size = math.prod(source.tensors[0].shape)
    for entry in path:
        if entry.type not in _IN_PLACE or entry.custom is not None:
            return False
        outputs = [evidence.recorder.tensor(key) for key in entry.outputs]
        if any(one is None or one.shape.num_elements() != size for one in outputs):
            return False
    return True
