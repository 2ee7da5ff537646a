"""The peak of memory in use, begun anew."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.device_state import State
from tape_magic.errors import DeviceError


def reset_peak(tf: Any, state: State, started: bool) -> tuple[tuple[str, ...], str]:
    """Resets it on every visible GPU: these, and a sentence.

    Before TensorFlow has started there is none to reset, and asking for it would start TensorFlow.
    Raises `DeviceError` for a GPU whose memory is not counted.
    """
    if not state.visible:
        return (), "No GPU is in use, so there is no peak to reset: TensorFlow counts no memory of the CPU."
    if not started:
        return (), "TensorFlow has not started, so there is no peak of memory to reset."
    logical = tf.config.list_logical_devices("GPU")
    names = tuple(device.name.removeprefix("/device:") for device in logical)
    for name in names:
        try:
            tf.config.experimental.reset_memory_stats(name)
        except (ValueError, tf.errors.OpError) as error:
            reason = next(iter(str(error).splitlines()), "").rstrip(".")
            raise DeviceError(f"TensorFlow did not reset the peak of {name}: {reason}.") from error
    return names, f"The peak of memory begins anew on {', '.join(names)}."
