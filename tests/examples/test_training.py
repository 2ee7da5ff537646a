"""The notebook on training runs from a fresh kernel, and does what its text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbclient
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from tests.examples.hygiene import assert_clean, code_cells, read, shown_text

TRAINING = Path(__file__).parents[2] / "examples" / "training.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def texts(kernels: KernelSpecManager, folder: Path) -> dict[str, str]:
    """What each cell shows, by its id."""
    notebook: Any = read(TRAINING)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, km=manager, resources=resources, timeout=300, record_timing=False
    )
    client.execute()
    return {cell.id: " ".join(shown_text(cell).split()) for cell in code_cells(notebook)}


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_the_digits_are_learned(texts: dict[str, str], folder: Path) -> None:
    assert 1e-4 < number(r"^learning rate (\S+)", texts["find"]) < 0.03
    assert "nothing was trained: all is as it was before" in texts["find"]
    assert "was kept" in texts["train"]
    assert number(r"^(\d+) of 497 pictures", texts["errors"]) <= 15
    assert number(r"error validation \S+ (\S+)", texts["parity"]) < 0.08
    assert list((folder / "runs" / "digits" / "train").glob("events.out.tfevents.*"))
    assert list((folder / "runs" / "digits" / "validation").glob("events.out.tfevents.*"))


def test_the_equation_is_solved(texts: dict[str, str]) -> None:
    assert number(r"solution: (\S+)", texts["solution"]) < 0.03


def test_the_saved_notebook_is_clean() -> None:
    assert_clean(read(TRAINING))
