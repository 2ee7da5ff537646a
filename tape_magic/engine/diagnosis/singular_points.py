"""What to write instead of an operation that gave inf or NaN, by the operation and the values that it had."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tape_magic.engine.diagnosis.exponentials import cure_of_exponential, cure_of_logarithm
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.singular import EPSILON, Singular, behind
from tape_magic.engine.record.frames import gradient_of
from tape_magic.engine.values.tensors import to_array

SINGULAR_MATRIX = "the matrix is singular: add a small multiple of the identity"

_AWAY = "keep the denominator away from 0"
_NORM = f"a norm has no derivative at 0: use tf.sqrt(tf.reduce_sum(x**2) + {EPSILON})"


def cure_at_singular_point(singular: Singular) -> str:
    """Return what to write in place of an operation that gave inf or NaN; empty where nothing is known.

    For ``tf.sqrt(x)`` at 0: "the slope of a square root is infinite at 0: add a little, tf.sqrt(x + 1e-12)".
    """
    found = _CURES.get(singular.kind, "")
    return found if isinstance(found, str) else found(singular)


# -- roots and powers --------------------------------------------------------------------------------------


def _sqrt(singular: Singular) -> str:
    value = singular.value
    if value is not None and value < 0:
        return "keep its argument above 0"
    if "std(" in singular.text:
        return f"use tf.sqrt(tf.math.reduce_variance(x) + {EPSILON})"
    # So is tf.norm up to TensorFlow 2.21: https://github.com/tensorflow/tensorflow/issues/12071.
    if _is_sum_of_squares(singular.flow, singular.entry.inputs[0]):
        return _NORM
    return f"the slope of a square root is infinite at 0: add a little, tf.sqrt(x + {EPSILON})"


def _is_sum_of_squares(flow: DataFlow, key: int) -> bool:
    """Return whether a tensor is a sum of squares, as that under the root of a norm is."""
    entry = behind(flow, key)
    if entry is None or entry.type != "Sum":
        return False
    entry = behind(flow, entry.inputs[0])
    if entry is None:
        return False
    if entry.type == "Pow":
        power = flow.value(entry.inputs[1])
        return power is not None and bool(np.all(to_array(power) == 2))
    return entry.type in ("Square", "SquaredDifference") or (
        entry.type == "Mul" and _behind_conjugate(flow, entry.inputs[1]) == entry.inputs[0]
    )


def _behind_conjugate(flow: DataFlow, key: int) -> int:
    entry = flow.makers.get(key)
    return entry.inputs[0] if entry is not None and entry.type == "Conj" else key


def _rsqrt(singular: Singular) -> str:
    example = f", for example tf.math.rsqrt(x + {EPSILON})"
    return f"keep its argument above 0{'' if (singular.value or 0) < 0 else example}"


def _power(singular: Singular) -> str:
    first, entry = singular.first, singular.entry
    base, power = first.inputs[:2] if len(first.inputs) == 2 else _worst_power(singular)
    if entry.type != "Pow" or math.isnan(base):
        return "keep the base above 0"
    if not math.isfinite(base) or not math.isfinite(power):
        return ""
    # The gradient is power * base**(power - 1), in TensorFlow 2.21 also where the power is 0.
    if base == 0 and power == 0:
        if gradient_of(entry.frames) == "Pow":
            return "TensorFlow's whole powers lack this derivative at 0: multiply, as x * x, or use tf.square"
        return "a power of 0 has the gradient nan at 0: write 1 in its place"
    if base == 0 and power < 0 and not first.in_gradient:
        return "keep the base away from 0"
    if base == 0 and power == int(power) > 0 and first.in_gradient:
        return ""
    if base == 0 and first.in_gradient:
        if power < 0:
            return "keep the base away from 0"
        if gradient_of(entry.frames) == "Pow":
            return "the derivatives of a broken power become infinite at 0: keep the base above 0"
        return "a power below 1 has an infinite slope at 0: keep the base above 0"
    if first.result == "nan":
        return "keep the base above 0" if base < 0 else ""
    if abs(base) < 1:
        return "it overflows: keep the base away from 0"
    return "it overflows: keep the base or the power smaller"


def _worst_power(singular: Singular) -> tuple[float, float]:
    """Return a base of 0 and its lowest power, where a gradient adds up several; NaN where none is 0."""
    values = [singular.flow.value(key) for key in singular.entry.inputs]
    if len(values) != 2 or any(value is None for value in values):
        return math.nan, math.nan
    base, power = np.broadcast_arrays(*map(to_array, values))
    powers = power[base == 0]
    return (0.0, float(powers.min())) if powers.size and powers.dtype.kind == "f" else (math.nan, math.nan)


# -- quotients ---------------------------------------------------------------------------------------------


def _division(singular: Singular) -> str:
    inputs, flow = singular.first.inputs, singular.flow
    if not all(map(math.isfinite, inputs)):
        return ""
    if len(inputs) == 2 and inputs[1] != 0:
        return _AWAY if abs(inputs[1]) < 1 else "it overflows: keep the numerator smaller"
    denominator = behind(flow, singular.entry.inputs[1]) if len(singular.entry.inputs) > 1 else None
    if denominator is not None and denominator.type in ("Sqrt", "EuclideanNorm"):
        # divide_no_nan would not help: the slope of the root itself is infinite there.
        return f"add a little under the square root that it divides by, tf.sqrt(… + {EPSILON})"
    return f"use tf.math.divide_no_nan, or {_AWAY}"


def _mean(singular: Singular) -> str:
    taken = singular.flow.value(singular.entry.inputs[0])
    if singular.entry.type == "Mean" and taken is not None and to_array(taken).size == 0:
        return "it is the mean of no elements"
    return ""


# -- functions with poles and ends -------------------------------------------------------------------------


def _outside(low: float, high: float, cure: str) -> Callable[[Singular], str]:
    """Return a cure that is given unless the operation's argument is known to lie between two numbers."""

    def cured(singular: Singular) -> str:
        value = singular.value
        return "" if value is not None and low < value < high else cure

    return cured


def _argument(cure: str, place: int = 0) -> Callable[[Singular], str]:
    """Return a cure that is given unless one of the operation's arguments is known to be above 0."""

    def cured(singular: Singular) -> str:
        inputs = singular.first.inputs
        known = len(inputs) > place and not gradient_of(singular.entry.frames)
        return "" if known and min(inputs[place:]) > 0 else cure

    return cured


def _equal_values(cure: str) -> Callable[[Singular], str]:
    """Return a cure that is given where two singular values or eigenvalues are known to be equal."""

    def cured(singular: Singular) -> str:
        values = singular.flow.value(singular.entry.outputs[0]) if singular.entry.outputs else None
        if singular.entry.type != singular.kind or values is None:
            return cure
        array = np.sort(np.abs(to_array(values)), axis=-1)
        apart = np.diff(array) > 1e-6 * array[..., -1:]
        return "" if bool(apart.all()) and bool((array[..., 0] > 0).all()) else cure

    return cured


_ENDS = "keep its argument between −1 and 1, ends excluded"
_POLES = "keep its argument away from 0, −1, −2, …, where it is infinite"
_GAMMA = "keep both of its arguments above 0"

# Equal singular values: https://github.com/tensorflow/tensorflow/issues/17476; equal eigenvalues:
# https://github.com/tensorflow/tensorflow/issues/12853.
_CURES: dict[str, str | Callable[[Singular], str]] = {
    "Sqrt": _sqrt,
    "Rsqrt": _rsqrt,
    "EuclideanNorm": lambda singular: _NORM if singular.first.in_gradient else "",
    "Pow": _power,
    "Log": cure_of_logarithm,
    "Log1p": _outside(-1, math.inf, "keep its argument above −1"),
    "Xlogy": "keep its second argument above 0",
    "Xlog1py": "keep its second argument above −1",
    "RealDiv": _division,
    "Div": _division,
    "Reciprocal": _argument(f"use tf.math.divide_no_nan, or {_AWAY}"),
    "Xdivy": _AWAY,
    "Mean": _mean,
    "Exp": cure_of_exponential,
    "Acos": _outside(-1, 1, _ENDS),
    "Asin": _outside(-1, 1, _ENDS),
    "Atanh": _outside(-1, 1, _ENDS),
    "Acosh": _outside(1, math.inf, "keep its argument above 1"),
    "Erfinv": _outside(-1, 1, _ENDS),
    "Ndtri": _outside(0, 1, "keep its argument between 0 and 1, ends excluded"),
    "Lgamma": _argument(_POLES),
    "Digamma": _argument(_POLES),
    "Igamma": _argument(_GAMMA),
    "Igammac": _argument(_GAMMA),
    "Angle": "0 has no angle: keep its argument away from 0",
    "Atan2": "0 has no angle: keep one of its arguments away from 0",
    "Svd": _equal_values("singular values that are equal, or 0, have no derivative"),
    "SelfAdjointEigV2": _equal_values("eigenvalues that are equal have no derivative"),
    "MatrixInverse": SINGULAR_MATRIX,
    "Cholesky": "the matrix is not positive definite: add a small multiple of the identity",
}
"""What to write instead of each operation; a function where that depends on values or on other operations."""
