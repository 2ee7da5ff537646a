"""The tour runs as it is, prints the tutorial's numbers, and is committed with the outputs that it gives."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

TOUR = Path(__file__).parents[2] / "examples" / "tour.ipynb"

STEPS = ("step1", "step2", "step3", "step4a", "step4b", "step5", "step6", "step7", "step8")


def read() -> Any:
    return nbformat.read(TOUR, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: Any) -> list[Any]:
    """Without what TensorFlow logs, which is not committed."""
    return [one for one in cell.outputs if one.get("name") != "stderr"]


def shown(cell: Any) -> str:
    """All that a cell shows, as text."""
    return "".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs(cell))


def cell_called(notebook: Any, name: str) -> Any:
    return next(cell for cell in notebook.cells if cell.id == name)


@pytest.fixture(scope="module")
def executed(kernels: KernelSpecManager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tour run from top to bottom, and at its end the namespace's numbers."""
    notebook = read()
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    ends = "import json; print(json.dumps([dy_dx.numpy().item(), x.numpy().item(), y.numpy().item()]))"
    notebook.cells.append(nbformat.v4.new_code_cell(ends, id="ends"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
        nbclient.NotebookClient(notebook, km=manager, timeout=300, record_timing=False).execute()
    return notebook


def test_no_cell_fails(executed):
    assert [one for cell in code_cells(executed) for one in cell.outputs if one.output_type == "error"] == []


def test_step_1_the_derivative(executed):
    assert re.search(r"^∂y/∂x +−2$", shown(cell_called(executed, "step1")), re.MULTILINE)


def test_step_2_by_constants(executed):
    rows = re.findall(r"^∂y/∂(\w) +(\S+)$", shown(cell_called(executed, "step2")), re.MULTILINE)
    assert rows == [("x", "−2"), ("a", "0"), ("b", "0"), ("c", "1")]


def test_step_3_the_second_derivative(executed):
    assert re.search(r"^∂²y/∂x² +2$", shown(cell_called(executed, "step3")), re.MULTILINE)


def test_step_4_at_two_points(executed):
    assert shown(cell_called(executed, "pair4a")) == "(-2.0, 1.0)"
    assert shown(cell_called(executed, "pair4b")) == "(0.0, 0.0)"


@pytest.mark.parametrize("step", [5, 6, 7, 8])
def test_steps_5_to_8_the_minimum(executed, step):
    found = re.fullmatch(r"y = (\S+), x = (\S+)\n", shown(cell_called(executed, f"end{step}")))
    assert found
    assert float(found[1]) == 0
    assert math.isclose(float(found[2]), 0.9999985, abs_tol=1e-6)
    assert shown(cell_called(executed, f"step{step}")).startswith("y = 0 at step 1,000 · step limit")


@pytest.mark.parametrize(("step", "engine"), [(5, "eager"), (6, "eager"), (7, "graph"), (8, "XLA")])
def test_each_minimum_is_found_by_the_engine_that_its_text_names(executed, step, engine):
    assert f"· {engine} ·" in shown(cell_called(executed, f"step{step}")).replace("\n ", "")


def test_the_numbers_left_in_the_notebook(executed):
    dy_dx, x, y = json.loads(shown(cell_called(executed, "ends")))
    assert (dy_dx, y) == (0.0, 0.0)
    assert math.isclose(x, 0.9999985, abs_tol=1e-6)


def test_the_reports_are_values(executed):
    assert shown(cell_called(executed, "values")) == "(0.0, 1000, 1001)"


_TIME = re.compile(r"\d[\d.]*\u202f(µs|ms|s)\b")
_NUMBER = re.compile(r"(?<![\w.])−?\d[\d,]*(?:\.\d+)?(?:e−?\d+)?")


def parts(text: str) -> tuple[str, list[float]]:
    """The words with times left out, and the numbers, which may differ in their last digit."""
    words = " ".join(re.sub("[▁▂▃▄▅▆▇█]+", "~", _TIME.sub("TIME", text)).split())
    numbers = [float(one.replace("−", "-").replace(",", "")) for one in _NUMBER.findall(words)]
    return _NUMBER.sub("#", words), numbers


def test_the_committed_outputs_are_those_of_a_run(executed):
    for committed, fresh in zip(code_cells(read()), code_cells(executed), strict=False):
        assert committed.id == fresh.id
        kinds = [(one.output_type, sorted(one.get("data", {}))) for one in outputs(committed)]
        assert kinds == [(one.output_type, sorted(one.get("data", {}))) for one in outputs(fresh)]
        if "machine" in committed.metadata.get("tags", []):
            continue  # the devices are those of another machine
        words, numbers = parts(shown(committed))
        fresh_words, fresh_numbers = parts(shown(fresh))
        assert words == fresh_words
        assert numbers == pytest.approx(fresh_numbers, rel=0.05, abs=2e-6)


def test_each_step_is_one_line_of_magic():
    for name in STEPS:
        source = cell_called(read(), name).source
        assert [line.startswith("%") for line in source.splitlines()].count(True) == 1
        assert source.startswith("%%")


def test_every_step_is_explained():
    cells = read().cells
    for name in STEPS:
        before = cells[: [cell.id for cell in cells].index(name)]
        headings = [cell.id for cell in before if cell.cell_type == "markdown"]
        assert headings[-1].startswith(f"s{name[4]}")


def test_the_file_is_valid_and_small():
    nbformat.validate(read())
    assert TOUR.stat().st_size < 200_000
    assert read().metadata.kernelspec.name == "python3"


def test_nothing_of_the_machine_that_made_it_is_left():
    text = TOUR.read_text(encoding="utf-8")
    assert not re.search(r'"/\w|[ (]/(home|root|tmp|work|usr|Users|content|opt)\b|[A-Z]:\\\\', text)
    notebook = read()
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        assert cell.execution_count is not None
        assert "execution" not in cell.metadata
        for one in cell.outputs:
            assert one.output_type != "error"
            assert one.get("name") != "stderr"
            assert not any("widget" in kind for kind in one.get("data", {}))
