"""The links before TensorFlow itself: the wheel, the driver, its device files, CUDA's libraries.

Each function looks at one link and gives what it found; where that is broken, what it means and what to do.
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
from tape_magic.engine.doctor.isolated import IsolatedRun, run_apart
from tape_magic.results.doctor import ON_CPU, Examined, Finding, Link

PROBE_SECONDS = 60

STAY = "Nothing is broken: TensorFlow runs on the CPU, and this line says so"
RUN = "Run, then restart the kernel"


@dataclass(frozen=True)
class Remedy:
    """What a broken link means, and the one thing to do; `advice` leads up to `command`."""

    cause: str
    advice: str
    command: str


Looked = tuple[Examined, Remedy | None]


def look_at_wheel(build: Mapping[str, Any], version: str, machine: Machine) -> Looked:
    """Whether this TensorFlow can use NVIDIA's GPUs at all."""
    if build.get("is_cuda_build"):
        versions = [f"CUDA {build.get('cuda_version', 'of no number')}"]
        versions += [f"cuDNN {build['cudnn_version']}"] if "cudnn_version" in build else []
        return Examined(Link.WHEEL, Finding.OK, tuple(versions)), None
    name = _distribution()
    found = Examined(Link.WHEEL, Finding.MISSING, (f"{name} {version} is built without CUDA",))
    cause = "this TensorFlow is built without CUDA"
    if not machine.linux:
        system = "macOS" if sys.platform == "darwin" else "Windows"
        cure = Remedy(f"TensorFlow has no build with CUDA for {system}", STAY, ON_CPU)
        if system == "Windows":
            cure = Remedy(cure.cause, "Install Linux within Windows, and TensorFlow there", "wsl --install")
        return found, cure
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
    """The name under which this TensorFlow is installed: tensorflow, tensorflow-cpu, tf-nightly."""
    names = metadata.packages_distributions().get("tensorflow", ["tensorflow"])
    return names[0].replace("_", "-")


def probe(names: Sequence[str], machine: Machine) -> IsolatedRun:
    """Loads libraries apart; CUDA_VISIBLE_DEVICES is left out, since it would hide what the driver can do."""
    folders = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    known = list(dict.fromkeys(folder for folder in folders if folder and os.path.isdir(folder)))
    environ = {key: value for key, value in machine.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    args = json.dumps(known), json.dumps(list(names))
    return run_apart(Path(probe_program.__file__), args, environ, PROBE_SECONDS)


def look_at_driver(build: Mapping[str, Any], machine: Machine) -> Looked:
    """Whether libcuda.so.1 loads, starts, and is new enough."""
    ran = probe((probe_program.DRIVER,), machine)
    told = ran.told[0] if ran.told else {"error": ran.ended or "it says nothing"}
    if told.get("error"):
        return _no_driver(str(told["error"]), machine)
    module = machine.driver_module()
    version = int(told["cuda"])
    evidence = [str(told["path"]), f"version {module}"] if module else [str(told["path"])]
    evidence.append(f"for CUDA up to {version // 1000}.{version % 1000 // 10}")
    needed = int(str(build.get("cuda_version", "12")).partition(".")[0])
    if version // 1000 < needed:
        cause = f"the driver knows CUDA up to {version // 1000}, and this TensorFlow needs {needed}"
        return Examined(Link.DRIVER, Finding.FAILS, tuple(evidence)), Remedy(cause, *machine.renew_driver())
    if told["init"] in (803, 804):
        evidence.append(f"cuInit returns {told['init']}")
        cause = "the driver's library and the driver in the system's kernel are of different versions"
        restart = ("Start the machine anew; in a terminal", "sudo reboot")
        if machine.container:
            restart = ("Start the container anew; on its host", "docker restart …")
        cure = Remedy(cause, *restart)
        return Examined(Link.DRIVER, Finding.FAILS, tuple(evidence)), cure
    return Examined(Link.DRIVER, Finding.OK, tuple(evidence)), None


def _no_driver(error: str, machine: Machine) -> Looked:
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


def look_at_files(machine: Machine) -> Looked:
    """Whether the driver's files are there, and whether this user may use them."""
    root = machine.root
    if machine.wsl:
        file = root / "dev/dxg"
        if file.exists():
            return Examined(Link.FILES, Finding.OK, ("/dev/dxg",)), None
        cure = Remedy("Windows hands no GPU to Linux", "Run in Windows", "wsl --update")
        return Examined(Link.FILES, Finding.MISSING, ("/dev/dxg is not there",)), cure
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
        cure = Remedy(
            f"this user may not open {_paths(closed[:1], root)}",
            "Run in a terminal, then log in anew",
            f"sudo usermod -aG {group} $USER",
        )
        return Examined(Link.FILES, Finding.FAILS, (f"{_paths(closed, root)} not to be opened",)), cure
    return Examined(Link.FILES, Finding.OK, (_paths(wanted, root),)), None


def _paths(files: Sequence[Path], root: Path) -> str:
    return ", ".join(f"/{file.relative_to(root)}" for file in files)


def _group(file: Path) -> str:
    try:
        return file.group()
    except (KeyError, OSError):
        return "video"


def look_at_libraries(build: Mapping[str, Any], version: str, machine: Machine) -> Looked:
    """Whether each library is found that TensorFlow loads, or else skips every GPU."""
    names = wanted_libraries(build.get("cuda_version"), build.get("cudnn_version"))
    ran = probe(names, machine)
    told = {str(one["name"]): one for one in ran.told}
    missing = [name for name in names if name not in told or told[name].get("error")]
    parts = tuple(
        (name, Finding.MISSING, _why(name, told, ran.ended))
        if name in missing
        else (name, Finding.OK, str(told[name]["path"]))
        for name in names
    )
    count = (f"{len(names) - len(missing)} of {len(names)} found",)
    if not missing:
        return Examined(Link.LIBRARIES, Finding.OK, count, parts), None
    examined = Examined(Link.LIBRARIES, Finding.MISSING, count, parts)
    what = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more"
    cause = f"{what} {'is' if len(missing) == 1 else 'are'} missing"
    return examined, Remedy(cause, RUN, install_line(missing, version))


def _why(name: str, told: Mapping[str, Mapping[str, Any]], ended: str | None) -> str:
    """Why a library is not there, in the loader's words."""
    if name not in told:
        return ended or "not tried"
    return str(told[name]["error"]).removeprefix(f"{name}: ")
