"""What helps where an operation gives infinite or undefined numbers."""

from __future__ import annotations

from collections.abc import Callable

from tape_magic.engine.entries import Entry
from tape_magic.engine.flow import Flow
from tape_magic.engine.nonfinite import Culprit

_EPSILON = "1e-12"

_CURES: dict[str, str] = {
    "Rsqrt": f"keep its argument above 0, for example tf.math.rsqrt(x + {_EPSILON})",
    "Reciprocal": "use tf.math.divide_no_nan, or keep the denominator away from 0",
    "RealDiv": "use tf.math.divide_no_nan, or keep the denominator away from 0",
    "Div": "use tf.math.divide_no_nan, or keep the denominator away from 0",
    "Xdivy": "keep the denominator away from 0",
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
        What :class:`~tape_magic.engine.nonfinite.Search` found, and where.
    text
        The user's line.
    line_of
        The position of an entry → ``line 4``.
    """
    entry = flow.entries[culprit.index]
    if culprit.shielded is not None:
        return (
            f"tf.where ({line_of(culprit.shielded)}) takes the other branch there, but differentiates both: "
            f"choose a safe argument first, {_safe(entry.type)}"
        )
    value = culprit.inputs[0] if culprit.inputs else None
    if entry.type == "Sqrt":
        return _cure_sqrt(value, text)
    if entry.type in ("Log", "Log1p") and value is not None and value <= 0:
        return _cure_log(entry, culprit, flow, value)
    if entry.type == "Pow":
        return _cure_pow(culprit)
    if entry.type == "Exp" and culprit.gives == "inf":
        return _cure_exp(culprit, flow)
    return _CURES.get(entry.type, "")


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
    if "norm" in text:
        return f"a norm has no derivative at 0: use tf.sqrt(tf.reduce_sum(x**2) + {_EPSILON})"
    return f"the slope of a square root is infinite at 0: add a little, tf.sqrt(x + {_EPSILON})"


def _cure_log(entry: Entry, culprit: Culprit, flow: Flow, value: float) -> str:
    if value < 0:
        return "keep its argument above 0"
    before = flow.before(entry.inputs)
    kinds = {one.type for one in flow.entries[: culprit.index] if not before.isdisjoint(one.outputs)}
    if "Softmax" in kinds or {"Exp", "RealDiv"} <= kinds:
        return "use tf.nn.log_softmax, or a cross-entropy with from_logits=True"
    if "Sigmoid" in kinds:
        return "use tf.math.log_sigmoid, or a cross-entropy with from_logits=True"
    example = f"for example tf.math.log(x + {_EPSILON})"
    return f"keep its argument above 0, {example}; for x*log(x) there is tf.math.xlogy"


def _cure_pow(culprit: Culprit) -> str:
    if len(culprit.inputs) < 2 or culprit.inputs[0] != 0:
        return "keep the base above 0"
    if culprit.inputs[1] >= 1 or not culprit.backward:
        return "keep the base above 0"
    return "a power below 1 has an infinite slope at 0: keep the base above 0"


def _cure_exp(culprit: Culprit, flow: Flow) -> str:
    after = flow.after(flow.entries[culprit.index].outputs)
    kinds = {one.type for one in flow.entries if not after.isdisjoint(one.inputs)}
    if "RealDiv" in kinds:
        return "it overflows: use tf.nn.softmax, or subtract the maximum first"
    if "Log" in kinds:
        return "it overflows: use tf.reduce_logsumexp"
    return "it overflows: keep its argument below 88 (float32), or subtract the maximum first"
