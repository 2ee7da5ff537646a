"""Turns a request into a plan for this machine: a policy for each of its GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from tape_magic.engine.devices.request import DeviceRequest
from tape_magic.engine.devices.state import DeviceState
from tape_magic.errors import DeviceError, size_text
from tape_magic.results.devices import Policy, PolicyKind


@dataclass(frozen=True)
class DevicePlan:
    """The setup that a request means here: a policy for every physical GPU, and how many logical CPUs."""

    policies: tuple[Policy, ...]
    cpus: int

    def __str__(self) -> str:
        """Return the plan in words.

        >>> print(make_plan(DeviceRequest((1,), growth=True), (None, None)))
        GPU 0 hidden, GPU 1 memory as needed
        """
        words = [f"GPU {index} {policy.text}" for index, policy in enumerate(self.policies)]
        return ", ".join([*words, *([f"{self.cpus} logical CPUs"] if self.cpus > 1 else [])])

    def holds(self, state: DeviceState) -> bool:
        """Return whether the devices are as planned already."""
        return state.policies == self.policies and state.logical_cpus == self.cpus

    def differences(self, state: DeviceState) -> tuple[str, ...]:
        """Return each setting that differs, as in "GPU 0 has memory as needed, not at most 4 GiB"."""
        pairs = zip(state.policies, self.policies, strict=True)
        found = [f"GPU {i} {_difference(*pair)}" for i, pair in enumerate(pairs) if pair[0] != pair[1]]
        if state.logical_cpus != self.cpus:
            found.append(
                f"the CPU is {state.logical_cpus} logical {_cpus(state.logical_cpus)}, not {self.cpus}"
            )
        return tuple(found)


def _difference(now: Policy, wanted: Policy) -> str:
    if now.kind is PolicyKind.HIDDEN:
        return f"is hidden, not visible with {wanted.text}"
    if wanted.kind is PolicyKind.HIDDEN:
        return "is visible, not hidden"
    return f"has {now.text}, not {wanted.text}"


def _cpus(number: int) -> str:
    return "CPU" if number == 1 else "CPUs"


def make_plan(request: DeviceRequest, totals: tuple[int | None, ...]) -> DevicePlan:
    """Return the plan for a machine whose GPUs have `totals` bytes of memory, None where that is not known.

    Raises `DeviceError` for a GPU index that does not exist and for a limit that does not fit.

    >>> [policy.text for policy in make_plan(DeviceRequest((1,), growth=True), (None, None)).policies]
    ['hidden', 'memory as needed']
    """
    wanted = () if request.cpu else tuple(range(len(totals))) if request.indices is None else request.indices
    # Without any GPU, the request is carried out on the CPU.
    missing = [index for index in wanted if index >= len(totals)] if totals else []
    if missing:
        there = ", ".join(f"GPU {index}" for index in range(len(totals)))
        raise DeviceError(f"GPU {missing[0]} does not exist: TensorFlow sees {there}, so name one of these.")
    policies = tuple(
        _wanted_policy(request, index, total) if index in wanted else Policy(PolicyKind.HIDDEN)
        for index, total in enumerate(totals)
    )
    return DevicePlan(policies, request.split if request.cpu else 1)


def _wanted_policy(request: DeviceRequest, index: int, total: int | None) -> Policy:
    if request.limit is None:
        return Policy(PolicyKind.GROWTH if request.growth else PolicyKind.DEFAULT)
    limit = request.limit.on(f"GPU {index}", total)
    if total is not None and limit * request.split > total:
        raise DeviceError(
            f"{request.split} times {request.limit.text} is more than GPU {index} has: {size_text(total)}."
        )
    return Policy(PolicyKind.LIMIT, (limit,) * request.split)
