"""Whether operations are deterministic: TensorFlow lets one switch it on in public, but not ask or end it.

This is the only place that touches the private ones.
"""

from __future__ import annotations

import importlib
from typing import Any


def is_deterministic() -> bool:
    """Whether it is on; False where this TensorFlow does not tell."""
    ask = getattr(_config(), "is_op_determinism_enabled", None)
    return bool(ask()) if ask is not None else False


def end_determinism() -> None:
    """Puts it back to off. Raises `RuntimeError` where this TensorFlow has no way to do so."""
    end = getattr(_config(), "disable_op_determinism", None)
    if end is None:
        raise RuntimeError("this TensorFlow has no way to end determinism; restart the kernel")
    end()


def _config() -> Any:
    return importlib.import_module("tensorflow.python.framework.config")
