"""A stub GPU: builds the library that shows TensorFlow two devices of type "GPU".

The library copies and allocates on the host and computes nothing. One process may load it once, so every test
case runs in a fresh process with the environment of `environment(library)`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

DEVICES = 2
PRODUCT = "STUB"
SOURCE = Path(__file__).with_name("stub_gpu.c")


def compiler() -> str | None:
    """The C compiler: `$CC`, or `cc`, or None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def build(folder: Path) -> Path:
    """Compiles the stub against the installed TensorFlow and returns the library's path in `folder`.

    Raises `RuntimeError` with the compiler's own words if it does not compile, and `LookupError` if
    TensorFlow or a compiler is missing.
    """
    spec = importlib.util.find_spec(
        "tensorflow"
    )  # found, not imported: the headers and the library are enough
    cc = compiler()
    if spec is None or not spec.submodule_search_locations:
        raise LookupError("TensorFlow is not installed, and the stub GPU is built from its headers.")
    if cc is None:
        raise LookupError("There is no C compiler, and the stub GPU is written in C.")
    tensorflow = Path(next(iter(spec.submodule_search_locations)))
    library = folder / "libstub_gpu.so"
    options = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    headers, libraries = f"-I{tensorflow / 'include'}", f"-L{tensorflow}"
    command = [
        cc,
        *options,
        headers,
        "-o",
        str(library),
        str(SOURCE),
        libraries,
        "-l:libtensorflow_framework.so.2",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The stub GPU does not compile:\n{done.stderr}")
    return library


def build_cuda(library: Path, *definitions: str) -> Path:
    """Compiles the stub of a library of NVIDIA's under any name; definitions are as CUDA=11040 or CRASH."""
    cc = compiler()
    if cc is None:
        raise LookupError("There is no C compiler, and the stub of CUDA is written in C.")
    source = SOURCE.with_name("stub_cuda.c")
    options = ["-shared", "-fPIC", "-Wall", "-Werror", *(f"-D{definition}" for definition in definitions)]
    subprocess.run([cc, *options, "-o", str(library), str(source)], check=True, capture_output=True)
    return library


def environment(library: Path) -> dict[str, str]:
    """The environment variables with which a fresh process sees the stub's GPUs and no real one."""
    return {"TF_PLUGGABLE_DEVICE_LIBRARY_PATH": str(library), "CUDA_VISIBLE_DEVICES": "-1"}
