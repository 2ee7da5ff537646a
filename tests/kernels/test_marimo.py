"""A report in marimo, which has no magics: its export without a browser shows the HTML."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    from tests.support.reports import derivative, gradients
    report = gradients(derivative("y", "x", value=6.5))
    report
    return (report,)

@app.cell
def _(report):
    print(report)
"""


@pytest.mark.skipif(find_spec("marimo") is None, reason="marimo is not installed")
def test_marimo_shows_the_report(tmp_path: Path) -> None:
    notebook, page = tmp_path / "notebook.py", tmp_path / "page.html"
    notebook.write_text(NOTEBOOK, encoding="utf-8")
    command = [sys.executable, "-m", "marimo", "export", "html", str(notebook), "-o", str(page)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shown = page.read_text(encoding="utf-8")
    assert "mathjax_ignore" in shown  # the HTML of the report
    assert "GradReport" not in shown.partition("mathjax_ignore")[2]
    assert "∂y/∂x         6.5" in done.stdout + done.stderr
