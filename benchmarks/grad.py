"""Times ``%%grad`` beside the same tapes written by hand, and the display of its report.

    python -m benchmarks.grad
    python -m benchmarks.grad --parts

Each contestant is a cell of a notebook that displays nothing. With ``--parts``, the cells of models run again
without two parts of the magic in turn: the recorder, which hears each operation, and the look at the
gradients, which tells whether they need an explanation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from benchmarks.side_by_side import Race, environment, run, table
from tape_magic.engine.diagnosis import condition
from tape_magic.engine.record.recorder import Recorder

SETUP = """
import numpy as np, tensorflow as tf, keras
keras.utils.set_random_seed(0)
x, a, b, c = tf.Variable(0.0), tf.constant(1.0), tf.constant(-2.0), tf.constant(1.0)
m = tf.Variable(tf.random.normal([600, 600], stddev=0.04))
model = keras.Sequential([
    keras.Input((784,)), keras.layers.Dense(1000, activation="relu"),
    keras.layers.Dense(250, activation="relu"), keras.layers.Dense(10),
])
images, labels = tf.random.normal([256, 784]), tf.random.uniform([256], maxval=10, dtype=tf.int32)
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
A = tf.random.normal([100, 100])
v = tf.Variable(tf.random.normal([100]))
w = tf.Variable(tf.random.normal([300]))
"""

MATMULS = "h = m\nfor _ in range(3):\n    h = tf.tanh(h @ m)\ny = tf.reduce_sum(h)"
NETWORK = "loss = loss_of(labels, model(images))"
LINEAR = "y = tf.tanh(tf.linalg.matvec(A, v))"
CHAIN = "y = tf.reduce_sum((1.0 - w[:-1])**2 + 100.0 * (w[1:] - w[:-1]**2)**2)"


def tape(body: str, after: str, options: str = "") -> str:
    """Return a cell with one tape around a body, and a statement after it."""
    return f"with tf.GradientTape({options}) as t:\n{textwrap.indent(body, '    ')}\n{after}"


HESSIAN = (
    "with tf.GradientTape() as outer:\n    with tf.GradientTape() as t:\n"
    + textwrap.indent(CHAIN, "        ")
    + "\n    g = t.gradient(y, w)\nhessian = outer.jacobian(g, w)"
)

TASKS = {
    "parabola, dy/dx": (
        tape("y = a*tf.pow(x, 2) + b*x + c", "dy_dx = t.gradient(y, x)"),
        "%%grad dy/dx -q\ny = a*tf.pow(x, 2) + b*x + c",
        400,
    ),
    "three products of 600 × 600": (
        tape(MATMULS, "dy_dm = t.gradient(y, m)"),
        f"%%grad dy/dm -q\n{MATMULS}",
        60,
    ),
    "Keras, 1.04 million weights": (
        tape(NETWORK, "gradients = t.gradient(loss, model.trainable_variables)"),
        f"%%grad loss --wrt model -q\n{NETWORK}",
        60,
    ),
    "Jacobian, 100 × 100": (
        tape(LINEAR, "dy_dv = t.jacobian(y, v)"),
        f"%%grad dy/dv --jacobian -q\n{LINEAR}",
        30,
    ),
    "Hessian, 300 × 300": (HESSIAN, f"%%grad y --wrt w --hessian -q\n{CHAIN}", 20),
}

RESNET = """
resnet = keras.applications.ResNet50(
    weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
)
pictures, classes = tf.random.normal([4, 64, 64, 3]), tf.constant([1, 2, 3, 4])
"""
RESIDUAL = "loss = loss_of(classes, resnet(pictures, training=True))"
MODELS = {
    "Keras, 1.04 million weights": (*TASKS["Keras, 1.04 million weights"][:2], 100),
    "ResNet50, four small images": (
        tape(RESIDUAL, "gradients = t.gradient(loss, resnet.trainable_variables)"),
        f"%%grad loss --wrt resnet -q\n{RESIDUAL}",
        12,
    ),
}


@contextmanager
def _record_nothing(self: Recorder, frames: object = None) -> Iterator[None]:
    """Stand in for the recorder, and hear no operation."""
    yield


WITHOUT_RECORD = (Recorder, "listening", _record_nothing)
WITHOUT_LOOK = (condition, "_sum_of_squares", lambda value: 1.0)
CONTESTANTS = {
    "%%grad": (),
    "nothing looked at": (WITHOUT_LOOK,),
    "nothing heard": (WITHOUT_RECORD,),
    "neither": (WITHOUT_RECORD, WITHOUT_LOOK),
}
"""Contestant → the parts of the magic that are replaced: owner, name of the attribute, substitute."""

DEEP = """
deep = keras.Sequential([keras.Input((16,)), *(
    keras.layers.Dense(16, activation="tanh", name=f"encoder_block_{i}_dense") for i in range(500)
)])
"""


def display_time(shell: InteractiveShell, rounds: int = 20) -> str:
    """Return a sentence on the time and size of a report on a thousand variables, nothing of it cached."""
    shell.run_cell(DEEP).raise_error()
    shell.run_cell(
        "%%grad loss --wrt deep -q\nloss = tf.reduce_sum(deep(images[:8, :16]))", store_history=True
    ).raise_error()
    report, seconds, page = shell.user_ns["grads"], [], ""
    for _ in range(rounds):
        fresh = replace(report, rows=tuple(map(replace, report.rows)))
        started = time.perf_counter()
        data, _ = shell.display_formatter.format(fresh)
        seconds.append(time.perf_counter() - started)
        page = data["text/html"]
    size = len(page.encode()) / 1000
    return (
        f"a report on {len(report.rows):,} variables: text and HTML in {statistics.median(seconds):.3f} s, "
        f"{size:.0f} kB of HTML"
    )


def races_of_parts(shell: InteractiveShell, cell: Callable[[str], None]) -> list[Race]:
    """Return the races of models: the tape by hand twice, for the noise, and the magic without parts."""
    shell.run_cell(RESNET).raise_error()

    def patched(text: str, patches: tuple[tuple[object, str, object], ...]) -> Callable[[], None]:
        def run_cell() -> None:
            with ExitStack() as stack:
                for owner, name, substitute in patches:
                    stack.enter_context(patch.object(owner, name, substitute))
                cell(text)

        return run_cell

    return [
        Race(
            name,
            {
                "by hand": lambda text=by_hand: cell(text),
                "by hand again": lambda text=by_hand: cell(text),
                **{name: patched(magic, patches) for name, patches in CONTESTANTS.items()},
            },
            rounds,
        )
        for name, (by_hand, magic, rounds) in MODELS.items()
    ]


def main() -> None:
    """Run the races and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", action="store_true", help="the time of each part of the magic")
    parts = parser.parse_args().parts
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    shell = InteractiveShell.instance(config=config)
    shell.run_cell(SETUP).raise_error()
    shell.run_line_magic("load_ext", "tape_magic")

    def cell(text: str) -> None:
        shell.run_cell(text, store_history=True).raise_error()

    races = (
        races_of_parts(shell, cell)
        if parts
        else [
            Race(
                name,
                {"by hand": lambda text=by_hand: cell(text), "%%grad": lambda text=magic: cell(text)},
                rounds,
            )
            for name, (by_hand, magic, rounds) in TASKS.items()
        ]
    )
    print(environment("tensorflow", "keras", "numpy", "ipython"))
    print(table([run(race) for race in races]))
    if not parts:
        print(display_time(shell))


if __name__ == "__main__":
    main()
