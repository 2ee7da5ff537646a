"""The sentences around the table of devices: why there is no GPU, what overrides a line, what is unknown."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any

from tape_magic.engine.devices.cards import Located
from tape_magic.engine.devices.settings import ALLOCATOR
from tape_magic.engine.devices.state import DeviceState
from tape_magic.engine.devices.words import ALLOCATORS
from tape_magic.results.devices import PolicyKind

_FORCED = "TF_FORCE_GPU_ALLOW_GROWTH"


def remarks(tf: Any, state: DeviceState, started: bool, located: Located) -> tuple[str, ...]:
    """Whole sentences on what the table cannot say."""
    return (
        *_unalike(state),
        *(_unsplit(tf, state) if started else ()),
        *overriding(os.environ, state),
        *_about_nvml(state, located),
    )


def why_no_gpu(tf: Any) -> str:
    """Why TensorFlow shows no GPU, as far as can be told without starting anything."""
    if tf.test.is_built_with_rocm():
        return "this TensorFlow is built for ROCm, and ROCm shows it no GPU"
    return no_gpu_reason(tf.test.is_built_with_cuda(), has_driver(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def no_gpu_reason(built_with_cuda: bool, driver: bool, cuda_visible: str | None) -> str:
    """The first link that is broken, in the order in which TensorFlow needs them.

    >>> no_gpu_reason(True, True, "-1")
    'CUDA_VISIBLE_DEVICES=-1 hides every GPU'
    """
    if not built_with_cuda:
        return "this TensorFlow is built without CUDA"
    if not driver:
        return "no NVIDIA driver: libcuda.so.1 was not found"
    if hides_every_gpu(cuda_visible):
        return f"CUDA_VISIBLE_DEVICES={cuda_visible} hides every GPU"
    return "there is an NVIDIA driver, but no GPU that this TensorFlow can use; its log at import says more"


def hides_every_gpu(cuda_visible: str | None) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves no GPU: CUDA reads it up to the first entry that is none."""
    first = None if cuda_visible is None else cuda_visible.split(",")[0].strip()
    return first in ("", "-1", "NoDevFiles", "none")


def has_driver() -> bool:
    """Whether NVIDIA's driver has its library here."""
    try:
        ctypes.CDLL("libcuda.so.1")  # loads, and starts nothing; a TensorFlow with CUDA has done the same
    except OSError:
        return False
    return True


def _unalike(state: DeviceState) -> tuple[str, ...]:
    if state.growth_alike or state.logical:
        return ()
    return (
        "The visible GPUs differ in memory growth, and TensorFlow refuses to start so: "
        "%tfgpu --growth sets it on all of them.",
    )


def overriding(environ: Mapping[str, str], state: DeviceState) -> tuple[str, ...]:
    """A sentence for each environment variable that overrides what is set."""
    if not state.gpus:
        return ()
    notes = []
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        notes.append(
            f"CUDA_VISIBLE_DEVICES={visible} comes first: CUDA shows only those GPUs, numbered from 0."
        )
    found = overridden(environ, state)
    if found is not None:
        notes.append(f"{found[0]}.")
    return tuple(notes)


def overridden(environ: Mapping[str, str], state: DeviceState) -> tuple[str, str, str] | None:
    """A variable against what is set: what it does, its name, and the value that would agree.

    A list of visible devices is none of these: it only says which GPUs there are.
    """
    forced = environ.get(_FORCED)
    kinds = {policy.kind for policy in state.policies} - {PolicyKind.HIDDEN}
    if forced == "true" and kinds - {PolicyKind.GROWTH}:
        return f"{_FORCED}=true overrides this: every visible GPU takes memory as needed", _FORCED, "false"
    grows = PolicyKind.GROWTH in kinds
    if forced == "false" and grows:
        return f"{_FORCED}=false overrides growth: nearly all memory is taken at once", _FORCED, "true"
    if forced not in (None, "true", "false"):
        said = f"{_FORCED}={forced} is ignored: TensorFlow takes only true or false"
        return said, _FORCED, "true" if grows else "false"
    if (allocator := environ.get(ALLOCATOR)) is not None and allocator not in ALLOCATORS:
        known = " and ".join(ALLOCATORS[1:])
        return f"{ALLOCATOR}={allocator} is ignored: TensorFlow knows {known}", ALLOCATOR, ALLOCATORS[1]
    return None


def _unsplit(tf: Any, state: DeviceState) -> tuple[str, ...]:
    if is_split(tf, state):
        return ()
    return ("TensorFlow did not split the GPUs as it was told: devices of a plug-in cannot be split.",)


def _about_nvml(state: DeviceState, located: Located) -> tuple[str, ...]:
    """What the table lacks, and why."""
    if located.missing and state.gpus:
        what = "The memory of the whole GPU, its load and who holds it are not known"
        return (f"{what}: {located.missing}.",)
    if located.unclear:
        return (
            "Which card of nvidia-smi each GPU is cannot be told: set CUDA_DEVICE_ORDER=PCI_BUS_ID before"
            " TensorFlow is imported.",
        )
    return ()


def is_split(tf: Any, state: DeviceState) -> bool:
    """Whether there are as many logical GPUs as were set up; only after the start, since asking starts."""
    parts = sum(
        max(1, len(policy.limits)) for policy in state.policies if policy.kind is not PolicyKind.HIDDEN
    )
    return len(tf.config.list_logical_devices("GPU")) == parts
