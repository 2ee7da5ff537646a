"""Two workers on the loopback: one run in two processes, what ends it, and how it goes on.

A pair of processes takes seconds to start, so that three pairs run all of this: each part goes on where
the one before it left off.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.workers import PATIENCE, Ran, Worker, all_ok, on_all

SETUP = """
import hashlib, os, signal, time
import numpy as np
import tensorflow as tf
from tape_magic import minimize
from tape_magic.engine.distribution import together
together.PATIENCE = 120.0
rng = np.random.default_rng(0)
x = rng.normal(size=(203, 20)).astype("float32")
y = (x[:, 0] > 0).astype("int64")
loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

def made(seed):
    tf.keras.backend.clear_session()  # each model has the same names
    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers
    return tf.keras.Sequential([layers.Input((20,)), layers.Dense(8, "relu"), layers.Dense(3)])

def bits(model):
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in model.variables)).hexdigest()

def apart(one, other):
    pairs = zip(one.variables, other.variables, strict=True)
    return max(float(abs(a.numpy() - b.numpy()).max()) for a, b in pairs)

def pressed(step, at, who, number):
    # a signal to this process once a run has come to a step, if this is the worker that is meant
    if step.step >= at and index == who and not os.path.exists(f"pressed-{who}-{number}"):
        open(f"pressed-{who}-{number}", "w").close()
        os.kill(os.getpid(), number)

def endless(who, number, **more):
    # until a signal comes to one of the workers
    def loss(xb, yb):
        return tf.reduce_mean(loss_fn(yb, model(xb)))
    on_progress = lambda step: pressed(step, 60, who, number)
    more |= {"data": (x, y), "batch": 50, "epochs": 10**6, "strategy": "workers"}
    return minimize(loss, on_progress=on_progress, **more)
"""

PRESS_IN_THE_THIRD_LOOK = """
import os, signal
from tape_magic.engine.distribution.lookout import _RollCall
looks, hear = [], _RollCall._hear
def pressing(self, seconds):
    looks.append(1)
    if len(looks) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    hear(self, seconds)
_RollCall._hear = pressing
"""

CELL = "loss = tf.reduce_mean(loss_fn(yb, model(xb)))"


def line(options: str, data: str = "(x, y)") -> str:
    """A cell over data."""
    return f'%%minimize loss --over model --for "xb, yb in {data}" --batch 50 {options}\n{CELL}'


class Pair:
    """Two workers that have joined, and what they were told."""

    def __init__(self, folder: Path) -> None:
        self.workers = [Worker(folder) for _ in range(2)]
        self.addresses = [f"localhost:{port}" for port in free_ports(2)]
        self.line = f'%tfgpu --workers "{", ".join(self.addresses)}" --worker index'
        for index, worker in enumerate(self.workers):
            worker.start("%load_ext tape_magic")
            worker.start(f"index = {index}")
        for worker in self.workers:
            worker.finish()
            worker.finish()

    def join(self) -> list[Ran]:
        joined = all_ok(self.workers, f"{self.line} --wait 5m")
        all_ok(self.workers, SETUP)
        return joined

    def name(self, worker: int) -> str:
        return f"worker {worker} ({self.addresses[worker]})"

    def same(self, expression: str) -> object:
        """The value of an expression, which is the same in both."""
        values = [worker.value(expression) for worker in self.workers]
        assert values[0] == values[1]
        return values[0]

    def close(self) -> None:
        for worker in self.workers:
            worker.end()


@pytest.fixture(scope="class")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("workers"))
    yield pair
    pair.close()


def line_of(ran: Ran) -> str:
    """The one line of an error."""
    found = re.fullmatch(r"\n?UsageError: ([^\n]+)\n", ran.stderr)
    assert found, ran.text
    return found[1]


class TestOneRun:
    """Joining, runs on both, runs that end together, and a worker that dies."""

    def test_one_run(self, pair: Pair) -> None:
        """All of it, in this order."""
        self.a_worker_that_never_comes(pair)
        self.they_join(pair)
        self.the_same_bits_on_both_and_the_numbers_of_one(pair)
        self.what_the_cell_writes_is_the_same_on_both(pair)
        self.steps_leave_no_threads(pair)
        self.a_rate_is_found_as_by_one(pair)
        self.lbfgs_takes_the_steps_of_one(pair)
        self.an_interrupt_of_one_ends_both_at_the_same_step(pair)
        self.stop_on_one_ends_both_at_the_same_step(pair)
        self.what_is_not_finite_on_one_is_told_as_on_one_device(pair)
        self.what_differs_is_told_to_both(pair)
        self.a_killed_worker_is_named_and_one_process_goes_on(pair)

    def a_worker_that_never_comes(self, pair: Pair) -> None:
        """The line after the limit, an interrupt at once, and the kernel lives."""
        first, other = pair.workers
        assert line_of(first.run(f"{pair.line} --wait 0.5")) == f"{pair.name(1)} has not come."
        assert line_of(other.run(f"{pair.line} --wait 0.5")) == f"{pair.name(0)} has not come."
        first.ok(PRESS_IN_THE_THIRD_LOOK)
        assert "KeyboardInterrupt" in first.run(f"{pair.line} --wait 10m").text
        assert first.value("len(looks)") == 3
        first.ok("_RollCall._hear = hear")
        assert first.value("1 + 1") == 2

    def they_join(self, pair: Pair) -> None:
        for index, ran in enumerate(pair.join()):
            assert ran.text.startswith(f"{pair.name(index)} of 2 · done")
            assert f"W{pair.name(index)[1:]} of 2: {', '.join(pair.addresses)}." in ran.text
            assert "INFO" not in ran.text
        again = all_ok(pair.workers, pair.line)
        assert "already so" in again[0].text
        other = on_all(pair.workers, '%tfgpu --workers "localhost:9, localhost:10" --worker index')
        for index, ran in enumerate(other):
            assert line_of(ran) == (
                f"this process is {pair.name(index)} of 2 already. Only a kernel restart can change that: "
                f'restart, and put this line first: %tfgpu --workers "localhost:9, localhost:10" '
                f"--worker {index}"
            )

    def the_same_bits_on_both_and_the_numbers_of_one(self, pair: Pair) -> None:
        """Other start values and other seeds on worker 1 make no difference."""
        first = pair.workers[0]
        all_ok(pair.workers, "model = made(5 + index); valid = x[:77], y[:77]")
        options = '--epochs 6 --val "xb, yb in valid" --schedule cosine --keep best --track twice --seed 4'
        cell = f"{line(options + ' --strategy workers')}\ntwice = 2 * loss"
        shown = all_ok(pair.workers, cell)
        assert "on 2 devices" in shown[0].text
        assert shown[1].text.strip() == ""
        pair.same("bits(model)")
        pair.same("minimum.loss")
        assert pair.same("minimum.steps") == 30
        first.ok("both, ran, model = model, minimum, made(5)")
        first.ok(cell.replace("--strategy workers", "--engine graph"))
        assert first.value("apart(both, model)") < 1e-6
        for what in ("epochs.loss", "epochs.val_loss", "epochs.tracked['twice']"):
            assert first.value(f"float(abs(ran.{what} - minimum.{what}).max())") < 1e-6

    def what_the_cell_writes_is_the_same_on_both(self, pair: Pair) -> None:
        """Averages are those of all pieces, seeds advance once a step, and each piece draws its own mask."""
        all_ok(
            pair.workers,
            "norm, drop = tf.keras.layers.BatchNormalization(), tf.keras.layers.Dropout(0.5, seed=index)\n"
            "model = made(5)",
        )
        cell = line("--epochs 2 --strategy workers").replace(
            "model(xb)", "model(drop(norm(xb, training=True), training=True))"
        )
        shown = all_ok(pair.workers, cell)
        assert "results differ from those of one device" in " ".join(shown[0].text.split())
        pair.same("bits(norm)")
        pair.same("drop.seed_generator.state.numpy().tolist()")

    def steps_leave_no_threads(self, pair: Pair) -> None:
        """A collective with a limit of TensorFlow's own would hold one for as long."""
        all_ok(pair.workers, "import psutil; model = made(5); threads = psutil.Process().num_threads()")
        all_ok(pair.workers, line("--epochs 100 --strategy workers"))
        assert pair.same("minimum.steps") == 500
        for worker in pair.workers:
            assert worker.value("psutil.Process().num_threads() - threads") < 100

    def a_rate_is_found_as_by_one(self, pair: Pair) -> None:
        """Nothing is left of the test, on either; a run goes on with the rate."""
        first = pair.workers[0]
        all_ok(pair.workers, "model = made(5 + index)")
        before = [worker.value("bits(model)") for worker in pair.workers]
        shown = all_ok(pair.workers, line("--lr find --seed 4 --strategy workers -o rates"))
        assert "nothing was trained" in shown[0].text
        assert shown[1].text.strip() == ""
        assert [worker.value("bits(model)") for worker in pair.workers] == before
        pair.same("rates.losses.tolist()")
        found = pair.same("[rates.suggestion, rates.lowest, rates.ended.name]")
        first.ok("both = rates")
        first.ok(line("--lr find --seed 4 --engine graph -o rates"))
        assert first.value("[rates.suggestion, rates.lowest, rates.ended.name]") == found
        assert first.value("float(abs(rates.losses[:150] - both.losses[:150]).max())") < 1e-5
        all_ok(pair.workers, line("--lr auto --seed 4 --epochs 3 --strategy workers"))
        assert pair.same("[minimum.steps, minimum.learning_rate]") == [
            15,
            first.value("float(np.float32(both.suggestion))"),
        ]
        pair.same("bits(model)")
        told = on_all(pair.workers, line("--lr find --strategy workers --log runs"))
        refused = "--lr find trains nothing: leave --log out."
        assert line_of(told[0]) == refused
        assert line_of(told[1]) == f"{pair.name(0)} has ended the run: LineError: {refused}"

    def lbfgs_takes_the_steps_of_one(self, pair: Pair) -> None:
        """Each point of a line search is evaluated together, over data that are one batch."""
        first = pair.workers[0]
        all_ok(pair.workers, "model = made(5 + index)")
        cell = line("--optimizer lbfgs --steps 30 --strategy workers").replace("--batch 50", "--batch 203")
        all_ok(pair.workers, cell)
        pair.same("bits(model)")
        assert pair.same("minimum.steps") == 30
        first.ok("both, model = minimum, made(5)")
        first.ok(cell.replace("--strategy workers", "--engine graph"))
        assert first.value("float(abs(both.history[:10] - minimum.history[:10]).max())") < 1e-5
        assert first.value("float(minimum.history[-1] / minimum.history[0])") < 0.1

    def an_interrupt_of_one_ends_both_at_the_same_step(self, pair: Pair) -> None:
        all_ok(pair.workers, "model = made(5)")
        first, other = on_all(pair.workers, "ran = endless(1, signal.SIGINT)")
        assert first.success, first.text
        assert "MinimizeInterrupted: stopped after" in other.text
        assert pair.workers[0].value("ran.reason.name") == "INTERRUPTED"
        assert pair.workers[0].value("ran.steps") >= 60
        pair.same("bits(model)")

    def stop_on_one_ends_both_at_the_same_step(self, pair: Pair) -> None:
        all_ok(
            pair.workers,
            "from tape_magic.display.live.progress import NoProgress\n"
            "from tape_magic.results.steps import Wish\n"
            "asked = []\ndef wish(self):\n    asked.append(1)\n"
            "    return Wish.STOP if len(asked) > 3 and index else Wish.GO_ON\nNoProgress.wish = wish",
        )
        all_ok(pair.workers, line("--epochs 1_000_000 --strategy workers"))
        assert pair.same("minimum.reason.name") == "STOPPED"
        pair.same("minimum.steps")
        pair.same("bits(model)")
        all_ok(pair.workers, "NoProgress.wish = lambda self: Wish.GO_ON")

    def what_is_not_finite_on_one_is_told_as_on_one_device(self, pair: Pair) -> None:
        """A row of the second half of a batch, which only worker 1 reads; and one of which a part is made."""
        first = pair.workers[0]
        all_ok(
            pair.workers,
            "lost, negative = x.copy(), abs(x) + 1\nlost[137, 2], negative[137, 2] = np.nan, -1",
        )
        options = "--epochs 2 --optimizer adam --seed 4 --strategy workers"
        for data, model, said in (
            ("(lost, y)", "model(xb)", "row 137 of (lost, y) holds nan (xb): drop or replace it"),
            ("(negative, y)", "model(tf.math.log(xb))", ""),
        ):
            all_ok(pair.workers, "model = made(5 + index)")
            cell = line(options, data).replace("model(xb)", model)
            all_ok(pair.workers, cell)
            pair.same("bits(model)")
            ended = "[minimum.reason.name, minimum.steps, minimum.divergence.step, minimum.divergence.what]"
            together = pair.same(ended)
            assert pair.same("minimum.divergence.cause") == said
            found = first.value("[one.sentence for one in minimum.findings]")
            first.ok("both, model = model, made(5)")
            first.ok(cell.replace("--strategy workers", "--engine graph"))
            assert first.value(ended) == together
            assert first.value("minimum.divergence.cause") == said
            assert first.value("[one.sentence for one in minimum.findings]") == found
            assert ("Log is nan for −1 at [14, 2], line 2" in " ".join(found)) is (not said)
            assert first.value("apart(both, model)") < 1e-6

    def what_differs_is_told_to_both(self, pair: Pair) -> None:
        all_ok(
            pair.workers,
            "turned = (x, y) if index == 0 else (x[::-1].copy(), y[::-1].copy())\nif not index: factor = 2.0",
        )
        cell = line("--epochs 2 --strategy workers")
        for ran in on_all(pair.workers, line("--epochs 2 --strategy workers", "turned")):
            assert line_of(ran) == (
                f"{pair.name(1)} reads another first batch of turned than worker 0: give each shuffle in it "
                "a seed, such as shuffle(1000, seed=0)."
            )
        for index, worker in enumerate(pair.workers):
            worker.start(cell.replace("--epochs 2", f"--epochs {2 + index}"))
        for worker in pair.workers:
            assert line_of(worker.finish()).startswith(f"{pair.name(1)} runs another cell or line")
        first, other = on_all(pair.workers, cell.replace("loss =", "loss = factor *"))
        assert line_of(first) == (
            f"{pair.name(1)} has ended the run: NameError: name 'factor' is not defined"
        )
        assert "NameError" in other.text
        all_ok(pair.workers, cell)
        pair.same("bits(model)")

    def a_killed_worker_is_named_and_one_process_goes_on(self, pair: Pair) -> None:
        first, other = pair.workers
        all_ok(pair.workers, "model = made(5)")
        cell = "ran = endless(1, signal.SIGKILL, checkpoint='killed')"
        first.start(cell)
        other.start(cell)
        ran = first.finish()
        assert re.search(
            # Before TensorFlow misses its heartbeat, which takes 8 s.
            rf"ClusterError: {re.escape(pair.name(1))} is gone \((?!it stopped)[^)]+\) after step [\d,]+\. "
            r"Restart the engines, and go on with --resume --checkpoint\.",
            ran.text,
        ), ran.text
        assert first.value("all(bool(np.isfinite(one.numpy()).all()) for one in model.variables)")
        gone = line_of(first.run(line("--epochs 2 --strategy workers")))
        assert re.fullmatch(
            rf"{re.escape(pair.name(1))} is gone \([^)]+\): restart the engines of all workers\.", gone
        )
        first.ok(line("--epochs 2"))  # the kernel goes on by itself


class TestAFrozenWorker:
    """A run that goes on with two workers, and one of them that freezes."""

    def test_going_on(self, pair: Pair) -> None:
        """All of it, in this order."""
        self.cut_and_gone_on_are_the_same_bits(pair)
        self.a_frozen_worker_is_named(pair)

    def cut_and_gone_on_are_the_same_bits(self, pair: Pair) -> None:
        pair.join()
        whole = "--optimizer adam --seed 3 --strategy workers"
        all_ok(pair.workers, "model = made(5 + index)")
        all_ok(pair.workers, line(f"--epochs 6 {whole} --checkpoint uncut"))
        uncut = pair.same("bits(model)")
        all_ok(pair.workers, "model = made(5 + index)")
        all_ok(pair.workers, line(f"--epochs 3 {whole} --checkpoint cut"))
        all_ok(pair.workers, "model = made(9 + index)")
        all_ok(pair.workers, line(f"--epochs 6 {whole} --checkpoint cut --resume"))
        assert pair.same("bits(model)") == uncut
        # A worker alone goes on from the checkpoint of two.
        first = pair.workers[0]
        all_ok(pair.workers, "two, model = model, made(5 + index)")
        all_ok(pair.workers, line(f"--epochs 3 {whole} --checkpoint half"))
        first.ok("model = made(9)")
        first.ok(line("--epochs 6 --optimizer adam --seed 3 --engine graph --checkpoint half --resume"))
        assert first.value("apart(two, model)") < 1e-6

    def a_frozen_worker_is_named(self, pair: Pair) -> None:
        first, other = pair.workers
        all_ok(pair.workers, "model = made(5)")
        cell = "ran = endless(1, signal.SIGSTOP)"
        first.start(cell)
        other.start(cell)
        ran = first.finish()
        assert f"ClusterError: {pair.name(1)} is gone (" in ran.text, ran.text
        assert "with --checkpoint, --resume goes on from there" in ran.text
        other.send(signal.SIGCONT)


class TestAWorkerThatFails:
    """An operation that fails within a chunk, on the rows of one worker."""

    def test_both_tell_it_at_the_same_step(self, pair: Pair) -> None:
        pair.join()
        all_ok(
            pair.workers,
            "rows = np.zeros(200, 'int32')\nrows[149] = 99  # of the third batch, in the second half\n"
            "data = tf.data.Dataset.from_tensor_slices(rows).batch(50)\nt = tf.Variable(tf.zeros(4))",
        )
        cell = (
            '%%minimize loss --over t --for "row in data" --epochs 9 --strategy workers\n'
            "loss = tf.reduce_mean((tf.gather(t, row) - 1) ** 2)"
        )
        first, other = on_all(pair.workers, cell)
        said = "InvalidArgumentError: indices[24] = 99 is not in [0, 4)"
        assert line_of(other) == f"%%minimize failed: {said}"
        told = re.fullmatch(
            r"(.*) after step (\d)\. Restart the engines; with --checkpoint, .*", line_of(first)
        )
        assert told
        assert told[1] == f"{pair.name(1)} has failed ({said})"
        assert int(told[2]) < 3
        pair.same("t.numpy().tolist()")
        for ran in on_all(pair.workers, cell):  # at once, on the worker that has failed, too
            assert line_of(ran) == f"{told[1]}: restart the engines of all workers."
        for worker in pair.workers:  # as whoever shuts a kernel down asks it to
            worker.send(signal.SIGTERM)
            assert worker.process.wait(PATIENCE) == -signal.SIGTERM


class TestAWorkerThatTakesNoPart:
    """Calls that take longer than the workers wait for each other, and a worker that stands still outside."""

    def test_who_is_waited_for(self, pair: Pair) -> None:
        """All of it, in this order."""
        pair.join()
        all_ok(
            pair.workers,
            "from tape_magic.engine.distribution import shared_evaluation, watch\n"
            "watch.LATE, shared_evaluation.LIMIT, together.PATIENCE = 0.5, 2.0, 2.0\n"
            "def slow(value):\n    slept.append(1)\n    time.sleep(4 * index * (len(slept) == 8))\n"
            "    return value\n"
            "model, slept = made(5), []",
        )
        self.a_worker_that_is_slow_in_a_step_is_waited_for(pair)
        self.a_worker_that_does_not_come_is_named(pair)

    def a_worker_that_is_slow_in_a_step_is_waited_for(self, pair: Pair) -> None:
        # The first few times, each worker looks by itself how the loss is made up.
        slow = "tf.ensure_shape(tf.numpy_function(slow, [xb], 'float32'), [None, 20])"
        all_ok(pair.workers, line("--epochs 2 --strategy workers").replace("model(xb)", f"model({slow})"))
        assert pair.same("minimum.steps") == 10
        pair.same("bits(model)")

    def a_worker_that_does_not_come_is_named(self, pair: Pair) -> None:
        first, other = pair.workers
        for worker in pair.workers:
            worker.start(
                "def stands(step):\n    if index and step.step > 20:\n        time.sleep(3600)\n"
                "def loss(xb, yb):\n    return tf.reduce_mean(loss_fn(yb, model(xb)))\n"
                "minimize(loss, data=(x, y), batch=50, epochs=10**6, strategy='workers', on_progress=stands)"
            )
        said = first.finish().text
        assert f"ClusterError: {pair.name(1)} is gone (it took no part within the limit)" in said
        assert first.value("all(bool(np.isfinite(one.numpy()).all()) for one in model.variables)")
        other.send(signal.SIGKILL)
