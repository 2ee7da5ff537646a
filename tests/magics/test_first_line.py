"""The first line of a cell: other forms of a magic's line, how it goes on, its help, misspelt magics."""

from __future__ import annotations

import itertools
import sys
from types import FrameType
from typing import Any

import pytest

from tape_magic.magics import first_line
from tape_magic.magics.first_line import FirstLine
from tape_magic.magics.line.options import MAGICS
from tests.support.notebook import Notebook

SETUP = "import tensorflow as tf\nx = tf.Variable(3.0)\n"


@pytest.mark.parametrize(
    "head",
    [
        "%grad dy/dx",
        "%%grad\tdy/dx",
        "%%grad\u00a0dy/dx",
        "   %%grad dy/dx",
        "# squared\n%%grad dy/dx",
        "\n# one\n# two\n%grad dy/dx",
        "%%grad dy/dx \\\n    --check",
    ],
)
def test_other_forms_of_a_first_line(shell: Notebook, head: str) -> None:
    shell.ok(SETUP)
    run = shell.ok(f"{head}\ny = x**2")
    assert float(shell.ns["dy_dx"]) == 6.0
    assert ("agrees" in run.displayed[0].text) is ("--check" in head)


def test_the_lines_of_the_cell_keep_their_numbers(shell: Notebook) -> None:
    shell.ok(SETUP)
    for head in ("%grad dy/dx", "# above\n%grad dy/dx", "%%grad dy/dx \\\n --wrt x \\\n --zero"):
        lines = head.count("\n") + 1
        cell = f"{head.replace(' --wrt x', ' -q')}\ny = x**2\nraise ValueError"
        assert f"> {lines + 2} raise" in shell.run(cell).traceback
        run = shell.ok(f"{head.partition(chr(92))[0]}\nz = tf.stop_gradient(x)\ny = z * 2.0")
        assert f"line {head.partition(chr(92))[0].count(chr(10)) + 2}" in run.displayed[0].text


def test_minimize_is_a_first_line_too(shell: Notebook) -> None:
    shell.ok(SETUP)
    shell.ok("%minimize y --over x \\\n  --optimizer sgd --lr 0.5 --steps 1 --engine eager\ny = x**2")
    assert float(shell.ns["x"]) == 0.0


@pytest.mark.parametrize("magic", MAGICS, ids=lambda magic: magic.name)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_on_the_line(shell: Notebook, magic: object, flag: str) -> None:
    sign = magic.sign  # type: ignore[attr-defined]
    for line in (f"{sign} {flag}", f"%{sign.strip('%')} {flag}", f"{sign} x {flag}"):
        with shell.unchanged():
            assert shell.ok(line).stdout == magic.help + "\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("%%minimise y", "%%minimize"),
        ("%%optimize y", "%%minimize"),
        ("%%gradient y", "%%grad"),
        ("%%train y", "%%minimize"),
        ("%gradients dy/dx", "%%grad"),
        ("%%minimze y", "%%minimize"),
        ("%%tfgpu", "%tfgpu"),
        ("%tfgpus", "%tfgpu"),
    ],
)
def test_a_misspelt_magic(shell: Notebook, written: str, meant: str) -> None:
    name = written.partition(" ")[0]
    refused = shell.refused(f"{written}\ny = 1")
    assert refused == f"there is no magic {name}; did you mean {meant}?"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("%% grad dy/dx", "%%grad"),
        ("%%%grad dy/dx", "%%grad"),
        ("%%graddy/dx", "%%grad"),
        ("%%minimize(loss)", "%%minimize"),
        ("%tfgpu(0)", "%tfgpu"),
        ("%%minimizeloss", "%%minimize"),
    ],
)
def test_a_magic_without_a_space_or_with_too_many_signs(shell: Notebook, written: str, meant: str) -> None:
    said = shell.refused(f"{written}\ny = 1")
    assert said == f"there is no magic {written.removesuffix(' dy/dx')}; did you mean {meant}?"


@pytest.mark.parametrize("name", ["%%maximize", "%maximise"])
def test_what_is_to_be_maximised(shell: Notebook, name: str) -> None:
    said = shell.refused(f"{name} y\ny = 1")
    assert said == f"there is no magic {name}: to maximise y, write neg = -y in the cell, and %%minimize neg."


@pytest.mark.parametrize("line", ["%%grad help", "%grad ?", "%%minimize ?", "%%minimize help", "%grad -help"])
def test_a_question_without_a_cell(shell: Notebook, line: str) -> None:
    assert "Usage::" in shell.ok(line).stdout


@pytest.mark.parametrize("name", ["grad", "minimize"])
def test_a_line_without_a_cell(shell: Notebook, name: str) -> None:
    for sign in ("%", "%%"):
        said = shell.refused(f"{sign}{name} y")
        assert said == f"the cell is empty: write below %%{name} what is to be computed."


@pytest.mark.parametrize("line", ["%grad dy/dx", "%%grad dy/dx", "%%minimize", "# a\n%minimize y"])
def test_a_terminal_goes_on_after_the_first_line(shell: Notebook, line: str) -> None:
    complete = shell.shell.input_transformer_manager.check_complete
    assert complete(line)[0] == "incomplete"
    assert complete(f"{line}\ny = x**2")[0] == "incomplete"
    assert complete(f"{line}\ny = x**2\n\n")[0] == "complete"
    assert complete("%grad --help")[0] == complete("%%minimize help")[0] == "complete"


@pytest.mark.parametrize("magic", ["grad", "minimize"])
@pytest.mark.parametrize(
    ("below", "place"),
    [
        ("%%time", "it above %%{}"),
        ("%%capture out", "it above %%{}"),
        ("\n%%timeit", "it above %%{}"),
        ("%%grad z", "two cells"),
        ("%%minimize z", "two cells"),
    ],
)
def test_a_cell_magic_in_the_second_line(shell: Notebook, magic: str, below: str, place: str) -> None:
    said = shell.refused(f"%%{magic} y\n{below}\ny = 1")
    name = below.split()[0]
    assert said == f"{name} begins a cell, as %%{magic} does: write {place.format(magic)}."


def test_a_cell_magic_above_works(shell: Notebook) -> None:
    shell.ok(SETUP)
    shell.ok("%%time\n%%grad dy/dx -q\ny = x**2")
    assert float(shell.ns["dy_dx"]) == 6.0


@pytest.mark.parametrize("above", ["y = 1", "import os\n", "'''doc'''"])
@pytest.mark.parametrize("name", ["grad", "minimize"])
def test_a_magic_below_the_first_line(shell: Notebook, above: str, name: str) -> None:
    run = shell.run(f"{above}\n%%{name} y\ny = 1")
    said = f"%%{name} begins a cell, and only comments may stand above it: write two cells."
    assert run.stderr == f"UsageError: {said}\n"


def is_interrupted(transform: FirstLine, lines: list[str], at: int) -> bool:
    """Call a transformer, interrupted at an instruction; whether there is such an instruction."""
    seen = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != first_line.__file__:
            return None
        frame.f_trace_opcodes = True
        seen += 1
        if seen > at:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        transform(lines)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_at_any_instruction_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops one that is raised while an unfinished generator is closed, and prints it."""
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    transform = FirstLine(lambda name, cell: True)
    instructions = itertools.count()
    while is_interrupted(transform, ["# above\n", "%grad dy/dx\n", "y = x**2\n"], next(instructions)):
        pass
    assert next(instructions) > 20
    assert not dropped


def test_the_help_of_a_cell_magic_by_one_sign() -> None:
    lines = FirstLine(lambda name, cell: True)(["%grad?\n"])
    assert lines == ["%%grad?\n"]
    assert FirstLine(lambda name, cell: True)(["%grad\n", "y = 1?\n"])[0] == "%%grad\n"


def test_a_comment_on_the_line_ends_it(shell: Notebook) -> None:
    shell.ok(SETUP)
    shell.ok("%%grad dy/dx -q # slope \\\ny = x**2")
    assert float(shell.ns["dy_dx"]) == 6.0


@pytest.mark.parametrize(
    "cell",
    [
        "x = 5 % grad\n",
        "%time x = 1\n%grad dy/dx\n",
        "%%timeit\n%grad\n",
        "%%fit\ny = 1\n",  # a magic of somebody else's, which the shell knows
        "%gradual\n",
        "# comment\nx = 1\n%%grad dy/dx\n",
        "%%grad dy/dx\ny = x\n",
        "grad = 3\n",
        "",
    ],
)
def test_every_other_cell_passes_as_it_is(cell: str) -> None:
    lines = cell.splitlines(keepends=True)
    assert FirstLine(lambda name, cell: name == "fit")(list(lines)) == lines


def test_it_can_be_turned_off(bare_shell: Notebook) -> None:
    shell = bare_shell.shell
    before = list(shell.input_transformers_cleanup)
    shell.config.TapeMagics.first_line = False
    try:
        shell.run_line_magic("load_ext", "tape_magic")
        assert shell.input_transformers_cleanup == before
        # A line that goes on needs no transformer.
        bare_shell.ok(f"{SETUP}")
        bare_shell.ok("%%grad dy/dx \\\n  -q\ny = x**2")
    finally:
        shell.run_line_magic("unload_ext", "tape_magic")
        del shell.config["TapeMagics"]
