"""Reads the settings of TensorFlow's devices without starting TensorFlow.

This package never calls `tf.test.is_gpu_available`, `tf.test.gpu_device_name` or
`device_lib.list_local_devices`. These functions create process-wide allocators while TensorFlow still counts
as not started, and later growth and limits are accepted without effect (seen in TensorFlow 2.21).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.devices.size import MIB
from tape_magic.results.devices import Policy, PolicyKind


@dataclass(frozen=True)
class DeviceState:
    """The settings as TensorFlow keeps them, by its physical devices (`Any`, since TensorFlow has no types).

    `visible` are the visible GPUs in TensorFlow's order. `growth` is None for a GPU where it was never set.
    `logical` holds only the devices that were given logical devices, with TensorFlow's own configurations.
    """

    gpus: tuple[Any, ...]
    cpus: tuple[Any, ...]
    visible: tuple[Any, ...]
    growth: Mapping[Any, bool | None]
    logical: Mapping[Any, tuple[Any, ...]]

    @property
    def logical_cpus(self) -> int:
        """The number of logical CPUs."""
        return max((len(self.logical.get(cpu, ())) for cpu in self.cpus), default=0) or 1

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The way in which each GPU's memory will really be taken, which the getters do not always return."""
        return tuple(self._policy(gpu) for gpu in self.gpus)

    def _policy(self, gpu: Any) -> Policy:
        if gpu not in self.visible:
            return Policy(PolicyKind.HIDDEN)
        if configs := self.logical.get(gpu):
            return Policy(PolicyKind.LIMIT, tuple(_limit_bytes(config) for config in configs))
        # TensorFlow drops growth on every GPU as soon as any device, even the CPU or a hidden GPU, has
        # logical devices, while get_memory_growth still returns True (2.21, eager/context.py,
        # _compute_device_options).
        return Policy(PolicyKind.GROWTH if self.growth[gpu] and not self.logical else PolicyKind.DEFAULT)

    @property
    def growth_alike(self) -> bool:
        """Whether the visible GPUs agree on growth, without which TensorFlow does not start.

        None and False count as different.
        """
        return len({self.growth[gpu] for gpu in self.visible}) < 2


def _limit_bytes(config: Any) -> int:
    # In MiB; TensorFlow accepts any value that Python converts to a number, such as the text "512".
    return int(float(config.memory_limit) * MIB)


def read_state(tf: Any) -> DeviceState:
    """Return the present settings; start nothing."""
    gpus, cpus = tf.config.list_physical_devices("GPU"), tf.config.list_physical_devices("CPU")
    configured = {device: tf.config.get_logical_device_configuration(device) for device in gpus + cpus}
    return DeviceState(
        gpus=tuple(gpus),
        cpus=tuple(cpus),
        visible=tuple(tf.config.get_visible_devices("GPU")),
        growth={gpu: tf.config.experimental.get_memory_growth(gpu) for gpu in gpus},
        logical={device: tuple(configs) for device, configs in configured.items() if configs is not None},
    )


def has_started(tf: Any) -> bool:
    """Return whether TensorFlow's runtime has started; leave every setting as it is.

    TensorFlow has no public query for this. Visibility is the one setting that can be tried and put back
    exactly: TensorFlow refuses to change it after the start, and before the start the change has no effect.
    """
    visible = tf.config.get_visible_devices()
    try:
        tf.config.set_visible_devices([])
    except RuntimeError:
        return True
    finally:
        # After the start this list equals the present one, and TensorFlow never refuses an equal list.
        tf.config.set_visible_devices(visible)
    return False
