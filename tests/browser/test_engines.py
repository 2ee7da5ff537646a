"""The live display of worker 0 in JupyterLab: two engines of ipyparallel, one panel, and its Stop button."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support import engines
from tests.support.jupyter import Page, Server

ROOT = Path(__file__).parents[2]
WIDGET = "%px %config TapeMagics.progress = 'widget'"
PATH = f"import os; os.environ['PYTHONPATH'] = {str(ROOT)!r}"
CELLS = [
    PATH,
    *engines.START,
    engines.training("--epochs 1_000_000"),
    engines.RAN,
    WIDGET,
    engines.training("--epochs 1_000_000"),
    engines.RAN,
]
SETUP, LINE, PANEL = range(5), 5, 8


def step(page: Page, cell: int) -> int:
    """The step that is shown below a cell."""
    shown = re.search(r"batch ([\d,]+) of", page.text(cell))
    return int(shown[1].replace(",", "")) if shown else 0


def it_moves(page: Page, cell: int) -> None:
    first = page.until(lambda: step(page, cell), "a step")
    page.until(lambda: step(page, cell) > first, "a later step")


def both_ended(page: Page, cell: int, reason: str) -> None:
    page.run(cell)
    page.done(cell)
    assert re.fullmatch(rf"\[\((\d+), '{reason}'\), \(\1, '{reason}'\)\]\s*", page.text(cell))


def the_line_moves_and_an_interrupt_ends_both(page: Page) -> None:
    page.run(LINE)
    it_moves(page, LINE)
    assert page.text(LINE).count("[std") == 1
    assert "[stdout:0] loss" in page.text(LINE)
    page.page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    page.done(LINE)
    both_ended(page, LINE + 1, "INTERRUPTED")


def the_panel_moves_and_its_stop_button_ends_both(page: Page) -> None:
    page.run(PANEL - 1)
    page.done(PANEL - 1)
    page.run(PANEL)
    it_moves(page, PANEL)
    for what in (page.button(PANEL, "Stop"), page.output(PANEL).get_by_role("progressbar")):
        assert what.count() == 1
    page.button(PANEL, "Stop").click()
    page.done(PANEL)
    page.says(PANEL, "stopped ·")
    assert page.output(PANEL).locator("button:visible").count() == 0
    assert page.output(PANEL).get_by_role("progressbar").count() == 0
    assert page.text(PANEL).count("at step") == 1
    page.until(
        lambda: page.output(PANEL).locator("img").first.evaluate("image => image.naturalWidth") > 0,
        "the picture",
    )
    both_ended(page, PANEL + 1, "STOPPED")


def test_worker_0_is_seen_and_stopped(server: Server, browser: Any) -> None:
    if find_spec("ipyparallel") is None:
        pytest.skip("ipyparallel is not installed")
    path = server.write("engines.ipynb", CELLS)
    page = Page(browser, server.address(path.name))
    with engines.ended(server.folder.parent / "ipython"):
        for cell in SETUP:
            page.run(cell)
            page.done(cell)
        the_line_moves_and_an_interrupt_ends_both(page)
        the_panel_moves_and_its_stop_button_ends_both(page)
        page.close()
        server.end_kernels()
