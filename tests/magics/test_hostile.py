"""Objects that raise whatever they are asked, and texts that would move a cursor or fill a page."""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tape_magic.engine.devices import report
from tape_magic.magics import shell
from tape_magic.magics.line import parser
from tests.support.covering import covering
from tests.support.notebook import Notebook

PATIENCE = 300  # seconds until a cell counts as hung; no test waits for them to pass

SETUP = """
import numpy as np, tensorflow as tf

class BadError(Exception):
    def __str__(self): raise RuntimeError("str")

class Bad:
    def _raise(self, *arguments, **keywords): raise BadError
    __repr__ = __str__ = __bool__ = __len__ = __eq__ = __iter__ = __array__ = __getitem__ = _raise
    __hash__ = None

class Lazy:
    def __getattr__(self, name): raise RuntimeError("not loaded")

def boom(): raise BadError
def long(): raise ValueError("<b>\\u202e\\x1b[2J" + "x"*10_000 + "\\nsecond")

bad, lazy, x = Bad(), Lazy(), tf.Variable(2.0)
"""


@pytest.fixture
def hostile(shell: Notebook) -> Notebook:
    shell.ok(SETUP)
    return shell


@pytest.mark.parametrize(
    ("bystander", "line"),
    covering(
        ["bad", "lazy", "Bad()", "Lazy()", "[bad, lazy]", "{'k': lazy}"],
        [
            "%%grad y",
            "%%grad dy/dx --check",
            "%%grad y --wrt x --hessian",
            "%%minimize y --over x --steps 2 --engine eager",
            "%%minimize y --steps 2 --engine graph",
        ],
        times=2,
    ),
)
def test_who_stands_by_does_no_harm(hostile: Notebook, line: str, bystander: str) -> None:
    run = hostile.ok(f"{line}\ny = x*x; other = {bystander}")
    assert run.stderr == ""
    assert "not finite" not in run.displayed[-1].text
    hostile.ok(f"{line}\ny = x*x; other = {bystander}")  # again: is it the same cell?


HANGING = """
import time
asked, press = [], None

def hangs(*arguments, **keywords):
    asked.append(True)
    if press is not None:
        press()
    while True:
        time.sleep(0.01)

def made(name, base, *arguments):
    names = "repr str bool len eq hash iter array getitem contains getattribute getattr float dir"
    body = {f"__{word}__": hangs for word in names.split()}
    body |= dict.fromkeys(["keys", "items", "values", "get", "index"], hangs)
    return type(name, (base,), {**body, "__class__": property(hangs)})(*arguments)

hanging = [
    made("Hanging", object), made("List", list, [1.0]), made("Dict", dict, {"k": 2.0}),
    made("Tuple", tuple, (3.0,)), made("Float", float, 4.0),
]
objects, x, k = dict(enumerate(hanging)), tf.Variable(2.0), tf.constant(3.0)
"""


@pytest.fixture
def hanging(hostile: Notebook) -> Iterator[Notebook]:
    """Objects that never answer; what asks them all the same counts as hung after a while."""
    hostile.ok(HANGING)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(PATIENCE)
    yield hostile
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "line",
    [
        "%%grad y",
        "%%grad y --wrt x --hessian",
        "%%grad dy/dx --check",
        "%%grad dy/dx --def f",
        "%%minimize y --over x --steps 2 --engine eager",
        "%%minimize y --steps 2 --seed 1 --engine graph",
        "%%minimize y --steps 2 --resume --engine graph",
        "%%minimize y --steps 2 --for 'row in ([1.0, 2.0],)' --batch 1",
    ],
)
def test_who_stands_by_is_not_asked(hanging: Notebook, line: str) -> None:
    """Whatever the cell keeps: TensorFlow's own conversion alone asks what a compiled cell names."""
    ways = ["y = x*x*k", "y = x*x*k; kept = lambda: objects"]
    if "minimize" not in line or "eager" in line:
        ways += ["y = x*x*k; kept = objects, [objects[1]]"]
    for cell in ways:
        if "--resume" in line:
            hanging.ok(f"%%minimize y --steps 1 --engine graph\n{cell}")
        hanging.ok(f"{line}\n{cell}")
        hanging.ok(f"{line}\n{cell}")
        assert hanging.ns["asked"] == []


@pytest.mark.parametrize(
    "cell",
    [
        "%%grad y --wrt objects\ny = x*x",
        "%%grad y --wrt x --jvp x=objects[0]\ny = x*x",
        "%%minimize y --over x --optimizer objects[0].rule\ny = x*x",
        "%%minimize y --over x --for 'row in objects[1]'\ny = x*x",
        "%%grad y --wrt x\nfloat(objects[0]); y = x*x",
        "%%minimize y --over x --engine graph\ny = x*objects[0]",
        "%%minimize y --over x --engine eager\ny = x*objects[0]",
    ],
)
def test_an_interrupt_gets_out_of_what_never_answers(hanging: Notebook, cell: str) -> None:
    hanging.ns["press"] = lambda: signal.raise_signal(signal.SIGALRM)  # at once, whatever the run does
    with hanging.unchanged():
        run = hanging.run(cell)
    assert type(run.error).__name__ in ("KeyboardInterrupt", "UsageError")
    assert "tape_magic/" not in run.traceback


@pytest.mark.parametrize("value", ["bad", "lazy", "boom()", "long()"])
@pytest.mark.parametrize(
    "cell",
    [
        "%%grad y --wrt {}\ny = x*x",
        "%%grad y --jvp x={}\ny = x*x",
        "%%grad y --hvp x={}\ny = x*x",
        "%%minimize y --over {}\ny = x*x",
        "%%minimize y --over x --optimizer {}\ny = x*x",
        "%%minimize y --over x --for 'a in {}'\ny = x*a",
        "%%minimize y --over x --bounds 'x={}:1'\ny = x*x",
        "%%minimize other --over x\nother = {0}\n{0}",
        "%%grad dother/dx\ny = x*x",
    ],
)
def test_what_raises_is_refused_in_one_line_or_raises_as_the_users(
    hostile: Notebook, cell: str, value: str
) -> None:
    run = hostile.run(cell.format(value))
    assert not run.success
    assert "tape_magic/" not in run.traceback
    if type(run.error).__name__ == "UsageError":
        assert re.fullmatch(r"UsageError: [^\n\x1b\u202e]{1,1000}\n", run.stderr)
        assert run.stdout == ""
    else:
        assert type(run.error).__name__ in ("BadError", "RuntimeError", "ValueError")


def test_an_output_that_raises_has_a_row_that_says_what_it_is(hostile: Notebook) -> None:
    run = hostile.ok("%%grad dother/dx\ny = x*x; other = bad")
    assert "other is a Bad, not a tensor" in run.displayed[0].text


@pytest.mark.parametrize(
    "line",
    [
        "%%grad y --wrt \x1b[31mx",
        "%%grad y\u202e",
        "%%grad " + "y" * 10_000,
        "%%minimize y --optimizer " + "a" * 10_000,
        "%%minimize y --checkpoint /dev/null/" + "<b>" * 1000,
        "%%minimize y --track " + "ab." * 60 + "c",
        "%tfgpu \u202e\x1b[2J",
        "%tfgpu --limit " + "9" * 10_000 + " 0",
    ],
    ids=lambda line: ascii(line[:30]),
)
def test_lines_of_any_length_with_any_character(hostile: Notebook, line: str) -> None:
    body = "" if line.startswith("%tfgpu") else "\ny = x*x"
    said = hostile.refused(f"{line}{body}")
    assert len(said) <= 1000
    assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069]", said)


def test_names_of_variables_and_keys_are_shown_as_text(hostile: Notebook) -> None:
    hostile.ok(
        "d = {'<script>alert(1)</script>': tf.Variable(1.0), '\\u202e\\x1b[2J': tf.Variable(2.0), "
        "'n'*10_000: tf.Variable(3.0)}"
    )
    for line in ("%%grad y --wrt d", "%%minimize y --over d --steps 2"):
        shown = hostile.ok(f"{line}\ny = sum(v*v for v in d.values())").displayed[0]
        assert not set(shown.text + shown.html) & set("\x1b\u202e")
        assert "<script" not in shown.html
        assert "&lt;script&gt;" in shown.html
        assert len(shown.html) < 60_000
        assert max(map(len, shown.text.splitlines())) <= 120


def test_an_interrupt_that_a_library_loses_is_one_all_the_same(
    hostile: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As argparse does, whose tidying up then lacks what it was about to note."""

    def parse(*arguments: Any, **keywords: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError("save_nargs")

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_intermixed_args", parse)
    parser._parsed.cache_clear()  # a line that another test has used is not parsed again
    for cell in ("%%grad y --wrt x --order 3\ny = x*x", "%tfgpu 0 --growth"):
        run = hostile.run(cell)
        assert type(run.error) is KeyboardInterrupt
        assert "tape_magic" not in run.traceback


@pytest.mark.parametrize("cell", ["%%grad y --wrt x\ny = x*x", "%%minimize y --over x\ny = x*x", "%tfgpu"])
def test_an_interrupt_before_anything_else_is_one_line(
    hostile: Notebook, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    def pressed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    for name in ("compiled_cell", "in_one_line"):
        monkeypatch.setattr(shell, name, pressed)
    run = hostile.run(cell)
    assert type(run.error) is KeyboardInterrupt
    assert "tape_magic" not in run.traceback


def test_an_interrupt_of_a_line_without_a_cell_is_one_line(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "cpu_product", pressed)
    run = shell.run("%tfgpu")
    assert type(run.error) is KeyboardInterrupt
    assert run.traceback.strip() == "KeyboardInterrupt"


def test_what_fails_in_a_line_without_a_cell_is_one_line(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> str:
        raise RuntimeError("the system\nis odd")

    monkeypatch.setattr(report, "cpu_product", failing)
    assert shell.refused("%tfgpu") == "%tfgpu failed: RuntimeError: the system"
