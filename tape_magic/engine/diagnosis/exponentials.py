"""What to write in place of logarithms of 0 and of exponentials that overflow, by what stands around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.singular import EPSILON, VALUE_PRESERVING, Singular
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.values.precision import largest_exponent
from tape_magic.engine.values.tensors import to_array

_SUMS = frozenset({"Sum", "Mean"})
_ADDITIONS = frozenset({"Add", "AddV2", "AddN", "BiasAdd"})
# fmt: off
_LINEAR_OR_SELECTING = VALUE_PRESERVING | _ADDITIONS | _SUMS | {
    "ClipByValue", "ConcatV2", "GatherNd", "GatherV2", "Max", "Maximum", "Minimum", "Mul", "Neg", "Pack",
    "SelectV2", "StridedSlice", "Sub", "Transpose",
}
# fmt: on
"""Operations that stand between a probability and its logarithm."""


def cure_of_logarithm(singular: Singular) -> str:
    """Return what to write in place of the logarithm of 0 or less, by what its argument is made of."""
    value, entry, flow = singular.first.inputs[:1], singular.entry, singular.flow
    if not value or value[0] > 0:
        return ""
    if value[0] < 0:
        return "keep its argument above 0"
    kinds, exponents = _kinds_before(flow, entry.inputs[0])
    if exponents and all(_is_minus_infinity(flow.value(key)) for key in exponents):
        return "all that it adds up are exponentials of −inf: keep one of them finite"
    if not any(_has_infinity(flow.value(key)) for key in exponents):
        if "Softmax" in kinds:
            return "use tf.nn.log_softmax, or a cross-entropy with from_logits=True"
        if "Sigmoid" in kinds:
            return "use tf.math.log_sigmoid, or a cross-entropy with from_logits=True"
        if "Exp" in kinds and kinds & _SUMS:
            return "it underflows: use tf.reduce_logsumexp"
    example = f"for example tf.math.log(x + {EPSILON})"
    products = (other for other in flow.entries if other.type == "Mul")
    with_log = any(not set(entry.outputs).isdisjoint(other.inputs) for other in products)
    end = "; for x*log(x) there is tf.math.xlogy" if with_log else ""
    return f"keep its argument above 0, {example}{end}"


def _is_minus_infinity(tensor: object) -> bool:
    return tensor is not None and bool(np.all(to_array(tensor) == -np.inf))


def _has_infinity(tensor: object) -> bool:
    return tensor is not None and bool(np.any(np.isinf(to_array(tensor))))


def _kinds_before(flow: DataFlow, key: int) -> tuple[set[str], list[int]]:
    """Return the kinds of operations that a tensor comes from, as far as they select, add and scale.

    A quotient of exponentials whose denominator is a sum counts as a softmax. The second are the tensors that
    go into exponentials, softmaxes and sigmoids.
    """
    found: set[str] = set()
    exponents: list[int] = []
    queue, seen = [key], {key}
    while queue:
        entry = flow.makers.get(queue.pop())
        if entry is None:
            continue
        found.add(entry.type)
        if entry.type in ("Exp", "Softmax", "Sigmoid"):
            exponents.append(entry.inputs[0])
        if entry.type == "RealDiv":
            below, inside = _kinds_before(flow, entry.inputs[1])
            if {"Exp", "Sum"} <= below:
                return {"Softmax"}, inside
        if entry.type in _LINEAR_OR_SELECTING | {"RealDiv"}:
            queue += [each for each in entry.inputs if each not in seen]
            seen.update(entry.inputs)
    return found, exponents


def cure_of_exponential(singular: Singular) -> str:
    """Return the function that computes without overflow what the exponential is used for.

    The operations after it tell a softmax, a sigmoid, a softplus and a hyperbolic tangent.
    """
    first, flow = singular.first, singular.flow
    if first.result != "inf" or singular.entry.type != "Exp":
        return ""
    found = _function_of_exponential(flow, singular.entry)
    if found:
        return f"it overflows: {found}"
    limit = f"{largest_exponent(first.dtype)} ({first.dtype})"
    return f"it overflows: keep its argument below {limit}, or subtract the maximum first"


def _function_of_exponential(flow: DataFlow, exponential: Entry) -> str:
    """Return what to use in place of the first quotient or logarithm that an exponential leads to."""
    downstream = flow.downstream(exponential.outputs)
    for entry in flow.entries:
        if entry.type not in ("RealDiv", "Reciprocal", "Log", "Log1p") or downstream.isdisjoint(entry.inputs):
            continue
        kinds, number = _kinds_since_exp(flow, entry.inputs[-1:])
        if not kinds <= _LINEAR_OR_SELECTING:
            return ""
        if entry.type in ("Log", "Log1p"):
            if kinds & _SUMS or number > 1:
                return "use tf.reduce_logsumexp"
            added = entry.type == "Log1p" or kinds & _ADDITIONS
            return "use tf.math.softplus" if added else "leave out both, since log(exp(x)) is x"
        if not number:  # it is divided by something else
            return ""
        later = flow.downstream(entry.outputs)
        log_follows = any(one.type == "Log" and not later.isdisjoint(one.inputs) for one in flow.entries)
        above, exponentials_above = _kinds_since_exp(flow, entry.inputs[:-1])
        if "Sub" in above:
            return "use tf.tanh"
        if kinds & _SUMS or number > 1:
            name = "tf.nn.log_softmax" if log_follows else "tf.nn.softmax"
            return f"use {name}, or subtract the maximum first"
        if not kinds & _ADDITIONS:
            return "use one exponential, tf.exp(a - b)" if exponentials_above else "use tf.exp(-x)"
        return f"use {'tf.math.log_sigmoid' if log_follows else 'tf.sigmoid'}"
    return ""


def _kinds_since_exp(flow: DataFlow, keys: Sequence[int]) -> tuple[set[str], int]:
    """Return the kinds of the operations between any exponential and some tensors, and how many there are.

    The number is that of the exponentials that lead to the tensors.
    """
    exponentials = [entry for entry in flow.entries if entry.type == "Exp"]
    downstream = flow.downstream(key for entry in exponentials for key in entry.outputs)
    upstream = flow.upstream(keys)
    between = {
        entry.type
        for entry in flow.entries
        if not downstream.isdisjoint(entry.inputs) and not upstream.isdisjoint(entry.outputs)
    }
    return between, sum(not upstream.isdisjoint(entry.outputs) for entry in exponentials)
