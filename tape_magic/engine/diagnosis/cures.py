"""Cures: the clauses that say what to write instead.

The cures for values that leave TensorFlow stand with the calls that do it, in
:mod:`~tape_magic.engine.static_analysis.leaving_calls`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.not_finite_search import FirstNotFinite
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.frames import gradient_of
from tape_magic.engine.values.precision import largest_exponent
from tape_magic.results.reasons import Where

SINGULAR_MATRIX = "the matrix is singular: add a small multiple of the identity"

_EPSILON = "1e-12"
_HALF_EPSILON = "1e-4"
"""In its place in float16, where 1e-12 is 0."""

_AWAY = "keep the denominator away from 0"
# fmt: off
_LINEAR_OR_SELECTING = frozenset({
    "AddV2", "BroadcastTo", "Cast", "ClipByValue", "ConcatV2", "ExpandDims", "GatherNd", "GatherV2",
    "Identity", "Max", "Maximum", "Mean", "Minimum", "Mul", "Neg", "Pack", "Reshape", "SelectV2", "Squeeze",
    "StridedSlice", "Sub", "Sum", "Transpose",
})
# fmt: on
"""Operations that stand between a probability and its logarithm."""

_VALUE_PRESERVING = frozenset({"Reshape", "Squeeze", "ExpandDims", "Identity", "Cast", "BroadcastTo"})

# Equal singular values: https://github.com/tensorflow/tensorflow/issues/17476; equal eigenvalues:
# https://github.com/tensorflow/tensorflow/issues/12853.
_CURES_BY_OPERATION: dict[str, str] = {
    "Rsqrt": f"keep its argument above 0, for example tf.math.rsqrt(x + {_EPSILON})",
    "Reciprocal": f"use tf.math.divide_no_nan, or {_AWAY}",
    "Xdivy": _AWAY,
    "Acos": "keep its argument between −1 and 1, ends excluded",
    "Asin": "keep its argument between −1 and 1, ends excluded",
    "Atanh": "keep its argument between −1 and 1, ends excluded",
    "Acosh": "keep its argument above 1",
    "Svd": "singular values that are equal have no derivative",
    "SelfAdjointEigV2": "eigenvalues that are equal have no derivative",
    "MatrixInverse": SINGULAR_MATRIX,
    "Cholesky": "the matrix is not positive definite: add a small multiple of the identity",
    "Log1p": "keep its argument above −1",
}
"""The cure for each operation whose cure does not depend on its values or neighbours."""

_ASSIGNMENTS = {
    "AssignAddVariableOp": "{0}_new = {0} + …",
    "AssignSubVariableOp": "{0}_new = {0} - …",
    "AssignVariableOp": "{0}_new = …",
    "ResourceStridedSliceAssign": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterUpdate": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterNdUpdate": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterAdd": "tf.tensor_scatter_nd_add({0}, indices, values)",
    "ResourceScatterNdAdd": "tf.tensor_scatter_nd_add({0}, indices, values)",
}
"""An operation that changes a variable → an expression that computes a new tensor from its name."""


# -- a variable that is assigned ---------------------------------------------------------------------------


def cure_for_assignment(kind: str, where: Where | None) -> str:
    """Return how to write an assignment to a variable so that it carries a derivative.

    Parameters
    ----------
    kind
        The operation that assigns: for ``AssignAddVariableOp`` on the line ``v.assign_add(x)``, the cure is
        "compute a new tensor, v_new = v + …".
    where
        The user's line, if it is known.
    """
    text = where.text if where else ""
    if kind == "AssignVariableOp" and "Variable(" in text:
        return "leave out tf.Variable()"
    if kind not in _ASSIGNMENTS:
        return "compute a new tensor"
    name = re.search(r"([^\W\d]\w*)(\[.*?\])?\.(assign|scatter)", text)
    return f"compute a new tensor, {_ASSIGNMENTS[kind].format(name.group(1) if name else 'x')}"


# -- a value that is not finite ----------------------------------------------------------------------------


def cure_for_not_finite(
    first: FirstNotFinite, flow: DataFlow, text: str, line_label: Callable[[int], str]
) -> str:
    """Return what to write in place of an operation that gave inf or NaN; empty where no cure is known.

    For ``tf.sqrt(x)`` at 0: "the slope of a square root is infinite at 0: add a little, tf.sqrt(x + 1e-12)".

    Parameters
    ----------
    first, flow
        The operation, as :class:`~tape_magic.engine.diagnosis.not_finite_search.NotFiniteSearch` found it,
        and the flow that it stands in.
    text
        The user's line.
    line_label
        Gives the line of an entry by its index: ``line 4``.
    """
    found = _find_cure(first, flow, text, line_label)
    if first.dtype != "float16":
        return found
    if not found and first.result != "nan":
        return "float16 ends at 65504: compute it in float32"
    return found.replace(_EPSILON, _HALF_EPSILON)


def _find_cure(first: FirstNotFinite, flow: DataFlow, text: str, line_label: Callable[[int], str]) -> str:
    entry = flow.entries[first.index]
    # tf.where takes the derivatives of both branches: https://github.com/tensorflow/tensorflow/issues/38349.
    if first.unselected_by is not None:
        return (
            f"tf.where ({line_label(first.unselected_by)}) takes the other branch there, but differentiates "
            f"both: choose a safe argument first, {_with_safe_argument(entry.type)}"
        )
    value = first.inputs[0] if first.inputs else None
    kind = gradient_of(entry.frames) or entry.type
    if kind == "Sqrt":
        return _cure_for_sqrt(value, text)
    if kind in ("Log", "Log1p") and value is not None and value <= 0:
        return _cure_for_log(entry, flow, value)
    if kind == "Pow":
        return _cure_for_pow(first)
    if kind in ("RealDiv", "Div"):
        return _cure_for_division(entry, first, flow)
    if kind == "Exp" and first.result == "inf":
        return _cure_for_exp(first, flow)
    return _CURES_BY_OPERATION.get(kind, "")


def _with_safe_argument(kind: str) -> str:
    safe = "tf.where(ok, x, 1.0)"
    expressions = {
        "Sqrt": f"tf.sqrt({safe})",
        "Log": f"tf.math.log({safe})",
        "Pow": f"{safe}**p",
        "RealDiv": f"1 / {safe}",
        "Reciprocal": f"1 / {safe}",
    }
    return expressions.get(kind, safe)


def _cure_for_sqrt(value: float | None, text: str) -> str:
    if value is not None and value < 0:
        return "keep its argument above 0"
    if "std(" in text:
        return f"use tf.sqrt(tf.math.reduce_variance(x) + {_EPSILON})"
    # tf.norm has the gradient NaN at 0 in TensorFlow 2.21: https://github.com/tensorflow/tensorflow/issues/12071.
    if "norm" in text:
        return f"a norm has no derivative at 0: use tf.sqrt(tf.reduce_sum(x**2) + {_EPSILON})"
    return f"the slope of a square root is infinite at 0: add a little, tf.sqrt(x + {_EPSILON})"


def _cure_for_log(entry: Entry, flow: DataFlow, value: float) -> str:
    if value < 0:
        return "keep its argument above 0"
    kinds = _kinds_before(flow, entry.inputs[0])
    if "Softmax" in kinds:
        return "use tf.nn.log_softmax, or a cross-entropy with from_logits=True"
    if "Sigmoid" in kinds:
        return "use tf.math.log_sigmoid, or a cross-entropy with from_logits=True"
    if "Exp" in kinds and "Sum" in kinds:
        return "it underflows: use tf.reduce_logsumexp"
    example = f"for example tf.math.log(x + {_EPSILON})"
    return f"keep its argument above 0, {example}; for x*log(x) there is tf.math.xlogy"


def _kinds_before(flow: DataFlow, key: int) -> set[str]:
    """Return the kinds of operations that a tensor comes from, as far as they select, add and scale.

    A quotient of exponentials whose denominator is a sum counts as a softmax.
    """
    found: set[str] = set()
    queue, seen = [key], {key}
    while queue:
        entry = flow.makers.get(queue.pop())
        if entry is None:
            continue
        found.add(entry.type)
        if entry.type == "RealDiv" and {"Exp", "Sum"} <= _kinds_before(flow, entry.inputs[1]):
            return {"Softmax"}
        if entry.type in _LINEAR_OR_SELECTING | {"RealDiv"}:
            queue += [each for each in entry.inputs if each not in seen]
            seen.update(entry.inputs)
    return found


def _cure_for_pow(first: FirstNotFinite) -> str:
    if len(first.inputs) < 2:
        return "keep the base above 0"
    base, power = first.inputs[:2]
    if base > 0:
        return "it overflows: keep the base or the power smaller"
    if base == 0 and first.in_gradient and power < 1:
        return "a power below 1 has an infinite slope at 0: keep the base above 0"
    return "keep the base above 0"


def _cure_for_division(entry: Entry, first: FirstNotFinite, flow: DataFlow) -> str:
    if len(first.inputs) == 2 and first.inputs[1] != 0:
        return _AWAY
    denominator = flow.makers.get(entry.inputs[1])
    while denominator is not None and denominator.type in _VALUE_PRESERVING:
        denominator = flow.makers.get(denominator.inputs[0])
    if denominator is not None and denominator.type in ("Sqrt", "EuclideanNorm"):
        # divide_no_nan would not help: the slope of the root itself is infinite there.
        return f"add a little under the square root that it divides by, tf.sqrt(… + {_EPSILON})"
    return f"use tf.math.divide_no_nan, or {_AWAY}"


def _cure_for_exp(first: FirstNotFinite, flow: DataFlow) -> str:
    """Return the function that computes without overflow what the exponential is used for.

    The operations after it tell a softmax, a sigmoid, a softplus and a hyperbolic tangent.
    """
    downstream = flow.downstream(flow.entries[first.index].outputs)
    for entry in flow.entries:
        if entry.type not in ("RealDiv", "Reciprocal", "Log", "Log1p") or downstream.isdisjoint(entry.inputs):
            continue
        kinds = _kinds_since_exp(flow, entry.inputs[-1:])
        if entry.type in ("Log", "Log1p"):
            return f"it overflows: use {'tf.reduce_logsumexp' if 'Sum' in kinds else 'tf.math.softplus'}"
        later = flow.downstream(entry.outputs)
        log_follows = any(one.type == "Log" and not later.isdisjoint(one.inputs) for one in flow.entries)
        if "Sum" in kinds:
            name = "tf.nn.log_softmax" if log_follows else "tf.nn.softmax"
            return f"it overflows: use {name}, or subtract the maximum first"
        if entry.type == "RealDiv" and "Sub" in _kinds_since_exp(flow, entry.inputs[:1]):
            return "it overflows: use tf.tanh"
        return f"it overflows: use {'tf.math.log_sigmoid' if log_follows else 'tf.sigmoid'}"
    limit = f"{largest_exponent(first.dtype)} ({first.dtype})"
    return f"it overflows: keep its argument below {limit}, or subtract the maximum first"


def _kinds_since_exp(flow: DataFlow, keys: Sequence[int]) -> set[str]:
    """Return the kinds of the operations between any exponential and some tensors."""
    exponentials = [entry for entry in flow.entries if entry.type == "Exp"]
    downstream = flow.downstream(key for entry in exponentials for key in entry.outputs)
    upstream = flow.upstream(keys)
    return {
        entry.type
        for entry in flow.entries
        if not downstream.isdisjoint(entry.inputs) and not upstream.isdisjoint(entry.outputs)
    }
