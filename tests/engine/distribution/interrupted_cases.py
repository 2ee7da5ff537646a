"""The cases of `test_interrupted.py`, each for a process that has imported TensorFlow and started nothing.

An interrupt is a signal to this process just before a call, so that it comes there at any speed. What a run
that was cut leaves is compared, to the bit, with a run that ends at that step by itself.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import tensorflow as tf
from IPython.core.interactiveshell import InteractiveShell

from tape_magic.display.live.progress import NoProgress
from tape_magic.engine.accumulation import accumulate
from tape_magic.engine.accumulation.sums import Sums
from tape_magic.engine.check.rerun import Rerun
from tape_magic.engine.distribution import first_look
from tape_magic.engine.distribution.written_copies import WrittenCopies
from tape_magic.engine.minimization.keras_loop.checkpoint import Checkpoints
from tape_magic.engine.minimization.keras_loop.compiled_loop import CompiledLoop
from tape_magic.engine.minimization.keras_loop.ending import Ending
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.run import KerasRun
from tape_magic.engine.minimization.keras_loop.validation_pass import GraphPass
from tape_magic.magics import front_end
from tape_magic.magics import shell as magics
from tests.support.notebook import Notebook, Run

SETUP = """
import numpy as np, tensorflow as tf, keras
tf.keras.utils.set_random_seed(1)
generator = np.random.default_rng(0)
x, y = generator.normal(size=(64, 6)).astype("float32"), generator.integers(0, 3, 64)
valid = x[::2] + 0.1, y[::2]
layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dropout(0.2, seed=3), keras.layers.Dense(3)]
model = keras.Sequential([keras.Input((6,)), *layers])
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
start = [value.copy() for value in model.get_weights()]
count = tf.Variable(0.0, trainable=False)
xb = "mine"
"""
CELL = "logits = model(xb, training=True)\nwithin()\nloss = loss_fn(yb, logits)\ntwice = 2 * loss"
MINIMIZE = (
    '%%minimize loss --over model --for "xb, yb in (x, y)" --batch 16 --optimizer adam --seed 3 '
    "--strategy mirrored"
)
VALIDATED = '--val "xb, yb in valid" --keep best --track twice'
STEPS = 12
GRAD = '%%grad dloss/dmodel --for "xb, yb in (x, y)" --strategy mirrored'
GRAD_CELL = "within()\ncount.assign_add(1.0)\nloss = loss_fn(yb, model(xb))"
RUNS = 5
"""How often that cell runs: on a few rows and on two parts of them, all put back, and on its two parts."""

Pressing = Callable[[], AbstractContextManager[Any]]


class Cells:
    """A notebook with two logical CPUs, a model and data."""

    def __init__(self) -> None:
        self.notebook = Notebook(InteractiveShell.instance())
        self.ns = self.notebook.ns
        self.notebook.ok("%load_ext tape_magic")
        self.notebook.ok("%tfgpu --cpu --split 2 -q")
        self.ns["within"] = lambda: None
        self.notebook.ok(SETUP)
        self._ended: dict[int, Any] = {}

    def minimize(self, options: str = "", **limits: int) -> Run:
        """Run the cell from the model's first values."""
        self.ns["model"].set_weights(self.ns["start"])
        said = " ".join(f"--{name} {value}" for name, value in (limits or {"epochs": STEPS // 4}).items())
        return self.notebook.run(f"{MINIMIZE} {said} {options}\n{CELL}")

    def minimized(self, options: str = "", **limits: int) -> list[bytes]:
        """Run the cell to its end; return the bits of the weights."""
        run = self.minimize(options, **limits)
        assert run.success, run.traceback + run.stderr
        return self.bits

    @property
    def bits(self) -> list[bytes]:
        return [one.tobytes() for one in self.ns["model"].get_weights()]

    @property
    def at_the_start(self) -> list[bytes]:
        return [one.tobytes() for one in self.ns["start"]]

    @property
    def drawn(self) -> int:
        """How often the dropout has drawn since it was seeded."""
        return int(self.ns["layers"][1].seed_generator.state.numpy()[1])

    def bits_at(self, step: int) -> list[bytes]:
        """The bits with which a run of so many steps ends by itself."""
        if step not in self._ended:
            self._ended[step] = self.minimized(epochs=1000, steps=step)
            assert self.ns["minimum"].steps == step
        return self._ended[step]

    def interrupted(self, pressing: Pressing, run: Callable[[], Run]) -> str:
        """Interrupt a cell; return what the one line says behind `KeyboardInterrupt`."""
        with pressing():
            ran = run()
        assert type(ran.error) is KeyboardInterrupt, ran.traceback + ran.stderr
        assert ran.stderr == ""
        line = ran.traceback.strip()
        assert line.startswith("KeyboardInterrupt"), line
        assert "\n" not in line, line
        assert tf.executing_eagerly()
        assert not tf.distribute.has_strategy()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert self.ns["xb"] == "mine"
        assert not {"yb", "tape", "TRAINING"} & set(self.notebook.names)
        assert all(isinstance(one.value, tf.Variable) for one in self.ns["model"].variables)
        return line.removeprefix("KeyboardInterrupt").removeprefix(": ")


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def press_twice() -> None:
    press()
    press()


def before(owner: Any, name: str, number: int = 1, pressed: Callable[[], None] = press) -> Pressing:
    """An interrupt before a call of something, the first one or a later one."""

    @contextlib.contextmanager
    def pressing() -> Iterator[None]:
        original, calls = getattr(owner, name), []

        def called(*given: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == number:
                pressed()
            return original(*given, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, called)
            yield
        assert len(calls) >= number, (owner, name)

    return pressing


def in_the_cell(cells: Cells, number: int = 1, *, traced: bool = False) -> Pressing:
    """An interrupt where the cell's line `within()` is run for the first time or later, or is traced."""

    @contextlib.contextmanager
    def pressing() -> Iterator[None]:
        calls: list[int] = []

        def within() -> None:
            if traced and tf.executing_eagerly():
                return
            calls.append(1)
            if len(calls) == number:
                press()

        cells.ns["within"] = within
        yield
        cells.ns["within"] = lambda: None
        assert len(calls) >= number

    return pressing


def before_there_is_a_report() -> None:
    """Nothing is bound and nothing has moved, and the cell runs as ever afterwards."""
    cells = Cells()
    whole = cells.minimized()
    nothing = "stopped before the first step; no variable was changed"
    for pressing, said, options in (
        (before(front_end, "front_end"), "", ""),
        (in_the_cell(cells, traced=True), nothing, ""),
        (before(WrittenCopies, "__init__", 2), nothing, ""),  # while the evaluation in parts is laid out
        (before(first_look, "_numbers", 2), nothing, VALIDATED),  # nor has the validation been made ready
        (before(first_look, "_numbers", 2, press_twice), "", ""),  # the second one does not wait
    ):
        cells.notebook.run("%reload_ext tape_magic")  # so that the cell is traced
        cells.ns.pop("minimum")
        names, drawn = dict(cells.notebook.names), cells.drawn
        assert cells.interrupted(pressing, lambda options=options: cells.minimize(options)) == said
        assert cells.bits == cells.at_the_start
        assert "minimum" not in cells.ns
        assert cells.notebook.names.keys() == names.keys()
        assert cells.drawn in (drawn, 0)  # as it was, or as --seed has set it
        assert cells.minimized() == whole


def with_a_report() -> None:
    """The report says the step that the weights are of, which is a whole one."""
    cells = Cells()
    whole = cells.minimized()
    for pressing, reason, steps in (
        (before(first_look, "_told"), "INTERRUPTED", 0),
        (before(Engines, "advance"), "INTERRUPTED", 1),
        (before(Engines, "reconsider"), "INTERRUPTED", 1),  # between two chunks
        (before(CompiledLoop, "final"), "EPOCHS", STEPS),
        (before(KerasRun, "finish"), "EPOCHS", STEPS),
        (before(NoProgress, "finish"), "EPOCHS", STEPS),
    ):
        said = cells.interrupted(pressing, cells.minimize)
        report = cells.ns["minimum"]
        assert (report.reason.name, report.steps, report.devices) == (reason, steps, 2)
        assert cells.bits == (cells.bits_at(steps) if steps else cells.at_the_start)
        if said:
            told = f"after {steps} step{'s' * (steps > 1)}" if steps else "before the first step"
            assert said == f"stopped {told}"
        assert cells.minimized() == whole


def within_a_validation() -> None:
    """Of the epochs that were validated, the best is kept; without one, the weights of the last step."""
    cells = Cells()
    whole = cells.minimized(VALIDATED)
    validated = [int(step) for step in cells.ns["minimum"].epochs.val_loss.argsort() + 1]
    assert validated[0] == 2  # so that what is kept is not the last one below
    for pressing, reason, steps, kept in (
        # At the beginning of a validation; how many pieces it has depends on the machine.
        (before(GraphPass, "undone", 1), "INTERRUPTED", 4, 4),
        (before(GraphPass, "undone", 2), "INTERRUPTED", 8, 4),
        (before(GraphPass, "undone", 3), "INTERRUPTED", 12, 8),
        (before(Ending, "keep_best"), "EPOCHS", 12, 8),
        (before(KerasRun, "finish"), "EPOCHS", 12, 8),
    ):
        assert (
            cells.interrupted(pressing, lambda: cells.minimize(VALIDATED)) == f"stopped after {steps} steps"
        )
        report = cells.ns["minimum"]
        assert (report.reason.name, report.steps, report.best_step) == (reason, steps, kept)
        assert cells.bits == cells.bits_at(kept)
    assert cells.minimized(VALIDATED) == whole


def with_a_checkpoint() -> None:
    """What goes on from there has the bits and the losses of a run that was never cut."""
    cells = Cells()
    with tempfile.TemporaryDirectory() as folder:
        whole = cells.minimized(f"{VALIDATED} --checkpoint {folder}/uncut")
        losses = cells.ns["minimum"].history.tolist()
        for number, pressing in enumerate(
            (
                before(first_look, "_told"),
                before(Engines, "reconsider"),
                before(GraphPass, "undone", 2),
                before(Checkpoints, "save"),
            )
        ):
            options = f"{VALIDATED} --checkpoint {folder}/{number}"
            cells.interrupted(pressing, lambda options=options: cells.minimize(options))
            assert cells.minimized(f"{options} --resume") == whole, number
            assert cells.ns["minimum"].history.tolist() == losses


def of_a_gradient() -> None:
    """What the cell has assigned is that of its own runs, and no result is bound."""
    cells = Cells()

    def grad() -> Run:
        return cells.notebook.run(f"{GRAD}\n{GRAD_CELL}")

    def numbers() -> list[list[float]]:
        cells.ns["count"].assign(0.0)
        run = grad()
        assert run.success, run.traceback + run.stderr
        return [one.numpy().tolist() for one in cells.ns["dloss_dmodel"]]

    whole = numbers()
    for pressing, counted in (
        (before(magics, "request_arguments"), 0),
        (before(accumulate, "parts_of"), 0),
        (before(Rerun, "__init__"), 0),
        *((in_the_cell(cells, number), int(number == RUNS)) for number in range(1, RUNS + 1)),
        (before(Rerun, "changed_names"), 0),
        (before(Sums, "add", 1), 1),
        (before(Sums, "add", 2), 2),
        (before(Sums, "result"), 2),
    ):
        bound = [cells.ns[name] for name in ("dloss_dmodel", "grads")]
        cells.ns["count"].assign(0.0)
        assert cells.interrupted(pressing, grad) == ""
        assert all(cells.ns[name] is one for name, one in zip(("dloss_dmodel", "grads"), bound, strict=True))
        assert cells.ns["count"].numpy() == counted
        assert cells.bits == cells.at_the_start
        assert numbers() == whole
    assert cells.interrupted(before(magics, "display"), grad) == ""
