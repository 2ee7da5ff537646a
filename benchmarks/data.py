"""Times an epoch of ``%%minimize`` over batches beside the loop by hand, ``fit``, JAX with optax, PyTorch.

    python -m benchmarks.data
    python -m benchmarks.data --only second --rows 20000 --rounds 5

A second run is a cell that has run before, with nothing to compile; a first run compiles all that it needs.
The time is that of the whole cell, its report and verdict included. Contestants run in turns, with the live
display of ``%%minimize`` on. Each row has the median, the quartiles and the slowest run, which shows stalls;
what the process kept the processors busy for, which other programs on the machine change less; and median
ratios to the best of the others in the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else PyTorch's threads spin while others run

from benchmarks.epochs import (
    Epoch,
    Work,
    by_cell,
    by_fit,
    by_hand,
    by_jax,
    by_torch,
    convolutional,
    perceptron,
    pipeline,
)
from benchmarks.minimize import Notebook, Row, _installed, _peers, table
from benchmarks.side_by_side import Race, RaceTimes, environment, run

ENGINES = ("auto", "graph", "xla")
OURS = "ours, "
HAND = "by hand, "
FIT = "fit, "


def main() -> None:
    """Run the chosen parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("second", "first"), nargs="+", default=("second", "first"))
    parser.add_argument("--work", choices=("mlp", "cnn"), nargs="+", default=("mlp", "cnn"))
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the MLP; the CNN has a tenth")
    parser.add_argument("--rounds", type=int, default=15, help="rounds; first runs have a third")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a second run; a first run has one")
    parser.add_argument("--ours", action="store_true", help="only ours and the loops by hand")
    arguments = parser.parse_args()
    notebook = Notebook()
    print(environment("tensorflow", "keras", "numpy", "ipython", *_peers()))
    print(f"load before: {', '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    for name in ("jax", "optax", "torch"):
        if not _installed(name):
            print(f"{name} is not installed: its epoch is left out")
    makers = {"mlp": (perceptron, arguments.rows), "cnn": (convolutional, arguments.rows // 10)}
    for make, rows in (makers[name] for name in arguments.work):
        if "second" in arguments.only:
            work = make(rows, arguments.epochs)
            contestants = second_runs(notebook, work, alone=arguments.ours)
            times = run(Race(work.name, contestants, arguments.rounds, warm_up=2))
            title = f"second runs of {work.epochs} epochs"
            print(table(HEAD, rows_of(title, work, times.seconds, times.busy)), flush=True)
        if "first" in arguments.only:
            work = make(rows)
            times = first_runs(notebook, work, max(arguments.rounds // 3, 1))
            print(table(HEAD, rows_of("first runs of an epoch", work, times.seconds, times.busy)), flush=True)


HEAD = ("work", "contestant", "ms/step", "quartiles", "slowest", "busy", "to by hand", "to `fit`")


def second_runs(notebook: Notebook, work: Work, *, alone: bool) -> dict[str, Epoch]:
    """Return the contestants of second runs."""
    data, names = pipeline(work), notebook.shell.user_ns
    found: dict[str, Epoch] = {}
    for engine in ENGINES:
        found[f"{OURS}tf.data, {engine}"] = by_cell(notebook.run, names, work, data, engine, fresh=False)
        found[f"{OURS}arrays, {engine}"] = by_cell(notebook.run, names, work, None, engine, fresh=False)
    for xla in (False, True):
        found[f"{HAND}{_engine(xla)} step"] = by_hand(work, data, xla=xla)
    if alone:
        return found
    for xla in (False, True):
        for steps in (1, 32):
            name = f"{FIT}{_engine(xla)}, {steps} {'step' if steps == 1 else 'steps'} a call"
            found[name] = by_fit(work, data, jit_compile=xla, steps_per_execution=steps)
    if _installed("jax", "optax"):
        found["JAX + optax"] = by_jax(work)
    if _installed("torch"):
        found["PyTorch"] = by_torch(work)
    return found


def first_runs(notebook: Notebook, work: Work, rounds: int) -> RaceTimes:
    """Time first runs, everything made anew in each round; its making does not count."""
    data, names = pipeline(work), notebook.shell.user_ns
    makers: dict[str, Callable[[], Epoch]] = {}
    for engine in ENGINES:
        for given, kind in ((data, "tf.data"), (None, "arrays")):
            makers[f"{OURS}{kind}, {engine}"] = _maker(
                by_cell, notebook.run, names, work, given, engine, fresh=True
            )
    for xla in (False, True):
        makers[f"{HAND}{_engine(xla)} step"] = _maker(by_hand, work, data, xla=xla)
        makers[f"{FIT}{_engine(xla)}, 32 steps a call"] = _maker(
            by_fit, work, data, jit_compile=xla, steps_per_execution=32
        )
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    busy: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(rounds + 1):
        for name, make in makers.items():
            once = make()
            started, worked = time.perf_counter(), time.process_time()
            once()
            if number:
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - worked)
    return RaceTimes(Race(work.name, {}, rounds), seconds, busy)


def _maker(make: Callable[..., Epoch], *arguments: Any, **named: Any) -> Callable[[], Epoch]:
    return lambda: make(*arguments, **named)


def _engine(xla: bool) -> str:
    return "XLA" if xla else "graph"


def rows_of(
    kind: str, work: Work, seconds: Mapping[str, Sequence[float]], busy: Mapping[str, Sequence[float]]
) -> Iterator[Row]:
    """Yield a row for each contestant, with its ratio to the best loop by hand and to the best ``fit``."""
    best = {group: _best(seconds, group) for group in (HAND, FIT)}
    steps = work.steps * work.epochs
    for number, (name, found) in enumerate(seconds.items()):
        each = sorted(1e3 * one / steps for one in found)
        low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
        ratios = []
        for other in best.values():
            pairs = zip(found, seconds[other], strict=True) if other else ()
            ratios.append(f"{statistics.median(a / b for a, b in pairs):.2f}" if other else "–")
        yield (
            f"{work.name}, {kind}" if not number else "",
            name,
            f"{middle:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{each[-1]:.3f}",
            f"{1e3 * statistics.median(busy[name]) / steps:.3f}",
            *ratios,
        )


def _best(seconds: Mapping[str, Sequence[float]], group: str) -> str:
    """Return the contestant of a group with the least median; empty where the group is left out."""
    names = [name for name in seconds if name.startswith(group)]
    return min(names, key=lambda name: statistics.median(seconds[name]), default="")


if __name__ == "__main__":
    main()
