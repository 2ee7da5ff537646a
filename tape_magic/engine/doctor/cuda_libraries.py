"""The libraries without which a TensorFlow with CUDA skips every GPU, and the wheels that bring them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata

# The keys are the major versions of CUDA; each of its libraries numbers its interface independently.
# TensorFlow loads exactly these names (seen in 2.21 with TF_CPP_VMODULE=dso_loader=1, which has its log name
# them).
_NAMES = {
    "11": "cudart.so.11.0 cublas.so.11 cublasLt.so.11 cufft.so.10 cusolver.so.11 cusparse.so.11",
    "12": "cudart.so.12 cublas.so.12 cublasLt.so.12 cufft.so.11 cusolver.so.11 cusparse.so.12",
    "13": "cudart.so.13 cublas.so.13 cublasLt.so.13 cufft.so.12 cusolver.so.12 cusparse.so.12",
}

_WHEELS = {
    "libcudart": "nvidia-cuda-runtime",
    "libcublas": "nvidia-cublas",
    "libcublasLt": "nvidia-cublas",
    "libcufft": "nvidia-cufft",
    "libcusolver": "nvidia-cusolver",
    "libcusparse": "nvidia-cusparse",
    "libcudnn": "nvidia-cudnn",
}

WHEELS = "tensorflow-wheels"
"""The folder of the wheels that are fetched before anything is uninstalled."""

_FEW = 2
"""The most missing wheels that are named one by one; of more, probably all are missing."""


def wanted_libraries(cuda: str | None, cudnn: str | None) -> tuple[str, ...]:
    """Return the libraries of a TensorFlow built for these versions, in the order in which it loads them.

    >>> wanted_libraries("12.5.1", "9")[-1]
    'libcudnn.so.9'
    """
    names = _NAMES.get((cuda or "12").partition(".")[0], _NAMES["12"])
    return (*(f"lib{name}" for name in names.split()), f"libcudnn.so.{(cudnn or '9').partition('.')[0]}")


def install_line(missing: Sequence[str], version: str, requirements: Sequence[str] | None = None) -> str:
    """Return the line that installs the missing libraries, in the versions that TensorFlow itself requires.

    >>> install_line(["libcudnn.so.9"], "2.21.0", ['nvidia-cudnn-cu12<10.0,>=9.3; extra == "and-cuda"'])
    '%pip install "nvidia-cudnn-cu12<10.0,>=9.3"'
    """
    wheels = list(dict.fromkeys(_WHEELS[name.partition(".so")[0]] for name in missing))
    known = _requirements() if requirements is None else requirements
    named = [
        requirement.partition(";")[0].strip()
        for wheel in wheels
        for requirement in known
        if re.match(rf"{wheel}-cu\d+\b", requirement)
    ]
    if len(wheels) <= _FEW and len(named) == len(wheels):
        return "%pip install " + " ".join(f'"{requirement}"' for requirement in named)
    return whole_line(version)


def whole_line(version: str) -> str:
    """Return the line that installs TensorFlow with CUDA's libraries; without a version, the newest."""
    return f'%pip install "{_whole("tensorflow", version)}"'


def wheel_line(name: str, version: str) -> str:
    """Return the line that replaces the wheel without CUDA, installed under `name`, by the one with CUDA.

    Without --force-reinstall, pip considers a wheel of the same name and version installed already.

    >>> wheel_line("tensorflow", "2.21.0")
    '%pip install --force-reinstall "tensorflow[and-cuda]==2.21.0"'

    Wheels of two names share their files, so that the old one must be removed before the new one is
    installed. Everything is fetched before that: a failure until then leaves the old one in place.

    >>> wheel_line("tf-nightly-cpu", "2.22.0-dev20260101").split(" && ")[1:]
    ['pip uninstall -y tf-nightly-cpu', 'pip install --no-index -f tensorflow-wheels "tf-nightly[and-cuda]"']
    """
    other = "tf-nightly" if name.startswith("tf-nightly") else "tensorflow"
    wanted = _whole(other, version)
    if name == other:
        return f'%pip install --force-reinstall "{wanted}"'
    return (
        f'!pip wheel -w {WHEELS} "{wanted}" && pip uninstall -y {name}'
        f' && pip install --no-index -f {WHEELS} "{wanted}"'
    )


def _whole(name: str, version: str) -> str:
    """Return the requirement of a wheel with CUDA, without the version for a nightly build.

    Package indexes keep only the newest nightly builds, so that the installed one may be gone.
    """
    return f"{name}[and-cuda]" if name == "tf-nightly" or not version else f"{name}[and-cuda]=={version}"


def _requirements() -> list[str]:
    try:
        return metadata.requires("tensorflow") or []
    except metadata.PackageNotFoundError:
        return []  # installed under another name, or built from source
