"""Runs a program of this package in a process of its own, with a time limit, so that it may crash."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KILLED = 1.0
"""Seconds for a killed process to end."""


@dataclass(frozen=True)
class IsolatedRun:
    """The output of a program: its lines of JSON, its log, and how it failed, None if it did not.

    `late` says whether it was ended at the time limit.
    """

    messages: tuple[dict[str, Any], ...]
    log: tuple[str, ...]
    failure: str | None
    late: bool = False


def run_isolated(program: Path, args: Sequence[str], environ: Mapping[str, str], limit: float) -> IsolatedRun:
    """Run a program for at most `limit` seconds under this Python, and return its output.

    Lines of the standard output that are not JSON are skipped.
    """
    # -P: the modules beside the program must not hide the standard library's.
    command = [sys.executable, "-P", str(program), *args]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        return IsolatedRun((), (), f"could not be run: {error}")
    try:
        output, log = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as late:
        _end(process)
        failure = f"did not end within {limit:.0f} s"
        return IsolatedRun(_messages(late.stdout or b""), _lines(late.stderr or b""), failure, late=True)
    except BaseException:  # an interrupt
        _end(process)
        raise
    return IsolatedRun(_messages(output), _lines(log), _failure(process.returncode))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and leave it behind if it does not end.

    The system kills no process that waits within its kernel, as for a driver that hangs there, and
    `subprocess.run` would wait for it without end.
    """
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _failure(code: int) -> str | None:
    """Return how a program with this exit status failed, None for success."""
    if code < 0:
        try:
            return f"crashed with {signal.Signals(-code).name}"
        except ValueError:
            return f"crashed with signal {-code}"
    return f"ended with {code}" if code else None


def _messages(output: bytes) -> tuple[dict[str, Any], ...]:
    found = map(_from_json, output.decode(errors="replace").splitlines())
    return tuple(one for one in found if isinstance(one, dict))


def _from_json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None  # cut off by a crash, or printed by a library that the program loads


def _lines(output: bytes) -> tuple[str, ...]:
    return tuple(line for line in output.decode(errors="replace").splitlines() if line.strip())
