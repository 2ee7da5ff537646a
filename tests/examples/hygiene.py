"""Checks of saved notebooks: clean, and the same in two runs but for times."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

MAX_BYTES = 200_000

_TIME = re.compile(r"\d[\d.]*\u202f(µs|ms|s)\b")
_NUMBER = re.compile(r"(?<![\w.])−?\d[\d,]*(?:\.\d+)?(?:e−?\d+)?")


def code_cells(notebook: Any) -> list[Any]:
    """Return the cells of code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: Any) -> list[Any]:
    """Return the outputs of a cell without TensorFlow's log, which is not committed."""
    return [one for one in cell.outputs if one.get("name") != "stderr" or "UsageError" in one.text]


def shown_text(cell: Any) -> str:
    """Return the outputs of a cell as text."""
    return "".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs(cell))


def words_and_numbers(text: str) -> tuple[str, list[float]]:
    """Split a text into its words, without times, and its numbers, whose last digits may differ."""
    words = " ".join(re.sub("[▁▂▃▄▅▆▇█]+", "~", _TIME.sub("TIME", text)).split())
    numbers = [float(one.replace("−", "-").replace(",", "")) for one in _NUMBER.findall(words)]
    return _NUMBER.sub("#", words), numbers


def assert_the_same(committed: Any, fresh: Any, machine: Collection[str] = ()) -> None:
    """Assert that two runs show the same but for times, in all cells but those on the `machine`."""
    cells = {cell.id: cell for cell in code_cells(fresh)}
    for cell in code_cells(committed):
        fresh_cell = cells[cell.id]
        kinds = [(one.output_type, sorted(one.get("data", {}))) for one in outputs(cell)]
        assert kinds == [(one.output_type, sorted(one.get("data", {}))) for one in outputs(fresh_cell)], (
            cell.id
        )
        if cell.id in machine or "machine" in cell.metadata.get("tags", []):
            continue
        words, numbers = words_and_numbers(shown_text(cell))
        fresh_words, fresh_numbers = words_and_numbers(shown_text(fresh_cell))
        assert words == fresh_words, cell.id
        assert numbers == pytest.approx(fresh_numbers, rel=0.05, abs=2e-6), cell.id


def assert_clean(notebook: Any) -> None:
    """Assert that a notebook is valid and small, and that all of it shows when it is opened again."""
    import nbformat

    nbformat.validate(notebook)
    text = nbformat.writes(notebook)
    assert len(text.encode()) < MAX_BYTES
    assert "widgets" not in notebook.metadata
    assert "application/vnd.jupyter.widget-view" not in text
    for cell in code_cells(notebook):
        for one in cell.outputs:
            texts = [one.get("text", ""), *map(str, one.get("data", {}).values())]
            assert not any("\r" in text for text in texts), cell.id


def read(path: Path) -> Any:
    """Read a notebook from a file."""
    import nbformat  # takes seconds, which only the tests that need it are to pay

    return nbformat.read(path, as_version=4)
