"""Times ``%%minimize`` beside loops written by hand, JAX with optax, ``keras.Model.fit`` and PyTorch.

    python -m benchmarks.minimize
    python -m benchmarks.minimize --only peers cold
    python -m benchmarks.minimize --quick

All tables take a quarter of an hour; ``--quick`` only shows that they work. The extra ``bench`` installs the
other libraries; the table names those that are missing. Contestants run in turns, with the live display of
``%%minimize`` on. The time per step is (a long run − a run of one step) / steps, since a compiled loop
makes a million small steps in milliseconds. The tables are Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import io
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else PyTorch's threads spin while others run

import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from benchmarks.problems import Problem, Run, by_hand, by_jax, by_torch, problems, tensors
from benchmarks.side_by_side import Race, RaceTimes, environment, run
from tape_magic.engine.minimization.keras_loop import run as keras_run

OURS = "%%minimize"
HAND, RECORDING, JAX, JAX_RECORDING, TORCH, FIT = (
    "by hand, applying steps only",
    "by hand, recording the losses",
    "JAX + optax, applying steps only",
    "JAX + optax, recording the losses",
    "PyTorch, eager",
    "keras.Model.fit",
)
WITHOUT = "%%minimize without a verdict"
ENGINES = ("auto", "xla", "graph", "eager")
SLOWER = {TORCH: 200, "eager": 400}
"""The divisor of the number of steps for contestants that run step by step; they make 20 at the least."""

Row = tuple[str, ...]


def main() -> None:
    """Run the chosen parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="some of the tables")
    arguments = parser.parse_args()
    notebook = Notebook()
    print(environment("tensorflow", "keras", "numpy", "ipython", *_peers()))
    print(f"load before: {', '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    for part in arguments.only:
        for head, rows in PARTS[part](notebook, quick=arguments.quick):
            print(table(head, rows), flush=True)


Tables = Iterator[tuple["Row", Iterable["Row"]]]


def peers_part(notebook: Notebook, *, quick: bool) -> Tables:
    """Give the tables of ``%%minimize`` beside loops by hand and other libraries."""
    races = [(problem, peers_race(notebook, problem, _rounds(quick))) for problem in problems(quick=quick)]
    yield ("work", "against", "ours, µs/step", "theirs, µs/step", "ratio"), steps_rows(races)
    yield ("warm cell of", "ours, one step", "by hand, one step", "beyond"), fixed_rows(races)


def engines_part(notebook: Notebook, *, quick: bool) -> Tables:
    """Give the table of the engine `auto` beside the others."""
    chosen = problems(quick=quick)
    rows = (engines_row(problem, engines_race(notebook, problem, _rounds(quick))) for problem in chosen)
    yield ("work", *(f"{name}, µs/step" for name in ENGINES), "auto / best"), rows


def cold_part(notebook: Notebook, *, quick: bool) -> Tables:
    """Give the table of first runs, in which everything is compiled."""
    yield ("from cold", "ours", "theirs", "ratio"), [cold_row(notebook, 3 if quick else 15)]


def pipeline_part(notebook: Notebook, *, quick: bool) -> Tables:
    """Give the table of ``%%minimize`` beside `keras.Model.fit` over batches."""
    yield ("over a pipeline", "ours", "theirs", "ratio"), [pipeline_row(2 if quick else 7, quick=quick)]


def verdict_part(notebook: Notebook, *, quick: bool) -> Tables:
    """Give the table of runs whose report has a verdict beside runs without."""
    races = [(problem, verdict_race(notebook, problem, _rounds(quick))) for problem in problems(quick=quick)]
    head = "work", "µs/step", "without, µs/step", "ratio", "added at the end", "of a run of"
    yield head, verdict_rows(races)


def growth_part(notebook: Notebook, *, quick: bool) -> Tables:
    """Give the tables of time and memory against the number of parameters and of steps."""
    head = "parameters", "µs/step", "ns/step and parameter", "peak memory"
    yield head, growth(notebook, quick=quick)
    yield ("steps", "seconds", "µs/step", "losses kept", "memory added"), lengths(notebook, quick=quick)


PARTS = {
    "peers": peers_part,
    "engines": engines_part,
    "cold": cold_part,
    "pipeline": pipeline_part,
    "verdict": verdict_part,
    "growth": growth_part,
}


def _rounds(quick: bool) -> int:
    return 2 if quick else 11


class Notebook:
    """Runs cells, each with a number of its own, and hides their output."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.hist_file = ":memory:"
        config.TapeMagics.progress = "terminal"
        self.shell = InteractiveShell.instance(config=config)
        self.shell.run_line_magic("load_ext", "tape_magic")

    def run(self, text: str) -> None:
        """Run one cell; raise its error."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.shell.run_cell(text, store_history=True).raise_error()

    def minimizing(self, problem: Problem, engine: str = "auto") -> Run:
        """Return a run of the problem as a cell; the same number of steps gives the same text."""
        names = tensors(problem)
        line = (
            f"%%minimize loss --over {' '.join(problem.start)} --optimizer {problem.optimizer} "
            f"--lr {problem.rate} --engine {engine} --steps"
        )

        def once(steps: int) -> object:
            self.shell.user_ns.update(names)
            for name, value in problem.start.items():
                names[name].assign(value)
            return self.run(f"{line} {steps}\n{problem.cell}")

        return once


# -- races -----------------------------------------------------------------------------------------------


def race_of(name: str, runs: Mapping[str, Run], steps: Mapping[str, int], rounds: int) -> RaceTimes:
    """Time a long run and a run of one step of each contestant, all in turns."""
    contestants: dict[str, Callable[[], object]] = {}
    for contestant, once in runs.items():
        contestants[f"{contestant}, long"] = lambda once=once, n=steps[contestant]: once(n)
        contestants[f"{contestant}, one"] = lambda once=once: once(1)
    return run(Race(name, contestants, rounds, warm_up=1))


def step_times(times: RaceTimes, contestant: str, steps: int) -> list[float]:
    """Return the seconds per step in each round."""
    pairs = zip(times.seconds[f"{contestant}, long"], times.seconds[f"{contestant}, one"], strict=True)
    return [(long - one) / max(steps - 1, 1) for long, one in pairs]


def steps_of(problem: Problem, contestant: str) -> int:
    """Return the number of steps in a long run of a contestant."""
    return max(problem.steps // SLOWER.get(contestant, 1), min(problem.steps, 20))


def peers_race(notebook: Notebook, problem: Problem, rounds: int) -> RaceTimes:
    """Time ``%%minimize`` beside the loops by hand and the libraries that are installed."""
    runs: dict[str, Run] = {
        OURS: notebook.minimizing(problem),
        HAND: by_hand(problem, record=False),
        RECORDING: by_hand(problem, record=True),
    }
    if _installed("jax", "optax"):
        runs[JAX] = by_jax(problem, record=False)
        runs[JAX_RECORDING] = by_jax(problem, record=True)
    if _installed("torch"):
        runs[TORCH] = by_torch(problem)
    return race_of(problem.name, runs, {name: steps_of(problem, name) for name in runs}, rounds)


def engines_race(notebook: Notebook, problem: Problem, rounds: int) -> RaceTimes:
    """Time the engines of ``%%minimize``."""
    runs = {engine: notebook.minimizing(problem, engine) for engine in ENGINES}
    return race_of(problem.name, runs, {name: steps_of(problem, name) for name in runs}, rounds)


def verdict_race(notebook: Notebook, problem: Problem, rounds: int) -> RaceTimes:
    """Time the same cell, and the same cell where nobody asks why the run ended where it did."""
    once = notebook.minimizing(problem)

    def without(steps: int) -> object:
        with mock.patch.object(keras_run, "findings_of", return_value=()):
            return once(steps)

    runs: dict[str, Run] = {OURS: once, WITHOUT: without}
    return race_of(problem.name, runs, dict.fromkeys(runs, problem.steps), rounds)


# -- rows ------------------------------------------------------------------------------------------------


def steps_rows(races: Sequence[tuple[Problem, RaceTimes]]) -> Iterator[Row]:
    """Yield the time per step beside each of the others."""
    for problem, times in races:
        ours = step_times(times, OURS, steps_of(problem, OURS))
        for index, other in enumerate((HAND, RECORDING, JAX, JAX_RECORDING, TORCH)):
            name = "" if index else f"{problem.name}, {problem.steps:,} steps"
            if f"{other}, long" not in times.seconds:
                yield name, other, _micro(ours), "not installed", "–"
                continue
            theirs = step_times(times, other, steps_of(problem, other))
            yield name, other, _micro(ours), _micro(theirs), _ratio(ours, theirs)


def fixed_rows(races: Sequence[tuple[Problem, RaceTimes]]) -> Iterator[Row]:
    """Yield the time that a warm cell of one step takes beyond the loop."""
    for problem, times in races:
        ours, hand = times.seconds[f"{OURS}, one"], times.seconds[f"{HAND}, one"]
        beyond = [a - b for a, b in zip(ours, hand, strict=True)]
        yield problem.name, _milli(ours), _milli(hand), _milli(beyond)


def engines_row(problem: Problem, times: RaceTimes) -> Row:
    """Return the times of all engines, and the ratio of `auto` to the best of the others."""
    by_engine = {name: step_times(times, name, steps_of(problem, name)) for name in ENGINES}
    best = min(ENGINES[1:], key=lambda name: statistics.median(by_engine[name]))
    cells = (_micro(by_engine[name]) for name in ENGINES)
    return problem.name, *cells, f"{_ratio(by_engine['auto'], by_engine[best])} ({best})"


def verdict_rows(races: Sequence[tuple[Problem, RaceTimes]]) -> Iterator[Row]:
    """Yield the time per step with and without the verdict, and what it takes once."""
    for problem, times in races:
        ours, bare = (step_times(times, name, problem.steps) for name in (OURS, WITHOUT))
        long, without = times.seconds[f"{OURS}, long"], times.seconds[f"{WITHOUT}, long"]
        added = [a - b for a, b in zip(long, without, strict=True)]
        yield problem.name, _micro(ours), _micro(bare), _ratio(ours, bare), _milli(added), _milli(without)


TUTORIAL = """
@tf.function
def fit():
    y = c
    for _ in tf.range(1000):
        with tf.GradientTape() as tape:
            y = a*tf.pow(x, 2) + b*x + c
        optimizer.apply_gradients([(tape.gradient(y, x), x)])
    return y
y = fit()
"""


def cold_row(notebook: Notebook, rounds: int) -> Row:
    """Time the tutorial's 1,000 steps with their compilation: every round has a new cell."""
    number = itertools.count()
    setup = (
        "import keras, tensorflow as tf\nx, a, b, c = tf.Variable(0.0), *map(tf.constant, (1.0, -2.0, 1.0))\n"
    )

    def ours() -> None:
        notebook.run(
            f"%%minimize y --over x --optimizer sgd --lr 0.01 --steps 1000\n# {next(number)}\n"
            "y = a*tf.pow(x, 2) + b*x + c"
        )

    def theirs() -> None:
        notebook.run(
            f"optimizer = keras.optimizers.SGD(0.01)\noptimizer.build([x])\n{TUTORIAL}# {next(number)}"
        )

    def fresh(contestant: Callable[[], None]) -> float:
        notebook.run(setup)
        started = time.perf_counter()
        contestant()
        return time.perf_counter() - started

    pairs = [(fresh(ours), fresh(theirs)) for _ in range(rounds + 1)][1:]
    mine, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return "the tutorial's 1,000 steps", _milli(mine), _milli(other), _ratio(mine, other)


def pipeline_row(rounds: int, *, quick: bool) -> Row:
    """Time an epoch of a network over a ``tf.data`` pipeline, beside ``keras.Model.fit``."""
    import keras
    import tensorflow as tf

    import tape_magic

    name = "MLP 784-128-10 over tf.data, batch 256"
    if "data" not in inspect.signature(tape_magic.minimize).parameters:
        return name, "no data yet", FIT, "–"
    generator = np.random.default_rng(0)
    examples, more = (1024, 1) if quick else (16_384, 4)
    images = generator.normal(size=(examples, 784)).astype(np.float32)
    labels = generator.integers(0, 10, examples).astype(np.int32)
    train = tf.data.Dataset.from_tensor_slices((images, labels)).batch(256).prefetch(tf.data.AUTOTUNE)

    def model() -> Any:
        layers = [keras.Input((784,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10)]
        return keras.Sequential(layers)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    mine, other = model(), model()
    other.compile(keras.optimizers.Adam(), loss)
    optimizer = keras.optimizers.Adam()

    def loss_of(xb: Any, yb: Any) -> Any:
        return loss(yb, mine(xb))

    def ours(epochs: int) -> None:
        tape_magic.minimize(loss_of, None, optimizer, data=train, epochs=epochs)

    def theirs(epochs: int) -> None:
        other.fit(train, epochs=epochs, verbose=0, shuffle=False)

    times = race_of(name, {OURS: ours, FIT: theirs}, dict.fromkeys((OURS, FIT), 1 + more), rounds)
    a, b = step_times(times, OURS, 1 + more), step_times(times, FIT, 1 + more)
    return f"{name}, an epoch of {examples:,}", _milli(a), f"{_milli(b)}, {FIT}", _ratio(a, b)


# -- growth ----------------------------------------------------------------------------------------------


def growth(notebook: Notebook, *, quick: bool) -> Iterator[Row]:
    """Yield the time and memory of gradient descent on a sum of squares, of 1 to 10 million parameters."""
    for power in range(8 if not quick else 5):
        size = 10**power
        steps = max(min(10**9 // size // 2, 200_000), 20) // (10 if quick else 1)
        problem = _sum_of_squares(size, steps)
        once = notebook.minimizing(problem)
        _reset_peak()
        before = _memory("VmRSS")
        for count in (1, steps, steps):  # then the fastest engine is compiled
            once(count)
        long, one = _seconds(once, steps), _seconds(once, 1)
        each = max(long - one, 0.0) / max(steps - 1, 1)
        peak = _memory("VmHWM") - before
        yield f"{size:,}", f"{1e6 * each:,.2f}", f"{1e9 * each / size:,.3f}", f"{peak / 2**20:,.0f} MB more"


def lengths(notebook: Notebook, *, quick: bool) -> Iterator[Row]:
    """Yield the time and memory of ever longer runs of a quadratic, then of many runs of one cell."""
    once = notebook.minimizing(problems(quick=True)[0])
    for _ in range(2):
        once(10_000 if quick else 1_000_000)
    for power in range(3, 8 if not quick else 5):
        before, steps = _memory("VmRSS"), 10**power
        seconds = _seconds(once, steps)
        kept = len(notebook.shell.user_ns["minimum"].history)
        added = (_memory("VmRSS") - before) / 2**20
        yield f"{steps:,}", f"{seconds:.3f}", f"{1e6 * seconds / steps:.3f}", f"{kept:,}", f"{added:.1f} MB"
    before, times = _memory("VmRSS"), 5 if quick else 200
    seconds = sum(_seconds(once, 1000) for _ in range(times))
    added = (_memory("VmRSS") - before) / 2**20
    each = f"{1e3 * seconds / times:.1f} ms a run"
    yield f"{times} runs of one cell of 1,000", f"{seconds:.3f}", each, "", f"{added:.1f} MB"


def _sum_of_squares(size: int, steps: int) -> Problem:
    def loss(p: Any, d: Any) -> Any:
        return ((p["w"] - 1.0) ** 2).sum()

    cell = "loss = tf.reduce_sum((w - 1.0)**2)"
    start = {"w": np.zeros(size, np.float32)}
    return Problem(f"{size:,} parameters", cell, start, {}, "sgd", 1e-3, steps, loss, loss)


def _seconds(once: Run, steps: int) -> float:
    started = time.perf_counter()
    once(steps)
    return time.perf_counter() - started


def _memory(field: str) -> int:
    """Return a memory field of this process in bytes, from Linux's ``/proc``; 0 on other systems."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> None:
    """Reset the peak of memory to the memory in use."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")


# -- tables ----------------------------------------------------------------------------------------------


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a table of Markdown with its numbers aligned to the right."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _micro(seconds: Sequence[float]) -> str:
    return f"{1e6 * statistics.median(seconds):,.3f}"


def _milli(seconds: Sequence[float]) -> str:
    return f"{1e3 * statistics.median(seconds):,.1f} ms"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median ratio of the rounds in which noise did not make the other's time negative."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True) if other > 0]
    return f"{statistics.median(ratios):.3f}" if ratios else "–"


def _installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


def _peers() -> list[str]:
    """Return the installed ones of the other libraries."""
    found = []
    for name in ("jax", "optax", "torch"):
        with contextlib.suppress(PackageNotFoundError):
            version(name)
            found.append(name)
    return found


if __name__ == "__main__":
    main()
