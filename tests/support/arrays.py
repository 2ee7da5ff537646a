"""Arrays beside what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_close(value: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Raise ``AssertionError`` where a tensor or array has another shape, or is not within a tolerance."""
    assert tuple(value.shape) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(value), expected, rtol=tolerance, atol=tolerance)
