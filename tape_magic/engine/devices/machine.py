"""Facts about the machine that bear on GPUs: cards, container, hosting service; read from files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NVIDIA = "0x10de"
"""NVIDIA's vendor number on the PCI bus."""

_DISPLAY = "0x03"
"""The beginning of the PCI classes of graphics cards."""

_DRIVERS = "https://www.nvidia.com/drivers"

_INSTALL = {
    "ubuntu": "sudo ubuntu-drivers install",
    "debian": "sudo apt-get install nvidia-driver",
    "fedora": "sudo dnf install akmod-nvidia",
    "arch": "sudo pacman -S nvidia",
}


@dataclass(frozen=True)
class Machine:
    """A machine, described by its files and its environment.

    Parameters
    ----------
    root
        The root of the file system; tests put a folder in its place.
    environ
        The environment variables, also for programs in a process of their own.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def linux(self) -> bool:
        """Whether this is Linux, the one system for which TensorFlow has a build with CUDA."""
        return sys.platform.startswith("linux")

    @property
    def wsl(self) -> bool:
        """Whether this is Linux within Windows, where the GPU is the file /dev/dxg."""
        return (self.root / "dev/dxg").exists() or "WSL_DISTRO_NAME" in self.environ

    @property
    def container(self) -> bool:
        """Whether this is a container, which sees only the devices that its host hands in."""
        return any((self.root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))

    @property
    def host(self) -> str | None:
        """The service that runs the notebook, where a GPU is a choice in a menu."""
        if "COLAB_RELEASE_TAG" in self.environ:
            return "Colab"
        return "Kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in self.environ else None

    def nvidia_cards(self) -> tuple[int | None, int]:
        """Return the number of NVIDIA cards on the PCI bus, None without a bus, and of all its devices."""
        vendors = list((self.root / "sys/bus/pci/devices").glob("*/vendor"))
        if not vendors:
            return None, 0
        cards = [file for file in vendors if _line(file) == _NVIDIA and self._is_card(file)]
        return len(cards), len(vendors)

    @staticmethod
    def _is_card(vendor: Path) -> bool:
        # A card also has functions for sound and USB, each with a vendor file.
        return _line(vendor.with_name("class")).startswith(_DISPLAY)

    @property
    def without_card(self) -> bool:
        """Whether this machine certainly has no NVIDIA card."""
        return self.nvidia_cards()[0] == 0 and not self.wsl and not self.device_files()

    def device_files(self) -> list[Path]:
        """Return the files of the driver, one for each card: /dev/nvidia0 and on."""
        return sorted(file for file in (self.root / "dev").glob("nvidia*") if file.name[6:].isdigit())

    def get_driver(self) -> tuple[str, str]:
        """Return the way to get a driver here: a phrase that introduces the command, and the command."""
        if self.host == "Colab":
            return "Choose a GPU in Colab's menu", "Runtime → Change runtime type → T4 GPU"
        if self.host == "Kaggle":
            return "Choose a GPU in Kaggle's menu", "Settings → Accelerator → GPU T4 x2"
        if self.wsl:
            return "Install NVIDIA's driver in Windows, then run there", "wsl --update"
        if self.container:
            return "Start the container with the GPUs of its host", "docker run --gpus all …"
        return "Run in a terminal, then start the machine anew", self._install()

    def renew_driver(self) -> tuple[str, str]:
        """Return the way to replace a driver that is too old, in the form of :meth:`get_driver`."""
        if self.host is not None:
            return f"The driver is {self.host}'s own: a new machine has its newest", "Restart the session"
        if self.wsl:
            return "Install a newer driver in Windows, from", _DRIVERS
        if self.container:
            return "The driver is that of the container's host: there, install a newer one from", _DRIVERS
        return self.get_driver()

    def restart(self) -> tuple[str, str]:
        """Return the way to start the driver anew, in the form of :meth:`get_driver`."""
        if self.host is not None:
            return f"The driver is {self.host}'s own: take a new machine", "Restart the session"
        if self.wsl:
            return "Start Linux anew; in Windows", "wsl --shutdown"
        if self.container:
            return "Start the container anew; on its host", "docker restart …"
        return "Start the machine anew; in a terminal", "sudo reboot"

    def _install(self) -> str:
        release = self.root / "etc/os-release"
        text = release.read_text(encoding="utf-8", errors="replace") if release.exists() else ""
        named = re.findall(r'^(?:ID|ID_LIKE)="?([^"\n]+)', text, re.MULTILINE)
        words = " ".join(named).split()
        return next((_INSTALL[word] for word in words if word in _INSTALL), _DRIVERS)

    def driver_module(self) -> str | None:
        """Return the version of the driver that the system's kernel has loaded."""
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _line(self.root / "proc/driver/nvidia/version"))
        return found[1] if found else None


def _line(file: Path) -> str:
    """Return the first line of a file, empty if the file or the line is missing."""
    try:
        return next(iter(file.read_text(encoding="utf-8", errors="replace").splitlines()), "").strip()
    except OSError:
        return ""
