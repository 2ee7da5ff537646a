"""The live panel where a front end paints its widgets, as the dark themes of VS Code do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tape_magic.display.live.panel_html import panel_html
from tape_magic.results.steps import Step

VSCODE = """
:root {{ --vscode-editor-background: {page}; --vscode-editor-foreground: {text}; }}
body {{ background: var(--vscode-editor-background); color: var(--vscode-editor-foreground); }}
.cell-output-ipywidget-background {{ background: white !important; }}
"""
"""What VS Code and its extension for notebooks set (microsoft/vscode-jupyter#7161)."""

STEP = Step(
    10,
    100,
    0.5,
    0.5,
    1.0,
    "graph",
    read_history=lambda: (np.arange(11), np.geomspace(9.0, 0.5, 11)),
    read_variables=lambda: {"x": np.array(1.5)},
)
COLOURS = """() => [...document.querySelectorAll('b, code')].map(element => {
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
})"""


def luminance(colour: str) -> float:
    """Of WCAG 2.2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize(("page", "text"), [("#1e1e1e", "#d4d4d4"), ("#ffffff", "#000000")])
def test_the_panel_can_be_read_in_the_themes_of_vs_code(browser: Any, page: str, text: str) -> None:
    tab = browser.new_page()
    try:
        html = f'<div class="cell-output-ipywidget-background">{panel_html(STEP, 10.0)}</div>'
        tab.set_content(f"<style>{VSCODE.format(page=page, text=text)}</style><body>{html}</body>")
        found = tab.evaluate(COLOURS)
        assert len(found) == 2
        for colours in found:
            dark, light = sorted(map(luminance, colours))
            assert (light + 0.05) / (dark + 0.05) > 7
    finally:
        tab.close()
