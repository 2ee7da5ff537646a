"""A process that has imported TensorFlow and started nothing, and forks a child for each case.

TensorFlow settles its devices once in a process, so each case needs a fresh one. Importing it takes seconds,
and a fork takes milliseconds. What the children share is what an import leaves: the runtime has not started.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds until a case counts as hung; no test waits for them to pass
PRELOADED = (
    "tensorflow",
    "keras",
    "IPython.core.interactiveshell",
    "pytest",
    "tape_magic.engine.api.devices",
    "tape_magic.magics.shell",
)


class Forks:
    """The process, seen from the tests.

    Parameters
    ----------
    module
        Where the cases are functions; each takes what JSON can hold and returns the same.
    environment
        What the process has beside the tests' own variables, those of TensorFlow and CUDA taken out.
    """

    def __init__(self, module: str, environment: dict[str, str], folder: Path) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "CUDA_"))}
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # the user's own IPython profile must not take part
        own = {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._output = folder / "output"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks", module, str(self._output)],
            env=inherited | own | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, case: str, *args: Any) -> Any:
        """What the case returns in a child of its own; its failure is one here, with what it printed."""
        status, result, printed = self._ended(case, *args)
        assert status == 0, f"{case} ended with {status}:\n{printed[-6000:]}"
        return result

    def status(self, case: str, *args: Any) -> int:
        """The status that the child of a case ends with; the number of a signal that killed it, negative."""
        return self._ended(case, *args)[0]

    def _ended(self, case: str, *args: Any) -> tuple[int, Any, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([case, args]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        printed = self._output.read_text(errors="replace") if self._output.exists() else ""
        assert line, f"the process that forks has ended:\n{printed[-6000:]}"
        return *json.loads(line), printed

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


def main(module: str, output: str) -> None:
    """Read cases from the standard input, fork for each, and answer with its status and its result."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in PRELOADED:
        importlib.import_module(name)
    cases = importlib.import_module(module)
    # A child that looked through what was imported would copy all of it.
    gc.freeze()
    from tensorflow.python.eager import context

    assert context.context()._context_handle is None, "importing must not start TensorFlow"
    for line in sys.stdin:
        case, args = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(getattr(cases, case), args, writer, output)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            result = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answers.write(json.dumps([status, json.loads(result or "null")]) + "\n")
        answers.flush()
    os._exit(0)  # Python's own end takes seconds with TensorFlow imported


def _child(case: Any, args: Any, writer: int, output: str) -> None:
    """Run one case with its output in a file; never returns."""
    signal.alarm(PATIENCE)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status = 1
    try:
        os.write(writer, json.dumps(case(*args)).encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # without Python's end: TensorFlow's threads would be waited for, and pytest's hooks run
        os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
