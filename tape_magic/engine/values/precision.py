"""The precision and range of dtypes, by their names, from the tables of NumPy and ``ml_dtypes``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DOUBLE = float(np.finfo(np.float64).eps)
"""The machine epsilon of float64 and complex128."""


def epsilon(dtype: str) -> float:
    """Return the distance from 1 to the next number of a floating-point or complex dtype.

    Raises ``ValueError`` for any other dtype.

    >>> epsilon("float32") == epsilon("complex64") == 2.0**-23
    True
    """
    return float(_limits(dtype).eps)


def largest_exponent(dtype: str) -> int:
    """Return the largest whole number whose exponential is finite in a floating-point or complex dtype.

    Raises ``ValueError`` for any other dtype.

    >>> largest_exponent("float64")
    709
    """
    return math.floor(math.log(float(_limits(dtype).max)))


def double_of(dtype: str) -> str | None:
    """Return the dtype of double precision for a narrower one; ``None`` for float64 and for any other kind.

    >>> double_of("float32"), double_of("complex64"), double_of("float64"), double_of("int32")
    ('float64', 'complex128', None, None)
    """
    try:
        narrow = epsilon(dtype) > DOUBLE
    except (ValueError, TypeError):  # whole numbers; strings, and the handles of variables
        return None
    if not narrow:
        return None
    return "complex128" if dtype.startswith("complex") else "float64"


def _limits(dtype: str) -> Any:
    """Return the limits of a dtype; NumPy alone knows no bfloat16."""
    import ml_dtypes

    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
