"""Measures the share of a run's time that the live display of ``%%minimize`` takes.

    python -m benchmarks.display

The same cells run with and without the display in one kernel. This program is the kernel's front end, and
tells it that widgets are shown.
"""

from __future__ import annotations

import ast
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.side_by_side import environment
from tests.support.kernels import Kernel

ROUNDS = 7

SETUP = """%load_ext tape_magic
import tensorflow as tf
tf.random.set_seed(0)
x = tf.Variable(2.0)
w = tf.Variable(tf.zeros(100))
inputs, targets = tf.random.normal([10_000, 100]), tf.random.normal([10_000, 1])
weights = tf.Variable(tf.zeros([100, 1]))"""

TASKS = {
    "the tutorial's quadratic, 1,500,000,000 steps": (
        "%%minimize y --over x --optimizer sgd --lr 1e-8 --steps 1_500_000_000 --engine xla",
        "y = x**2 - 2*x + 1",
    ),
    "Rosenbrock-100, Adam, 24,000,000 steps": (
        "%%minimize y --over w --optimizer adam --lr 1e-6 --steps 24_000_000 --engine xla",
        "y = tf.reduce_sum(100*(w[1:] - w[:-1]**2)**2 + (1 - w[:-1])**2)",
    ),
    "least squares 10,000 × 100, 30,000 steps": (
        "%%minimize y --over weights --optimizer adam --lr 1e-5 --steps 30_000 --engine xla",
        "y = tf.reduce_mean((inputs @ weights - targets)**2)",
    ),
}


def seconds(kernel: Kernel, cell: str, progress: str) -> float:
    """Return the seconds of one run from the start values, compilation left out."""
    kernel.ok(
        f"x.assign(2.0); w.assign(tf.zeros(100)); weights.assign(tf.zeros([100, 1]))\n"
        f"%config TapeMagics.progress = '{progress}'"
    )
    kernel.ok(cell)
    return float(ast.literal_eval(kernel.ok("minimum.seconds - minimum.compile_seconds").result))


def main() -> None:
    """Print the table."""
    print(environment("tensorflow", "ipykernel", "ipywidgets"))
    print("| task | without | with the display | more | bound 2 % |\n|---|---:|---:|---:|---|")
    with TemporaryDirectory() as folder:
        kernel = Kernel(Path(folder))
        try:
            kernel.ok(SETUP)
            for name, lines in TASKS.items():
                cell = "\n".join(lines)
                for progress in ("none", "widget"):  # imports and compiles
                    seconds(kernel, cell, progress)
                pairs = []
                for number in range(ROUNDS):
                    order = ("none", "widget") if number % 2 else ("widget", "none")
                    times = {progress: seconds(kernel, cell, progress) for progress in order}
                    pairs.append((times["none"], times["widget"]))
                more = statistics.median(shown / bare for bare, shown in pairs) - 1
                bare, shown = (statistics.median(times) for times in zip(*pairs, strict=True))
                held = "held" if more < 0.02 else "**missed**"
                print(f"| {name} | {bare:.2f} s | {shown:.2f} s | {100 * more:.1f} % | {held} |", flush=True)
        finally:
            kernel.close()


if __name__ == "__main__":
    main()
