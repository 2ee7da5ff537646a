"""Commands of IPython's and imports of everything in a minimised cell: done once, before the steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.notebook import Notebook

SETUP = "import tensorflow as tf\nx = tf.Variable([2.0, 1.0])"
LOSS = "loss = tf.reduce_sum(x*x)"
MINIMIZE = "%%minimize loss --over x --lr 0.1 --steps 20 --engine graph"


@pytest.fixture
def notebook(shell: Notebook) -> Notebook:
    shell.ok(SETUP)
    shell.ok(
        "from IPython.core.magic import register_line_magic\nruns = []\n\n"
        "@register_line_magic\ndef noted(line):\n    runs.append(line)\n    return line"
    )
    return shell


@pytest.mark.usefixtures("no_xla_beside")
def test_a_magic_runs_once_and_the_rest_is_compiled(notebook: Notebook) -> None:
    notebook.ok(f"{MINIMIZE}\n%noted some words\n{LOSS}")
    result = notebook.ns["minimum"]
    assert notebook.ns["runs"] == ["some words"]
    assert (result.engine, result.steps) == ("graph", 20)
    assert "line 2 ran once, before the steps: %noted some words" in result.notes


@pytest.mark.usefixtures("no_xla_beside")
def test_what_a_command_gives_is_there_for_the_steps(notebook: Notebook) -> None:
    notebook.ok(f"{MINIMIZE}\nfactor = %noted 3\nwords = %sx echo one two\nloss = float(factor)*x[0]**2")
    assert notebook.ns["runs"] == ["3"]
    assert list(notebook.ns["words"]) == ["one two"]
    assert notebook.ns["minimum"].history[0] == 12.0
    assert notebook.ns["minimum"].engine == "graph"


def test_lines_below_keep_their_numbers_and_strings_their_lines(notebook: Notebook) -> None:
    cell = f'{MINIMIZE}\n\n%noted 1\ntext = """a\n%noted 2\n"""\n{LOSS}\n%noted 3\nprint("hi")'
    notebook.ok(cell)
    assert notebook.ns["runs"] == ["1", "3"]
    assert notebook.ns["text"] == "a\n%noted 2\n"
    (printed,) = (note for note in notebook.ns["minimum"].notes if "print" in note)
    assert printed.startswith("line 9 ")


@pytest.mark.usefixtures("no_xla_beside")
def test_everything_of_a_module_is_imported_once(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bowls.py").write_text(
        "import tensorflow as tf\n\ndef bowl(v):\n    return tf.reduce_sum(v*v)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.ok(f"{MINIMIZE}\nfrom bowls import *\nloss = bowl(x)")
    result = notebook.ns["minimum"]
    assert result.engine == "graph"
    assert result.notes[0] == "line 2 ran once, before the steps: from bowls import *"


def test_a_command_within_a_branch_is_as_it_stands_there(notebook: Notebook) -> None:
    notebook.ok(f"%%minimize loss --over x --steps 3\n{LOSS}\nif True:\n    %noted here\n")
    result = notebook.ns["minimum"]
    assert result.engine == "eager"
    assert result.engine_reason == "line 4 is a command of IPython's"
    assert len(notebook.ns["runs"]) >= 3


@pytest.mark.parametrize("cell", ["%noted 1", "!echo one", "from math import *"])
def test_nothing_else_than_a_command_is_refused(notebook: Notebook, cell: str) -> None:
    said = notebook.refused(f"{MINIMIZE}\n{cell}")
    assert said == f"the cell only runs {cell}: write below it what is to be minimised."
    assert notebook.ns["runs"] == []


def test_a_wrong_line_runs_no_command(notebook: Notebook) -> None:
    notebook.refused(f"%%minimize loss --over x --stepss 3\n%noted 1\n{LOSS}")
    assert notebook.ns["runs"] == []


def test_what_was_imported_is_gone_where_the_rest_is_refused(notebook: Notebook) -> None:
    said = notebook.refused(f"%%minimize los --over x\nfrom math import *\nn = %noted 1\n{LOSS}")
    assert said.startswith("the cell never assigns los")
    assert "hypot" not in notebook.ns


def test_a_command_that_fails_shows_the_users_line_only(notebook: Notebook) -> None:
    run = notebook.run(f"{MINIMIZE}\nfrom no_such_module import *\n{LOSS}")
    assert isinstance(run.error, ModuleNotFoundError)
    assert "tape_magic" not in run.traceback
    assert "2 from no_such_module import *" in run.traceback
    assert "loss" not in notebook.ns


def test_a_cell_that_is_differentiated_runs_commands_where_they_stand(notebook: Notebook) -> None:
    notebook.ok(f"%%grad loss --wrt x\n{LOSS}\n%noted now")
    assert notebook.ns["runs"] == ["now"]
    assert notebook.ns["grads"]["loss", "x"].numpy().tolist() == [4.0, 2.0]
