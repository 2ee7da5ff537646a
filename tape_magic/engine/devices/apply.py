"""Calls TensorFlow's setters in the order that they need, and sets everything back if one fails."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.devices.plan import DevicePlan
from tape_magic.engine.devices.settings import Change
from tape_magic.engine.devices.size import MIB
from tape_magic.engine.devices.state import DeviceState, read_state
from tape_magic.engine.internals.device_config import forget_logical_devices
from tape_magic.errors import DeviceError
from tape_magic.results.devices import PolicyKind


class Setter(enum.Enum):
    """One of TensorFlow's setters; the value names what the setter sets."""

    GROWTH = "memory growth"
    VISIBLE = "the visible devices"
    LOGICAL = "the logical devices"


@dataclass(frozen=True)
class SetterCall:
    """One call of a setter, with the value from before; for visibility, which is set for all, no `device`."""

    setter: Setter
    device: Any
    value: Any
    before: Any

    def call(self, tf: Any, value: Any) -> None:
        """Call the setter with a value."""
        if self.setter is Setter.GROWTH:
            tf.config.experimental.set_memory_growth(self.device, value)
        elif self.setter is Setter.VISIBLE:
            tf.config.set_visible_devices(list(value), "GPU")
        elif value is None:
            forget_logical_devices(self.device)
        else:
            tf.config.set_logical_device_configuration(self.device, list(value))

    def change(self, tf: Any) -> Change:
        """Return the call as a change, which can be undone."""
        return Change(self.text, lambda: self.call(tf, self.value), lambda: self.call(tf, self.before))

    @property
    def text(self) -> str:
        """The setting and its device in words."""
        if self.device is None:
            return self.setter.value
        return (
            f"{self.setter.value} of {self.device.name.removeprefix('/physical_device:').replace(':', ' ')}"
        )


def apply(tf: Any, plan: DevicePlan | None, state: DeviceState, changes: Sequence[Change]) -> None:
    """Set the devices as planned, make the changes, and read all of it back.

    Without a plan the devices stay as they are; with one, TensorFlow must not have started. Raises
    `DeviceError` if a setter refuses or a setting reads differently afterwards; everything is then set back
    to `state`.
    """
    done: list[Change] = []
    try:
        for step in _steps(tf, plan, state) if plan is not None else ():
            _do(step.change(tf), done)
        for change in changes:
            _do(change, done)
        _check(tf, plan, changes)
    except BaseException as error:
        undone = _undo(tf, done, state)
        if not isinstance(error, Exception):
            raise  # an interrupt stays an interrupt, with everything set back
        raise DeviceError(f"{_what_failed(error, done)}; {undone}.") from error


def _do(change: Change, done: list[Change]) -> None:
    done.append(change)  # before the call: a setter that fails half-way is set back too
    change.do()


def _check(tf: Any, plan: DevicePlan | None, changes: Sequence[Change]) -> None:
    """Raise `_ReadBack` if a setting reads differently from what was set."""
    if plan is not None:
        after = read_state(tf)
        if not (plan.holds(after) and after.growth_alike):
            raise _ReadBack("; ".join(plan.differences(after)) or "GPUs that differ in growth")
    for change in changes:
        if not change.holds():
            raise _ReadBack(f"{change.text} is not what was set")


class _ReadBack(Exception):
    """The setters accepted every value, and the settings are different all the same."""


def _steps(tf: Any, plan: DevicePlan, state: DeviceState) -> Iterator[SetterCall]:
    # Logical devices are removed first and added last: TensorFlow refuses growth on a device that has logical
    # devices, and drops growth on every GPU if any device has them, even a hidden one (TensorFlow 2.21).
    for device, configs in state.logical.items():
        yield SetterCall(Setter.LOGICAL, device, None, configs)
    wanted = [
        (gpu, policy)
        for gpu, policy in zip(state.gpus, plan.policies, strict=True)
        if policy.kind is not PolicyKind.HIDDEN
    ]
    growth = _growth(plan, [state.growth[gpu] for gpu, _ in wanted])
    for gpu, _ in wanted:
        if state.growth[gpu] is not growth:
            yield SetterCall(Setter.GROWTH, gpu, growth, state.growth[gpu])
    visible = tuple(gpu for gpu, _ in wanted)
    if visible != state.visible:
        yield SetterCall(Setter.VISIBLE, None, visible, state.visible)
    configuration = tf.config.LogicalDeviceConfiguration
    for gpu, policy in wanted:
        if policy.limits:
            limits = tuple(configuration(memory_limit=limit // MIB) for limit in policy.limits)
            yield SetterCall(Setter.LOGICAL, gpu, limits, None)
    if plan.cpus > 1:
        yield SetterCall(Setter.LOGICAL, state.cpus[0], (configuration(),) * plan.cpus, None)


def _growth(plan: DevicePlan, before: list[bool | None]) -> bool | None:
    """Return the one value for every visible GPU.

    TensorFlow 2.21 does not start if two visible GPUs differ in growth; None and False count as different.
    """
    if any(policy.kind is PolicyKind.GROWTH for policy in plan.policies):
        return True
    return None if all(growth is None for growth in before) else False


def _undo(tf: Any, done: Sequence[Change], state: DeviceState) -> str:
    """Set everything back, the last change first, and return the clause that says how that went."""
    failed = False
    for change in reversed(done):
        # A change that cannot be undone must not keep the others from it. For devices, the comparison below
        # shows the failure.
        try:
            change.undo()
        except Exception:
            failed = failed or change.holds()
    if read_state(tf) == state and not failed:
        return "everything is set back as it was"
    return "setting it back failed too, so restart the kernel"


def _what_failed(error: Exception, done: Sequence[Change]) -> str:
    if isinstance(error, _ReadBack):
        return f"TensorFlow accepted the devices and then had them otherwise ({error})"
    reason = next(iter(str(error).splitlines()), "").rstrip(".") or "no reason given"
    what = done[-1].text if done else "the devices"
    return f"TensorFlow refused to set {what} ({type(error).__name__}: {reason})"
