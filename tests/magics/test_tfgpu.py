"""What `%tfgpu` shows, prints and binds, whatever the engine found."""

from __future__ import annotations

import json

import pytest

from tape_magic.engine.doctor import examine
from tape_magic.results.doctor import DoctorReport, Examined, Link, LinkState
from tests.support.notebook import Notebook


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> DoctorReport:
    """What the doctor finds, at once and on any machine."""
    links = (
        Examined(Link.WHEEL, LinkState.OK, ("CUDA 12.5.1", "cuDNN 9")),
        Examined(
            Link.LIBRARIES,
            LinkState.MISSING,
            ("1 of 2 found",),
            (("libcudart.so.12", LinkState.OK, "/lib/x"), ("libcudnn.so.9", LinkState.MISSING, "not there")),
        ),
        Examined(Link.VISIBLE, LinkState.UNTRIED),
    )
    report = DoctorReport(links, "libcudnn.so.9 is missing", "Run", "%pip install x", "2.21.0")
    monkeypatch.setattr(examine, "examine", lambda: report)
    return report


def test_the_doctor_ends_with_one_command(shell: Notebook, examined: DoctorReport) -> None:
    (shown,) = shell.ok("%tfgpu --doctor -o found").displayed
    assert shown.text.splitlines() == [
        "No GPU: libcudnn.so.9 is missing",
        "link                               evidence",
        "wheel with CUDA     ok             CUDA 12.5.1 · cuDNN 9",
        "CUDA libraries      missing        1 of 2 found",
        "libcudart.so.12     ok             /lib/x",
        "libcudnn.so.9       missing        not there",
        "seen by TensorFlow  not looked at",
        "Run: %pip install x",
    ]
    assert shown.html.count("<b style=") == 2  # what is missing stands out
    assert shell.ns["found"] is examined


def test_json(shell: Notebook, examined: DoctorReport) -> None:
    told = json.loads(shell.ok("%tfgpu --doctor --json").stdout)
    assert (told["headline"], told["command"]) == ("No GPU: libcudnn.so.9 is missing", "%pip install x")
    assert told["links"][1]["finding"] == "missing"
    run = shell.ok("%tfgpu --json")
    assert run.displayed == ()
    told = json.loads(run.stdout)
    assert told["outcome"] == "asked"
    assert told["devices"][-1]["kind"] == "CPU"
    assert told["devices"][-1]["policy"] == {"kind": "host", "limits": []}


def test_reports_in_one_line(shell: Notebook, examined: DoctorReport) -> None:
    """As an interpreter and a debugger show them."""
    shell.ok("%tfgpu -o report -q")
    for report in (shell.ns["report"], examined):
        assert repr(report) == f"<{type(report).__name__}: {report.headline}>"


def test_quiet(shell: Notebook, examined: DoctorReport) -> None:
    for line in ("%tfgpu -q", "%tfgpu --doctor -q"):
        run = shell.ok(line)
        assert (run.displayed, run.stdout) == ((), "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("freest 0", "freest is one GPU by itself; leave out the others."),
        ("0:2", "'0:2' is not the index of a GPU; give numbers such as 0 or 0,1, or freest."),
        ("--json -q", "--json prints the report, and -q shows nothing; leave out one of them."),
        (
            "--precision mixed_bfloat",
            "--precision mixed_bfloat is none of float32, mixed_bfloat16, mixed_float16, bfloat16, float16,"
            " float64; did you mean mixed_bfloat16?",
        ),
        (
            "--doctor --limit 4G",
            "--doctor only looks, and sets nothing; leave out --limit, or write two lines.",
        ),
        ("--split two", "--split takes a whole number, not 'two'"),
    ],
)
def test_lines_that_are_refused_in_one_sentence(shell: Notebook, line: str, said: str) -> None:
    assert shell.refused(f"%tfgpu {line}") == said
