"""What helps where an operation turned finite numbers into infinite or undefined ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tape_magic.engine.diagnosis.flow import Flow
from tape_magic.engine.diagnosis.not_finite import Culprit
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.frames import gradient_of
from tape_magic.engine.values.precision import largest_exponent

_EPSILON = "1e-12"
_HALF_EPSILON = "1e-4"
"""In half precision, the other is 0."""

_AWAY = "keep the denominator away from 0"
# fmt: off
_CHOOSING = frozenset({
    "AddV2", "BroadcastTo", "Cast", "ClipByValue", "ConcatV2", "ExpandDims", "GatherNd", "GatherV2",
    "Identity", "Max", "Maximum", "Mean", "Minimum", "Mul", "Neg", "Pack", "Reshape", "SelectV2", "Squeeze",
    "StridedSlice", "Sub", "Sum", "Transpose",
})
# fmt: on
"""Operations between a probability and its logarithm."""

_PASSING_ON = frozenset({"Reshape", "Squeeze", "ExpandDims", "Identity", "Cast", "BroadcastTo"})

_CURES: dict[str, str] = {
    "Rsqrt": f"keep its argument above 0, for example tf.math.rsqrt(x + {_EPSILON})",
    "Reciprocal": f"use tf.math.divide_no_nan, or {_AWAY}",
    "Xdivy": _AWAY,
    "Acos": "keep its argument between −1 and 1, ends excluded",
    "Asin": "keep its argument between −1 and 1, ends excluded",
    "Atanh": "keep its argument between −1 and 1, ends excluded",
    "Acosh": "keep its argument above 1",
    "Svd": "singular values that are equal have no derivative",
    "SelfAdjointEigV2": "eigenvalues that are equal have no derivative",
    "MatrixInverse": "the matrix is singular: add a small multiple of the identity",
    "Cholesky": "the matrix is not positive definite: add a small multiple of the identity",
    "Log1p": "keep its argument above −1",
}


def cure(culprit: Culprit, flow: Flow, text: str, line_of: Callable[[int], str]) -> str:
    """What to do about it, where that is known.

    Parameters
    ----------
    culprit, flow
        What :class:`~tape_magic.engine.diagnosis.not_finite.Search` found, and where.
    text
        The user's line.
    line_of
        The position of an entry → ``line 4``.
    """
    found = _cure(culprit, flow, text, line_of)
    if culprit.dtype != "float16":
        return found
    if not found and culprit.gives != "nan":
        return "float16 ends at 65504: compute it in float32"
    return found.replace(_EPSILON, _HALF_EPSILON)


def _cure(culprit: Culprit, flow: Flow, text: str, line_of: Callable[[int], str]) -> str:
    entry = flow.entries[culprit.index]
    if culprit.shielded is not None:
        return (
            f"tf.where ({line_of(culprit.shielded)}) takes the other branch there, but differentiates both: "
            f"choose a safe argument first, {_safe(entry.type)}"
        )
    value = culprit.inputs[0] if culprit.inputs else None
    kind = gradient_of(entry.frames) or entry.type
    if kind == "Sqrt":
        return _cure_sqrt(value, text)
    if kind in ("Log", "Log1p") and value is not None and value <= 0:
        return _cure_log(entry, flow, value)
    if kind == "Pow":
        return _cure_pow(culprit)
    if kind in ("RealDiv", "Div"):
        return _cure_division(entry, culprit, flow)
    if kind == "Exp" and culprit.gives == "inf":
        return _cure_exp(culprit, flow)
    return _CURES.get(kind, "")


def _safe(kind: str) -> str:
    safe = "tf.where(ok, x, 1.0)"
    shapes = {
        "Sqrt": f"tf.sqrt({safe})",
        "Log": f"tf.math.log({safe})",
        "Pow": f"{safe}**p",
        "RealDiv": f"1 / {safe}",
        "Reciprocal": f"1 / {safe}",
    }
    return shapes.get(kind, safe)


def _cure_sqrt(value: float | None, text: str) -> str:
    if value is not None and value < 0:
        return "keep its argument above 0"
    if "std(" in text:
        return f"use tf.sqrt(tf.math.reduce_variance(x) + {_EPSILON})"
    if "norm" in text:
        return f"a norm has no derivative at 0: use tf.sqrt(tf.reduce_sum(x**2) + {_EPSILON})"
    return f"the slope of a square root is infinite at 0: add a little, tf.sqrt(x + {_EPSILON})"


def _cure_log(entry: Entry, flow: Flow, value: float) -> str:
    if value < 0:
        return "keep its argument above 0"
    kinds = _kinds_just_before(flow, entry.inputs[0])
    if "Softmax" in kinds:
        return "use tf.nn.log_softmax, or a cross-entropy with from_logits=True"
    if "Sigmoid" in kinds:
        return "use tf.math.log_sigmoid, or a cross-entropy with from_logits=True"
    if "Exp" in kinds and "Sum" in kinds:
        return "it underflows: use tf.reduce_logsumexp"
    example = f"for example tf.math.log(x + {_EPSILON})"
    return f"keep its argument above 0, {example}; for x*log(x) there is tf.math.xlogy"


def _kinds_just_before(flow: Flow, key: int) -> set[str]:
    """The kinds of operations that a tensor comes from, as far as they only choose, sum and scale.

    A quotient of exponentials, the lower one summed, is a softmax.
    """
    made_by = {key: one for one in flow.entries for key in one.outputs}
    found: set[str] = set()
    queue, seen = [key], {key}
    while queue:
        one = made_by.get(queue.pop())
        if one is None:
            continue
        found.add(one.type)
        if one.type == "RealDiv" and {"Exp", "Sum"} <= _kinds_just_before(flow, one.inputs[1]):
            return {"Softmax"}
        if one.type in _CHOOSING | {"RealDiv"}:
            queue += [each for each in one.inputs if each not in seen]
            seen.update(one.inputs)
    return found


def _cure_pow(culprit: Culprit) -> str:
    if len(culprit.inputs) < 2:
        return "keep the base above 0"
    base, power = culprit.inputs[:2]
    if base > 0:
        return "it overflows: keep the base or the power smaller"
    if base == 0 and culprit.backward and power < 1:
        return "a power below 1 has an infinite slope at 0: keep the base above 0"
    return "keep the base above 0"


def _cure_division(entry: Entry, culprit: Culprit, flow: Flow) -> str:
    if len(culprit.inputs) == 2 and culprit.inputs[1] != 0:
        return _AWAY
    made_by = {key: one for one in flow.entries for key in one.outputs}
    below = made_by.get(entry.inputs[1])
    while below is not None and below.type in _PASSING_ON:
        below = made_by.get(below.inputs[0])
    if below is not None and below.type in ("Sqrt", "EuclideanNorm"):  # whose own slope is infinite there
        return f"add a little under the square root that it divides by, tf.sqrt(… + {_EPSILON})"
    return f"use tf.math.divide_no_nan, or {_AWAY}"


def _cure_exp(culprit: Culprit, flow: Flow) -> str:
    """By what becomes of the exponential: a softmax, a sigmoid and others have names of their own."""
    after = flow.after(flow.entries[culprit.index].outputs)
    for one in flow.entries:
        if one.type not in ("RealDiv", "Reciprocal", "Log", "Log1p") or after.isdisjoint(one.inputs):
            continue
        kinds = _kinds_between(flow, one.inputs[-1:])
        if one.type in ("Log", "Log1p"):
            named = "tf.reduce_logsumexp" if "Sum" in kinds else "tf.math.softplus"
            return f"it overflows: use {named}"
        later = flow.after(one.outputs)
        logarithm = any(two.type == "Log" and not later.isdisjoint(two.inputs) for two in flow.entries)
        if "Sum" in kinds:
            named = "tf.nn.log_softmax" if logarithm else "tf.nn.softmax"
            return f"it overflows: use {named}, or subtract the maximum first"
        if one.type == "RealDiv" and "Sub" in _kinds_between(flow, one.inputs[:1]):
            return "it overflows: use tf.tanh"
        return f"it overflows: use {'tf.math.log_sigmoid' if logarithm else 'tf.sigmoid'}"
    limit = f"{largest_exponent(culprit.dtype)} ({culprit.dtype})"
    return f"it overflows: keep its argument below {limit}, or subtract the maximum first"


def _kinds_between(flow: Flow, keys: Sequence[int]) -> set[str]:
    """The kinds of operations from exponentials to some tensors."""
    after = flow.after(key for one in flow.entries if one.type == "Exp" for key in one.outputs)
    before = flow.before(keys)
    return {
        one.type
        for one in flow.entries
        if not after.isdisjoint(one.inputs) and not before.isdisjoint(one.outputs)
    }
