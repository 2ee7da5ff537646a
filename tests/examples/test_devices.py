"""The notebook on devices runs on any machine, and each line reports what it changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from tests.examples.hygiene import assert_clean, assert_the_same, read, shown_text

NOTEBOOK = Path(__file__).parents[2] / "examples" / "devices.ipynb"

EXPECTED = {
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


MACHINE = ("split", "again", "precision")
"""Cells that show the processor, beside those that the notebook marks."""


def text_on_one_line(cell: Any) -> str:
    """Return the outputs of a cell as one line of text."""
    return " ".join(shown_text(cell).split())


def cell_called(notebook: Any, name: str) -> Any:
    return next(cell for cell in notebook.cells if cell.id == name)


@pytest.fixture(scope="module")
def run_by_papermill(kernels: KernelSpecManager, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook run from top to bottom, by papermill."""
    import papermill

    path = tmp_path_factory.mktemp("executed") / NOTEBOOK.name
    papermill.execute_notebook(str(NOTEBOOK), str(path), kernel_name="python3", progress_bar=False)
    return read(path)


@pytest.mark.parametrize("which", ["committed", "executed"])
def test_each_line(run_by_papermill: Any, which: str) -> None:
    notebook = run_by_papermill if which == "executed" else read(NOTEBOOK)
    for name, texts in EXPECTED.items():
        for text in texts:
            assert text in text_on_one_line(cell_called(notebook, name)), name


def test_the_doctor_of_a_machine_without_a_gpu() -> None:
    text = text_on_one_line(cell_called(read(NOTEBOOK), "doctor"))
    assert text.startswith("No GPU: ")
    assert text.endswith("%tfgpu --cpu")


def test_the_committed_outputs_are_those_of_a_run(run_by_papermill: Any) -> None:
    assert_the_same(read(NOTEBOOK), run_by_papermill, MACHINE)


@pytest.mark.parametrize("which", ["committed", "executed"])
def test_it_is_clean(run_by_papermill: Any, which: str) -> None:
    assert_clean(run_by_papermill if which == "executed" else read(NOTEBOOK))
