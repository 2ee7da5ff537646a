"""Processes that compute together on the loopback: each a shell that runs cells, and can be interrupted.

A process of its own reads cells from its standard input, one a line, and answers with what they did.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds until a worker counts as lost; no test that passes waits for them


@dataclass(frozen=True)
class Ran:
    """What a cell did: whether it came to its end, and what it showed and printed."""

    success: bool
    stdout: str
    stderr: str
    displayed: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join((*self.displayed, self.stdout, self.stderr))


class Worker:
    """A process with a shell in it."""

    def __init__(self, folder: Path) -> None:
        # A signal to the group of the tests is none for the worker.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"stderr-{time.monotonic_ns()}").open("wb"),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder)},
            start_new_session=True,
        )
        self._rest = b""

    def start(self, cell: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(cell).encode() + b"\n")
        self.process.stdin.flush()

    def finish(self, seconds: float = PATIENCE) -> Ran:
        """What the cell did that was started first of those that are not finished."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = deadline - time.monotonic()
                assert left > 0, "the cell does not end"
                assert selector.select(left), "the cell does not end"
                read = os.read(self.process.stdout.fileno(), 1 << 16)
                assert read, "the worker ended"
                self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        found = json.loads(line)
        return Ran(**{**found, "displayed": tuple(found["displayed"])})

    def run(self, cell: str) -> Ran:
        self.start(cell)
        return self.finish()

    def ok(self, cell: str) -> Ran:
        ran = self.run(cell)
        assert ran.success, ran.text
        return ran

    def value(self, expression: str) -> Any:
        """The value of an expression in the worker, as JSON can say it; numbers to the bit."""
        return json.loads(self.ok(f"import json; print(json.dumps({expression}))").stdout)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


def on_all(workers: Sequence[Worker], cell: str) -> list[Ran]:
    """Run a cell on all workers at once."""
    for worker in workers:
        worker.start(cell)
    return [worker.finish() for worker in workers]


def all_ok(workers: Sequence[Worker], cell: str) -> list[Ran]:
    """Run a cell on all workers at once, which has to come to its end on each."""
    ran = on_all(workers, cell)
    assert all(one.success for one in ran), "\n\n".join(one.text for one in ran)
    return ran


def _answer() -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from tests.support.notebook import Notebook

    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "NoColor"
    notebook = Notebook(InteractiveShell.instance(config=config))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, lambda *_: None)  # between two cells
    for line in sys.stdin:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ran = notebook.run(json.loads(line))
        found = {
            "success": ran.success,
            "stdout": ran.traceback,
            "stderr": ran.stderr,
            "displayed": [one.text for one in ran.displayed],
        }
        signal.signal(signal.SIGINT, lambda *_: None)
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    _answer()
