"""The notebook on gradients runs as it is, and tells each of its situations as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

NOTEBOOK = Path(__file__).parents[2] / "examples" / "gradients.ipynb"

SAID = {
    "%%grad dy/dx, d2y/dx2": ["∂y/∂x          −2", "∂²y/∂x²         2"],
    "%%grad dy/dt": ["4.54e−5 to 0.25", "sum of 201 outputs"],
    "float(dy_dt[100])": ["0.25"],
    "--hessian": ["a minimum", "eigenvalues 0.3994, 1,001.6"],
    "--wrt model": ["2 of 102 gradients are all zero: block_6/kernel, block_6/bias"],
    "chosen =": ["cut at ArgMax, line 3: chosen = tf.argmax(probabilities)"],
    "np.mean": ["line 3 leaves TensorFlow: np.mean(squares)", "use tf.reduce_mean"],
    "logarithm =": ["Log is −inf for 0 at [0], line 2: logarithm = tf.math.log(r)", "tf.where (line 3)"],
    "safe =": ["[0, 1, 0.5]"],
}


def shown(cell: Any) -> str:
    """All that a cell shows but for what TensorFlow logs, as text."""
    outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return "".join(one.get("data", {}).get("text/plain", "") for one in outputs)


@pytest.fixture(scope="module")
def executed(kernels: KernelSpecManager) -> Any:
    """The notebook run from top to bottom."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    manager = AsyncKernelManager(kernel_spec_manager=kernels, kernel_name="python3")
    nbclient.NotebookClient(notebook, km=manager, timeout=300).execute()
    return notebook


@pytest.mark.parametrize("source", SAID)
@pytest.mark.parametrize("which", ["committed", "executed"])
def test_each_situation(executed: Any, which: str, source: str) -> None:
    notebook = executed if which == "executed" else nbformat.read(NOTEBOOK, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source)
    for text in SAID[source]:
        assert text in shown(cell)


def test_it_is_small_and_valid() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 200_000
