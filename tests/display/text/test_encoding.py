"""Reports where the encoding lacks their characters."""

from __future__ import annotations

import io
import sys

import pytest

from tape_magic.display.describe import describe
from tape_magic.display.live import progress
from tape_magic.display.live.terminal import TerminalProgress
from tape_magic.display.text.encoding import writable
from tape_magic.display.text.render import to_text
from tape_magic.results.steps import Step
from tests.support.reports import REPORTS

SAID = [
    ("∂²y/∂x²", "d2y/dx2"),
    ("‖∇loss‖ = 2.861e−6", "|grad loss| = 2.861e-6"),
    ("‖·‖ 3 · 784×128 · 0.19\u202fs", "norm 3 | 784x128 | 0.19 s"),
    ("█▇▁ …", "#*_ ..."),
    ("größe = 1", r"gr\xf6\xdfe = 1"),
    ("変数", r"\u5909\u6570"),
]


@pytest.mark.parametrize(("text", "said"), SAID)
def test_in_ascii(text: str, said: str) -> None:
    assert writable(text, "ascii") == said


def test_what_can_be_written_stays() -> None:
    assert writable("‖w‖ 0.5 · größe ×2 −1", "cp1252") == "|w| 0.5 · größe ×2 -1"
    for text, _ in SAID:
        assert writable(text, "utf-8") == writable(text, "no such encoding") == text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "shift_jis"])
@pytest.mark.parametrize("report", REPORTS[:8])
def test_any_report_can_be_written_and_stays_in_line(encoding: str, report: object) -> None:
    plain = to_text(describe(report))
    said = writable(plain, encoding)
    said.encode(encoding)
    assert len(said.splitlines()) == len(plain.splitlines())


def test_the_line_of_a_run_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    line = TerminalProgress()
    try:
        line.update(Step(100, 1_000_000, 1.25e-6, 1e-6, 2.0, "xla"))
        line.update(Step(200, 1_000_000, 1.25e-6, 1e-6, 2.0, "xla"))
    finally:
        line.close()
    assert b"loss 1.25e-6 | best 1e-6 | step 200" in raw.getvalue()
