"""The sentences around the table of devices: the cause of a missing GPU, overriding variables, unknowns."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from typing import Any

from tape_magic.engine.devices.cards import CardMatches
from tape_magic.engine.devices.settings import ALLOCATOR
from tape_magic.engine.devices.state import DeviceState
from tape_magic.engine.devices.words import ALLOCATORS
from tape_magic.results.devices import PolicyKind

_FORCED = "TF_FORCE_GPU_ALLOW_GROWTH"

_SKIPPED = "there is an NVIDIA driver, but no GPU that this TensorFlow can use; its log at import says more"


def remarks(tf: Any, state: DeviceState, started: bool, located: CardMatches) -> tuple[str, ...]:
    """Return whole sentences on what the table of devices cannot show."""
    return (
        *_growth_notes(state),
        *(_split_notes(tf, state) if started else ()),
        *environment_notes(os.environ, state),
        *_nvml_notes(state, located),
    )


def why_no_gpu(tf: Any, ask: Callable[[], str]) -> str:
    """Return the reason why TensorFlow shows no GPU, as far as it is known without starting anything.

    `ask` gives what the driver says of it, or an empty text; called only where nothing simpler is the reason.
    """
    if tf.test.is_built_with_rocm():
        return "this TensorFlow is built for ROCm, and ROCm shows it no GPU"
    built = tf.test.is_built_with_cuda()
    reason = no_gpu_reason(built, built and has_driver(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return (ask() if reason == _SKIPPED else "") or reason


def no_gpu_reason(built_with_cuda: bool, driver: bool, cuda_visible: str | None) -> str:
    """Return the first broken link, in the order in which TensorFlow needs them.

    >>> no_gpu_reason(True, True, "-1")
    'CUDA_VISIBLE_DEVICES=-1 hides every GPU'
    """
    if not built_with_cuda:
        return "this TensorFlow is built without CUDA"
    if not driver:
        return "no NVIDIA driver: libcuda.so.1 was not found"
    if hides_every_gpu(cuda_visible):
        return f"CUDA_VISIBLE_DEVICES={cuda_visible} hides every GPU"
    return _SKIPPED


def hides_every_gpu(cuda_visible: str | None) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES leaves no GPU: CUDA reads it up to the first invalid entry."""
    first = None if cuda_visible is None else cuda_visible.split(",")[0].strip()
    return first in ("", "-1", "NoDevFiles", "none")


def has_driver() -> bool:
    """Return whether NVIDIA's driver has its library here."""
    try:
        # Loading the library starts nothing; a TensorFlow with CUDA has loaded it already.
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _growth_notes(state: DeviceState) -> tuple[str, ...]:
    if state.growth_alike or state.logical:
        return ()
    return (
        "The visible GPUs differ in memory growth, and TensorFlow refuses to start so: "
        "%tfgpu --growth sets it on all of them.",
    )


def environment_notes(environ: Mapping[str, str], state: DeviceState) -> tuple[str, ...]:
    """Return a sentence for each environment variable that overrides a setting."""
    if not state.gpus:
        return ()
    notes = []
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        notes.append(
            f"CUDA_VISIBLE_DEVICES={visible} comes first: CUDA shows only those GPUs, numbered from 0."
        )
    found = overriding_variable(environ, state)
    if found is not None:
        notes.append(f"{found[0]}.")
    return tuple(notes)


def overriding_variable(environ: Mapping[str, str], state: DeviceState) -> tuple[str, str, str] | None:
    """Return a variable that overrides a setting: its effect, its name, and the value that would agree.

    CUDA_VISIBLE_DEVICES is not such a variable: it only selects the GPUs that exist for this process.
    """
    forced = environ.get(_FORCED)
    kinds = {policy.kind for policy in state.policies} - {PolicyKind.HIDDEN}
    if forced == "true" and kinds - {PolicyKind.GROWTH}:
        return f"{_FORCED}=true overrides this: every visible GPU takes memory as needed", _FORCED, "false"
    grows = PolicyKind.GROWTH in kinds
    if forced == "false" and grows:
        return f"{_FORCED}=false overrides growth: nearly all memory is taken at once", _FORCED, "true"
    if forced not in (None, "true", "false"):
        effect = f"{_FORCED}={forced} is ignored: TensorFlow takes only true or false"
        return effect, _FORCED, "true" if grows else "false"
    if (allocator := environ.get(ALLOCATOR)) is not None and allocator not in ALLOCATORS:
        known = " and ".join(ALLOCATORS[1:])
        return f"{ALLOCATOR}={allocator} is ignored: TensorFlow knows {known}", ALLOCATOR, ALLOCATORS[1]
    return None


def _split_notes(tf: Any, state: DeviceState) -> tuple[str, ...]:
    if is_split(tf, state):
        return ()
    return ("TensorFlow did not split the GPUs as it was told: devices of a plug-in cannot be split.",)


def _nvml_notes(state: DeviceState, located: CardMatches) -> tuple[str, ...]:
    """Return a sentence on what the table lacks for want of NVML, and on the cause."""
    if located.missing and state.gpus:
        what = "How much of a GPU's memory is in use, by whom, and its load are not known"
        return (f"{what}: {located.missing}.",)
    if located.unclear:
        return (
            "Which card of nvidia-smi each GPU is cannot be told: set CUDA_DEVICE_ORDER=PCI_BUS_ID before"
            " TensorFlow is imported.",
        )
    return ()


def is_split(tf: Any, state: DeviceState) -> bool:
    """Return whether there are as many logical GPUs as were set up.

    Call this only after TensorFlow's start, since listing logical devices starts TensorFlow.
    """
    parts = sum(
        max(1, len(policy.limits)) for policy in state.policies if policy.kind is not PolicyKind.HIDDEN
    )
    return len(tf.config.list_logical_devices("GPU")) == parts
