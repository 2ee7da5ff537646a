"""What `tf.config` can set and cannot take back: logical devices, and the determinism of operations.

Also whether it has listed the devices, which starts NVIDIA's driver: no public function tells that.

The public setter of logical devices cannot express "none": ``None`` is a ``TypeError``, and an empty list
leaves the GPU without a logical device (seen in TensorFlow 2.21).

Operation determinism has a public function that enables it, and none that disables it or tells whether it is
on (https://github.com/tensorflow/community/pull/346 is its design).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def forget_logical_devices(device: Any) -> None:
    """Make a physical device whole again, as if it had never been given logical devices.

    To be called before TensorFlow has started. Raises ``RuntimeError`` where this version keeps its
    configurations elsewhere, so that the caller can set everything back and say so.
    """
    module = _private("tensorflow.python.eager.context")
    configurations = getattr(module.context(), "_virtual_device_map", None) if module is not None else None
    if not isinstance(configurations, dict):
        raise RuntimeError("this TensorFlow has no way to take logical devices back; restart the kernel")
    configurations.pop(device, None)


def has_listed_devices() -> bool:
    """Return whether TensorFlow has asked this machine for its devices in this process; start nothing.

    False also where this TensorFlow does not tell.
    """
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    return getattr(context, "_physical_devices", None) is not None


def is_deterministic() -> bool:
    """Return whether operation determinism is on; False where this TensorFlow does not tell."""
    ask = getattr(_config(), "is_op_determinism_enabled", None)
    return bool(ask()) if ask is not None else False


def end_determinism() -> None:
    """Switch operation determinism off. Raises ``RuntimeError`` where this TensorFlow has no way to do so."""
    end = getattr(_config(), "disable_op_determinism", None)
    if end is None:
        raise RuntimeError("this TensorFlow has no way to end determinism; restart the kernel")
    end()


def _config() -> Any:
    return _private("tensorflow.python.framework.config")


def _private(name: str) -> Any:
    """Return one of TensorFlow's private modules, or ``None`` where there is none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
