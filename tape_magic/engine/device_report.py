"""The rows of the report, and the sentences around them: why there is no GPU, which variables override."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tape_magic.engine.device_state import State
from tape_magic.results.devices import Device, DeviceReport, Outcome, Policy, PolicyKind


def build_report(
    tf: Any, state: State, started: bool, outcome: Outcome, notes: tuple[str, ...] = ()
) -> DeviceReport:
    """The devices as they are in `state`; starts nothing."""
    build = tf.sysconfig.get_build_info()
    return DeviceReport(
        devices=(*_gpu_rows(tf, state, started), *_cpu_rows(tf, state)),
        tensorflow=tf.__version__,
        cuda=build.get("cuda_version"),
        cudnn=build.get("cudnn_version"),
        started=started,
        outcome=outcome,
        why_no_gpu=None if state.gpus else why_no_gpu(tf),
        notes=(*notes, *_unalike(state), *overriding(os.environ, state)),
    )


def _gpu_rows(tf: Any, state: State, started: bool) -> list[Device]:
    rows, first = [], 0
    for index, (gpu, policy) in enumerate(zip(state.gpus, state.policies, strict=True)):
        visible = policy.kind is not PolicyKind.HIDDEN
        # TensorFlow numbers the logical GPUs through, in the order of the visible physical ones
        count = max(1, len(policy.limits)) if visible else 0
        names = tuple(f"GPU:{number}" for number in range(first, first + count))
        first += count
        details = tf.config.experimental.get_device_details(gpu)
        # memory_total stays unknown: TensorFlow does not tell it
        used, peak = _memory(tf, names) if started else (None, None)
        rows.append(
            Device(
                kind="GPU",
                index=index,
                logical_names=names,
                product=details.get("device_name"),
                compute_capability=details.get("compute_capability"),
                memory_total=None,
                memory_used=used,
                memory_peak=peak,
                policy=policy,
                visible=visible,
            )
        )
    return rows


def _memory(tf: Any, names: tuple[str, ...]) -> tuple[int | None, int | None]:
    """Bytes in use and their peak over the logical devices; only after the start, since asking starts."""
    try:
        infos = [tf.config.experimental.get_memory_info(name) for name in names]
    except (ValueError, tf.errors.OpError):
        return (
            None,
            None,
        )  # a device that TensorFlow skipped at its start, or an allocator that does not count
    if not infos:
        return None, None
    return sum(info["current"] for info in infos), sum(info["peak"] for info in infos)


def _cpu_rows(tf: Any, state: State) -> list[Device]:
    visible = tf.config.get_visible_devices("CPU")
    rows = []
    for index, cpu in enumerate(state.cpus):
        names = tuple(f"CPU:{number}" for number in range(state.logical_cpus)) if cpu in visible else ()
        # TensorFlow counts no memory on the CPU: it says 0 in use whatever there is
        rows.append(
            Device(
                kind="CPU",
                index=index,
                logical_names=names,
                product=cpu_product(),
                compute_capability=None,
                memory_total=system_memory(),
                memory_used=None,
                memory_peak=None,
                policy=Policy(PolicyKind.HOST if cpu in visible else PolicyKind.HIDDEN),
                visible=cpu in visible,
            )
        )
    return rows


def cpu_product() -> str:
    """The processor and how many of its cores this process may use, as "AMD EPYC 7B12, 2 cores"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = next(filter(None, named), "") or platform.processor() or platform.machine() or "unknown processor"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} {'core' if cores == 1 else 'cores'}"


def system_memory() -> int | None:
    """The machine's memory in bytes, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def why_no_gpu(tf: Any) -> str:
    """Why TensorFlow shows no GPU, as far as can be told without starting anything."""
    if tf.test.is_built_with_rocm():
        return "this TensorFlow is built for ROCm, and ROCm shows it no GPU"
    return no_gpu_reason(tf.test.is_built_with_cuda(), _has_driver(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def no_gpu_reason(built_with_cuda: bool, driver: bool, cuda_visible: str | None) -> str:
    """The first link that is broken, in the order in which TensorFlow needs them.

    >>> no_gpu_reason(True, True, "-1")
    'CUDA_VISIBLE_DEVICES=-1 hides every GPU'
    """
    if not built_with_cuda:
        return "this TensorFlow is built without CUDA"
    if not driver:
        return "no NVIDIA driver: libcuda.so.1 was not found"
    # CUDA reads the list up to the first entry that is no device
    if cuda_visible is not None and cuda_visible.split(",")[0].strip() in ("", "-1", "NoDevFiles", "none"):
        return f"CUDA_VISIBLE_DEVICES={cuda_visible} hides every GPU"
    return "there is an NVIDIA driver, but no GPU that this TensorFlow can use; its log at import says more"


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")  # loads, and starts nothing; a TensorFlow with CUDA has done the same
    except OSError:
        return False
    return True


def _unalike(state: State) -> tuple[str, ...]:
    if state.growth_alike or state.logical:
        return ()
    return (
        "The visible GPUs differ in memory growth, and TensorFlow refuses to start so: "
        "%tfgpu --growth sets it on all of them.",
    )


def overriding(environ: Mapping[str, str], state: State) -> tuple[str, ...]:
    """A sentence for each environment variable that overrides what is set."""
    if not state.gpus:
        return ()
    notes = []
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        notes.append(
            f"CUDA_VISIBLE_DEVICES={visible} comes first: CUDA shows only those GPUs, numbered from 0."
        )
    forced = environ.get("TF_FORCE_GPU_ALLOW_GROWTH")
    kinds = {policy.kind for policy in state.policies} - {PolicyKind.HIDDEN}
    if forced == "true" and kinds - {PolicyKind.GROWTH}:
        notes.append(
            "TF_FORCE_GPU_ALLOW_GROWTH=true overrides this: every visible GPU takes memory as needed."
        )
    elif forced == "false" and PolicyKind.GROWTH in kinds:
        notes.append("TF_FORCE_GPU_ALLOW_GROWTH=false overrides growth: nearly all memory is taken at once.")
    elif forced not in (None, "true", "false"):
        notes.append(f"TF_FORCE_GPU_ALLOW_GROWTH={forced} is ignored: TensorFlow takes only true or false.")
    return tuple(notes)
