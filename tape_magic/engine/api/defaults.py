"""Defaults of the magics that ``%config TapeMagics`` shows before TensorFlow or NumPy is loaded."""

from __future__ import annotations

from tape_magic.engine.values.sizes import LIMIT

DERIVATIVE_LIMIT = LIMIT
"""The largest Jacobian or Hessian that is computed unless a higher limit is given, in bytes."""
