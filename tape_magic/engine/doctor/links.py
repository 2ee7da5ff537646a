"""The links before TensorFlow itself: the wheel, the driver, its device files, CUDA's libraries.

Each function examines one link and returns the evidence, with the remedy if the link is broken.
"""

from __future__ import annotations

import json
import os
import platform
import site
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.doctor import probe_program
from tape_magic.engine.doctor.cuda_libraries import WHEELS, install_line, wanted_libraries, wheel_line
from tape_magic.engine.doctor.isolated import IsolatedRun, run_isolated
from tape_magic.results.doctor import ON_CPU, Examined, Finding, Link

PROBE_SECONDS = 60

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
        return Examined(Link.WHEEL, Finding.OK, tuple(versions)), None
    name = _distribution()
    found = Examined(Link.WHEEL, Finding.MISSING, (f"{name} {version} is built without CUDA",))
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
        found = Examined(Link.WHEEL, Finding.MISSING, (*found.evidence, seen))
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


def probe(names: Sequence[str], machine: Machine) -> IsolatedRun:
    """Load libraries in a process of its own.

    The process has no CUDA_VISIBLE_DEVICES, with which the driver could report that there is no device.
    """
    folders = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    known = list(dict.fromkeys(folder for folder in folders if folder and os.path.isdir(folder)))
    environ = {key: value for key, value in machine.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    args = json.dumps(known), json.dumps(list(names))
    return run_isolated(Path(probe_program.__file__), args, environ, PROBE_SECONDS)


def examine_driver(build: Mapping[str, Any], machine: Machine) -> Result:
    """Examine whether libcuda.so.1 loads, starts, and is new enough."""
    run = probe((probe_program.DRIVER,), machine)
    driver = run.messages[0] if run.messages else {"error": run.failure or "it says nothing"}
    if driver.get("error"):
        return _no_driver(str(driver["error"]), machine)
    module = machine.driver_module()
    version = int(driver["cuda"])
    evidence = [str(driver["path"]), f"version {module}"] if module else [str(driver["path"])]
    evidence.append(f"for CUDA up to {version // 1000}.{version % 1000 // 10}")
    needed = int(str(build.get("cuda_version", "12")).partition(".")[0])
    if version // 1000 < needed:
        cause = f"the driver knows CUDA up to {version // 1000}, and this TensorFlow needs {needed}"
        return Examined(Link.DRIVER, Finding.FAILS, tuple(evidence)), Remedy(cause, *machine.renew_driver())
    # CUDA_ERROR_SYSTEM_DRIVER_MISMATCH and CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE of the driver's API.
    if driver["init"] in (803, 804):
        evidence.append(f"cuInit returns {driver['init']}")
        cause = "the driver's library and the driver in the system's kernel are of different versions"
        restart = ("Start the machine anew; in a terminal", "sudo reboot")
        if machine.container:
            restart = ("Start the container anew; on its host", "docker restart …")
        return Examined(Link.DRIVER, Finding.FAILS, tuple(evidence)), Remedy(cause, *restart)
    return Examined(Link.DRIVER, Finding.OK, tuple(evidence)), None


def _no_driver(error: str, machine: Machine) -> Result:
    cards, devices = machine.nvidia_cards()
    evidence = [error.rstrip(".")]
    if cards is not None:
        named = f"{cards} NVIDIA cards" if cards > 1 else f"{('no', 'one')[cards]} NVIDIA card"
        evidence.append(f"{named} among the {devices} PCI devices")
    found = Examined(Link.DRIVER, Finding.MISSING, tuple(evidence))
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
            return Examined(Link.FILES, Finding.OK, ("/dev/dxg",)), None
        remedy = Remedy("Windows hands no GPU to Linux", "Run in Windows", "wsl --update")
        return Examined(Link.FILES, Finding.MISSING, ("/dev/dxg is not there",)), remedy
    cards = machine.device_files()
    wanted = [root / "dev/nvidiactl", root / "dev/nvidia-uvm", *(cards or [root / "dev/nvidia0"])]
    missing = [file for file in wanted if not file.exists()]
    if missing:
        gone = Examined(Link.FILES, Finding.MISSING, (f"{_paths(missing, root)} not there",))
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
        return Examined(Link.FILES, Finding.FAILS, (f"{_paths(closed, root)} not to be opened",)), remedy
    return Examined(Link.FILES, Finding.OK, (_paths(wanted, root),)), None


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
    run = probe(names, machine)
    probed = {str(one["name"]): one for one in run.messages}
    missing = [name for name in names if name not in probed or probed[name].get("error")]
    parts = tuple(
        (name, Finding.MISSING, _why_missing(name, probed, run.failure))
        if name in missing
        else (name, Finding.OK, str(probed[name]["path"]))
        for name in names
    )
    count = (f"{len(names) - len(missing)} of {len(names)} found",)
    if not missing:
        return Examined(Link.LIBRARIES, Finding.OK, count, parts), None
    examined = Examined(Link.LIBRARIES, Finding.MISSING, count, parts)
    what = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more"
    cause = f"{what} {'is' if len(missing) == 1 else 'are'} missing"
    return examined, Remedy(cause, RUN, install_line(missing, version))


def _why_missing(name: str, probed: Mapping[str, Mapping[str, Any]], failure: str | None) -> str:
    """Return the loader's message about a library that did not load, or how the program failed before."""
    if name not in probed:
        return failure or "not tried"
    return str(probed[name]["error"]).removeprefix(f"{name}: ")
