"""A program: loads CUDA's libraries one by one, and prints the path of each or the loader's error.

A broken library may crash the process that loads it, so that the doctor runs this program in a process of its
own. The arguments are the folders in which wheels keep libraries, and the names of the libraries. Each
library gets a line of JSON, written at once, so that after a crash the first missing line names the culprit.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

DRIVER = "libcuda.so.1"


def main(folders: list[str], names: list[str]) -> None:
    """Try each name: first in the wheels, then in the places where the system looks."""
    for name in names:
        files = [str(file) for folder in folders for file in Path(folder).glob(f"nvidia/*/lib/{name}")]
        message: dict[str, object] = {"name": name}
        for candidate in [*files, name]:
            try:
                library = ctypes.CDLL(candidate)
            except OSError as error:
                message["error"] = str(error)
                continue
            message |= {"path": _mapped(name) or candidate, "error": None}
            if name == DRIVER:
                message |= _driver(library)
            break
        print(json.dumps(message), flush=True)


def _driver(library: ctypes.CDLL) -> dict[str, object]:
    """Return the highest CUDA version of the driver, as 1000 × major + 10 × minor, and cuInit's status."""
    version = ctypes.c_int()
    try:
        library.cuDriverGetVersion(ctypes.byref(version))
        return {"cuda": version.value, "init": library.cuInit(0)}
    except AttributeError as error:
        return {"error": f"it is no driver: {error}"}


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
