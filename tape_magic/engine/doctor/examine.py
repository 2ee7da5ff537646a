"""Examines the chain of links in order, up to the first broken one, and names the one thing to do about it.

Nothing is started in this process but the driver, by TensorFlow's own question for its devices, once it has
come back from a process of its own. A test that may crash runs in such a process, with a time limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tape_magic.engine.devices.cards import VISIBLE, match_cards
from tape_magic.engine.devices.host import holders
from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.devices.notes import hides_every_gpu, overriding_variable
from tape_magic.engine.devices.state import DeviceState, has_started, read_state
from tape_magic.engine.doctor import trial_program
from tape_magic.engine.doctor.cuda_libraries import whole_line
from tape_magic.engine.doctor.driver import NO_DEVICE, Driver, ask_driver
from tape_magic.engine.doctor.isolated import IsolatedRun, run_isolated
from tape_magic.engine.doctor.links import (
    RUN,
    Remedy,
    Result,
    examine_driver,
    examine_files,
    examine_libraries,
    examine_wheel,
)
from tape_magic.engine.internals.loading import TensorFlowMissing, load_tensorflow
from tape_magic.results.doctor import ON_CPU, DoctorReport, Examined, Link, LinkState

TRIAL_SECONDS = 180
"""The time limit of the small computation: on a GPU newer than the wheel, it compiles kernels for minutes."""

_PLUGIN = "TF_PLUGGABLE_DEVICE_LIBRARY_PATH"

FIRST_LINE = "%tfgpu 0 --growth"


def examine(machine: Machine | None = None) -> DoctorReport:
    """Return the report on this machine, within seconds, or minutes if a GPU computes for the first time.

    >>> report = examine()  # doctest: +SKIP
    >>> report.headline, report.command  # doctest: +SKIP
    ('No GPU: libcudnn.so.9 is missing', '%pip install "nvidia-cudnn-cu12<10.0,>=9.3.0.75"')
    """
    machine = machine or Machine()
    links: list[Examined] = []
    remedy: Remedy | None = None
    version = ""
    try:
        tf = load_tensorflow()
        version = tf.__version__
        walk = _walk(tf, machine, ask_driver(machine.environ, anew=True))
    except TensorFlowMissing as missing:
        walk = iter([_without_tensorflow(missing, machine)])
    for examined, remedy in walk:
        links.append(examined)
        if remedy is not None:
            break
    links += [Examined(link, LinkState.UNTRIED) for link in list(Link)[len(links) :]]
    if remedy is None:
        advice = "The line for the top of the notebook"
        return DoctorReport(tuple(links), None, advice, FIRST_LINE, version)
    return DoctorReport(tuple(links), remedy.cause, remedy.advice, remedy.command, version)


def _without_tensorflow(missing: TensorFlowMissing, machine: Machine) -> Result:
    """Return the result of the first link where TensorFlow cannot be imported.

    On a machine with a card, the line to run installs CUDA's libraries along with TensorFlow.
    """
    finding = LinkState.FAILS if missing.installed else LinkState.MISSING
    with_cuda = machine.linux and not machine.without_card and not missing.installed
    command = whole_line("") if with_cuda else missing.command
    return Examined(Link.WHEEL, finding, (missing.said,)), Remedy(missing.cause, RUN, command)


def _walk(tf: Any, machine: Machine, driver: Driver) -> Iterator[Result]:
    """Yield the result of each link, which is examined only when it is asked for."""
    build, version = tf.sysconfig.get_build_info(), tf.__version__
    if build.get("is_cuda_build") and driver.failure is not None:
        # TensorFlow asks for its devices by way of the driver.
        yield examine_wheel(build, version, machine)
        yield examine_driver(build, machine, driver)
        return
    state = read_state(tf)
    before: tuple[Callable[[], Result], ...] = (
        lambda: examine_wheel(build, version, machine),
        lambda: examine_driver(build, machine, driver),
        lambda: examine_files(machine),
        lambda: examine_libraries(build, version, machine),
    )
    if state.gpus and _is_plugin(machine.environ):
        evidence = f"the GPUs come from a plug-in: {machine.environ[_PLUGIN]}"
        yield Examined(Link.WHEEL, LinkState.UNNEEDED, (evidence,)), None
        for link in (Link.DRIVER, Link.FILES, Link.LIBRARIES):
            yield Examined(link, LinkState.UNNEEDED), None
    else:
        for examine_link in before:
            examined, remedy = examine_link()
            if state.gpus and remedy is not None:
                # TensorFlow has its GPUs all the same, as on machines with files of other names.
                examined, remedy = replace(examined, finding=LinkState.UNNEEDED), None
            yield examined, remedy
    yield _examine_visible(tf, state, machine, driver)
    yield _examine_settings(tf, state, machine)
    yield _examine_computation(tf, state, machine, driver)


def _is_plugin(environ: Mapping[str, str]) -> bool:
    return bool(environ.get(_PLUGIN))


def _examine_visible(tf: Any, state: DeviceState, machine: Machine, driver: Driver) -> Result:
    """Examine whether this process sees GPUs; if it does not, ask a new process."""
    visible = machine.environ.get(VISIBLE)
    # The driver's link is found whole only if the driver has devices without the variable.
    hidden = hides_every_gpu(visible) or (visible is not None and driver.init == NO_DEVICE)
    if state.gpus and not state.visible:
        seen = f"{len(state.gpus)} GPUs, all hidden by a line of this notebook"
        remedy = Remedy(
            "every GPU is hidden in this notebook", "Restart the kernel, and put first", FIRST_LINE
        )
        return Examined(Link.VISIBLE, LinkState.MISSING, (seen,)), remedy
    if state.gpus:
        return Examined(Link.VISIBLE, LinkState.OK, _products(tf, state)), None
    if hidden:
        remedy = Remedy(
            f"{VISIBLE}={visible} hides every GPU",
            "Restart the kernel, and run first",
            f'import os; os.environ.pop("{VISIBLE}", None)',
        )
        return Examined(Link.VISIBLE, LinkState.MISSING, (f"{VISIBLE}={visible}",)), remedy
    trial = _trial(machine, ())
    number = next((int(one["gpus"]) for one in trial.messages if "gpus" in one), 0)
    if number:
        seen = f"a new process sees {number}, this one none"
        remedy = Remedy("this kernel is older than what was set up since", "Do", "Kernel → Restart Kernel")
        return Examined(Link.VISIBLE, LinkState.MISSING, (seen,)), remedy
    evidence = trial.failure or _last_error(trial)
    remedy = Remedy(
        "TensorFlow skips the GPUs, and its log says why",
        "Run in a terminal",
        'TF_CPP_VMODULE=dso_loader=1 python -c "import tensorflow as tf; tf.config.list_physical_devices()"',
    )
    return Examined(Link.VISIBLE, LinkState.MISSING, (evidence,)), remedy


def _products(tf: Any, state: DeviceState) -> tuple[str, ...]:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in state.gpus]
    return tuple(
        f"GPU {index} {detail.get('device_name', '')}".rstrip() for index, detail in enumerate(details)
    )


def _examine_settings(tf: Any, state: DeviceState, machine: Machine) -> Result:
    """Examine whether an environment variable overrides a setting of a line."""
    found = overriding_variable(machine.environ, state)
    if found is None:
        return Examined(Link.SETTINGS, LinkState.OK, ("no variable overrides them",)), None
    sentence, name, value = found
    when = "Restart the kernel, and run first" if has_started(tf) else "Run before the first tensor"
    remedy = Remedy(sentence, when, f"%env {name}={value}")
    return Examined(Link.SETTINGS, LinkState.FAILS, (sentence,)), remedy


def _examine_computation(tf: Any, state: DeviceState, machine: Machine, driver: Driver) -> Result:
    """Have the first visible GPU multiply two matrices, in a process of its own."""
    index = state.gpus.index(state.visible[0])
    trial = _trial(machine, (str(index),))
    product = next((one for one in trial.messages if "right" in one), None)
    if product is not None and product["right"]:
        shape = f"{trial_program.SIZE}×{trial_program.SIZE}"
        evidence = f"a {shape} product on GPU {index}, right, {product['seconds']:.1f} s"
        return Examined(Link.COMPUTATION, LinkState.OK, (evidence,)), None
    error = next((str(one["error"]) for one in trial.messages if "error" in one), "")
    failure = "gives a wrong product" if product is not None else trial.failure or "fails"
    lines = filter(None, (f"GPU {index} {failure}", error or _last_error(trial)))
    examined = Examined(Link.COMPUTATION, LinkState.FAILS, tuple(lines))

    def holder() -> str:
        card = match_cards(tf, state, driver.unsafe).cards[index]
        found = holders(card.processes) if card is not None else ()
        return f", held by {found[0].text}" if found else ""

    return examined, _computation_remedy(index, failure, " ".join((error, *trial.log)), holder)


def _computation_remedy(index: int, failure: str, log: str, holder: Callable[[], str]) -> Remedy:
    """Return the remedy for a computation that failed, by the error codes in its log.

    `holder` gives the clause on who holds the GPU's memory.
    """
    if "RESOURCE_EXHAUSTED" in log or "OUT_OF_MEMORY" in log or "ResourceExhausted" in log:
        return Remedy(
            f"GPU {index} has no memory left{holder()}", "Restart the kernel, and put first", "%tfgpu freest"
        )
    if "no kernel image" in log or "INVALID_PTX" in log or "NO_BINARY_FOR_GPU" in log:
        newest = whole_line("").removesuffix('=="').replace("install", "install --upgrade") + '"'
        return Remedy(f"this TensorFlow has no code for GPU {index}", "Run, then restart the kernel", newest)
    return Remedy(
        f"a small computation on GPU {index} {failure}",
        "Until that is mended, the CPU computes",
        ON_CPU,
    )


def _trial(machine: Machine, args: tuple[str, ...]) -> IsolatedRun:
    # The trial must not take all memory of a GPU, and its log must not be silenced.
    environ = {**machine.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "0"}
    return run_isolated(Path(trial_program.__file__), args, environ, TRIAL_SECONDS)


def _last_error(run: IsolatedRun) -> str:
    """Return the last line of the log that reports an error or a warning, without its time and place."""
    lines = [line for line in run.log if line.startswith(("E", "F", "W")) or "Error" in line]
    return lines[-1].rpartition("] ")[2].strip()[:200] if lines else ""
