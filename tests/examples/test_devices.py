"""The notebook on devices runs as it is on any machine, and says of each line what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

NOTEBOOK = Path(__file__).parents[2] / "examples" / "devices.ipynb"

SAID = {
    "both": ["UsageError: growth and limit exclude each other"],
    "parts": ["UsageError: split 2 needs a limit"],
    "split": ["CPU 0 as 4 logical CPUs", "CPU:0, CPU:1, CPU:2, CPU:3", "TensorFlow has not started yet"],
    "train": ["2.5"],
    "again": ["already so", "TensorFlow has started"],
    "other": [
        "TensorFlow has already started with other devices: the CPU is 4 logical CPUs, not 2.",
        "put this line first: %tfgpu --cpu --split 2",
    ],
    "precision": ["precision mixed_bfloat16", "done"],
    "layer": ["('bfloat16', 'float32')"],
    "watch": ["CPU"],
    "value": ["(True, [4])"],
}


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def shown(cell: Any) -> str:
    """All that a cell shows, as text on one line."""
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    return " ".join("".join(texts).split())


def called(notebook: Any, name: str) -> Any:
    return next(cell for cell in notebook.cells if cell.id == name)


@pytest.fixture(scope="module")
def executed(kernels: KernelSpecManager) -> Any:
    """The notebook run from top to bottom."""
    notebook = read()
    manager = AsyncKernelManager(kernel_spec_manager=kernels, kernel_name="python3")
    nbclient.NotebookClient(notebook, km=manager, timeout=300).execute()
    return notebook


@pytest.mark.parametrize("which", ["committed", "executed"])
def test_each_line(executed: Any, which: str) -> None:
    notebook = executed if which == "executed" else read()
    for name, texts in SAID.items():
        for text in texts:
            assert text in shown(called(notebook, name)), name


def test_the_doctor_of_a_machine_without_a_gpu() -> None:
    said = shown(called(read(), "doctor"))
    assert said.startswith("No GPU: ")
    assert said.endswith("%tfgpu --cpu")


def test_it_is_small_and_valid() -> None:
    nbformat.validate(read())
    assert NOTEBOOK.stat().st_size < 100_000
    assert "widgets" not in read().metadata
