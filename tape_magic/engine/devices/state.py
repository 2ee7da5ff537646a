"""What TensorFlow's devices are set to, read without starting it.

Never called here or anywhere: `tf.test.is_gpu_available`, `tf.test.gpu_device_name` and
`device_lib.list_local_devices`. They create process-wide allocators while TensorFlow still counts as not
started, and later growth and limits are accepted without effect.
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
        """How many logical CPUs there are."""
        return max((len(self.logical.get(cpu, ())) for cpu in self.cpus), default=0) or 1

    @property
    def policies(self) -> tuple[Policy, ...]:
        """How each GPU's memory will really be taken, which is not always what the getters say."""
        return tuple(self._policy(gpu) for gpu in self.gpus)

    def _policy(self, gpu: Any) -> Policy:
        if gpu not in self.visible:
            return Policy(PolicyKind.HIDDEN)
        if configs := self.logical.get(gpu):
            return Policy(PolicyKind.LIMIT, tuple(_limit_bytes(config) for config in configs))
        # TensorFlow drops growth on every GPU as soon as any device, even the CPU or a hidden GPU, has
        # logical devices, while get_memory_growth goes on saying True (context.py, _compute_device_options).
        return Policy(PolicyKind.GROWTH if self.growth[gpu] and not self.logical else PolicyKind.DEFAULT)

    @property
    def growth_alike(self) -> bool:
        """Whether the visible GPUs agree on growth (None and False do not), as TensorFlow needs to start."""
        return len({self.growth[gpu] for gpu in self.visible}) < 2


def _limit_bytes(config: Any) -> int:
    # TensorFlow takes any limit that Python converts, the text "512" too, in MiB
    return int(float(config.memory_limit) * MIB)


def read_state(tf: Any) -> DeviceState:
    """The present settings; starts nothing."""
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
    """Whether TensorFlow's runtime has started; leaves everything as it found it.

    There is no public query. Visibility is the one setting that can be tried and put back exactly: changing
    it is refused after the start and has no effect before it.
    """
    visible = tf.config.get_visible_devices()
    try:
        tf.config.set_visible_devices([])
    except RuntimeError:
        return True
    finally:
        # equal to what is there after the start, and an equal list is never refused
        tf.config.set_visible_devices(visible)
    return False
