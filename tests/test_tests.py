"""The tests themselves: what they may import from one another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names of the modules that a file may import, late imports among them."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def leads_to_a_test_module(name: str) -> bool:
    """Return whether a dotted name leads to a test module, or into one."""
    parts = name.split(".")
    return any(
        part.startswith("test_") and (ROOT.joinpath(*parts[:index], f"{part}.py")).exists()
        for index, part in enumerate(parts)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_imports_a_test_module(path: Path) -> None:
    """What tests share stands in ``tests/support``; data and cases stand beside their tests."""
    assert [name for name in imported(path) if leads_to_a_test_module(name)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import tests.kernels.test_kernel",
        "from tests.kernels import test_kernel",
        "from tests.kernels.test_kernel import MOVES",
        "from . import test_kernel",
        "from .test_kernel import MOVES",
        "from ..kernels.test_kernel import MOVES",
        "def late():\n    from tests.kernels import test_kernel as kernels",
    ],
)
def test_each_way_to_import_one_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    folder = tmp_path / "tests" / "kernels"
    folder.mkdir(parents=True)
    (folder / "test_kernel.py").touch()
    (folder / "test_live.py").write_text(line)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert any(leads_to_a_test_module(name) for name in imported(folder / "test_live.py"))


def test_each_folder_of_tests_is_a_package() -> None:
    """Modules in two folders may have one name only where the folders are packages."""
    folders = {path.parent for path in FILES if path.name.startswith("test_")}
    assert sorted(folder for folder in folders if not (folder / "__init__.py").exists()) == []
