"""Why there is no GPU, and the one thing to do about it: the chain in order, up to the first broken link.

It starts nothing in this process. What may end a process is run apart, with a time limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tape_magic.engine.devices.cards import VISIBLE, locate
from tape_magic.engine.devices.host import holders
from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.devices.notes import hides_every_gpu, overridden
from tape_magic.engine.devices.state import DeviceState, has_started, read_state
from tape_magic.engine.doctor import trial_program
from tape_magic.engine.doctor.cuda_libraries import whole_line
from tape_magic.engine.doctor.isolated import IsolatedRun, run_apart
from tape_magic.engine.doctor.links import (
    RUN,
    Looked,
    Remedy,
    look_at_driver,
    look_at_files,
    look_at_libraries,
    look_at_wheel,
)
from tape_magic.engine.internals.loading import TensorFlowMissing, load_tensorflow
from tape_magic.results.doctor import ON_CPU, DoctorReport, Examined, Finding, Link

TRIAL_SECONDS = 180
"""A GPU newer than the wheel compiles its kernels first, which takes minutes."""

_PLUGIN = "TF_PLUGGABLE_DEVICE_LIBRARY_PATH"

FIRST_LINE = "%tfgpu 0 --growth"


def examine(machine: Machine | None = None) -> DoctorReport:
    """Walks the chain on this machine, in seconds; where a GPU computes for the first time, in minutes.

    >>> report = examine()  # doctest: +SKIP
    >>> report.headline, report.command  # doctest: +SKIP
    ('No GPU: libcudnn.so.9 is missing', '%pip install "nvidia-cudnn-cu12<10.0,>=9.3.0.75"')
    """
    machine = machine or Machine()
    links: list[Examined] = []
    cure: Remedy | None = None
    version = ""
    try:
        tf = load_tensorflow()
        version = tf.__version__
        walk = _walk(tf, machine)
    except TensorFlowMissing as missing:
        walk = iter([_without_tensorflow(missing, machine)])
    for examined, found in walk:
        links.append(examined)
        cure = found
        if cure is not None:
            break
    links += [Examined(link, Finding.UNTRIED) for link in list(Link)[len(links) :]]
    if cure is None:
        advice = "The line for the top of the notebook"
        return DoctorReport(tuple(links), None, advice, FIRST_LINE, version)
    return DoctorReport(tuple(links), cure.cause, cure.advice, cure.command, version)


def _without_tensorflow(missing: TensorFlowMissing, machine: Machine) -> Looked:
    """The first link where there is no TensorFlow to ask; where a card is, CUDA's libraries come with it."""
    finding = Finding.FAILS if missing.installed else Finding.MISSING
    with_cuda = machine.linux and not machine.without_card and not missing.installed
    command = whole_line("") if with_cuda else missing.command
    return Examined(Link.WHEEL, finding, (missing.said,)), Remedy(missing.cause, RUN, command)


def _walk(tf: Any, machine: Machine) -> Iterator[Looked]:
    """The links one after the other, each looked at only when it is asked for."""
    build, version = tf.sysconfig.get_build_info(), tf.__version__
    state = read_state(tf)
    before: tuple[Callable[[], Looked], ...] = (
        lambda: look_at_wheel(build, version, machine),
        lambda: look_at_driver(build, machine),
        lambda: look_at_files(machine),
        lambda: look_at_libraries(build, version, machine),
    )
    if state.gpus and _is_plugin(machine.environ):
        said = f"the GPUs come from a plug-in: {machine.environ[_PLUGIN]}"
        yield Examined(Link.WHEEL, Finding.UNNEEDED, (said,)), None
        for link in (Link.DRIVER, Link.FILES, Link.LIBRARIES):
            yield Examined(link, Finding.UNNEEDED), None
    else:
        for look in before:
            yield look()
    yield _look_at_visible(tf, state, machine)
    yield _look_at_settings(tf, state, machine)
    yield _look_at_computation(tf, state, machine)


def _is_plugin(environ: Mapping[str, str]) -> bool:
    return bool(environ.get(_PLUGIN))


def _look_at_visible(tf: Any, state: DeviceState, machine: Machine) -> Looked:
    """Whether this process sees GPUs, and if not, whether another would."""
    visible = machine.environ.get(VISIBLE)
    if state.gpus and not state.visible:
        seen = f"{len(state.gpus)} GPUs, all hidden by a line of this notebook"
        cure = Remedy("every GPU is hidden in this notebook", "Restart the kernel, and put first", FIRST_LINE)
        return Examined(Link.VISIBLE, Finding.MISSING, (seen,)), cure
    if state.gpus:
        return Examined(Link.VISIBLE, Finding.OK, _products(tf, state)), None
    if hides_every_gpu(visible):
        cure = Remedy(
            f"{VISIBLE}={visible} hides every GPU",
            "Restart the kernel, and run first",
            f'import os; os.environ.pop("{VISIBLE}", None)',
        )
        return Examined(Link.VISIBLE, Finding.MISSING, (f"{VISIBLE}={visible}",)), cure
    ran = _trial(machine, ())
    number = next((int(one["gpus"]) for one in ran.told if "gpus" in one), 0)
    if number:
        seen = f"a new process sees {number}, this one none"
        cure = Remedy("this kernel is older than what was set up since", "Do", "Kernel → Restart Kernel")
        return Examined(Link.VISIBLE, Finding.MISSING, (seen,)), cure
    said = ran.ended or _last_words(ran)
    cure = Remedy(
        "TensorFlow skips the GPUs, and its log says why",
        "Run in a terminal",
        'TF_CPP_VMODULE=dso_loader=1 python -c "import tensorflow as tf; tf.config.list_physical_devices()"',
    )
    return Examined(Link.VISIBLE, Finding.MISSING, (said,)), cure


def _products(tf: Any, state: DeviceState) -> tuple[str, ...]:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in state.gpus]
    return tuple(
        f"GPU {index} {detail.get('device_name', '')}".rstrip() for index, detail in enumerate(details)
    )


def _look_at_settings(tf: Any, state: DeviceState, machine: Machine) -> Looked:
    """Whether the environment overrides what a line has set."""
    found = overridden(machine.environ, state)
    if found is None:
        return Examined(Link.SETTINGS, Finding.OK, ("no variable overrides them",)), None
    sentence, name, value = found
    when = "Restart the kernel, and run first" if has_started(tf) else "Run before the first tensor"
    cure = Remedy(sentence, when, f"%env {name}={value}")
    return Examined(Link.SETTINGS, Finding.FAILS, (sentence,)), cure


def _look_at_computation(tf: Any, state: DeviceState, machine: Machine) -> Looked:
    """Whether the first visible GPU multiplies two matrices, in a process of its own."""
    index = state.gpus.index(state.visible[0])
    ran = _trial(machine, (str(index),))
    told = next((one for one in ran.told if "right" in one), None)
    if told is not None and told["right"]:
        shape = f"{trial_program.SIZE}×{trial_program.SIZE}"
        done = f"a {shape} product on GPU {index}, right, {told['seconds']:.1f} s"
        return Examined(Link.COMPUTATION, Finding.OK, (done,)), None
    error = next((str(one["error"]) for one in ran.told if "error" in one), "")
    failed = "gives a wrong product" if told is not None else ran.ended or "fails"
    evidence = filter(None, (f"GPU {index} {failed}", error or _last_words(ran)))
    examined = Examined(Link.COMPUTATION, Finding.FAILS, tuple(evidence))
    return examined, _cure_of_computation(tf, state, index, failed, " ".join((error, *ran.log)))


def _cure_of_computation(tf: Any, state: DeviceState, index: int, failed: str, log: str) -> Remedy:
    if "RESOURCE_EXHAUSTED" in log or "OUT_OF_MEMORY" in log or "ResourceExhausted" in log:
        card = locate(tf, state).cards[index]
        found = holders(card.processes) if card is not None else ()
        held = f", held by {found[0].text}" if found else ""
        return Remedy(
            f"GPU {index} has no memory left{held}", "Restart the kernel, and put first", "%tfgpu freest"
        )
    if "no kernel image" in log or "INVALID_PTX" in log or "NO_BINARY_FOR_GPU" in log:
        newest = whole_line("").removesuffix('=="').replace("install", "install --upgrade") + '"'
        return Remedy(f"this TensorFlow has no code for GPU {index}", "Run, then restart the kernel", newest)
    return Remedy(
        f"a small computation on GPU {index} {failed}",
        "Until that is mended, the CPU computes",
        ON_CPU,
    )


def _trial(machine: Machine, args: tuple[str, ...]) -> IsolatedRun:
    # a test of one GPU must not take its memory whole, and the log must say what fails
    environ = {**machine.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "0"}
    return run_apart(Path(trial_program.__file__), args, environ, TRIAL_SECONDS)


def _last_words(ran: IsolatedRun) -> str:
    """The last line of the log that tells of an error."""
    telling = [line for line in ran.log if line.startswith(("E", "F", "W")) or "Error" in line]
    return telling[-1].rpartition("] ")[2].strip()[:200] if telling else ""
