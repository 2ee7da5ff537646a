"""The tour runs from top to bottom, prints the tutorial's numbers, and is committed with its outputs."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from tests.examples.hygiene import assert_clean, assert_the_same, code_cells, read, shown_text

TOUR = Path(__file__).parents[2] / "examples" / "tour.ipynb"

STEPS = ("step1", "step2", "step3", "step4a", "step4b", "step5", "step6", "step7", "step8")


def cell_called(notebook: Any, name: str) -> Any:
    return next(cell for cell in notebook.cells if cell.id == name)


@pytest.fixture(scope="module")
def run_tour(kernels: KernelSpecManager) -> Any:
    """The tour run from top to bottom, and at its end the namespace's numbers."""
    import nbclient
    import nbformat

    notebook = read(TOUR)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    ends = "import json; print(json.dumps([dy_dx.numpy().item(), x.numpy().item(), y.numpy().item()]))"
    notebook.cells.append(nbformat.v4.new_code_cell(ends, id="ends"))
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    nbclient.NotebookClient(notebook, km=manager, timeout=300, record_timing=False).execute()
    return notebook


def test_no_cell_fails(run_tour):
    assert [one for cell in code_cells(run_tour) for one in cell.outputs if one.output_type == "error"] == []


def test_step_1_the_derivative(run_tour):
    assert re.search(r"^∂y/∂x +−2$", shown_text(cell_called(run_tour, "step1")), re.MULTILINE)


def test_step_2_by_constants(run_tour):
    rows = re.findall(r"^∂y/∂(\w) +(\S+)$", shown_text(cell_called(run_tour, "step2")), re.MULTILINE)
    assert rows == [("x", "−2"), ("a", "0"), ("b", "0"), ("c", "1")]


def test_step_3_the_second_derivative(run_tour):
    assert re.search(r"^∂²y/∂x² +2$", shown_text(cell_called(run_tour, "step3")), re.MULTILINE)


def test_step_4_at_two_points(run_tour):
    assert shown_text(cell_called(run_tour, "pair4a")) == "(-2.0, 1.0)"
    assert shown_text(cell_called(run_tour, "pair4b")) == "(0.0, 0.0)"


@pytest.mark.parametrize("step", [5, 6, 7, 8])
def test_steps_5_to_8_the_minimum(run_tour, step):
    found = re.fullmatch(r"y = (\S+), x = (\S+)\n", shown_text(cell_called(run_tour, f"end{step}")))
    assert found
    assert float(found[1]) == 0
    assert math.isclose(float(found[2]), 0.9999985, abs_tol=1e-6)
    assert shown_text(cell_called(run_tour, f"step{step}")).startswith("y = 0 at step 1,000 · step limit")


@pytest.mark.parametrize(("step", "engine"), [(5, "eager"), (6, "eager"), (7, "graph"), (8, "XLA")])
def test_each_minimum_is_found_by_the_engine_that_its_text_names(run_tour, step, engine):
    assert f"· {engine} ·" in shown_text(cell_called(run_tour, f"step{step}")).replace("\n ", "")


def test_the_numbers_left_in_the_notebook(run_tour):
    dy_dx, x, y = json.loads(shown_text(cell_called(run_tour, "ends")))
    assert (dy_dx, y) == (0.0, 0.0)
    assert math.isclose(x, 0.9999985, abs_tol=1e-6)


def test_the_reports_are_values(run_tour):
    assert shown_text(cell_called(run_tour, "values")) == "(0.0, 1000, 1001)"


def test_the_committed_outputs_are_those_of_a_run(run_tour):
    assert_the_same(read(TOUR), run_tour)


def test_each_step_is_one_line_of_magic():
    for name in STEPS:
        source = cell_called(read(TOUR), name).source
        assert [line.startswith("%") for line in source.splitlines()].count(True) == 1
        assert source.startswith("%%")


def test_every_step_is_explained():
    cells = read(TOUR).cells
    for name in STEPS:
        before = cells[: [cell.id for cell in cells].index(name)]
        headings = [cell.id for cell in before if cell.cell_type == "markdown"]
        assert headings[-1].startswith(f"s{name[4]}")


@pytest.mark.parametrize("which", ["committed", "executed"])
def test_it_is_clean(run_tour, which):
    notebook = run_tour if which == "executed" else read(TOUR)
    assert_clean(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_nothing_of_the_machine_that_made_it_is_left():
    text = TOUR.read_text(encoding="utf-8")
    assert not re.search(r'"/\w|[ (]/(home|root|tmp|work|usr|Users|content|opt)\b|[A-Z]:\\\\', text)
    notebook = read(TOUR)
    for cell in code_cells(notebook):
        assert cell.execution_count is not None
        assert "execution" not in cell.metadata
        for one in cell.outputs:
            assert one.output_type != "error"
            assert one.get("name") != "stderr"
