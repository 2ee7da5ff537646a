"""The peak of memory in use, begun anew."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.device_settings import Change
from tape_magic.engine.device_state import State


def peak_anew(tf: Any, state: State, started: bool) -> tuple[tuple[Change, ...], str]:
    """What resets it on every visible GPU, and a sentence.

    Before TensorFlow has started there is none to reset, and asking for it would start TensorFlow.
    """
    if not state.visible:
        return (), "No GPU is in use, so there is no peak to reset: TensorFlow counts no memory of the CPU."
    if not started:
        return (), "TensorFlow has not started, so there is no peak of memory to reset."
    logical = tf.config.list_logical_devices("GPU")
    names = [device.name.removeprefix("/device:") for device in logical]

    def reset() -> None:
        for name in names:
            tf.config.experimental.reset_memory_stats(name)

    # a peak that was reset is gone: it comes last, so that nothing after it can fail
    anew = Change("the peak of memory", reset, lambda: None, lambda: True)
    return (anew,), f"The peak of memory begins anew on {', '.join(names)}."
