"""Times the all-reduce of MultiWorkerMirroredStrategy between worker processes on the loopback.

    python -m benchmarks.workers
    python -m benchmarks.workers --workers 3 --rounds 5 --json measured.json

Each worker takes steps in which the gradient of P bytes of parameters is summed over all workers, and
applied by each to its own variable; and in turn steps in which nothing is summed. What the former take
longer is the all-reduce. All of it runs in ``tf.while_loop`` within one ``tf.function``, as the loop of
``%%minimize`` does. The workers are processes on free ports of 127.0.0.1, which are ended by their numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BYTES = (1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
"""The bytes of float32 parameters that are measured."""

PATIENCE = 300.0
"""The most seconds that all of it takes; what hangs is ended then."""


@dataclass(frozen=True)
class Measured:
    """What steps took with so many bytes of parameters.

    Attributes
    ----------
    bytes
        The bytes of the parameters, and of what each worker gives to the all-reduce.
    steps
        The steps of one call.
    together, alone
        The seconds of a step with and without the all-reduce, of each round.
    """

    bytes: int
    steps: int
    together: Sequence[float]
    alone: Sequence[float]

    @property
    def all_reduce(self) -> list[float]:
        """What the all-reduce took in each round, in seconds a step."""
        return [one - other for one, other in zip(self.together, self.alone, strict=True)]


def measure(workers: int = 2, rounds: int = 9, sizes: Sequence[int] = BYTES) -> list[Measured]:
    """Start worker processes, and return what worker 0 measured.

    Raises :class:`RuntimeError` where a worker fails, and :class:`subprocess.TimeoutExpired` where one hangs.
    """
    cluster = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(cluster, index, rounds, sizes)) for index in range(workers)]
        for process in processes:
            stack.callback(process.kill)
        until = time.monotonic() + PATIENCE
        said = [process.communicate(timeout=until - time.monotonic()) for process in processes]
        for index, (process, (_, errors)) in enumerate(zip(processes, said, strict=True)):
            if process.returncode:
                raise RuntimeError(f"worker {index} ended with {process.returncode}: {errors.strip()}")
    reports = [json.loads(output.splitlines()[-1]) for output, _ in said]
    if any(report["end"] != reports[0]["end"] for report in reports):
        raise RuntimeError(f"the workers ended apart: {[report['end'] for report in reports]}")
    return [Measured(**one) for one in reports[0]["measured"]]


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _process(cluster: list[str], index: int, rounds: int, sizes: Sequence[int]) -> subprocess.Popen[str]:
    task = {"cluster": {"worker": cluster}, "task": {"type": "worker", "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": "-1"}
    arguments = ["--work", "--rounds", str(rounds), "--bytes", *map(str, sizes)]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.workers", *arguments],
        env=environment,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def work(rounds: int, sizes: Sequence[int]) -> None:
    """Be a worker: take all steps in the order of the others, and print a line of JSON."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    measured, ends = [], []
    for size in sizes:
        variable = tf.Variable(tf.ones([max(size // 4, 1)]))
        steps = steps_of(size)
        # Both stay from round to round, so that nothing is traced anew.
        loops = [_loop(strategy, variable, steps, together=together) for together in (True, False)]
        seconds: list[list[float]] = [[], []]
        for number in range(rounds + 2):
            for loop, taken in zip(loops, seconds, strict=True):
                started = time.perf_counter()
                loop()
                if number >= 2:
                    taken.append((time.perf_counter() - started) / steps)
        measured.append(asdict(Measured(size, steps, *seconds)))
        ends.append(float(variable[0]))
    print(json.dumps({"measured": measured, "end": ends}))


def steps_of(size: int) -> int:
    """Return the steps of a call: some tenths of a second on the loopback."""
    return max(4, min(200, 40_000_000 // size))


def _loop(strategy: Any, variable: Any, steps: int, *, together: bool) -> Callable[[], object]:
    import tensorflow as tf

    def gradient(weight: Any) -> Any:
        mine = 1e-3 * variable * weight
        context = tf.distribute.get_replica_context()
        return context.all_reduce("SUM", mine) if together else mine

    weight = tf.constant(1.0 / strategy.num_replicas_in_sync if together else 1.0)

    @tf.function
    def loop() -> Any:
        def body(at: Any) -> Any:
            reduced = strategy.experimental_local_results(strategy.run(gradient, args=(weight,)))[0]
            variable.assign_sub(reduced)
            return at + 1

        return tf.while_loop(lambda at: at < steps, body, [tf.constant(0)], parallel_iterations=1)

    return lambda: loop()[0].numpy()


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return latency and seconds a byte of ``seconds = latency + bytes · s`` by least relative squares."""
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    x = sum(w * size for w, (size, _) in zip(weights, points, strict=True)) / total
    y = sum(w * seconds for w, (_, seconds) in zip(weights, points, strict=True)) / total
    pairs = list(zip(weights, points, strict=True))
    slope = sum(w * (size - x) * (seconds - y) for w, (size, seconds) in pairs)
    slope /= sum(w * (size - x) ** 2 for w, (size, _) in pairs)
    return y - slope * x, slope


def main() -> None:
    """Measure, and print the table."""
    from benchmarks.side_by_side import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bytes", type=int, nargs="+", default=BYTES, help="bytes of parameters")
    parser.add_argument("--json", type=Path, help="a file for what was measured")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.rounds, arguments.bytes)
        return
    said = environment("tensorflow", "numpy")
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    print(f"{said}\nload before: {load}\n")
    measured = measure(arguments.workers, arguments.rounds, arguments.bytes)
    print("| bytes | steps | without, µs/step | with, µs/step | all-reduce, µs | quartiles |")
    print("|---:|---:|---:|---:|---:|---:|")
    for one in measured:
        low, middle, high = statistics.quantiles(one.all_reduce, n=4)
        alone, together = statistics.median(one.alone), statistics.median(one.together)
        figures = f"{1e6 * alone:,.0f} | {1e6 * together:,.0f} | {1e6 * middle:,.0f}"
        print(f"| {one.bytes:,} | {one.steps} | {figures} | {1e6 * low:,.0f}–{1e6 * high:,.0f} |")
    latency, slope = fitted([(one.bytes, statistics.median(one.all_reduce)) for one in measured])
    print(f"\n{1e6 * latency:,.0f} µs + bytes / {1e-9 / slope:.2f} GB/s")
    if arguments.json:
        medians = [
            {
                "bytes": one.bytes,
                "alone": round(statistics.median(one.alone), 7),
                "all_reduce": [round(seconds, 7) for seconds in statistics.quantiles(one.all_reduce, n=4)],
            }
            for one in measured
        ]
        report = {"environment": said, "load": load, "workers": arguments.workers, "measured": medians}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
