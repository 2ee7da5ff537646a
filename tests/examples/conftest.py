"""The kernel that the example notebooks run in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from jupyter_client.kernelspec import KernelSpecManager


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelSpecManager]:
    """A kernel of the Python that runs the tests, whatever ``python3`` means elsewhere on the machine.

    Programs that look for kernels by themselves find it too, through the environment.
    """
    folder = tmp_path_factory.mktemp("jupyter")
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name.lower()))
        yield KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
