"""A program by itself: loads CUDA's libraries one by one, and says where each is or why it does not load.

A library that is broken may end the process that loads it, so the doctor runs this apart. It takes the
folders in which wheels keep libraries, and the names; it writes a line of JSON for each, at once, so that
the one that ended it is the first that is missing.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

DRIVER = "libcuda.so.1"


def main(folders: list[str], names: list[str]) -> None:
    """Try each name: first in the wheels, then wherever the system looks."""
    for name in names:
        files = [str(file) for folder in folders for file in Path(folder).glob(f"nvidia/*/lib/{name}")]
        told: dict[str, object] = {"name": name}
        for candidate in [*files, name]:
            try:
                library = ctypes.CDLL(candidate)
            except OSError as error:
                told["error"] = str(error)
                continue
            told |= {"path": _mapped(name) or candidate, "error": None}
            if name == DRIVER:
                told |= _driver(library)
            break
        print(json.dumps(told), flush=True)


def _driver(library: ctypes.CDLL) -> dict[str, object]:
    """The highest CUDA that the driver knows, as 1000 × major + 10 × minor, and what starting it returns."""
    version = ctypes.c_int()
    try:
        library.cuDriverGetVersion(ctypes.byref(version))
        return {"cuda": version.value, "init": library.cuInit(0)}
    except AttributeError as error:
        return {"error": f"it is no driver: {error}"}


def _mapped(name: str) -> str | None:
    """Where a library came from, by the map of this process."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None  # not Linux
    stem = name.rpartition(".so")[0] + ".so"  # libcublas.so is not libcublasLt.so
    paths = (line.split(maxsplit=5)[-1] for line in lines)
    return next((path for path in paths if path.startswith("/") and Path(path).name.startswith(stem)), None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
