"""The README and the pages of the site as notebooks: their cells, and the outputs that they show.

A fenced block of Python is a cell. A block of text that follows, with only tags between, is its output.
All cells of a page run in one shell. To write the outputs of all pages, or of some:

    python -m tests.support.pages [PAGE ...]
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.examples.hygiene import words_and_numbers
from tests.support.notebook import Notebook, Run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]

_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

_TAG = re.compile(r"</?\w+>")
_PROMPT = re.compile(r"^Out\[\d+\]: ", re.MULTILINE)
# What depends on the speed of the machine.
_SPEED = re.compile(r", of it compiling TIME")


@dataclass(frozen=True)
class PageCell:
    """A cell of a page, and what the page shows below it, if anything.

    Attributes
    ----------
    code, shown
        The cell and the output.
    start, end
        Where the lines of the output stand in the page's text.
    indent
        What stands before each of these lines.
    """

    code: str
    shown: str | None = None
    start: int = 0
    end: int = 0
    indent: str = ""


def cells_of(text: str) -> list[PageCell]:
    """Return the cells of a page in their order."""
    cells: list[PageCell] = []
    blocks = list(_BLOCK.finditer(text))
    for block, after in itertools.zip_longest(blocks, blocks[1:]):
        if block[2] != "python":
            continue
        code = textwrap.dedent(block[3]).rstrip("\n")
        if after and after[2] == "text" and not _TAG.sub("", text[block.end() : after.start()]).strip():
            shown = textwrap.dedent(after[3]).rstrip("\n")
            cells.append(PageCell(code, shown, after.start(3), after.end(3), after[1]))
        else:
            cells.append(PageCell(code))
    return cells


def shown_by(run: Run) -> str:
    """Return what a cell shows as text: what it prints, its reports, its value, or its refusal."""
    refusal = [line for line in run.stderr.splitlines() if line.startswith("UsageError: ")]
    parts = [run.stdout, *(one.text for one in run.displayed), *refusal]
    text = _PROMPT.sub("", "\n".join(part.rstrip("\n") for part in parts if part.strip()))
    return "\n".join(line.rstrip() for line in text.splitlines())


def agree(said: str, seen: str) -> bool:
    """Whether two outputs are the same but for times and the last digits of numbers."""
    # A loss of 1e-12 on one processor is 0 on another, from some step on.
    said, seen = (re.sub(r" from step [\d,]+ on", "", text) for text in (said, seen))
    said, seen = (re.sub(r"(?<=\d)e-(?=\d)", "e−", text) for text in (said, seen))
    words, numbers = words_and_numbers(said)
    seen_words, seen_numbers = words_and_numbers(seen)
    words, seen_words = (_SPEED.sub("", one).replace(",", "").split() for one in (words, seen_words))
    return words == seen_words and numbers == pytest.approx(seen_numbers, rel=0.05, abs=2e-6)


def with_outputs(text: str, notebook: Notebook) -> str:
    """Return a page with the outputs that its cells show; those that still agree stay as they are."""
    written, done = [], 0
    for cell in cells_of(text):
        run = notebook.run(cell.code)
        seen = shown_by(run)
        if not run.success and not seen.startswith("UsageError"):
            raise SystemExit(f"{cell.code}\n{run.traceback}")
        if cell.shown is None or agree(cell.shown, seen):
            continue
        written += [text[done : cell.start], textwrap.indent(seen + "\n", cell.indent)]
        done = cell.end
    return "".join([*written, text[done:]])


def main(paths: list[Path]) -> None:
    """Write the outputs of pages."""
    os.environ["IPYTHONDIR"] = tempfile.mkdtemp()
    os.environ["COLUMNS"] = "80"
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "NoColor"
    shell = InteractiveShell.instance(config=config)
    for path in paths:
        before = path.read_text(encoding="utf-8")
        if not cells_of(before):
            continue
        shell.reset(new_session=True)
        folder = os.getcwd()
        with tempfile.TemporaryDirectory() as work:
            os.chdir(work)
            try:
                after = with_outputs(before, Notebook(shell))
            finally:
                os.chdir(folder)
        shell.run_line_magic("unload_ext", "tape_magic")
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path}: written")


if __name__ == "__main__":
    main([Path(word).resolve() for word in sys.argv[1:]] or PAGES)
