"""The libraries that a TensorFlow with CUDA loads, or skips every GPU; and the wheels that bring them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata

# By the first number of CUDA's version. TensorFlow asks for exactly these names, and CUDA's own libraries
# number their interfaces apart from CUDA. With TF_CPP_VMODULE=dso_loader=1 its log names them.
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
"""The folder of what is fetched before anything is uninstalled."""

_FEW = 2
"""Up to so many missing wheels are named; past that, all of them are missing in all likelihood."""


def wanted_libraries(cuda: str | None, cudnn: str | None) -> tuple[str, ...]:
    """The names for a TensorFlow built for these versions, in the order in which it loads them.

    >>> wanted_libraries("12.5.1", "9")[-1]
    'libcudnn.so.9'
    """
    names = _NAMES.get((cuda or "12").partition(".")[0], _NAMES["12"])
    return (*(f"lib{name}" for name in names.split()), f"libcudnn.so.{(cudnn or '9').partition('.')[0]}")


def install_line(missing: Sequence[str], version: str, requirements: Sequence[str] | None = None) -> str:
    """What brings the missing libraries, in the versions that this TensorFlow asks for itself.

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
    """What brings TensorFlow with all of CUDA's libraries; without a version, the newest."""
    return f'%pip install "{_whole("tensorflow", version)}"'


def wheel_line(name: str, version: str) -> str:
    """What puts a wheel with CUDA in the place of the one without that is installed under `name`.

    pip finds a wheel of the same name and version installed already, unless it is told to install it anew.

    >>> wheel_line("tensorflow", "2.21.0")
    '%pip install --force-reinstall "tensorflow[and-cuda]==2.21.0"'

    Wheels of two names share their files, so that the old one has to go before the new one comes. All that
    is needed is fetched before that: what fails until then leaves the old one as it was.

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
    """Of nightly builds only the newest are kept, so that the one installed may be gone."""
    return f"{name}[and-cuda]" if name == "tf-nightly" or not version else f"{name}[and-cuda]=={version}"


def _requirements() -> list[str]:
    try:
        return metadata.requires("tensorflow") or []
    except metadata.PackageNotFoundError:
        return []  # under another name, or built from its source
