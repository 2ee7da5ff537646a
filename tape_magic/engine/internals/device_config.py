"""Logical devices forgotten; operation determinism read and ended.

The public setter cannot express "none": None is a TypeError, and an empty list on one GPU of two keeps
TensorFlow from starting. This is the only place that touches TensorFlow's private map of configurations.
"""

from __future__ import annotations

import importlib
from typing import Any


def forget_logical_devices(device: Any) -> None:
    """Makes a physical device whole again, as if it had never been given logical devices.

    Only before TensorFlow has started. Raises `RuntimeError` where this TensorFlow keeps its configurations
    elsewhere, so that the caller sets everything back and says so.
    """
    context = importlib.import_module("tensorflow.python.eager.context").context()
    configurations = getattr(context, "_virtual_device_map", None)
    if not isinstance(configurations, dict):
        raise RuntimeError("this TensorFlow has no way to take logical devices back; restart the kernel")
    configurations.pop(device, None)


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
