"""A program of this package in a process of its own, with a time limit: this one lives on in any case."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class IsolatedRun:
    """What a program wrote, and how it ended; `ended` is None when it ended as it should."""

    told: tuple[dict[str, Any], ...]
    log: tuple[str, ...]
    ended: str | None


def run_apart(program: Path, args: Sequence[str], environ: Mapping[str, str], limit: float) -> IsolatedRun:
    """Runs it for at most `limit` seconds under this Python; reads its lines of JSON, and skips others."""
    # -P: the folder of the program must not hide the standard library's modules
    command = [sys.executable, "-P", str(program), *args]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, timeout=limit, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as late:
        ended = f"did not end within {limit:.0f} s"
        return IsolatedRun(_told(late.stdout or b""), _log(late.stderr or b""), ended)
    except OSError as error:
        return IsolatedRun((), (), f"could not be run: {error}")
    return IsolatedRun(_told(done.stdout), _log(done.stderr), _ended(done.returncode))


def _ended(code: int) -> str | None:
    if code < 0:
        try:
            return f"crashed with {signal.Signals(-code).name}"
        except ValueError:
            return f"crashed with signal {-code}"
    return f"ended with {code}" if code else None


def _told(output: bytes) -> tuple[dict[str, Any], ...]:
    read = map(_read, output.decode(errors="replace").splitlines())
    return tuple(one for one in read if isinstance(one, dict))


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None  # cut off by the end of the program, or printed by what it loads


def _log(output: bytes) -> tuple[str, ...]:
    return tuple(line for line in output.decode(errors="replace").splitlines() if line.strip())
