"""The runs that go wrong have the verdict that is committed, and their cures have none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from tests.examples.hygiene import assert_clean, code_cells, read, shown_text

VERDICTS = Path(__file__).parents[2] / "examples" / "verdicts.ipynb"

KINDS = {
    "run1": "NOT_FINITE",
    "run2": "RUNAWAY",
    "run3": "ILL_CONDITIONED",
    "run4": "BROADCAST",
    "run5": "DEAD_UNITS",
    "run6": "VANISHING",
    "run7": "SOFTMAX_TWICE",
    "run8": "UNMOVED",
    "run9": "SADDLE",
    "run10": "NOISE_FLOOR",
}
"""The cells that go wrong, and what is found first."""

FINDING = "print(*(f'{one.kind.name} {one.sentence}' for one in minimum.findings[:1]))"


@pytest.fixture(scope="module")
def run_verdicts(kernels: KernelSpecManager) -> Any:
    """The cells by their ids, and the findings printed after each run, on a machine of any speed."""
    notebook = read(VERDICTS)
    patient = "import tape_magic.engine.verdict.facts as facts; facts.LEAST = 60.0"
    cells = [nbformat.v4.new_code_cell(patient, id="patient")]
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        cells.append(cell)
        if cell.source.startswith("%%minimize"):
            cells.append(nbformat.v4.new_code_cell(FINDING, id=f"of_{cell.id}"))
    notebook.cells = cells
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    nbclient.NotebookClient(notebook, km=manager, timeout=300, record_timing=False).execute()
    return {cell.id: cell for cell in notebook.cells}


def test_each_run_that_goes_wrong_is_told_why_and_each_cure_helps(run_verdicts: Any) -> None:
    texts = {cell.removeprefix("of_"): cell for cell in run_verdicts if cell.startswith("of_")}
    found = {cell: shown_text(run_verdicts[one]).partition(" ")[0].strip() for cell, one in texts.items()}
    assert found == {cell: KINDS.get(cell, "") for cell in found}
    assert set(KINDS) < set(found)


def test_the_sentences_are_those_that_are_committed(run_verdicts: Any) -> None:
    """But for numbers, whose last digits may differ."""
    committed = {cell.id: " ".join(shown_text(cell).split()) for cell in code_cells(read(VERDICTS))}
    for cell in KINDS:
        sentence = shown_text(run_verdicts[f"of_{cell}"]).partition(" ")[2]
        words = [word for word in sentence.split() if re.fullmatch(r"[a-zA-Z]+", word)]
        assert words, cell
        assert all(word in committed[cell] for word in words), cell


def test_the_saved_notebook_is_clean() -> None:
    assert_clean(read(VERDICTS))
