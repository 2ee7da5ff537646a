"""A notebook without a browser: cells go into a real IPython shell, and what comes out is recorded."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What IPython itself keeps in the namespace.
_OWN = re.compile(r"_+|_i+|_i?\d+|_[dio]h|In|Out|exit|quit|open|get_ipython|__\w+__")


@dataclass(frozen=True)
class Displayed:
    """One publication to the notebook."""

    data: Mapping[str, Any]

    @property
    def text(self) -> str:
        return str(self.data.get("text/plain", ""))

    @property
    def html(self) -> str:
        return str(self.data.get("text/html", ""))


@dataclass(frozen=True)
class Run:
    """What one cell did: `out` is the value that it showed as `Out[n]`, `None` without one."""

    success: bool
    out: Any
    stdout: str
    stderr: str
    error: BaseException | None
    displayed: tuple[Displayed, ...]

    @property
    def traceback(self) -> str:
        """What the shell printed, tracebacks among it, without colours."""
        return _ANSI.sub("", self.stdout)


class Notebook:
    """Runs cells as a person would, each with a number of its own."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    @property
    def ns(self) -> dict[str, Any]:
        """The user's namespace."""
        return self.shell.user_ns

    @property
    def names(self) -> dict[str, Any]:
        """The user's names in the namespace, without those that IPython keeps there."""
        return {name: value for name, value in self.ns.items() if not _OWN.fullmatch(name)}

    def run(self, cell: str) -> Run:
        """Run one cell, whether it fails or not."""
        with capture_output() as captured:
            result = self.shell.run_cell(cell, store_history=True)
        return Run(
            success=bool(result.success),
            out=result.result,
            stdout=captured.stdout,
            stderr=captured.stderr,
            error=result.error_before_exec or result.error_in_exec,
            displayed=tuple(Displayed(output.data) for output in captured.outputs),
        )

    def ok(self, cell: str) -> Run:
        """Run one cell that must succeed."""
        run = self.run(cell)
        assert run.success, f"{cell}\n{run.traceback}\n{run.stderr}"
        return run

    def refused(self, cell: str) -> str:
        """Run one cell that must be refused; the one line that says why, without `UsageError: `."""
        with self.unchanged():
            run = self.run(cell)
        assert not run.success, f"not refused:\n{cell}"
        assert type(run.error).__name__ == "UsageError", run.traceback
        assert run.stdout == ""
        assert not run.displayed
        assert re.fullmatch(r"UsageError: [^\n]+\n", run.stderr), run.stderr
        return run.stderr.removeprefix("UsageError: ").rstrip("\n")

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within this, the user's names stay the same, and keep the same objects in the same order."""
        before = list(self.names.items())
        yield
        after = list(self.names.items())
        assert [name for name, _ in after] == [name for name, _ in before]
        for (name, old), (_, new) in zip(before, after, strict=True):
            assert new is old, f"{name} was {old!r} and is {new!r}"
