"""Times a step of ``%%minimize --strategy`` at 1, 2 and 4 replicas, beside one device and beside ``fit``.

    python -m benchmarks.scale
    python -m benchmarks.scale --only replicas --rounds 7

The replicas are logical CPUs of one process, which share its cores: nothing is gained by them here, and
what counts is what they cost. Each work and number of replicas has a process of its own, in which all
contestants run in turns: in TensorFlow 2.21, collectives of two strategies that share devices cancelled each
other. Beside the time stands what the process kept the cores busy for, which other programs change less. The
time of a step is that of a long run less that of a short one, divided by the steps between them; the first
run of each, which compiles, stands apart. All read the same ``tf.data`` pipeline, and all compute in graphs.
What workers cost on the loopback is measured by ``python -m benchmarks.workers``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from IPython.core.interactiveshell import InteractiveShell

from benchmarks.side_by_side import Race, RaceTimes, environment, run

ONE, FIT = "one device", "fit, one device"
REPLICAS = (1, 2, 4)


@dataclass(frozen=True)
class Work:
    """A network of two dense layers, and the rows of a step.

    Attributes
    ----------
    inputs, hidden, outputs
        Its widths.
    batch
        Rows of a step.
    short, long
        Steps of the two runs that are timed.
    """

    inputs: int
    hidden: int
    outputs: int
    batch: int
    short: int
    long: int

    @property
    def name(self) -> str:
        """What the work is called."""
        return f"{self.inputs}-{self.hidden}-{self.outputs}, batch {self.batch:,}"

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return (self.inputs + 1) * self.hidden + (self.hidden + 1) * self.outputs


SMALL = Work(20, 32, 3, 64, 50, 1050)
MLP = Work(784, 128, 10, 1024, 5, 85)
GROWING = [Work(64, hidden, 10, 64, 10, 110) for hidden in (16, 160, 1_600, 16_000)]

WORKS = {"replicas": [SMALL, MLP], "growth": GROWING}

Contestants = dict[str, Callable[[int], object]]
"""Name → a function that takes so many steps, from the values that the run before left."""


def contestants(shell: InteractiveShell, work: Work, count: int, *, fit: bool) -> Contestants:
    """Return the contestants of a work over so many replicas, each with a model of its own."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    rows = work.batch * 10
    x = generator.normal(size=(rows, work.inputs)).astype("float32")
    y = generator.integers(0, work.outputs, rows).astype("int32")
    train = tf.data.Dataset.from_tensor_slices((x, y)).batch(work.batch, drop_remainder=True).cache()
    strategy = tf.distribute.MirroredStrategy([f"CPU:{at}" for at in range(count)])
    shell.user_ns.update(tf=tf, train=train.repeat().prefetch(tf.data.AUTOTUNE), strategy=strategy)
    found: Contestants = {
        ONE: _ours(shell, work, "", "plain"),
        _replicas("%%minimize", count): _ours(shell, work, " --strategy strategy", "shared"),
    }
    if fit:
        found[FIT] = _fit(tf.distribute.get_strategy(), work, train)
        found[_replicas("fit", count)] = _fit(strategy, work, train)
    return found


def _replicas(name: str, count: int) -> str:
    return f"{name}, {count} replica{'s' if count > 1 else ''}"


def model_of(work: Work) -> Any:
    """Return the network, with the same values each time."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(work.hidden, "relu"), keras.layers.Dense(work.outputs)]
    return keras.Sequential([keras.Input((work.inputs,)), *layers])


def _ours(shell: InteractiveShell, work: Work, more: str, name: str) -> Callable[[int], object]:
    shell.user_ns[name] = model_of(work)
    loss = f"tf.nn.sparse_softmax_cross_entropy_with_logits(labels=yb, logits={name}(xb))"

    def steps(count: int) -> object:
        line = f'%%minimize loss --over {name} --for "xb, yb in train" --steps {count} --optimizer adam'
        result = shell.run_cell(f"{line} --engine graph -q{more}\nloss = tf.reduce_mean({loss})")
        result.raise_error()
        assert shell.user_ns["minimum"].steps == count
        return result

    return steps


def _fit(strategy: Any, work: Work, train: Any) -> Callable[[int], object]:
    import keras

    with strategy.scope():
        model = model_of(work)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    data = train.repeat()

    return lambda count: model.fit(data, epochs=1, steps_per_epoch=count, verbose=0)


@dataclass(frozen=True)
class Steps:
    """What the steps of a race took.

    Attributes
    ----------
    first
        Contestant → the seconds of its first short run, in which all is compiled.
    seconds, busy
        Contestant → the seconds of a step, and those of all cores in this process, of each round.
    """

    first: Mapping[str, float]
    seconds: Mapping[str, Sequence[float]]
    busy: Mapping[str, Sequence[float]]

    def ratio(self, name: str, other: str) -> tuple[float, float]:
        """Return the ratios of the medians of two contestants: of their time, and of what cores did."""
        return (
            statistics.median(self.seconds[name]) / statistics.median(self.seconds[other]),
            statistics.median(self.busy[name]) / statistics.median(self.busy[other]),
        )


def race(work: Work, contestants: Contestants, rounds: int) -> Steps:
    """Run the contestants in turns, and return what their steps took."""
    first = {}
    for name, steps in contestants.items():
        started = time.perf_counter()
        steps(work.short)
        first[name] = time.perf_counter() - started
    timed = {}
    for name, steps in contestants.items():
        for count in (work.short, _longer(work, name)):
            timed[f"{name}|{count}"] = lambda steps=steps, count=count: steps(count)
    times: RaceTimes = run(Race(work.name, timed, rounds, warm_up=1))

    def of_a_step(found: Mapping[str, Sequence[float]], name: str) -> list[float]:
        short, long = (found[f"{name}|{count}"] for count in (work.short, _longer(work, name)))
        between = _longer(work, name) - work.short
        return [(one - other) / between for one, other in zip(long, short, strict=True)]

    kinds = ({name: of_a_step(found, name) for name in contestants} for found in (times.seconds, times.busy))
    return Steps(first, *kinds)


def _longer(work: Work, name: str) -> int:
    """Return the steps of a long run: fewer of ``fit``, whose steps take longer."""
    return work.short + (work.long - work.short) // (5 if name.startswith("fit") else 1)


def measured(work: Work, count: int, rounds: int, *, fit: bool) -> None:
    """Print what steps over so many replicas took, as JSON."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    shell = InteractiveShell.instance()
    for line in ("%load_ext tape_magic", f"%tfgpu --cpu --split {count} -q"):
        shell.run_cell(line).raise_error()
    found = race(work, contestants(shell, work, count, fit=fit), rounds)
    print(json.dumps(asdict(found)), flush=True)


def in_a_process(part: str, at: int, count: int, rounds: int) -> Steps:
    """Return what the steps of a part's work took, measured by a process of its own."""
    arguments = ["--only", part, "--rounds", str(rounds), "--replicas", str(count), "--work", str(at)]
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return Steps(**json.loads(done.stdout.splitlines()[-1]))


def replicas_part(rounds: int) -> Iterator[str]:
    """Give the lines of the table of replicas, and the two bounds."""
    yield "| work | replicas | contestant | µs/step | quartiles | busy | of one device, busy | first run |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|"
    bounds = []
    for at, work in enumerate(WORKS["replicas"]):
        for count in REPLICAS:
            steps = in_a_process("replicas", at, count, rounds)
            for name in steps.seconds:
                low, middle, high = (1e6 * one for one in statistics.quantiles(steps.seconds[name], n=4))
                busy, ratio = 1e6 * statistics.median(steps.busy[name]), steps.ratio(name, ONE)
                figures = f"{middle:,.0f} | {low:,.0f}–{high:,.0f} | {busy:,.0f}"
                more = f"{ratio[0]:.2f}, {ratio[1]:.2f}"
                yield f"| {work.name} | {count} | {name} | {figures} | {more} | {steps.first[name]:.1f} s |"
            if count == 1:
                bounds.append(
                    (work.name, 1.15, "of one device", steps.ratio(_replicas("%%minimize", 1), ONE))
                )
            if count == 2:
                both = _replicas("%%minimize", 2), _replicas("fit", 2)
                bounds.append((work.name, 0.5, "of `fit` over two", steps.ratio(*both)))
    yield "\n| work | bound | time | busy |\n|---|---|---:|---:|"
    for name, most, what, ratios in bounds:
        cells = " | ".join(f"{ratio:.2f}, {_held(ratio <= most)}" for ratio in ratios)
        yield f"| {name} | at most {most:g} {what} | {cells} |"


def _held(held: bool) -> str:
    return "held" if held else "**missed**"


def growth_part(rounds: int) -> Iterator[str]:
    """Give the lines of the table of parameters."""
    yield "| parameters | MB | one device, µs/step | busy | 2 replicas | busy | ratio, busy |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for at, work in enumerate(WORKS["growth"]):
        steps, cells = in_a_process("growth", at, 2, rounds), []
        for name in steps.seconds:
            cells += [f"{1e6 * statistics.median(found[name]):,.0f}" for found in (steps.seconds, steps.busy)]
        cells.append(", ".join(f"{one:.2f}" for one in steps.ratio(_replicas("%%minimize", 2), ONE)))
        yield f"| {work.parameters:,} | {4e-6 * work.parameters:.3g} | {' | '.join(cells)} |"


PARTS = {"replicas": replicas_part, "growth": growth_part}


def main() -> None:
    """Run the chosen parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="some of the tables")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--replicas", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replicas:
        (part,) = arguments.only
        work = WORKS[part][arguments.work]
        measured(work, arguments.replicas, arguments.rounds, fit=part == "replicas")
        return
    print(environment("tensorflow", "keras", "numpy"))
    for part in arguments.only:
        print(f"load before: {', '.join(f'{one:.2f}' for one in os.getloadavg())}\n")
        for line in PARTS[part](arguments.rounds):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
