"""The links before TensorFlow itself: the wheel, the driver, its device files, CUDA's libraries.

Each function examines one link and returns the evidence, with the remedy if the link is broken.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tape_magic.engine.devices.cards import VISIBLE
from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.doctor.cuda_libraries import WHEELS, install_line, wanted_libraries, wheel_line
from tape_magic.engine.doctor.driver import NO_DEVICE, Driver, ask_driver, probe, without_choice
from tape_magic.engine.doctor.probe_program import MANAGEMENT
from tape_magic.results.doctor import ON_CPU, Examined, Link, LinkState

PROBE_SECONDS = 60

# Of the driver's API: CUDA_ERROR_STUB_LIBRARY; CUDA_ERROR_SYSTEM_DRIVER_MISMATCH and
# CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE.
_STUB = 34
_MISMATCHES = (803, 804)

STAY = "Nothing is broken: TensorFlow runs on the CPU, and this line says so"
RUN = "Run, then restart the kernel"


@dataclass(frozen=True)
class Remedy:
    """The meaning of a broken link, and the one thing to do; the phrase `advice` introduces `command`."""

    cause: str
    advice: str
    command: str


Result = tuple[Examined, Remedy | None]
"""A link with its evidence, and the remedy if it is broken."""


def examine_wheel(build: Mapping[str, Any], version: str, machine: Machine) -> Result:
    """Examine whether this TensorFlow can use NVIDIA's GPUs at all."""
    if build.get("is_cuda_build"):
        versions = [f"CUDA {build.get('cuda_version', 'of no number')}"]
        versions += [f"cuDNN {build['cudnn_version']}"] if "cudnn_version" in build else []
        return Examined(Link.WHEEL, LinkState.OK, tuple(versions)), None
    name = _distribution()
    found = Examined(Link.WHEEL, LinkState.MISSING, (f"{name} {version} is built without CUDA",))
    cause = "this TensorFlow is built without CUDA"
    if not machine.linux:
        system = "macOS" if sys.platform == "darwin" else "Windows"
        remedy = Remedy(f"TensorFlow has no build with CUDA for {system}", STAY, ON_CPU)
        if system == "Windows":
            advice = "Install Linux within Windows, and TensorFlow there"
            remedy = Remedy(remedy.cause, advice, "wsl --install")
        return found, remedy
    if machine.without_card:
        seen = f"no NVIDIA card among the {machine.nvidia_cards()[1]} PCI devices"
        found = Examined(Link.WHEEL, LinkState.MISSING, (*found.evidence, seen))
        return found, Remedy(f"{cause}, and this machine shows no NVIDIA card", STAY, ON_CPU)
    if platform.machine() == "aarch64":
        return found, Remedy("TensorFlow's wheels for Linux on aarch64 have no CUDA", STAY, ON_CPU)
    command = wheel_line(name, version)
    advice = f"{RUN} and delete the folder {WHEELS}" if WHEELS in command else RUN
    return found, Remedy(cause, advice, command)


def _distribution() -> str:
    """Return the name under which this TensorFlow is installed: tensorflow, tensorflow-cpu, tf-nightly."""
    names = metadata.packages_distributions().get("tensorflow", ["tensorflow"])
    return names[0].replace("_", "-")


def examine_driver(build: Mapping[str, Any], machine: Machine, driver: Driver) -> Result:
    """Examine whether libcuda.so.1 loads, starts, and is new enough, by what another process learned."""
    if driver.failure is not None:
        found = Examined(Link.DRIVER, LinkState.FAILS, (driver.failure,))
        cause = "NVIDIA's driver does not come back, and TensorFlow would take this kernel along"
        return found, Remedy(cause, *machine.restart())
    if driver.path is None:
        return _no_driver(driver.error or "it says nothing", machine)
    module = machine.driver_module()
    evidence = [driver.path, f"version {module}"] if module else [driver.path]
    if driver.no_management:
        evidence.append(f"{MANAGEMENT} does not load, so that no card's memory in use and load are known")
    if driver.init == _STUB:
        evidence.append(driver.outcome)
        cause = "this libcuda.so.1 is no driver, but the stub of CUDA's toolkit for building programs"
        remedy = Remedy(
            cause, "Start Jupyter anew without its folder; in a terminal, first", "unset LD_LIBRARY_PATH"
        )
        return Examined(Link.DRIVER, LinkState.FAILS, tuple(evidence)), remedy
    evidence.append(f"for CUDA up to {driver.cuda // 1000}.{driver.cuda % 1000 // 10}")
    needed = int(str(build.get("cuda_version", "12")).partition(".")[0])
    if driver.cuda // 1000 < needed:
        cause = f"the driver knows CUDA up to {driver.cuda // 1000}, and this TensorFlow needs {needed}"
        return Examined(Link.DRIVER, LinkState.FAILS, tuple(evidence)), Remedy(cause, *machine.renew_driver())
    if driver.init and not _only_hides(driver, machine):
        evidence.append(driver.outcome)
        if driver.init in _MISMATCHES:
            cause = "the driver's library and the driver in the system's kernel are of different versions"
            return Examined(Link.DRIVER, LinkState.FAILS, tuple(evidence)), Remedy(cause, *machine.restart())
        # A driver that lacks its files does not start either, and the next link names the missing ones.
        if examine_files(machine)[1] is None:
            cause = driver.why_no_gpu.replace("NVIDIA's", "the", 1)
            return Examined(Link.DRIVER, LinkState.FAILS, tuple(evidence)), Remedy(cause, *machine.restart())
    return Examined(Link.DRIVER, LinkState.OK, tuple(evidence)), None


def _only_hides(driver: Driver, machine: Machine) -> bool:
    """Return whether the driver reports no device only because CUDA_VISIBLE_DEVICES chooses none."""
    if driver.init != NO_DEVICE or VISIBLE not in machine.environ:
        return False
    return ask_driver(without_choice(machine.environ)).init == 0


def _no_driver(error: str, machine: Machine) -> Result:
    cards, devices = machine.nvidia_cards()
    evidence = [error.rstrip(".")]
    if cards is not None:
        named = f"{cards} NVIDIA cards" if cards > 1 else f"{('no', 'one')[cards]} NVIDIA card"
        evidence.append(f"{named} among the {devices} PCI devices")
    found = Examined(Link.DRIVER, LinkState.MISSING, tuple(evidence))
    if machine.host is None and machine.without_card:
        if machine.container:
            cause = "this container is shown no NVIDIA card and no driver"
            advice = (
                "If its host has no GPU, nothing is broken and TensorFlow runs on the CPU; this line says so"
            )
            return found, Remedy(cause, advice, ON_CPU)
        return found, Remedy("this machine shows no NVIDIA card", STAY, ON_CPU)
    return found, Remedy("NVIDIA's driver is missing", *machine.get_driver())


def examine_files(machine: Machine) -> Result:
    """Examine whether the driver's files exist, and whether this user may open them."""
    root = machine.root
    if machine.wsl:
        file = root / "dev/dxg"
        if file.exists():
            return Examined(Link.FILES, LinkState.OK, ("/dev/dxg",)), None
        remedy = Remedy("Windows hands no GPU to Linux", "Run in Windows", "wsl --update")
        return Examined(Link.FILES, LinkState.MISSING, ("/dev/dxg is not there",)), remedy
    cards = machine.device_files()
    wanted = [root / "dev/nvidiactl", root / "dev/nvidia-uvm", *(cards or [root / "dev/nvidia0"])]
    missing = [file for file in wanted if not file.exists()]
    if missing:
        gone = Examined(Link.FILES, LinkState.MISSING, (f"{_paths(missing, root)} not there",))
        if machine.container:
            return gone, Remedy("the container has no files of the GPU", *machine.get_driver())
        command = "sudo nvidia-modprobe -c 0 -u"
        return gone, Remedy("the driver's files are missing", "Run in a terminal", command)
    closed = [file for file in wanted if not os.access(file, os.R_OK | os.W_OK)]
    if closed:
        group = _group(closed[0])
        remedy = Remedy(
            f"this user may not open {_paths(closed[:1], root)}",
            "Run in a terminal, then log in anew",
            f"sudo usermod -aG {group} $USER",
        )
        return Examined(Link.FILES, LinkState.FAILS, (f"{_paths(closed, root)} not to be opened",)), remedy
    return Examined(Link.FILES, LinkState.OK, (_paths(wanted, root),)), None


def _paths(files: Sequence[Path], root: Path) -> str:
    return ", ".join(f"/{file.relative_to(root)}" for file in files)


def _group(file: Path) -> str:
    try:
        return file.group()
    except (KeyError, OSError):
        return "video"


def examine_libraries(build: Mapping[str, Any], version: str, machine: Machine) -> Result:
    """Examine whether each library loads without which TensorFlow skips every GPU."""
    names = wanted_libraries(build.get("cuda_version"), build.get("cudnn_version"))
    run = probe(names, machine.environ, PROBE_SECONDS)
    probed = {str(one["name"]): one for one in run.messages if "name" in one}
    missing = [name for name in names if name not in probed or probed[name].get("error")]
    parts = tuple(
        (name, LinkState.MISSING, _why_missing(name, probed, run.failure))
        if name in missing
        else (name, LinkState.OK, str(probed[name]["path"]))
        for name in names
    )
    count = (f"{len(names) - len(missing)} of {len(names)} found",)
    if not missing:
        return Examined(Link.LIBRARIES, LinkState.OK, count, parts), None
    examined = Examined(Link.LIBRARIES, LinkState.MISSING, count, parts)
    what = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more"
    cause = f"{what} {'is' if len(missing) == 1 else 'are'} missing"
    return examined, Remedy(cause, RUN, install_line(missing, version))


def _why_missing(name: str, probed: Mapping[str, Mapping[str, Any]], failure: str | None) -> str:
    """Return the loader's message about a library that did not load, or how the program failed before."""
    if name not in probed:
        return failure or "not tried"
    return str(probed[name]["error"]).removeprefix(f"{name}: ")
