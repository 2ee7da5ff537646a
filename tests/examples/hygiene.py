"""What a saved notebook must be, and when two runs of one show the same."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import nbformat
import pytest

MOST_BYTES = 200_000

_TIME = re.compile(r"\d[\d.]*\u202f(µs|ms|s)\b")
_NUMBER = re.compile(r"(?<![\w.])−?\d[\d,]*(?:\.\d+)?(?:e−?\d+)?")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: Any) -> list[Any]:
    """Without what TensorFlow logs, which is not committed."""
    return [one for one in cell.outputs if one.get("name") != "stderr" or "UsageError" in one.text]


def shown(cell: Any) -> str:
    """All that a cell shows, as text."""
    return "".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs(cell))


def parts(text: str) -> tuple[str, list[float]]:
    """The words with times left out, and the numbers, which may differ in their last digit."""
    words = " ".join(re.sub("[▁▂▃▄▅▆▇█]+", "~", _TIME.sub("TIME", text)).split())
    numbers = [float(one.replace("−", "-").replace(",", "")) for one in _NUMBER.findall(words)]
    return _NUMBER.sub("#", words), numbers


def assert_the_same(committed: Any, fresh: Any, machine: Collection[str] = ()) -> None:
    """Two runs show the same but for times; but for the cells that are about the `machine`."""
    mine = {cell.id: cell for cell in code_cells(fresh)}
    for cell in code_cells(committed):
        again = mine[cell.id]
        kinds = [(one.output_type, sorted(one.get("data", {}))) for one in outputs(cell)]
        assert kinds == [(one.output_type, sorted(one.get("data", {}))) for one in outputs(again)], cell.id
        if cell.id in machine or "machine" in cell.metadata.get("tags", []):
            continue
        words, numbers = parts(shown(cell))
        fresh_words, fresh_numbers = parts(shown(again))
        assert words == fresh_words, cell.id
        assert numbers == pytest.approx(fresh_numbers, rel=0.05, abs=2e-6), cell.id


def assert_clean(notebook: Any) -> None:
    """Valid, small, and nothing in it that would not show when it is opened again."""
    nbformat.validate(notebook)
    text = nbformat.writes(notebook)
    assert len(text.encode()) < MOST_BYTES
    assert "widgets" not in notebook.metadata
    assert "application/vnd.jupyter.widget-view" not in text
    for cell in code_cells(notebook):
        for one in cell.outputs:
            texts = [one.get("text", ""), *map(str, one.get("data", {}).values())]
            assert not any("\r" in text for text in texts), cell.id


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)
