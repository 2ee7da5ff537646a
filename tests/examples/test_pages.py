"""The cells on the pages of the site run, and show what the pages say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tape_magic.engine.verdict import facts
from tests.support.notebook import Notebook
from tests.support.pages import PAGES, ROOT, agree, cells_of, shown_by

# The Chinese tutorial has the cells and outputs of the English one, which a test below holds.
RUN = [path for path in PAGES if path.name != "tutorial.zh.md" and cells_of(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_cells_show_what_the_page_says(
    bare_shell: Notebook, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What a run is told must not depend on how fast the machine looks for it.
    monkeypatch.setattr(facts, "LEAST", 60.0)
    try:
        for cell in cells_of(path.read_text(encoding="utf-8")):
            if cell.code.startswith("%tfgpu 0") and Path("/dev/nvidia0").exists():
                continue  # the tests before have started TensorFlow, and there it is too late
            run = bare_shell.run(cell.code)
            seen = shown_by(run)
            # A page may show a refusal. Nothing else may fail.
            assert run.success or (cell.shown or "").startswith("UsageError"), f"{cell.code}\n{run.traceback}"
            assert cell.shown is None or agree(cell.shown, seen), f"{cell.code}\n{cell.shown}\n---\n{seen}"
    finally:
        if "TapeMagics" in str(bare_shell.shell.magics_manager.registry):
            bare_shell.shell.run_line_magic("unload_ext", "tape_magic")


def test_both_languages_run_the_same_cells() -> None:
    english, chinese = (
        [
            (cell.code, cell.shown)
            for cell in cells_of((ROOT / "docs/pages" / name).read_text(encoding="utf-8"))
        ]
        for name in ("tutorial.md", "tutorial.zh.md")
    )
    assert len(english) > 15
    assert [code for code, _ in english] == [code for code, _ in chinese]
    for (_, said), (_, told) in zip(english, chinese, strict=True):
        assert (said is None) == (told is None)
        assert said is None or agree(said, told)


def test_a_wrong_output_would_be_seen(bare_shell: Notebook) -> None:
    text = "```python\nx = 2\nx * 3\n```\n\n```text\n6\n```\n"
    (cell,) = cells_of(text)
    assert agree(cell.shown, shown_by(bare_shell.run(cell.code)))
    assert not agree("7", shown_by(bare_shell.run(cell.code)))
    assert not agree("6 apples", shown_by(bare_shell.run(cell.code)))


def test_each_block_of_python_is_a_cell() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for word in ("```py\n", "```ipython", "```python3", "```pycon"):
            assert word not in text, path
