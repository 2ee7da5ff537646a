"""The notebook on several machines runs two engines, loses one, and goes on."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from tests.examples.hygiene import assert_clean, code_cells, read, shown_text
from tests.support.engines import ended

NOTEBOOK = Path(__file__).parents[2] / "examples" / "cluster.ipynb"

INTERRUPTED = (
    # The notebook's kernel is interrupted once worker 0 takes steps.
    "import os, signal, threading, time\n"
    "def press():\n"
    "    while not os.path.exists('steps'):\n"
    "        time.sleep(0.05)\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "threading.Thread(target=press, daemon=True).start()",
    "%%px\n"
    "from tape_magic import minimize\n"
    "def told(step):\n"
    "    if step.step > 20:\n"
    "        open('steps', 'w').close()\n"
    "def endless(xb, yb):\n"
    "    return tf.reduce_mean(loss_fn(yb, model(xb)))\n"
    "minimize(endless, data=(x, y), batch=100, epochs=10**6, strategy='workers', on_progress=told)",
    "sums = rc[:].apply_sync(lambda: [float(abs(one.numpy()).sum()) for one in model.variables])\n"
    "print(sums[0] == sums[1])",
)
"""Cells that only the test runs, before an engine is lost."""

RAN = "print(rc[:].apply_sync(lambda: (minimum.steps, minimum.reason.name, minimum.devices)))"
"""What each engine has run; ``%%px`` waits a minute for what they show, and leaves out what comes later."""


@pytest.fixture(scope="module")
def texts(kernels: KernelSpecManager, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each cell shows, by its id."""
    if find_spec("ipyparallel") is None:  # its import would stop jupyter_client from reading dates
        pytest.skip("ipyparallel is not installed")
    notebook: Any = read(NOTEBOOK)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    for name in ("train", "resume"):
        place = next(place for place, cell in enumerate(notebook.cells) if cell.id == name)
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(RAN, id=f"{name}-ran"))
    before = next(place for place, cell in enumerate(notebook.cells) if cell.id == "kill")
    for place, code in enumerate(INTERRUPTED):
        cell = nbformat.v4.new_code_cell(code, id=f"interrupt{place}")
        cell.metadata["tags"] = ["raises-exception"] if code.startswith("%%px") else []
        notebook.cells.insert(before + place, cell)
    folder = tmp_path_factory.mktemp("cluster")
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, km=manager, resources=resources, timeout=300, record_timing=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.delenv("JPY_SESSION_NAME", raising=False)
        with ended(folder / "ipython"):  # a cell that fails leaves its engines
            client.execute()
    shutil.rmtree(folder / "run")
    return {cell.id: " ".join(shown_text(cell).split()) for cell in code_cells(notebook)}


def test_two_workers_train_are_interrupted_lose_one_and_go_on(texts: dict[str, str]) -> None:
    assert "worker 0 (localhost:" in texts["join"]
    assert "worker 1 (localhost:" in texts["join"]
    assert texts["train-ran"] == "[(100, 'EPOCHS', 2), (100, 'EPOCHS', 2)]"
    assert texts["same"] == "True"
    # An interrupt of the notebook's kernel ends both at the same step.
    assert texts["interrupt2"] == "True"
    assert re.fullmatch(
        r"worker 1 \(localhost:\d+\) is gone \([^)]+\) after step \d+\. Restart the engines; "
        r"with --checkpoint, --resume goes on from there\.",
        texts["lost"],
    )
    assert texts["resume-ran"] == "[(200, 'EPOCHS', 2), (200, 'EPOCHS', 2)]"


def test_the_saved_notebook_is_clean_and_shows_worker_0() -> None:
    notebook = read(NOTEBOOK)
    assert_clean(notebook)
    shown = {cell.id: " ".join(shown_text(cell).split()) for cell in code_cells(notebook)}
    for name, text in (
        ("train", "at step 100 · all epochs done"),
        ("resume", "at step 200 · all epochs done"),
    ):
        assert text in shown[name]
        assert "graph on 2 devices" in shown[name]
        assert shown[name].count("[output:") == 1
