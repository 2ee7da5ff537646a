"""Asks NVIDIA's driver in a process of its own, before anything asks it in this one.

A broken driver may crash the process that starts it, or never return. TensorFlow starts it, and NVML, when it
lists its devices (seen in TensorFlow 2.21, with CUDA_VISIBLE_DEVICES=-1 too); its import starts neither.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import site
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tape_magic.engine.devices.cards import VISIBLE
from tape_magic.engine.doctor import probe_program
from tape_magic.engine.doctor.isolated import IsolatedRun, run_isolated
from tape_magic.engine.doctor.probe_program import DRIVER, MANAGEMENT
from tape_magic.engine.internals.device_config import has_listed_devices

SECONDS = 30
"""The time limit: a healthy driver starts within a second, or many on a server with sleeping cards."""

_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/run/opengl-driver/lib")
"""Where the system looks for libraries beside its cache; those of Debian lie one folder deeper."""


@dataclass(frozen=True)
class Driver:
    """What a process of its own learned of NVIDIA's driver.

    Attributes
    ----------
    path
        The file of libcuda.so.1; ``None`` where it does not load.
    error
        The loader's message where it does not load.
    cuda
        The highest version of CUDA, as 1000 × major + 10 × minor.
    init, status
        What cuInit returned, 0 for success, and the driver's name of that.
    failure
        How the process ended within the driver or NVML, as "cuInit crashed with SIGABRT"; ``None`` where it
        came back.
    hung
        Whether it did not end by itself.
    no_management
        The loader's message where NVML's library does not load; empty where it does, or was not tried.
    """

    path: str | None = None
    error: str = ""
    cuda: int = 0
    init: int = 0
    status: str = ""
    failure: str | None = None
    hung: bool = False
    no_management: str = ""

    @property
    def refusal(self) -> str:
        """The sentence for a line that cannot be carried out, since the driver does not come back."""
        doctor = "asks it again, and says what to do" if self.hung else "says what to do"
        return (
            f"NVIDIA's driver does not come back, and would take this kernel along: in another process,"
            f" {self.failure}. TensorFlow was not asked for its devices; %tfgpu --doctor {doctor}."
        )

    @property
    def unsafe(self) -> str | None:
        """The reason why NVML must not be asked in this process; ``None`` where it may."""
        return None if self.failure is None else f"NVIDIA's driver does not come back ({self.failure})"

    @property
    def outcome(self) -> str:
        """What cuInit returned, as "cuInit returns 999, CUDA_ERROR_UNKNOWN"."""
        return f"cuInit returns {self.init}{', ' if self.status else ''}{self.status}"

    @property
    def why_no_gpu(self) -> str:
        """Why there is no GPU, by the driver's own words; empty where it started well or was not found."""
        if self.path is None or not self.init:
            return ""
        if self.init == NO_DEVICE:
            return f"NVIDIA's driver finds no GPU: {self.outcome}"
        return f"NVIDIA's driver does not start: {self.outcome}"


NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE of the driver's API."""


def ask_first() -> Driver | None:
    """Ask the driver in a process of its own, if this process has not asked it yet; ``None`` if not asked.

    A driver that came back when TensorFlow listed its devices here needs no process, nor does a missing one.
    """
    return None if has_listed_devices() else ask_if_there()


def ask_if_there() -> Driver | None:
    """Ask the driver in a process of its own; ``None`` without one, where its libraries are missing."""
    if not sys.platform.startswith("linux"):
        return None  # TensorFlow has CUDA on Linux only
    there = any(_may_load(name, os.environ) for name in (DRIVER, MANAGEMENT))
    return ask_driver(os.environ) if there else None


def ask_driver(environ: Mapping[str, str], *, anew: bool = False) -> Driver:
    """Ask the driver in a process of its own what TensorFlow asks it, within seconds.

    A driver that hung is not asked again in the same environment, unless `anew`: each time would take the
    whole limit. A Python that does not get as far as the driver tells nothing of it.
    """
    if anew:
        _hung_or_asked.cache_clear()
    driver = _hung_or_asked(frozenset(environ.items()))
    if not driver.hung:
        _hung_or_asked.cache_clear()
    return driver


@lru_cache(maxsize=1)
def _hung_or_asked(environ: frozenset[tuple[str, str]]) -> Driver:
    """Return what the driver says, from memory where :func:`ask_driver` left an answer in it."""
    run = probe((DRIVER, MANAGEMENT), dict(environ), SECONDS)
    told, management = (
        next((one for one in run.messages if one.get("name") == name), {}) for name in (DRIVER, MANAGEMENT)
    )
    failure = _failure(run)
    return Driver(
        path=str(told["path"]) if told.get("error", "") is None else None,
        error=str(told.get("error") or ""),
        cuda=int(told.get("cuda", 0)),
        init=int(told.get("init", 0)),
        status=str(told.get("status", "")),
        failure=failure,
        hung=failure is not None and run.late,
        no_management=str(management.get("error") or ""),
    )


def _failure(run: IsolatedRun) -> str | None:
    """Return how the process ended within a step; ``None`` where it ended well, before the first or after."""
    step = run.messages[-1].get("step") if run.messages else None
    return None if run.failure is None or step is None else f"{step} {run.failure}"


def probe(names: Sequence[str], environ: Mapping[str, str], limit: float) -> IsolatedRun:
    """Load libraries in a process of its own; those with an interface of their own are started too."""
    folders = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    known = list(dict.fromkeys(folder for folder in folders if folder and os.path.isdir(folder)))
    args = json.dumps(known), json.dumps(list(names))
    return run_isolated(Path(probe_program.__file__), args, environ, limit)


def without_choice(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without CUDA_VISIBLE_DEVICES, with which a driver may report no device."""
    return {key: value for key, value in environ.items() if key != VISIBLE}


def _may_load(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether a library may be found by the system's loader; it is not loaded.

    Loading runs code of the library.
    """
    return _is_loaded(name) or any(os.path.exists(file) for file in _files(name, environ)) or _cached(name)


def _is_loaded(name: str) -> bool:
    try:
        ctypes.CDLL(name, mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


def _files(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the files that the loader would try, beside those of its cache."""
    chosen = environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
    # a conda environment's Python looks into its own folder
    for folder in (*filter(None, chosen), *(f"{prefix}/lib" for prefix in (sys.prefix, sys.base_prefix))):
        yield f"{folder}/{name}"
    for folder in _FOLDERS:
        yield f"{folder}/{name}"
        yield from glob.iglob(f"{folder}/*/{name}")
    for folder in sys.path:  # TensorFlow's own loader looks into NVIDIA's wheels
        yield from glob.iglob(f"{glob.escape(folder)}/nvidia/*/lib/{name}")


def _cached(name: str) -> bool:
    """Return whether the loader's cache of the whole system names a library."""
    try:
        return f"{name}\0".encode() in Path("/etc/ld.so.cache").read_bytes()
    except OSError:
        return False
