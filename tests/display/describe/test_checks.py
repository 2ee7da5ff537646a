"""The line on central differences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tape_magic.display.describe.checks import checks_verdict
from tape_magic.display.describe.gradients import gradients_document
from tape_magic.display.html.render import to_html
from tape_magic.display.text.render import to_text
from tape_magic.results.check import Check, CheckOutcome
from tape_magic.results.gradients import Derivative, GradReport

GOOD = Check("dy/dx", 2e-9, (), 2.0, 2.0, 1e-6, 1, 1, "float64")
BAD = Check("dy/da", 0.01, (2, 0), 1.01, 1.0, 1e-6, 4, 6, "float64")
NOT = Check("dy/db", math.nan, (), math.nan, math.nan, 1e-6, 0, 2, "float64", "not compared: a kink")


def test_outcomes() -> None:
    assert [check.outcome for check in (GOOD, BAD, NOT)] == [*list(CheckOutcome)]
    assert [check.agrees for check in (GOOD, BAD, NOT)] == [True, False, False]


def text_of(*checks: Check) -> str:
    rows = tuple(Derivative("y", (check.key[-1],), None, (), "float32", (1,)) for check in checks)
    return to_text(gradients_document(GradReport(rows, checks=checks)))


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([GOOD], ["agrees with central differences (largest relative error 2e−9) · in float64"]),
        (
            [GOOD, replace(GOOD, key="dy/da", error=3e-8)],
            ["all 2 agree with central differences (largest relative error 3e−8) · in float64"],
        ),
        (
            [BAD],
            [
                "disagrees with central differences: dy/da at [2, 0]: 1.01 against 1 ·",
                "  relative error 0.01 · in float64 · 4 of 6 elements compared by themselves",
            ],
        ),
        (
            [GOOD, BAD, NOT],
            [
                "1 of 3 disagree with central differences: dy/da at [2, 0]: 1.01 against 1 ·",
                "  relative error 0.01 · in float64 · 5 of 9 elements compared by themselves ·",
                "  1 not compared",
                "  dy/db: not compared: a kink",
            ],
        ),
        (
            [GOOD, NOT],
            [
                "1 of 2 agree with central differences (largest relative error 2e−9) ·",
                "  in float64 · 1 of 3 elements compared by themselves · 1 not compared",
                "  dy/db: not compared: a kink",
            ],
        ),
        (
            [replace(BAD, reason="a cause, line 2: y = a; b")],
            [
                "disagrees with central differences: dy/da at [2, 0]: 1.01 against 1 ·",
                "  relative error 0.01 · in float64 · 4 of 6 elements compared by themselves",
                "  a cause, line 2: y = a; b",
            ],
        ),
        (
            [GOOD, replace(BAD, reason="a cause"), replace(NOT, reason="a cause")],
            [
                "1 of 3 disagree with central differences: dy/da at [2, 0]: 1.01 against 1 ·",
                "  relative error 0.01 · in float64 · 5 of 9 elements compared by themselves ·",
                "  1 not compared",
                "  dy/da and 1 more: a cause",
                "  dy/db: not compared: a kink",
            ],
        ),
        (
            [replace(GOOD, reason="by the new value")],
            [
                "agrees with central differences (largest relative error 2e−9) · in float64",
                "  by the new value",
            ],
        ),
        ([NOT], ["not compared with central differences · in float64 · not compared: a kink"]),
        (
            [NOT, replace(NOT, key="dy/dx")],
            ["none of 2 compared with central differences · in float64 · not compared: a kink"],
        ),
    ],
)
def test_lines(checks: list[Check], said: list[str]) -> None:
    assert text_of(*checks).splitlines()[: len(said)] == said


def test_many_that_disagree_and_many_remarks() -> None:
    checks = [replace(BAD, key=f"dy/dx{i}", error=0.01 * (i + 1), note=f"remark {i}") for i in range(6)]
    verdict = checks_verdict(checks)
    assert verdict is not None
    assert verdict.headline.startswith("6 of 6 disagree with central differences: dy/dx5 at [2, 0]")
    lines = ["".join(words.text for words in line.sentences[0]) for line in verdict.reasons]
    assert [line[:6] for line in lines] == [
        "dy/dx4",
        "dy/dx3",
        "dy/dx2",
        "dy/dx0",
        "dy/dx1",
        "dy/dx2",
        "and 3 ",
    ]


def test_the_same_in_html_and_nothing_without_checks() -> None:
    rows = (Derivative("y", ("x",), None, (), "float32", (1,)),)
    assert "agrees with central differences" in to_html(gradients_document(GradReport(rows, checks=(GOOD,))))
    assert "differences" not in to_html(gradients_document(GradReport(rows)))


def test_frame() -> None:
    pytest.importorskip("pandas")
    rows = tuple(Derivative("y", (name,), None, (), "float32", (1,)) for name in "xb")
    frame = GradReport(rows, checks=(GOOD, NOT)).to_frame()
    assert frame["error"].iloc[0] == 2e-9
    assert list(frame["check"]) == [CheckOutcome.AGREES.sentence, CheckOutcome.NOT_COMPARED.sentence]
    assert "error" not in GradReport(rows).to_frame()
