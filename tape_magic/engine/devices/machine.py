"""The machine as far as GPUs go: is there a card, is it a container, who runs it; read from files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NVIDIA = "0x10de"
"""NVIDIA's number among the makers of PCI devices."""

_DISPLAY = "0x03"
"""PCI classes that begin so are graphics cards."""

_DRIVERS = "https://www.nvidia.com/drivers"

_INSTALL = {
    "ubuntu": "sudo ubuntu-drivers install",
    "debian": "sudo apt-get install nvidia-driver",
    "fedora": "sudo dnf install akmod-nvidia",
    "arch": "sudo pacman -S nvidia",
}


@dataclass(frozen=True)
class Machine:
    """Where to look; tests put a folder in the place of the root.

    Parameters
    ----------
    root
        The root of the file system.
    environ
        The environment, also for what runs apart.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def linux(self) -> bool:
        """Whether TensorFlow has a build with CUDA for this system at all."""
        return sys.platform.startswith("linux")

    @property
    def wsl(self) -> bool:
        """Whether this is Linux within Windows, where the GPU is another kind of file."""
        return (self.root / "dev/dxg").exists() or "WSL_DISTRO_NAME" in self.environ

    @property
    def container(self) -> bool:
        """Whether this is a container, which sees only what its host hands in."""
        return any((self.root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))

    @property
    def host(self) -> str | None:
        """The service that runs the notebook, where a GPU is a choice in a menu."""
        if "COLAB_RELEASE_TAG" in self.environ:
            return "Colab"
        return "Kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in self.environ else None

    def nvidia_cards(self) -> tuple[int | None, int]:
        """How many NVIDIA cards are on the PCI bus, None where the bus is not seen, and how many devices."""
        vendors = list((self.root / "sys/bus/pci/devices").glob("*/vendor"))
        if not vendors:
            return None, 0
        cards = [file for file in vendors if _line(file) == _NVIDIA and self._is_card(file)]
        return len(cards), len(vendors)

    @staticmethod
    def _is_card(vendor: Path) -> bool:
        # a card has functions for sound and USB, too
        return _line(vendor.with_name("class")).startswith(_DISPLAY)

    @property
    def without_card(self) -> bool:
        """Whether it is certain that no NVIDIA card is here."""
        return self.nvidia_cards()[0] == 0 and not self.wsl and not self.device_files()

    def device_files(self) -> list[Path]:
        """The files of the driver, one for each card: /dev/nvidia0 and on."""
        return sorted(file for file in (self.root / "dev").glob("nvidia*") if file.name[6:].isdigit())

    def get_driver(self) -> tuple[str, str]:
        """How to get a driver here: a sentence that leads up to it, and what to run or do."""
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
        """How to replace a driver that is too old, as :meth:`get_driver`."""
        if self.host is not None:
            return f"The driver is {self.host}'s own: a new machine has its newest", "Restart the session"
        if self.wsl:
            return "Install a newer driver in Windows, from", _DRIVERS
        if self.container:
            return "The driver is that of the container's host: there, install a newer one from", _DRIVERS
        return self.get_driver()

    def _install(self) -> str:
        release = self.root / "etc/os-release"
        text = release.read_text(encoding="utf-8", errors="replace") if release.exists() else ""
        named = re.findall(r'^(?:ID|ID_LIKE)="?([^"\n]+)', text, re.MULTILINE)
        words = " ".join(named).split()
        return next((_INSTALL[word] for word in words if word in _INSTALL), _DRIVERS)

    def driver_module(self) -> str | None:
        """The version of the driver that the kernel has loaded."""
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _line(self.root / "proc/driver/nvidia/version"))
        return found[1] if found else None


def _line(file: Path) -> str:
    """The first line of a file, empty without one."""
    try:
        return next(iter(file.read_text(encoding="utf-8", errors="replace").splitlines()), "").strip()
    except OSError:
        return ""
