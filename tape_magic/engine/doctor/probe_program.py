"""A program: loads CUDA's libraries one by one, and prints the path of each or the loader's error.

A broken library may crash the process that loads it, or never return, so that this program runs in a process
of its own. The arguments are the folders in which wheels keep libraries, and the names of the libraries. The
output is lines of JSON, written at once: before each step its name, so that the last one names the culprit;
after each library what was found.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from pathlib import Path

DRIVER = "libcuda.so.1"

MANAGEMENT = "libnvidia-ml.so.1"
"""The library of NVML."""

_LAST = 120
"""Seconds, more than any caller waits."""

_LENGTH = 256

_CAPABILITY = 75
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR."""


def main(folders: list[str], names: list[str]) -> None:
    """Try each name: first in the wheels, then in the places where the system looks."""
    if hasattr(signal, "alarm"):
        signal.alarm(_LAST)  # ends the process in a library that hangs, if nobody is left who would
    for name in names:
        files = [str(file) for folder in folders for file in Path(folder).glob(f"nvidia/*/lib/{name}")]
        message: dict[str, object] = {"name": name}
        for candidate in [*files, name]:
            _begin(f"loading {name}")
            try:
                library = ctypes.CDLL(candidate)
            except OSError as error:
                message["error"] = str(error)
                continue
            message |= {"path": _mapped(name) or candidate, "error": None}
            if name == DRIVER:
                message |= _driver(library)
            elif name == MANAGEMENT:
                _manage(library)
            break
        print(json.dumps(message), flush=True)


def _begin(step: str) -> None:
    """Say what is done next."""
    print(json.dumps({"step": step}), flush=True)


def _driver(library: ctypes.CDLL) -> dict[str, object]:
    """Return the highest CUDA version of the driver, as 1000 × major + 10 × minor, and cuInit's status.

    A driver that has started is asked for its devices too, as TensorFlow does.
    """
    version = ctypes.c_int()
    try:
        _begin("cuDriverGetVersion")
        library.cuDriverGetVersion(ctypes.byref(version))
        _begin("cuInit")
        status = library.cuInit(0)
    except AttributeError as error:
        return {"error": f"it is no driver: {error}"}
    if status == 0:
        _devices(library)
    return {"cuda": version.value, "init": status, "status": _status(library, status)}


def _status(library: ctypes.CDLL, status: int) -> str:
    """Return the driver's name of a status; empty where it has none."""
    name = ctypes.c_char_p()
    try:
        library.cuGetErrorName(status, ctypes.byref(name))
    except AttributeError:
        return ""
    return (name.value or b"").decode(errors="replace")


def _devices(library: ctypes.CDLL) -> None:
    """Ask for the devices and what they are; no context is made."""
    count, device, number = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    total, text = ctypes.c_size_t(), ctypes.create_string_buffer(_LENGTH)
    try:
        _begin("cuDeviceGetCount")
        library.cuDeviceGetCount(ctypes.byref(count))
        for ordinal in range(count.value):
            _begin("cuDeviceGet")
            library.cuDeviceGet(ctypes.byref(device), ordinal)
            _begin("cuDeviceGetName")
            library.cuDeviceGetName(text, _LENGTH, device)
            _begin("cuDeviceGetPCIBusId")
            library.cuDeviceGetPCIBusId(text, _LENGTH, device)
            _begin("cuDeviceTotalMem")
            library.cuDeviceTotalMem_v2(ctypes.byref(total), device)
            _begin("cuDeviceGetAttribute")
            library.cuDeviceGetAttribute(ctypes.byref(number), _CAPABILITY, device)
    except AttributeError:
        return


def _manage(library: ctypes.CDLL) -> None:
    """Start NVML, ask for its cards, and end it."""
    count, handle = ctypes.c_uint(), ctypes.c_void_p()
    try:
        _begin("nvmlInit")
        if library.nvmlInit_v2():
            return
        _begin("nvmlDeviceGetCount")
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            _begin("nvmlDeviceGetHandleByIndex")
            library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
        _begin("nvmlShutdown")
        library.nvmlShutdown()
    except AttributeError:
        return  # a library that lacks one of these cannot fail in it


def _mapped(name: str) -> str | None:
    """Return the path from which a library was loaded, by the memory map of this process."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None  # not Linux
    stem = name.rpartition(".so")[0] + ".so"  # libcublas.so is not libcublasLt.so
    paths = (line.split(maxsplit=5)[-1] for line in lines)
    return next((path for path in paths if path.startswith("/") and Path(path).name.startswith(stem)), None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
