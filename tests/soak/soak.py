"""Random cells into one kernel, with interrupts, queues and Stop, and after each what must hold."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tape_magic.engine.minimization.compiling import THREAD
from tests.soak.cells import NAMES, SETUP, Author, Cell
from tests.soak.driver import Driver, Hung, Ran

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
MEMORY_FOR_A_CELL = 4 * 2**20
"""What TensorFlow keeps of a cell that was compiled, at the most, for good."""
MEMORY_AT_FIRST = 400 * 2**20
"""What TensorFlow, Keras and SciPy take as each is first used."""
MOST_COMPILING = 2
"""So many threads may still compile what two cells were stopped at, one after the other."""


@dataclass
class Report:
    """What was done, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        first, last = (f"{size / 2**20:.0f} MB" for size in (self.memory[0], self.memory[-1]))
        return (
            f"{counts}; {self.seconds:.0f} s; memory {first} → {last}; {len(self.faults)} faults\n"
            + "\n".join(self.faults)
        )


class Soak:
    """Types cells into a kernel, and looks after each whether anything was lost or left over.

    Parameters
    ----------
    folder
        Where the kernel runs.
    seed
        The same cells for the same seed; the moments of interrupts depend on the machine, too.
    say
        Told what goes on.
    """

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None] = lambda text: None) -> None:
        self._chance = random.Random(seed)
        self._author = Author(self._chance)
        self._driver = Driver(folder)
        self._say = say
        self._ready = False
        self._seen: dict[str, Any] = {}
        self._base: dict[str, Any] = {}
        self.report = Report()

    def run(self, cells: int) -> Report:
        """So many more cells, and the faults that were found."""
        started = time.monotonic()
        try:
            if not self._base:
                self._begin()
            end = self.report.counts["cells"] + cells
            while self.report.counts["cells"] < end:
                self._turn()
        except Hung as error:
            self._fault(f"the kernel does not answer: {error}")
        self.report.seconds += time.monotonic() - started
        return self.report

    def close(self) -> None:
        """End the kernel."""
        self._driver.close()

    def _begin(self) -> None:
        self._driver.finish(
            self._driver.send("%load_ext tape_magic\n__import__('soak_probe').arm(get_ipython())")
        )
        self.setup()
        # Each of the libraries is imported when it is first needed, and leaves its own handlers then.
        for text in (
            "%reset -f",
            SETUP,
            "%%grad dy/dx\ny = x*x",
            "%%minimize bowl --over b --steps 3 -q\nbowl = tf.reduce_sum(b**2)",
            "%%minimize bowl --over b --optimizer bfgs -q\nbowl = tf.reduce_sum(b**2)",
            "%%minimize bowl --over b --steps 3 -q --checkpoint first\nbowl = tf.reduce_sum(b**2)",
            "%tfgpu",
            "%%time\nminimum",
        ):
            self._driver.finish(self._driver.send(text))
        self.setup()
        self._base = self._seen
        self.report.memory.append(self._seen["memory"])

    def setup(self) -> None:
        """Names and values as at the beginning."""
        self._driver.finish(self._driver.send(SETUP))
        self._seen = self._driver.look()
        self._ready = True

    def _turn(self) -> None:
        """One thing that people do."""
        draw = self._chance.random()
        if not self._ready and draw < 0.8:
            self.one(Cell(SETUP, NAMES))
            self._ready = True
        elif draw < 0.45:
            self.one(self._author.good())
        elif draw < 0.70:
            self.one(self._author.bad())
        elif draw < 0.78:
            self._queue()
        elif draw < 0.82:
            self._reset()
        elif draw < 0.90:
            self._interrupted(self._author.good(), self._chance.uniform(0, 0.4))
        else:
            self._interrupted(
                self._author.long(), self._chance.choice([0.02, 0.2, 1.2]) * self._chance.random()
            )

    def one(self, cell: Cell) -> None:
        """Type a cell, and look what it has done."""
        request = self._driver.send(cell.text)
        self._judge(cell, self._driver.finish(request))

    def _reset(self) -> None:
        request = self._driver.send("%reset -f")
        self._ready = False
        ran = self._driver.finish(request)
        self.report.counts["resets"] += 1
        self._judge(Cell("%reset -f"), ran, everything=True)

    def _queue(self) -> None:
        """Several cells at once; those behind one that fails are dropped by the kernel."""
        cells = [self._author.good() if self._chance.random() < 0.8 else self._author.bad() for _ in range(3)]
        requests = [self._driver.send(cell.text) for cell in cells]
        runs = [self._driver.finish(request) for request in requests]
        self.report.counts["cells"] += len(cells)
        self.report.counts["queued"] += len(cells)
        for cell, ran in zip(cells, runs, strict=True):
            if ran.status != "aborted":
                self._judge_outcome(cell, ran)
        binds = frozenset().union(*(cell.binds for cell in cells))
        self._judge_state("\n---\n".join(cell.text for cell in cells), binds, "")

    def _interrupted(self, cell: Cell, after: float) -> None:
        """A cell, and ■ after some time, perhaps twice, or Stop where there is such a button."""
        request = self._driver.send(cell.text)
        self._driver.wait(after)
        again = 0
        stops = cell.long and self._chance.random() < 0.3
        if stops:
            self._driver.wait(self._chance.uniform(0.6, 1.2))
        if stops and self._driver.click(request, "Stop"):
            self.report.counts["stops"] += 1
        else:
            for _ in range(1 + (self._chance.random() < 0.2)):
                self._driver.interrupt()
                self.report.counts["interrupts"] += 1
                self._driver.wait(self._chance.uniform(0, 0.3))
        # An interrupt that comes before the cell has begun is none: the kernel ignores it. One that falls
        # into the kernel's own code may cost the reply: what is sent next then ends, and the cell never does.
        next_one = self._driver.send("", silent=True)
        while not self._driver.ended(request) and not self._driver.ended(next_one):
            self._driver.wait(5.0)
            if cell.long and not self._driver.ended(request):
                self._driver.interrupt()
                self.report.counts["interrupts again"] += 1
                again += 1
                if again > 12:
                    raise Hung(f"does not end when it is interrupted:\n{cell.text}")
        self._driver.finish(next_one)
        ran = self._driver.finish(request, 20.0, lost=True)
        self._judge(cell, ran, interrupted=True)

    # -- what must hold ----------------------------------------------------------------------------

    def _judge(self, cell: Cell, ran: Ran, interrupted: bool = False, everything: bool = False) -> None:
        self.report.counts["cells"] += 1
        self._judge_outcome(cell, ran, interrupted)
        ename = ran.reply.get("ename")
        unchanged = ename == "UsageError"
        check = cell.check if ran.status == "ok" and not interrupted else ""
        binds = frozenset() if unchanged else cell.binds
        self._judge_state(cell.text, binds, check, everything, f"{ran.status} {ename}")

    def _judge_outcome(self, cell: Cell, ran: Ran, interrupted: bool = False) -> None:
        """The reply, and what was printed."""
        ename = str(ran.reply.get("ename", ""))
        self.report.counts[{"ok": "succeeded", "error": "failed"}.get(ran.status, ran.status)] += 1
        self._say(
            f"{self.report.counts['cells']:5} {ran.status:6} {ename:20} {cell.text.splitlines()[0][:70]}"
        )
        if ran.status == "error":
            allowed = set(cell.fails)
            if interrupted:
                allowed |= {"KeyboardInterrupt"}
            if not self._ready:
                allowed |= {"UsageError", "NameError"}
            if ename not in allowed and "any" not in allowed:
                self._fault(f"{ename}: {ran.reply.get('evalue')} {ran.stderr}", cell.text)
            traceback = _ANSI.sub("", "\n".join(ran.reply.get("traceback", [])))
            # IPython shows a UsageError by its one line only, whatever the reply holds.
            if ename != "UsageError" and "/tape_magic/" in traceback:
                self._fault(f"a traceback of ours:\n{traceback}", cell.text)
            if ename == "UsageError":
                self.report.counts["refused"] += 1
                if not re.fullmatch(r"UsageError: [^\n]+\n", _own_lines(ran.stderr)):
                    self._fault(f"not one line: {ran.stderr!r}", cell.text)
        elif ran.status == "ok" and cell.fails and not interrupted:
            self._fault("did not fail", cell.text)
        # An interrupt that falls into a destructor is dropped by Python, which says so.
        dropped = interrupted and re.search(
            r"Exception ignored in.*\nKeyboardInterrupt", ran.stderr, re.DOTALL
        )
        if "Traceback" in ran.stderr + ran.stdout and not dropped:
            self._fault(f"a traceback was printed: {ran.stderr}{ran.stdout}", cell.text)

    def _judge_state(
        self, text: str, binds: frozenset[str], check: str, everything: bool = False, how: str = ""
    ) -> None:
        seen = self._driver.look(check)
        if seen["holds"]:
            self._fault(f"does not hold: {seen['holds']}", text)
        if not everything:
            others = set(seen["changed"]) - binds
            if others:
                self._fault(f"other objects behind the names {sorted(others)} ({how})", text)
        steps = seen["steps"]
        if len(set(steps)) > 1 or any(step != int(step) or step < 0 for step in steps):
            self._fault(f"no whole step: {steps} ({how})", text)
        for part, before in self._base["state"].items():
            if seen["state"][part] != before:
                self._fault(f"left over: {part} was {before} and is {seen['state'][part]} ({how})", text)
        for part in ("threads", "files"):
            more = Counter(seen[part]) - Counter(self._base[part])
            if seen[part].count(THREAD) <= MOST_COMPILING:
                del more[THREAD]  # what compiles for a run that was ended cannot be, and ends by itself
            if more:
                self._fault(f"left over: {part} {sorted(more)} ({how})", text)
        self.report.memory.append(seen["memory"])
        bound = self._base["memory"] + MEMORY_AT_FIRST + self.report.counts["cells"] * MEMORY_FOR_A_CELL
        if seen["memory"] > bound:
            self._fault(f"{seen['memory'] / 2**20:.0f} MB of memory", text)
        # What is once wrong shall be said once.
        self._base = {**seen, "memory": self._base["memory"]}
        self._seen = seen

    def _fault(self, what: str, text: str = "") -> None:
        fault = f"cell {self.report.counts['cells']}: {what}\n{text}".rstrip()
        self.report.faults.append(fault)
        self._say(f"FAULT {fault}")


def _own_lines(stderr: str) -> str:
    """Without what TensorFlow logs by itself."""
    return "".join(
        line for line in stderr.splitlines(True) if not re.match(r"[WIE]\d{4} |WARNING|\d{4}-", line)
    )
