"""What TensorFlow's devices are set to, read without starting TensorFlow, and the plan for a request.

Never called here or anywhere: `tf.test.is_gpu_available`, `tf.test.gpu_device_name` and
`device_lib.list_local_devices`. They create process-wide allocators while TensorFlow still counts as not
started, and later growth and limits are accepted without effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.device_request import Request
from tape_magic.engine.device_size import MIB
from tape_magic.errors import DeviceError
from tape_magic.results.devices import Policy, PolicyKind, size_text


@dataclass(frozen=True)
class State:
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


def read_state(tf: Any) -> State:
    """The present settings; starts nothing."""
    gpus, cpus = tf.config.list_physical_devices("GPU"), tf.config.list_physical_devices("CPU")
    configured = {device: tf.config.get_logical_device_configuration(device) for device in gpus + cpus}
    return State(
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


@dataclass(frozen=True)
class Plan:
    """The setup that a request means here: a policy for every physical GPU, and how many logical CPUs."""

    policies: tuple[Policy, ...]
    cpus: int

    def __str__(self) -> str:
        """In words.

        >>> print(make_plan(Request((1,), growth=True), (None, None)))
        GPU 0 hidden, GPU 1 memory as needed
        """
        words = [f"GPU {index} {policy.text}" for index, policy in enumerate(self.policies)]
        return ", ".join([*words, *([f"{self.cpus} logical CPUs"] if self.cpus > 1 else [])])

    def is_so(self, state: State) -> bool:
        """Whether the devices are as planned already."""
        return state.policies == self.policies and state.logical_cpus == self.cpus

    def differences(self, state: State) -> tuple[str, ...]:
        """Each setting that is not as planned, as in "GPU 0 has memory as needed, not at most 4 GiB"."""
        pairs = zip(state.policies, self.policies, strict=True)
        found = [f"GPU {i} {_differs(*pair)}" for i, pair in enumerate(pairs) if pair[0] != pair[1]]
        if state.logical_cpus != self.cpus:
            found.append(
                f"the CPU is {state.logical_cpus} logical {_cpus(state.logical_cpus)}, not {self.cpus}"
            )
        return tuple(found)


def _differs(now: Policy, wanted: Policy) -> str:
    if now.kind is PolicyKind.HIDDEN:
        return f"is hidden, not visible with {wanted.text}"
    if wanted.kind is PolicyKind.HIDDEN:
        return "is visible, not hidden"
    return f"has {now.text}, not {wanted.text}"


def _cpus(number: int) -> str:
    return "CPU" if number == 1 else "CPUs"


def make_plan(request: Request, totals: tuple[int | None, ...]) -> Plan:
    """The plan for a machine whose GPUs have `totals` bytes of memory, None where TensorFlow does not tell.

    Raises `DeviceError` for a GPU index that does not exist and for a limit that does not fit.

    >>> [policy.text for policy in make_plan(Request((1,), growth=True), (None, None)).policies]
    ['hidden', 'memory as needed']
    """
    wanted = () if request.cpu else tuple(range(len(totals))) if request.indices is None else request.indices
    # without any GPU the request goes on, on the CPU
    missing = [index for index in wanted if index >= len(totals)] if totals else []
    if missing:
        there = ", ".join(f"GPU {index}" for index in range(len(totals)))
        raise DeviceError(f"GPU {missing[0]} does not exist: TensorFlow sees {there}, so name one of these.")
    policies = tuple(
        _wanted_policy(request, index, total) if index in wanted else Policy(PolicyKind.HIDDEN)
        for index, total in enumerate(totals)
    )
    return Plan(policies, request.split if request.cpu else 1)


def _wanted_policy(request: Request, index: int, total: int | None) -> Policy:
    if request.limit is None:
        return Policy(PolicyKind.GROWTH if request.growth else PolicyKind.DEFAULT)
    limit = request.limit.on(f"GPU {index}", total)
    if total is not None and limit * request.split > total:
        raise DeviceError(
            f"{request.split} times {request.limit.text} is more than GPU {index} has: {size_text(total)}."
        )
    return Policy(PolicyKind.LIMIT, (limit,) * request.split)
