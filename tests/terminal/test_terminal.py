"""`%%minimize` typed into IPython: on a terminal, and with its output in a pipe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

PATIENCE = 300  # seconds until a process counts as hung; no test waits for them to pass
PROMPT = r"In \[\d+\]: "

QUIET = ("--colors=NoColor", "--TerminalInteractiveShell.term_title=False")
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
SETUP = "import sys, tensorflow as tf; x = tf.Variable(1.0); z = 1.0"
LINES = (
    "from tape_magic.display.live import progress, terminal as drawn; lines = []; summary = drawn.summary; "
    "drawn.summary = lambda *said: (lines.append(1), summary(*said))[1]"
)
"""Counts how often the line is drawn."""
LINE = "%%minimize y --over x --optimizer sgd --lr 1e-5 --engine eager"
MOVES = f"{LINE} --steps 1_000_000_000 --target 0\ny = x**2 if len(lines) < 4 else 0*x"
"""A run that goes on until its line has moved."""
AT_ONCE = "progress.QUIET_SECONDS = 0.0"
ENDLESS = "%%minimize y --over z --optimizer sgd --lr 1e-9 --time 240h\ny = z**2"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Apart from the profile and the history of whoever runs the tests."""
    return {
        **os.environ,
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TERM": "xterm",
        "COLUMNS": "100",
        "LINES": "30",
    }


class Terminal:
    """IPython on a terminal, and what it wrote."""

    def __init__(self, environment: dict[str, str]) -> None:
        arguments = "-m IPython --simple-prompt --no-banner --no-confirm-exit"
        self.process = pexpect.spawn(
            sys.executable,
            [*arguments.split(), *QUIET],
            env=environment,
            encoding="utf-8",
            # Ctrl-C has the terminal drop what was written, which may be a part of a character.
            # What a test has written in another encoding cannot be read, but for its ASCII.
            codec_errors="replace",
            timeout=PATIENCE,
            dimensions=(30, 100),
            echo=False,
        )
        self.process.expect(PROMPT)
        for line in (START, "%load_ext tape_magic", SETUP, LINES):
            self.type(line)

    def send(self, cell: str) -> None:
        # Two empty lines end a cell of several.
        for line in [*cell.splitlines(), *(["", ""] if "\n" in cell else [])]:
            self.process.sendline(line)

    def type(self, cell: str) -> str:
        """What a cell writes until the next prompt."""
        self.send(cell)
        self.process.expect(PROMPT)
        return re.sub(r"^(\s*\.\.\.: ?)+", "", str(self.process.before))

    @contextmanager
    def opens(self, after: float) -> Iterator[None]:
        """Within this, runs draw a line from so many seconds on."""
        self.type(f"progress.QUIET_SECONDS = {after}")
        yield
        self.type("progress.QUIET_SECONDS = 0.5")

    @contextmanager
    def writes(self, encoding: str) -> Iterator[None]:
        """Within this, the program writes in an encoding, as with `PYTHONIOENCODING`."""
        self.type(f"sys.stdout.reconfigure(encoding={encoding!r}); sys.stdout.encoding")
        yield
        self.type("sys.stdout.reconfigure(encoding='utf-8')")

    def close(self) -> None:
        """End the process, however long that takes: pexpect allows a tenth of a second."""
        self.process.kill(signal.SIGKILL)
        self.process.wait()
        self.process.close()


@pytest.fixture(scope="module")
def terminal(environment: dict[str, str]) -> Iterator[Terminal]:
    terminal = Terminal(environment)
    yield terminal
    terminal.close()


def visible(written: str) -> str:
    """What still stands on the terminal: lines that were erased or written over are gone."""
    rows: list[str] = [""]
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif token.startswith("\x1b["):
            if token.endswith("A"):
                row = max(0, row - int(token[2:-1] or 1))
            elif token.endswith("K"):
                rows[row] = "" if token == "\x1b[2K" else rows[row][:column]
        else:
            rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + len(token) :]
            column += len(token)
    return "\n".join(rows)


def test_a_line_moves_while_it_runs_and_only_the_report_is_left(terminal: Terminal) -> None:
    terminal.type("lines.clear(); _ = x.assign(1.0)")
    written = terminal.type(MOVES)
    end = int(terminal.type("minimum.steps").split()[-1])
    lines = re.findall(r"loss [^\r\n\x1b]*? · step ([\d,]+) of 1,0[^\r\n\x1b]*steps/s", written)
    steps = [int(step.replace(",", "")) for step in lines]
    assert len(set(steps)) >= 3, written
    assert steps == sorted(steps)
    left = visible(written)
    assert "steps/s" not in left, left
    assert left.count(f"at step {end:,}") == 1
    assert re.search(rf"^y = [\d.]+ at step {end:,} · ", left.strip(), re.MULTILINE)
    assert written.count("\x1b[?25h") >= written.count("\x1b[?25l") > 0, "the cursor stays hidden"


def test_the_line_moves_at_most_ten_times_a_second(terminal: Terminal) -> None:
    terminal.type("lines.clear(); _ = x.assign(1.0)")
    began = time.monotonic()
    terminal.type(MOVES)
    seconds = time.monotonic() - began
    drawn = int(terminal.type("len(lines)").split()[-1])
    assert 4 <= drawn <= 10 * (seconds - 0.5) + 1  # the first one after half a second


def test_a_short_run_writes_the_report_only(terminal: Terminal) -> None:
    with terminal.opens(3600.0):
        written = terminal.type("%%minimize y --over x --steps 3 --engine eager\ny = x**2")
    assert written.strip().startswith("y = ")
    assert "steps/s" not in written
    assert "\x1b[2K" not in written


def test_quiet_writes_nothing(terminal: Terminal) -> None:
    with terminal.opens(0.0):
        written = terminal.type(f"{LINE} --steps 20 -q\ny = x**2")
    assert written.strip() == ""


def test_a_refusal_is_one_line(terminal: Terminal) -> None:
    written = terminal.type("%%minimize y --over nothing\ny = x**2")
    assert written.strip() == "UsageError: nothing is not defined"


def test_a_watch_is_one_line(terminal: Terminal) -> None:
    written = terminal.type("%tfgpu --watch").strip()
    assert written.endswith("the picture that moves is in a notebook")
    assert "\x1b[" not in written


def test_an_error_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.type("lines.clear(); _ = x.assign(1.0)")
    cell = "y = x**2; y = y if len(lines) < 2 else missing"
    written = terminal.type(f"{LINE} --steps 1_000_000_000\n{cell}")
    left = visible(written)
    assert "NameError: name 'missing' is not defined" in left
    assert "----> 2 y = x**2" in left
    assert "tape_magic" not in left
    assert "steps/s" not in left
    assert written.count("\x1b[?25h") >= written.count("\x1b[?25l")


def test_ctrl_c_shows_the_report_and_then_the_interrupt(terminal: Terminal) -> None:
    terminal.type("z = 1.0")
    terminal.send(ENDLESS)
    terminal.process.expect("steps/s")
    terminal.process.sendintr()
    terminal.process.expect(PROMPT)
    left = visible(str(terminal.process.before))
    report, _, error = left.partition("KeyboardInterrupt")
    assert "interrupted" in report
    assert error
    assert "Traceback" not in left
    assert "tape_magic" not in left
    assert "('INTERRUPTED', True)" in terminal.type("minimum.reason.name, minimum.steps > 0")
    assert "float" in terminal.type("type(z)")
    assert "True" in terminal.type("signal.getsignal(signal.SIGINT) is signal.default_int_handler")


def test_in_a_pipe_only_the_report(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "script.ipy"
    cell = f"{LINE} --steps 20\ny = x**2"
    script.write_text(
        f"%load_ext tape_magic\n{SETUP}\n{LINES}\n{AT_ONCE}\nget_ipython().run_cell({cell!r})\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", *QUIET, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=tmp_path,
    )
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("y = ")
    assert done.stdout.count("at step 20") == 1
    assert "steps/s" not in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_where_not_every_character_can_be_written(encoding: str, terminal: Terminal) -> None:
    """The run goes on, Ctrl-C stops it, and the reports are written in other characters."""
    with terminal.writes(encoding):
        assert f"'{encoding}'" in terminal.type("sys.stdout.encoding")
        terminal.type("x.assign(1.0); z = 1.0")
        terminal.send(ENDLESS)
        terminal.process.expect("steps/s")
        terminal.process.sendintr()
        terminal.process.expect(PROMPT)
        left = visible(str(terminal.process.before))
        assert "interrupted" in left
        assert "failed" not in left
        assert "Traceback" not in left
        assert "1.2e-5" in terminal.type("%%grad dz/dx\nz = 6e-6*x**2")
        assert "CPU:0" in terminal.type("%tfgpu")
