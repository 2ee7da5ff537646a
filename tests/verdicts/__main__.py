"""``python -m tests.verdicts``: how many planted faults are named, and how many healthy runs are left alone.

Without ``--engine``, graph, XLA and eager take turns over the cells that do not name one.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.support.notebook import Notebook
from tests.verdicts.cases import PRELUDE, Case, read
from tests.verdicts.healthy import HEALTHY
from tests.verdicts.planted import PLANTED

ENGINES = "graph", "xla", "eager"

parser = argparse.ArgumentParser(prog="python -m tests.verdicts", description=__doc__)
parser.add_argument("--engine", choices=ENGINES, help="of cells that name none")
parser.add_argument("--only", default="", help="a kind, as FLAT_POINT, or HEALTHY")
parser.add_argument("--seconds", type=float, default=10.0, help="the time of evidence; 0.1 is that of users")
parser.add_argument("--seed", type=int, default=0, help="of the data and the weights")
parser.add_argument("--verbose", action="store_true", help="say each run, and not only what is amiss")


class Runs:
    """Types cases into a shell.

    Attributes
    ----------
    spent
        The CPU time of the evidence of each run.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        from tape_magic.engine.minimization.keras_loop import findings
        from tape_magic.engine.verdict import facts

        config = Config()
        config.HistoryManager.hist_file = ":memory:"
        self._notebook = Notebook(InteractiveShell.instance(config=config))
        self._prelude, self.spent = PRELUDE.format(seed=seed), list[float]()
        facts.LEAST, self._find = seconds, findings.find
        findings.find = self._timed

    def _timed(self, facts: Any) -> Any:
        began = time.process_time()
        found = self._find(facts)
        self.spent.append(time.process_time() - began)
        return found

    def findings(self, case: Case) -> tuple[Any, ...]:
        """Return the findings of a case; its names stay until the next one."""
        self._notebook.shell.reset(new_session=True)
        self._notebook.ok(f"%load_ext tape_magic\n{self._prelude}\n{case.setup}")
        self._notebook.ok(case.cell)
        return tuple(self._notebook.ns["minimum"].findings)

    def truth(self, case: Case) -> dict[str, Any]:
        """Return what is true of the case that has run."""
        found: dict[str, Any] = eval(f"dict({case.truth})", dict(self._notebook.ns))
        return found


def holds(finding: Any, truth: dict[str, Any]) -> bool:
    """Return whether a finding says what is true."""
    line = finding.line.line if finding.line else None
    said = line == truth.pop("line", line) and truth.pop("says", "") in str(finding)
    return said and all(_same(finding.evidence[name], value) for name, value in truth.items())


def _same(one: Any, other: Any) -> bool:
    exact = isinstance(other, (str, int, tuple))
    return bool(one == other) if exact else math.isclose(one, other, rel_tol=0.03)


def with_engines(cases: Iterator[Case], engine: str | None) -> Iterator[Case]:
    """Yield the cases with an engine, where they name none."""
    for case, one in zip(cases, cycle([engine] if engine else ENGINES), strict=False):
        named = "--engine" in case.line
        yield case if named else Case(case.setup, f"{case.line} --engine {one}", case.body, case.truth)


def main() -> bool:
    """Print the tables; return whether all is as it should be."""
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    runs, lines, amiss = Runs(options.seconds, options.seed), list[str](), 0

    def tell(case: Case, what: str, findings: tuple[Any, ...]) -> None:
        said = " / ".join(f"{one.kind.name}: {one}" for one in findings) or "nothing"
        print(f"{what}: {case.setup} | {re.sub(chr(10), ' ⏎ ', case.cell)}\n    {said}", flush=True)

    for kind, table in PLANTED.items():
        counts = [0, 0, 0]
        for case in with_engines(read(table), options.engine) if options.only in ("", kind.name) else ():
            found = runs.findings(case)
            named = [one for one in found if one.kind is kind]
            right = bool(named) and holds(named[0], runs.truth(case))
            counts = [one + more for one, more in zip(counts, (1, bool(named), right), strict=True)]
            amiss += not right
            if options.verbose or not right:
                tell(case, f"{kind.name} {'right' if right else 'named' if named else 'MISSED'}", found)
        if counts[0]:
            lines.append(f"| {kind.name.lower().replace('_', ' ')} | {' | '.join(map(str, counts))} |")
    if lines:
        lines = ["", "| kind | planted | named | line or number right |", "|---|---:|---:|---:|", *lines]
    if options.only in ("", "HEALTHY"):
        runs.spent.clear()
        said = total = 0
        for case in with_engines(read(HEALTHY), options.engine):
            found = runs.findings(case)
            total, said = total + 1, said + bool(found)
            if options.verbose or found:
                tell(case, "SAID" if found else "healthy", found)
        middle, most = 1000 * statistics.median(runs.spent), 1000 * max(runs.spent)
        lines += ["", "| healthy runs | something said | CPU time of the evidence: median | most |"]
        lines += ["|---:|---:|---:|---:|", f"| {total} | {said} | {middle:.1f} ms | {most:.0f} ms |"]
        amiss += said
    print("\n".join(lines))
    return not amiss


if __name__ == "__main__":
    sys.exit(not main())
