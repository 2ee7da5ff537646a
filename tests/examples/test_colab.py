"""The example notebooks open in Google Colab, and install the package there and nowhere else."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.examples.hygiene import code_cells, read
from tests.support.notebook import Notebook

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_badge_opens_this_notebook(path: Path) -> None:
    repository = SOURCE.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{repository}/blob/main/examples/{path.name}"
    assert f"colab-badge.svg)]({address})" in read(path).cells[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_in_colab_only(
    path: Path, bare_shell: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    registered = bare_shell.shell.magics_manager.magics["line"]
    monkeypatch.setitem(registered, "pip", installed.append)
    first = code_cells(read(path))[0].source
    bare_shell.ok(first)
    assert installed == []
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    bare_shell.ok(first)
    assert installed == ["install -q tape_magic"]
