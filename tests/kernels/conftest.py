"""Kernels for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernels import Kernel, started


@pytest.fixture(scope="module", autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep kernels apart from the settings and the history of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name.lower()))
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        yield folder


@pytest.fixture(scope="module")
def kernel(request: pytest.FixtureRequest, apart: Path) -> Iterator[Kernel]:
    """Yield one kernel for the tests of a module, which has run the cells in the module's `SETUP`."""
    kernel = started(apart, request.module.SETUP)
    yield kernel
    kernel.close()
