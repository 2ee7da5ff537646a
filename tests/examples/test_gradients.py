"""The notebook on gradients runs from top to bottom, and each cell reports what its text announces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from tests.examples.hygiene import assert_clean, assert_the_same, read, shown_text

NOTEBOOK = Path(__file__).parents[2] / "examples" / "gradients.ipynb"

EXPECTED = {
    "%%grad dy/dx, d2y/dx2": ["∂y/∂x          −2", "∂²y/∂x²         2"],
    "%%grad dy/dt": ["4.54e−5 to 0.25", "dy/dt at 201 points"],
    "float(dy_dt[100])": ["0.25"],
    "--hessian": ["a minimum", "eigenvalues 0.3994, 1,002"],
    "--wrt model": ["2 of 102 gradients are all zero: block_6/kernel, block_6/bias"],
    "chosen =": ["cut at ArgMax, line 3: chosen = tf.argmax(probabilities)"],
    "np.mean": ["line 3 leaves TensorFlow: np.mean(squares)", "use tf.reduce_mean"],
    "logarithm =": ["Log is −inf for 0 at [0], line 2: logarithm = tf.math.log(r)", "tf.where (line 3)"],
    "safe =": ["[0, 1, 0.5]"],
}


@pytest.fixture(scope="module")
def run_by_nbconvert(kernels: KernelSpecManager, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook run from top to bottom, by nbconvert's command."""
    folder = tmp_path_factory.mktemp("executed")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", str(NOTEBOOK)]
    subprocess.run([*command, "--output-dir", str(folder)], check=True, timeout=300)
    return read(folder / NOTEBOOK.name)


@pytest.mark.parametrize("source", EXPECTED)
@pytest.mark.parametrize("which", ["committed", "executed"])
def test_each_situation(run_by_nbconvert: Any, which: str, source: str) -> None:
    notebook = run_by_nbconvert if which == "executed" else read(NOTEBOOK)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source)
    for text in EXPECTED[source]:
        assert text in shown_text(cell)


def test_the_committed_outputs_are_those_of_a_run(run_by_nbconvert: Any) -> None:
    assert_the_same(read(NOTEBOOK), run_by_nbconvert)


@pytest.mark.parametrize("which", ["committed", "executed"])
def test_it_is_clean(run_by_nbconvert: Any, which: str) -> None:
    assert_clean(run_by_nbconvert if which == "executed" else read(NOTEBOOK))
