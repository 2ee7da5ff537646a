"""What ``--strategy`` means: words, and strategies of TensorFlow's own."""

from __future__ import annotations

from typing import Any

from tape_magic.errors import ArgumentError

MIRRORED, WORKERS = "mirrored", "workers"
WORDS = (MIRRORED, WORKERS)

_KNOWN = "give mirrored, workers, or a MirroredStrategy."


def devices_of(strategy: Any) -> tuple[str, ...]:
    """Return the devices of this process that share the batches.

    Parameters
    ----------
    strategy
        ``"mirrored"`` for all GPUs that TensorFlow may use, else for all CPUs; or a
        ``tf.distribute.MirroredStrategy`` or ``OneDeviceStrategy``.

    Returns
    -------
    tuple
        The names of logical devices, the first of which applies the optimizer.

    Raises :class:`ArgumentError` for anything else.

    >>> devices_of("mirrored")[0].rpartition("/")[2]
    'device:CPU:0'
    """
    import tensorflow as tf

    if isinstance(strategy, str):
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tuple(device.name for device in found)
    if isinstance(strategy, tf.distribute.MirroredStrategy | tf.distribute.OneDeviceStrategy):
        return tuple(strategy.extended.worker_devices)
    kind = type(strategy).__name__
    if isinstance(strategy, tf.distribute.Strategy):
        raise ArgumentError("strategy", f"is a {kind}, for which Keras 3 has no optimizers: {_KNOWN}")
    raise ArgumentError("strategy", f"is of type {kind}, which is no strategy: {_KNOWN}")


def nothing_to_share(device: str) -> str:
    """Return what to say where a strategy has one device.

    >>> nothing_to_share("/device:GPU:0")
    '1 device (GPU:0): nothing to share out'
    """
    name = short_name(device)
    cure = "; %tfgpu --cpu --split 2 makes two" if name.startswith("CPU") else ""
    return f"1 device ({name}): nothing to share out{cure}"


def short_name(device: str) -> str:
    """Return a device as its users know it.

    >>> short_name("/job:localhost/replica:0/task:0/device:CPU:0")
    'CPU:0'
    """
    return device.rpartition("device:")[2]
